"""Scores of pixels; foreground are the pixels of all objects.

    Dice          2 TP / (2 TP + FP + FN)        IoU  TP / (TP + FP + FN)
    pixel error   share of the pixels that are foreground in one and background in the other

Pooled over the pixels of all images, or as the mean of images. Empty images: where neither truth nor prediction has foreground,
Dice and IoU are 1.
"""

# Above is what --help prints of the scores of pixels; instances.py and warping_error.py define the others.

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..cli import printable
from ..data import open_dataset
from ..data.label_images import Conventions, Reader, are_label_images, list_label_images, read_truth
from ..data.layouts import ctc
from ..data.layouts.source import some
from ..errors import UserError
from . import warping_error as warping
from .confusion import Confusion
from .instances import PERCENTS, ObjectCounts

ROWS = {  # what the summary shows of each score, and which of its two averages is the usual one: 0 pooled, 1 mean of images
    "dice": ("Dice", 0),
    "iou": ("IoU", 0),
    "pixel_error": ("pixel error", 0),
    "precision_50": ("precision at IoU 0.50", 1),
    "precision_75": ("precision at IoU 0.75", 1),
    "mean_precision": ("precision, mean of IoU 0.50 to 0.95", 1),
    "panoptic_quality": ("panoptic quality", 0),
    "seg": ("SEG", 0),
    "adapted_rand_error": ("adapted Rand error", 1),
    "warping_error": ("warping error", 1),
}
COUNTS = {"merged": "merged pairs", "split": "split pairs"}
COLUMNS = {"true": 6, "found": 6, "Dice": 7, "AP50": 7, "AP": 7, "PQ": 7, "SEG": 7, "merged": 7, "split": 6}
MOST = 20  # images in the printed table


Truth = tuple[np.ndarray, np.ndarray | None]  # object numbers (H, W), and where they count, (H, W) bool or None
ReadTruth = Callable[[], Truth]


def list_object_truths(
    path: Path, layout: str, kind: str | None = None, partial_truth: bool = False, known: Conventions | None = None
) -> tuple[dict[str, ReadTruth], list[str]]:
    """Functions that read the truth of every image, by name; and notes on which truth it is.

    Parameters
    ----------
    path : Path
    layout : str
        "files", "auto", or that of a data set.
    kind : str, optional
        Of the layout ctc: which truth, "gold" unless it is given.
    partial_truth : bool
        Whether only pixels in true objects will count, so that nothing need be known of the others.
    known : Conventions, optional
        What the user has said of the masks' values; it gets the notices on how they are read.
    """
    known = known or Conventions()
    if layout == "files" or (layout == "auto" and are_label_images(path)):
        if kind is not None:
            raise UserError(
                f"--truth-kind {kind} is for the layout {ctc.NAME}, but {path} is read as files; leave it out"
            )
        notes = [] if partial_truth else ctc.notes_on(path)
        return {name: partial(whole, read) for name, read in list_label_images(path, known).items()}, notes
    is_ctc = layout == ctc.NAME or (layout == "auto" and path.is_dir() and ctc.recognise(path))
    kind = kind or ("gold" if is_ctc else "auto")
    dataset = open_dataset(path, layout, truth="complete" if partial_truth and kind == "gold" else kind,
                           masks=known.masks, ignore=known.ignore, axes=known.axes)  # fmt: skip
    known.dataset, known.notes = dataset, known.notes + dataset.warnings
    if dataset.classes.rule == "exact" and dataset.classes.num_classes > 2:
        raise UserError(
            f"{path}: its masks hold {dataset.classes.num_classes} classes: give --classes to score them, or --masks objects"
        )
    notes = [f"truth: {note.split(maxsplit=1)[1]}" for note in dataset.notes if note.startswith("truth")]
    return {name: partial(read_truth, dataset, i) for i, name in enumerate(dataset.names)}, notes


def whole(read: Reader) -> Truth:
    """A truth from a file; it counts where the reader gives no -1."""
    numbers = read(None)
    valid = numbers >= 0
    return (numbers, None) if valid.all() else (np.where(valid, numbers, 0), valid)


