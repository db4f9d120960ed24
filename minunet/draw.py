"""Pictures: overlays, the run's curves, and predictions beside the truth."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .checkpoint import write_atomically
from .data import ClassMap, normalise
from .data.sample import drop_alpha

# colours that people with any colour vision can tell apart (Okabe and Ito)
FOUND, INVENTED, MISSED = (86, 180, 233), (230, 159, 0), (204, 121, 167)
INK, FAINT = "#222222", "#999999"
FOREGROUND = (0, 158, 115)
OBJECTS = np.array(
    [(86, 180, 233), (230, 159, 0), (0, 200, 140), (240, 228, 66), (235, 125, 190), (255, 100, 30)], np.uint8
)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W) or (H, W, 3) uint8 pixels as PNG, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def to_rgb(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) of any type and range as (H, W, 3) uint8: without alpha, stretched to its percentiles."""
    image = (255 * np.clip(normalise(drop_alpha(image)), 0, 1)).astype(np.uint8)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, -1)


def outline(labels: np.ndarray) -> np.ndarray:
    """Where one of a pixel's four neighbours has another label: (H, W) bool."""
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    edge[:-1] |= down
    edge[1:] |= down
    return edge


def overlay(image: np.ndarray, labels: np.ndarray, classes: ClassMap) -> np.ndarray:
    """The image with its classes tinted and outlined in the colours of their mask; of two classes the second in green.

    Parameters
    ----------
    image : (H, W, C) array
    labels : (H, W) integer array of class numbers; class 0 is left as it is
    classes : ClassMap

    Returns
    -------
    (H, W, 3) uint8 array
    """
    colours = classes.decode(np.arange(classes.num_classes)) if classes.num_classes > 2 else [(0, 0, 0), FOREGROUND]
    tint = np.asarray(colours, np.float32)[labels]
    rgb = to_rgb(image).astype(np.float32)
    foreground = labels > 0
    edge = outline(labels) & foreground
    strength = np.where(edge, 1.0, np.where(foreground, 0.25, 0.0))[..., None]
    return ((1 - strength) * rgb + strength * tint).astype(np.uint8)


def object_outlines(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image with every object outlined, along its own outermost pixels, in one of six colours: (H, W, 3) uint8.

    Parameters
    ----------
    image : (H, W, C) array
    labels : (H, W) integer array of object numbers; 0 is left as it is
    """
    rgb = to_rgb(image)
    edge = outline(np.pad(labels, 1))[1:-1, 1:-1] & (labels > 0)  # also where the image cuts an object
    rgb[edge] = OBJECTS[labels[edge] % len(OBJECTS)]
    return rgb


def errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """What was found (blue), invented (orange) and missed (pink) over a dimmed image: (H, W, 3) uint8.

    A foreground pixel given another foreground class counts as missed; where truth is -1 nothing is marked.
    """
    rgb = to_rgb(image).astype(np.float32) * 0.5
    seen = truth >= 0
    for where, colour in (
        (seen & (truth > 0) & (prediction == truth), FOUND),
        (seen & (truth == 0) & (prediction > 0), INVENTED),
        (seen & (truth > 0) & (prediction != truth), MISSED),
    ):
        strength = 0.35 if colour == FOUND else 0.85
        rgb[where] = (1 - strength) * rgb[where] + strength * np.array(colour, np.float32)
    return rgb.astype(np.uint8)


def _save_figure(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())


def curves(path: Path, history: list[dict[str, Any]]) -> None:
    """Loss and Dice by epoch, as PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = "o" if len(epochs) < 3 else None
    for key, colour, name in (("train_loss", "#0072B2", "training"), ("val_loss", "#D55E00", "validation")):
        left.plot(epochs, [row[key] for row in history], color=colour, marker=marker, label=name, lw=1.8)
    left.set(xlabel="epoch", title="loss")
    left.legend(frameon=False)
    for key, colour, name in (("val_dice", "#009E73", "Dice"), ("val_iou", "#CC79A7", "IoU")):
        right.plot(epochs, [row[key] for row in history], color=colour, marker=marker, label=name, lw=1.8)
    best = max(history, key=lambda row: row["val_dice"])
    right.plot(best["epoch"], best["val_dice"], "o", color="#009E73", ms=7, mfc="white", mew=1.8)
    right.annotate(f"{best['val_dice']:.3f}", (best["epoch"], best["val_dice"]), (0, -16), textcoords="offset points",
                   ha="center", color=INK)  # fmt: skip
    right.set(xlabel="epoch", title="validation, foreground")
    right.legend(frameon=False, loc="best")
    right.margins(x=0.08)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _save_figure(figure, path)


def predictions(path: Path, cases: list[dict[str, Any]], classes: ClassMap) -> None:
    """Image, truth, prediction and errors side by side, a row a case, as PNG.

    Parameters
    ----------
    path : Path
    cases : list of dicts
        With "name", "score" (its Dice), "image" (H, W, C), "truth" and "prediction" (H, W), and "weight" (H, W), how much
        each pixel counted, or None.
    classes : ClassMap
        For the colours of truth and prediction.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    heights = [min(case["image"].shape[0] / case["image"].shape[1], 1.6) for case in cases]
    weights = [case["weight"] for case in cases if case.get("weight") is not None]
    heaviest = max((float(w.max()) for w in weights), default=0.0)
    titles = ["image", "truth", "prediction", "errors"] + [f"weights, black 0 to white {heaviest:.3g}"] * bool(weights)
    figure = Figure(figsize=(2.75 * len(titles), 2.75 * sum(heights) + 0.9), layout="constrained")
    grid = figure.subplots(len(cases), len(titles), squeeze=False, height_ratios=heights)
    for axes, case in zip(grid, cases):
        truth = np.maximum(case["truth"], 0)
        pictures = [
            to_rgb(case["image"]),
            classes.decode(truth.astype(np.uint8)),
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
        name = case["name"] if len(case["name"]) <= 16 else case["name"][:15] + "…"
        axes[0].set_ylabel(f"{name}\nDice {case['score']:.3f}", fontsize=9, color=INK)
    for ax, title in zip(grid[0], titles):
        ax.set_title(title, fontsize=11, color=INK)
    marks = [
        Patch(color="#{:02x}{:02x}{:02x}".format(*c), label=n)
        for c, n in ((FOUND, "found"), (INVENTED, "invented"), (MISSED, "missed"))
    ]
    figure.legend(handles=marks, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    _save_figure(figure, path)
