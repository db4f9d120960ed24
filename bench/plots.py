"""Time and memory against the size of the image, as the talk drew them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from peers import FAMILIES, Setting
from record import Row, better
from tables import TITLES, sizes_of
from talk import UNFIT, WHATS, fit

from minunet.atomic import write_atomically
from minunet.train.figures import FAINT, INK

# colours that people with any colour vision can tell apart (Okabe and Ito); what is not ours is thinner
COLOURS = {
    "published": "#777777",
    "PyTorch": "#D55E00",
    "PyTorch compiled": "#CC79A7",
    "OpenVINO": "#0072B2",
    "minunet": "#009E73",
    "minunet graph": "#56B4E9",
}
UNITS = {"seconds": ("s", 1.0), "peak_mib": ("GiB", 1 / 1024)}
LABEL_AWAY, LABEL_GAP = 9.0, 13.0
"""Points between a line's end and its name, and between two names at least."""


def draw(path: Path, rows: list[Row], setting: Setting, machine: str) -> None:
    """Write the picture: a column for inference and for training; time above, memory below if it was measured."""
    from matplotlib.figure import Figure

    keys = [key for key in UNITS if any(row[key] for row in rows)]
    figure = Figure(figsize=(11, 3.9 * len(keys) + 0.4), layout="constrained")
    grid = figure.subplots(len(keys), 2, squeeze=False)
    for key, line in zip(keys, grid):
        for what, axes in zip(WHATS, line):
            panel(axes, rows, key, what, setting.device)
    figure.supxlabel(f"{machine}; {setting.describe()}", fontsize=8.5, color=FAINT)
    figure.get_layout_engine().set(wspace=0.06, hspace=0.06)
    figure.draw_without_rendering()  # settles the axes, on which the labels' distances depend
    for axes in grid.flat:
        spread_labels(axes)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    write_atomically(path, buffer.getvalue())


def points_of(rows: list[Row], key: str, what: str, name: str) -> dict[int, float]:
    """A contestant's values by size, in the unit that is drawn."""
    values = {size: better(rows, size, what, name, key) for size in sizes_of(rows, what)}
    return {size: value * UNITS[key][1] for size, value in values.items() if value}


def panel(axes: Any, rows: list[Row], key: str, what: str, device: str) -> None:
    """Points, the lines through them, their names at their ends, and what grows how."""
    drawn = {name: points_of(rows, key, what, name) for name in FAMILIES}
    drawn = {name: points for name, points in drawn.items() if points}
    from_above = sorted(
        drawn, key=lambda name: -drawn[name][max(drawn[name])]
    )  # the legend's order is that of the lines
    for name in from_above:
        points, ours = drawn[name], name == "minunet"
        style = {"color": COLOURS[name], "lw": 2.4 if ours else 1.4, "zorder": 3 if ours else 2}
        axes.plot(*zip(*points.items()), "o", ms=6 if ours else 4.5, **style)
        fitted = {size: y for size, y in points.items() if (name, device, what, size) not in UNFIT}
        growth = fit(fitted) if key == "seconds" else None
        line, law = points, None
        if growth:
            line = {size: growth(size) for size in fitted}
            law = f"{growth.scale:.3g} s $\\cdot$ Mpx$^{{{growth.power:.2f}}}$"
        axes.plot(*zip(*line.items()), ls="--" if name == "published" else "-", label=law, **style)
        axes.annotate(
            name, (max(points), points[max(points)]), (LABEL_AWAY, 0), textcoords="offset points", va="center",
            color=COLOURS[name], fontsize=10.5, fontweight="bold" if ours else "normal", annotation_clip=False,
        )  # fmt: skip
    if key == "peak_mib":
        mark_predictions(axes, rows, what)
    if axes.get_legend_handles_labels()[0]:
        ground = {"facecolor": "white", "edgecolor": "none", "framealpha": 0.9}
        axes.legend(loc="upper left", fontsize=9.5, labelcolor=INK, handlelength=1.6, **ground)
    frame(axes, sizes_of(rows, what), key, what)


def mark_predictions(axes: Any, rows: list[Row], what: str) -> None:
    """What `minunet.summary` has predicted, with the process without arrays, as dashes beside the measured points."""
    mine = [row for row in rows if row["what"] == what and row["predicted_mib"]]
    if mine:
        together = [(row["predicted_mib"] + row["base_mib"]) / 1024 for row in mine]
        style = {"color": INK, "ms": 14, "mew": 1.3, "zorder": 4, "ls": ""}
        axes.plot([row["size"] for row in mine], together, marker="_", label="predicted for minunet", **style)


def spread_labels(axes: Any) -> None:
    """Move names that lie on one another apart, each as far as the other."""
    points = 72 / axes.figure.dpi
    lines = [axes.transData.transform(text.xy)[1] * points for text in axes.texts]
    order = sorted(range(len(lines)), key=lines.__getitem__)
    y = [lines[i] for i in order]
    for _ in range(100):
        for i in range(1, len(y)):
            lack = max(LABEL_GAP - (y[i] - y[i - 1]), 0.0)
            y[i - 1], y[i] = y[i - 1] - lack / 2, y[i] + lack / 2
    for i, height in zip(order, y):
        axes.texts[i].set_position((LABEL_AWAY, height - lines[i]))


def frame(axes: Any, sizes: list[int], key: str, what: str) -> None:
    """Logarithmic axes with the sizes as ticks, those left out that would stand on their neighbour."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(xscale="log", yscale="log")
    shown: list[int] = []
    for size in reversed(sizes):
        shown += [size] if not shown or 1.15 * size < shown[-1] else []
    axes.set_xticks(shown, [f"{size}" for size in shown])
    axes.set_xticks(sizes, minor=True)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", colors=INK, labelsize=9)
    kind = {"seconds": f"{TITLES[what]}, seconds", "peak_mib": f"{TITLES[what]}, peak memory in GiB"}[key]
    axes.set_title(kind, loc="left", fontsize=12, color=INK)
    axes.set_xlabel("rows and columns of the image", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.margins(x=0.04, y=0.08)