@dataclass
class PartialTruth:
    """Signs that the truth outlines only some of the objects, gathered image by image.

    An image shows them if most of its true objects were found, and yet a third or more of what was predicted lies where the
    truth shows nothing at all.
    """

    seen: int = 0
    marked: list[str] = field(default_factory=list)  # images with a truth that says where it counts
    suspected: list[str] = field(default_factory=list)

    def add(
        self, name: str, truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None, scores: Scores
    ) -> None:
        """Look at an image."""
        self.seen += 1
        if valid is not None:
            self.marked.append(name)
            return
        lone = len(np.setdiff1d(predicted, [0, *np.unique(predicted[truth > 0])]))
        o = scores.objects
        if o.truth and 2 * o.tp[0] >= o.truth and 3 * lone >= o.predicted > 0:
            self.suspected.append(name)

    def notes(self) -> list[str]:
        """What is to be said."""
        said = []
        if self.marked:
            said.append(f"{len(self.marked)} of {self.seen} images are only partly annotated; elsewhere nothing counts")
        if self.suspected:
            said.append(
                f"in {len(self.suspected)} of {self.seen} images ({some(self.suspected)}) the true objects are found, but a "
                f"third or more of the predicted ones lie where the truth shows none: if it outlines only some of the "
                f"objects, score with --partial"
            )
        return said


class Scores:
    """What is counted of one image, or of several that were added up."""

    def __init__(self) -> None:
        self.pixels, self.objects, self.warped = Confusion(2), ObjectCounts(), 0

    def add(self, truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None) -> None:
        """Count an image's object numbers (H, W); `valid` as in `ObjectCounts.add`."""
        true_mask = (truth > 0).astype(np.int64)
        self.pixels.add(true_mask if valid is None else np.where(valid, true_mask, -1), predicted > 0)
        self.objects.add(truth, predicted, valid)
        self.warped += warping.topological_errors(warping.separated(truth), warping.separated(predicted), valid)

    def __iadd__(self, other: Scores) -> Scores:
        self.pixels.counts += other.pixels.counts
        self.objects += other.objects
        self.warped += other.warped
        return self

    def values(self) -> dict[str, float]:
        """The scores by their names in the CSV."""
        o, seen = self.objects, int(self.pixels.counts.sum())
        precisions = {f"precision_{percent}": float(p) for percent, p in zip(PERCENTS, o.precisions())}
        return {
            "true_objects": o.truth, "predicted_objects": o.predicted, "dice": self.pixels.mean_dice(),
            "iou": self.pixels.mean_iou(), "pixel_error": 1 - self.pixels.pixel_accuracy(), **precisions,
            "mean_precision": o.mean_precision(), "panoptic_quality": o.panoptic_quality(), "seg": o.seg(),
            "adapted_rand_error": o.adapted_rand_error(), "warping_error": self.warped / seen if seen else float("nan"),
            "merged": o.merged, "split": o.split,
        }  # fmt: skip


def object_report(images: dict[str, dict[str, float]], total: dict[str, float]) -> str:
    """The table of images, the worst ones if there are many, and the summary."""
    shown = sorted(images, key=lambda name: images[name]["mean_precision"])[:MOST] if len(images) > MOST else images
    names = {name: printable(name)[:24] for name in shown}
    width = max(map(len, names.values()))
    lines = [" " * width + "".join(f"{c:>{w}}" for c, w in COLUMNS.items())]
    lines += [f"{names[name]:<{width}}" + _row(images[name]) for name in shown]
    if len(images) > MOST:
        lines.append(f"(the {MOST} images of {len(images)} with the lowest AP; --csv writes all)")
    lines += ["", *_summary(images, total)]
    return "\n".join(lines)


def _row(v: dict[str, float]) -> str:
    names = ("dice", "precision_50", "mean_precision", "panoptic_quality", "seg")
    cells = [
        int(v["true_objects"]),
        int(v["predicted_objects"]),
        *(_number(v[n]) for n in names),
        v["merged"],
        v["split"],
    ]
    return "".join(f"{cell:>{w}}" for cell, w in zip(cells, COLUMNS.values()))


def _summary(images: dict[str, dict[str, float]], total: dict[str, float]) -> Iterator[str]:
    """Both averages of every score; the usual one is marked."""
    yield f"{len(images)} images, {total['true_objects']} true objects, {total['predicted_objects']} predicted"
    yield f"{'':<38}{'pooled':>10}{'mean of images':>18}"
    for key, (title, usual) in ROWS.items():
        scores = np.array([values[key] for values in images.values()])
        known = scores[~np.isnan(scores)]
        averages = [total[key], known.mean() if known.size else float("nan")]
        cells = [_number(a) + "* "[usual != i] for i, a in enumerate(averages)]
        yield f"{title:<38}{cells[0]:>11}{cells[1]:>18}".rstrip()
    for key, title in COUNTS.items():
        yield f"{title:<38}{total[key]:>10}{total[key] / len(images):>17.2f}"
    yield "* the average under which the score is usually given; python -m minunet.evaluate --help defines them all"


def _number(value: float) -> str:
    return "none" if value != value else f"{value:.4f}"
