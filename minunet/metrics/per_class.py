"""Scores of pixels class by class, for two classes or more.

    Dice          2 TP / (2 TP + FP + FN)        IoU  TP / (TP + FP + FN)
    accuracy      share of the pixels that have the right class

with TP, FP, FN the true positive, false positive and false negative pixels of the class. Scores are pooled over the pixels of
all images, which is the usual average, or are the mean of the images in which the class has a score. "foreground" is the mean
of all classes but class 0.

A class that is neither in the truth nor in the prediction has no score and is left out of means. If no foreground class has a
score, their mean is 1: there was nothing to find, and nothing was predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ..data import ClassMap, open_dataset
from ..data.label_images import Conventions, Stored, are_label_images, list_stored
from ..data.mask_kinds import find_classes
from ..data.mask_scan import MaskScan
from ..data.sample import true_labels
from ..errors import UserError
from .confusion import Confusion

ReadLabels = Callable[[], np.ndarray]  # labels (H, W), -1 where they do not count


def list_class_truths(path: Path, layout: str, known: Conventions) -> tuple[dict[str, ReadLabels], ClassMap, list[str]]:
    """Readers of the true labels of files or of a data set, by the images' names; the classes; and notes on their values.

    Raises
    ------
    UserError
        If the masks cannot be read, or hold instances in place of classes.
    """
    if layout == "files" or (layout == "auto" and are_label_images(path)):
        masks, scan = list_stored(path), MaskScan(known.ignore)
        for name, read in masks.items():
            pixels, palette = read(None)
            scan.add(pixels, f"{path}: {name}", palette=palette)
        try:
            classes, _, notes = find_classes(scan, known.masks, wanted="classes")
        except UserError as e:
            raise UserError(f"{path}: {e}") from None
        truths: dict[str, ReadLabels] = {
            name: partial(read_labels, read, classes, f"{path}: {name}") for name, read in masks.items()
        }
    else:
        dataset = open_dataset(path, layout, masks=known.masks, ignore=known.ignore, axes=known.axes)
        classes, notes, known.dataset = dataset.classes, dataset.warnings, dataset
        truths = {name: partial(lambda i: true_labels(dataset[i]), i) for i, name in enumerate(dataset.names)}
    if classes.rule == "instances":
        raise UserError(
            f"{path}: these masks number objects; leave out --classes to score objects, or give --masks classes"
        )
    return truths, classes, [f"{path}: {note}" for note in notes]


def read_labels(read: Callable[[None], Stored], classes: ClassMap, name: str) -> np.ndarray:
    """Class numbers (H, W) int64 of a true mask, -1 where they do not count."""
    pixels, palette = read(None)
    labels = classes.encode(pixels, name, palette).astype(np.int64)
    counts = classes.counting(pixels, palette)
    return labels if counts is None else np.where(counts, labels, -1)


def read_classes(values: np.ndarray, palette: np.ndarray | None, classes: ClassMap, path: object) -> np.ndarray:
    """Class numbers (H, W) of a mask that holds the truth's values, or the colours that `minunet.predict` writes for them."""
    if (
        classes.rule == "threshold" and values.dtype == np.uint8
    ):  # as predict writes them, whatever the truth's white is
        classes = ClassMap([0, min(classes.values[1], 255)], classes.names, "threshold")
    try:
        return classes.encode(values, path, palette)
    except UserError:
        shown = ClassMap(classes.decode(np.arange(classes.num_classes)).tolist(), classes.names)
        try:
            return shown.encode(values, path, palette)
        except UserError:
            pass
        raise


def count_classes(
    truth: np.ndarray, values: np.ndarray, palette: np.ndarray | None, classes: ClassMap, name: str
) -> Confusion:
    """Count an image's pixels by their true and their predicted class.

    Parameters
    ----------
    truth : (H, W) integer array
        Class numbers, -1 where they do not count.
    values, palette
        What the predicted mask holds: (H, W) or (H, W, 3) array, and the colours (n, 3) of its values, or None.
    classes : ClassMap
    name : str
        What errors call the prediction.
    """
    if truth.shape != values.shape[:2]:
        sizes = [f"{w}x{h}" for h, w in (values.shape[:2], truth.shape)]
        raise UserError(f"{name}: is {sizes[0]} pixels, but the truth of that name is {sizes[1]}")
    counts = Confusion(classes.num_classes)
    counts.add(truth, read_classes(values, palette, classes, name))
    return counts


def score_columns(counts: Confusion, names: list[str]) -> dict[str, float]:
    """The scores by their names in the CSV; nan for a class without one."""
    return {
        **{f"dice_{name}": float(v) for name, v in zip(names, counts.dice())},
        **{f"iou_{name}": float(v) for name, v in zip(names, counts.iou())},
        "dice_foreground": counts.mean_dice(), "iou_foreground": counts.mean_iou(), "accuracy": counts.pixel_accuracy(),
    }  # fmt: skip


def class_report(images: dict[str, dict[str, float]], total: dict[str, float], classes: ClassMap) -> str:
    """A table of the classes: Dice and IoU, both pooled and as mean of images."""

    def cells(key: str) -> Iterator[str]:
        scores = np.array([values[key] for values in images.values()])
        known = scores[~np.isnan(scores)]
        for average in (total[key], known.mean() if known.size else np.nan):
            yield "none" if np.isnan(average) else f"{average:.4f}"

    width = max(len(name) for name in [*classes.names, "foreground"])
    lines = [f"{len(images)} images, {classes.num_classes} classes: {classes.describe()}", ""]
    lines += [f"{'':<{width}}{'Dice':>10}{'of images':>11}{'IoU':>10}{'of images':>11}"]
    for name in [*classes.names, "foreground"]:
        dice, iou = list(cells(f"dice_{name}")), list(cells(f"iou_{name}"))
        lines.append(f"{name:<{width}}{dice[0]:>10}{dice[1]:>11}{iou[0]:>10}{iou[1]:>11}")
    pooled, mean = cells("accuracy")
    lines += ["", f"accuracy {pooled}, mean of images {mean}"]
    lines += ["pooled over all pixels, and as means of images; foreground: mean of all classes but the first"]
    return "\n".join(lines)
