"""The ladder as a picture: a bar a rung, on a logarithmic scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Patch

INK, FAINT = "#222222", "#8a8a8a"
WHO = {  # what does the arithmetic, its colour (Okabe and Ito), and its first rung
    "loops of Python": ("#bbbbbb", "01"),
    "compiled loops": ("#e69f00", "03"),
    "BLAS": ("#56b4e9", "06"),
    "our own vector code": ("#009e73", "08"),
    "... with fewer multiplications": ("#cc79a7", "10"),
}


def draw(result: dict[str, Any], machine: str, path: Path) -> None:
    """Write the picture of a result of `measure`."""
    rungs = result["rungs"]
    figure = Figure(figsize=(11, 2.2 + 0.52 * len(rungs)), layout="constrained")
    ax = figure.subplots()
    lowest = min(r["gflops"] for r in rungs) / 4  # where the bars begin; a logarithm has no zero
    for y, r in enumerate(rungs):
        bar(ax, y, lowest, r["gflops"], colour(r["rung"]))
        label(ax, y, f"{int(r['rung'])}  {r['name']}", r["idea"])
    rows = len(rungs)
    if result["torch_ms"]:
        bar(ax, rows + 0.3, lowest, 1e3 * result["gflop"] / result["torch_ms"], FAINT)
        label(ax, rows + 0.3, "PyTorch", "for comparison, channels last")
        rows += 1.3
    fastest = max(r["gflops"] for r in rungs)
    ax.set(xscale="log", xlim=(lowest, 1.3 * max(fastest, result["blas_gflops"])), ylim=(rows - 0.5, -0.6), yticks=[])
    ax.axvline(result["blas_gflops"], color=INK, lw=1, ls=(0, (4, 3)), zorder=0)
    ax.annotate(f"BLAS, on a large matrix product: {speed(result['blas_gflops'])} ", (result["blas_gflops"], -0.65),
                ha="right", va="bottom", fontsize=9, color=INK, annotation_clip=False)  # fmt: skip
    ax.set_xlabel("GFLOP/s, counted as direct convolution, on a logarithmic scale", color=FAINT, fontsize=9)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="x", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.tick_params(colors=FAINT, which="both", length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    ax.spines["left"].set_color(FAINT)
    seen = {colour(r["rung"]) for r in rungs}
    patches = [Patch(color=c, label=who) for who, (c, _) in WHO.items() if c in seen]
    ax.legend(
        handles=patches, loc="upper right", bbox_to_anchor=(0.94, 1.01), fontsize=9, labelcolor=INK, frameon=False
    )
    gain = float(f"{rungs[-1]['over_first']:.2g}")
    title = f"The same convolution, {gain:,.0f} times as fast\n" if len(rungs) > 1 else "A rung of the ladder\n"
    figure.suptitle(title, x=0.012, ha="left", fontsize=17, color=INK, fontweight="bold")
    figure.text(
        0.012, 1 - 0.5 / figure.get_figheight(), f"{result['setting']}; {machine}", fontsize=9.5, color=FAINT, va="top"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def bar(ax: Any, y: float, lowest: float, gflops: float, colour: str) -> None:
    """A bar with its speed: inside where it is long enough, else behind it."""
    ax.barh(y, gflops - lowest, left=lowest, height=0.7, color=colour)
    inside = gflops > 100 * lowest
    ax.annotate(speed(gflops), (gflops, y), (-6 if inside else 6, 0), textcoords="offset points", va="center", fontsize=11,
                ha="right" if inside else "left", color="white" if inside else INK, fontweight="bold")  # fmt: skip


def label(ax: Any, y: float, name: str, idea: str) -> None:
    """What stands to the left of a bar."""
    place = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
    ax.text(-0.014, y - 0.16, name, color=INK, fontsize=11, fontweight="bold", **place)
    ax.text(-0.014, y + 0.22, idea, color=FAINT, fontsize=8.5, **place)


def colour(rung: str) -> str:
    """The colour of what does the arithmetic of a rung."""
    return [c for c, first in WHO.values() if first <= rung][-1]


def speed(gflops: float) -> str:
    """Two digits, three from 100 on: 0.0061, 27, 428."""
    return f"{gflops:.0f}" if gflops >= 10 else f"{gflops:.2g}"
