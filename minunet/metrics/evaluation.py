"""What `minunet.evaluate` finds: the scores of every image, of every kind of image, and of all; as text, JSON and CSV."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_atomically
from ..cli import csv_text
from ..data import ClassMap
from . import best_threshold, per_class, per_object

POOR = 0.6  # share of the best kind's Dice below which a kind of image was not learnt


@dataclass(frozen=True)
class Evaluation:
    """The scores of segmentations.

    Attributes
    ----------
    images : dict of dicts
        The scores of each image by its name: a dictionary by the scores' names in the CSV, nan for a missing score.
    pooled : dict
        The scores over the pixels and objects of all images.
    classes : ClassMap or None
        The classes that were scored; None if objects were scored.
    left_out : list of str
        Predictions of images that have no truth.
    groups : dict
        The kind of each image by its name; empty if kinds are not told apart.
    notes : list of str
        Which truth was taken, and whether it seems to outline only some of the objects.
    chosen : Chosen, optional
        The adapted Rand error at the threshold that is best on other images.
    """

    images: dict[str, dict[str, float]]
    pooled: dict[str, float]
    classes: ClassMap | None = None
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    chosen: best_threshold.Chosen | None = None
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> dict[str, float]:
        """Every score as the mean of the images that have it; nan if none has."""
        return self._mean_of(list(self.images))

    @property
    def by_group(self) -> dict[str, dict[str, float]]:
        """For every kind of image the scores as the mean of its images."""
        kinds = dict.fromkeys(self.groups.values())
        return {kind: self._mean_of([name for name in self.images if self.groups[name] == kind]) for kind in kinds}

    def _mean_of(self, names: list[str]) -> dict[str, float]:
        columns = {key: np.array([self.images[name][key] for name in names]) for key in self.pooled}
        known = {key: scores[~np.isnan(scores)] for key, scores in columns.items()}
        return {key: float(scores.mean()) if scores.size else math.nan for key, scores in known.items()}

    def _told_groups(self) -> str:
        """A table of the mean scores of every kind of image; "" if there is one kind only."""
        objects = {"Dice": "dice", "AP50": "precision_50", "AP": "mean_precision"}
        shown = objects if self.classes is None else {"Dice": "dice_foreground", "IoU": "iou_foreground"}
        found, count = self.by_group, Counter(self.groups.values())
        if len(found) < 2:
            return ""
        lines = ["", "", f"{'kind of image, mean of its images':<38}{'images':>7}" + "".join(f"{c:>9}" for c in shown)]
        lines += [
            f"{kind[:37]:<38}{count[kind]:>7}" + "".join(f"{means[key]:>9.4f}" for key in shown.values())
            for kind, means in sorted(found.items(), key=lambda item: -count[item[0]])
        ]
        best = max(means[shown["Dice"]] for means in found.values())
        poor = [kind for kind, means in found.items() if means[shown["Dice"]] < POOR * best]
        lines += [f"warning: {kind} was not learnt: train with more such images or --even-groups" for kind in poor]
        return "\n".join(lines)

    def __str__(self) -> str:
        """The tables that the command prints."""
        if self.classes is None:
            return "\n".join(
                [per_object.object_report(self.images, self.pooled), *map(str, filter(None, [self.chosen]))]
            ) + self._told_groups()  # fmt: skip
        return per_class.class_report(self.images, self.pooled, self.classes) + self._told_groups()

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes, with None for nan."""

        def plain(values: dict[str, float]) -> dict[str, float | None]:
            return {key: None if math.isnan(v) else v for key, v in values.items()}

        return {
            "scored": "objects" if self.classes is None else "classes",
            "pooled": plain(self.pooled),
            "mean": plain(self.mean),
            "images": {name: plain(values) for name, values in self.images.items()},
            "left_out": self.left_out,
            "notes": self.notes,
            "chosen": self.chosen and self.chosen._asdict(),
            "groups": {kind: plain(means) for kind, means in self.by_group.items()},
        }

    def save_csv(self, path: str | Path) -> None:
        """Write every image's scores; a score that an image has not is left empty."""
        write_table(path, self.images)


def write_table(path: str | Path, images: dict[str, dict[str, float]]) -> None:
    """Write the scores of images as CSV, a row each; a score that an image has not is left empty."""
    columns = next(iter(images.values()), {})
    rows = [[name, *values.values()] for name, values in images.items()]
    write_atomically(path, csv_text([["image", *columns], *rows]).encode())
