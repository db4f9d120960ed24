"""Pictures of a run: its curves, and predictions beside the truth."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_atomically
from ..cli import printable
from ..data import ClassMap
from ..predict.overlay import FALSE_NEGATIVE, FALSE_POSITIVE, TRUE_POSITIVE, errors, to_rgb
from .config import score_of

IGNORED = 110  # the grey of true pixels that do not count
INK, FAINT = "#222222", "#999999"


def new_figure(size: tuple[float, float]) -> Any:
    """A Matplotlib figure. It needs no window, and so not the backend that MPLBACKEND names, which may be missing here."""
    named = os.environ.pop("MPLBACKEND", None)  # Matplotlib refuses an unknown one when it is imported
    try:
        from matplotlib.figure import Figure
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    return Figure(figsize=size, layout="constrained")


def try_names(names: Sequence[str]) -> None:
    """Draw a small figure with these names, and drop it: whatever stands in the way of pictures comes up now."""
    figure = new_figure((2, 2))
    figure.text(0, 0, "\n".join(shortened(name) for name in names), parse_math=False)
    _png(figure, 20)


def shortened(name: str) -> str:
    """A name as it is drawn: at most 16 letters, none of which turns the text around or is half a character."""
    name = printable(name)
    return name if len(name) <= 16 else name[:15] + "…"


def _png(figure: Any, dpi: int) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font has not, which are drawn as boxes
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG."""
    write_atomically(path, _png(figure, 120))


def curves(path: Path, history: list[dict[str, Any]]) -> None:
    """Loss and Dice by epoch, as PNG."""
    figure = new_figure((9, 3.6))
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    left, right = figure.subplots(1, 2)
    marker = "o" if len(epochs) < 3 else None
    validated = history[0]["val_dice"] is not None
    for key, colour, name in (("train_loss", "#0072B2", "training"), ("val_loss", "#D55E00", "validation"))[
        : 1 + validated
    ]:
        left.plot(epochs, [row[key] for row in history], color=colour, marker=marker, label=name, lw=1.8)
    left.set(xlabel="epoch", title="loss")
    left.legend(frameon=False)
    for key, colour, name in (("val_dice", "#009E73", "Dice"), ("val_iou", "#CC79A7", "IoU")) if validated else ():
        right.plot(epochs, [row[key] for row in history], color=colour, marker=marker, label=name, lw=1.8)
    if validated:
        best = max(history, key=score_of)
        right.plot(best["epoch"], best["val_dice"], "o", color="#009E73", ms=7, mfc="white", mew=1.8)
        right.annotate(f"{best['val_dice']:.3f}", (best["epoch"], best["val_dice"]), (0, -16), textcoords="offset points",
                       ha="center", color=INK)  # fmt: skip
        right.legend(frameon=False, loc="best")
    right.set(xlabel="epoch", title="validation, foreground" if validated else "no images were held out")
    right.margins(x=0.08)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path)


def predictions(path: Path, cases: list[dict[str, Any]], classes: ClassMap) -> None:
    """Image, truth, prediction and errors side by side, one row for each case, as PNG.

    Parameters
    ----------
    path : Path
    cases : list of dicts
        With "name", "score" (the Dice), "image" (H, W, C), "truth" and "prediction" (H, W), and "weight": how much each pixel
        counted, (H, W), or None.
    classes : ClassMap
        For the colours of truth and prediction.
    """
    heights = [min(case["image"].shape[0] / case["image"].shape[1], 1.6) for case in cases]
    weights = [case["weight"] for case in cases if case.get("weight") is not None]
    heaviest = max((float(w.max()) for w in weights), default=0.0)
    titles = ["image", "truth", "prediction", "errors"] + [f"weights, black 0 to white {heaviest:.3g}"] * bool(weights)
    figure = new_figure((2.75 * len(titles), 2.75 * sum(heights) + 0.9))
    from matplotlib.patches import Patch

    grid = figure.subplots(len(cases), len(titles), squeeze=False, height_ratios=heights)
    for axes, case in zip(grid, cases):
        truth = np.maximum(case["truth"], 0)
        shown = classes.decode(truth.astype(np.uint8))
        shown[case["truth"] < 0] = IGNORED
        pictures = [
            to_rgb(case["image"]),
            shown,
            classes.decode(case["prediction"].astype(np.uint8)),
            errors(case["image"], case["truth"], case["prediction"]),
        ]
        if weights:
            axes[4].imshow(case["weight"], cmap="magma", vmin=0, vmax=heaviest, interpolation="nearest")
        for ax, picture in zip(axes, pictures):
            ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        for ax in axes:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color(FAINT)
        label = f"{shortened(case['name'])}\nDice {case['score']:.3f}"
        axes[0].set_ylabel(label, fontsize=9, color=INK, parse_math=False)
    for ax, title in zip(grid[0], titles):
        ax.set_title(title, fontsize=11, color=INK)
    marks = [
        Patch(color="#{:02x}{:02x}{:02x}".format(*c), label=n)
        for c, n in (
            (TRUE_POSITIVE, "true positive"),
            (FALSE_POSITIVE, "false positive"),
            (FALSE_NEGATIVE, "false negative"),
        )
    ]
    figure.legend(handles=marks, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    save_figure(figure, path)
