"""How a trained network's probabilities become objects: measured on the training images, tuned on the validation images.

Which threshold, neck, smoothing and least size are best depends on how large objects are and on the network's mistakes. So the
objects of the training images are measured, and the numbers are chosen by the precision of the objects found in windows of the
validation images, the mean over the thresholds of the IoU from 0.5 to 0.95. A window of each of many images tells more than all
of a few. Neck and smoothing go together, the others one after the other, from grids in units of the objects' diameter and least
area; what finds objects one by one has a suppression in place of neck and smoothing. What was found before is changed only
for a better score. That takes about 20 labellings of a million pixels, which is seconds.

Whoever reports how good the objects are has to score other images than these: neither trained on nor tuned on.

Source: Schmidt et al. 2018, Cell detection with star-convex polygons, arXiv:1806.03535; StarDist chooses its thresholds so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..array import to_numpy
from ..data import ImageSet
from ..data.instance_labels import limit_numbers, renumber
from ..data.objects import SMOOTH, ObjectSize, Separation, measure_objects
from ..metrics.instances import ObjectCounts
from ..nn import Module
from ..predict.inference import outputs_of, predict_logits
from ..predict.instances import separate
from ..predict.maps import maps_of
from ..predict.separation import UNTUNED
from ..predict.stars import cell_of

PIXELS = 1 << 20  # of the validation images are tuned on, about
WINDOW = 256  # rows and columns of a window, at least; three of the largest objects, if these are larger
MEASURED = 500  # training images whose objects are measured, at most
NECKS = (0.3, 0.0, 0.6, 0.8, 0.9)
SMOOTHING = (0.0, 0.02, 0.05)  # in diameters
THRESHOLDS = (0.4, 0.5, 0.6, 0.7)
LEAST = (0.25, 0.5, 1.0, 2.0)  # in least areas
STARS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # thresholds of polygons
SUPPRESSION = (0.2, 0.3, 0.5, 0.6)


class Tuned(NamedTuple):
    """What `tune` found.

    Attributes
    ----------
    separation : Separation
    before, after : float
        The precision with the values to begin with, and with these.
    images : int
        In how many of the validation images.
    """

    separation: Separation
    before: float
    after: float
    images: int


class Example(NamedTuple):
    """A window of a validation image: its maps (H, W, K), true objects (H, W), where these count, (H, W) bool or None.

    In place of the maps stands what a detector sees, a `Seen` of `minunet.predict.detections`.
    """

    p: Any
    truth: np.ndarray
    valid: np.ndarray | None


def add_objects(
    model: Module, dataset: ImageSet, train: list[int], validation: list[int], pixels: int = PIXELS
) -> Tuned | None:
    """Give a trained network's preprocessing the size of its objects, and how they are told apart, tuned on so many pixels.

    Does nothing, and returns None, if the data set does not tell objects apart, or there are none.
    """
    known = model.preprocessing
    if known.target == "classes" and known.classes.num_classes != 2:
        return None
    step = -(-len(train) // MEASURED)
    numbered = (dataset[i].instances for i in train[::step])
    size = measure_objects(labels for labels in numbered if labels is not None)
    if size is None:
        return None
    cell = cell_of(known.rays, 1.0) if known.rays else 1
    seen = examples(model, dataset, validation, max(WINDOW, 3 * size.extent), pixels)
    tuned = tune(list(seen), known.target, size, cell)
    model.preprocessing = replace(known, objects=size, separation=tuned.separation)
    return tuned


def examples(
    model: Module, dataset: ImageSet, validation: list[int], side: int, pixels: int = PIXELS
) -> Iterator[Example]:
    """The middle of validation images, of up to side x side pixels; images are evenly chosen, so that there are `pixels`."""
    held = sum(math.prod(min(n, side) for n in dataset.sizes[i]) for i in validation)
    for i in validation[:: max(1, min(round(held / pixels), len(validation)))]:
        sample = dataset[i]
        if sample.instances is not None:
            rows, columns = (slice(max(0, n - side) // 2, max(0, n - side) // 2 + side) for n in sample.labels.shape)
            seen = predict_logits(model, sample.image[None, rows, columns])
            size = sample.labels[rows, columns].shape
            p = outputs_of(seen, size) if isinstance(seen, list) else to_numpy(maps_of(model, seen))[0]
            valid = None if sample.valid is None else sample.valid[rows, columns]
            yield Example(p, limit_numbers(sample.instances[rows, columns]), valid)


def tune(found: list[Example], target: str, size: ObjectSize, cell: int = 1) -> Tuned:
    """The best separation, by the precision of the objects found, from IoU 0.5 to 0.95, pooled over the images.

    `cell` is that of `minunet.predict.stars`.
    """
    best = start(target, size)
    score = before = precision(found, target, best, cell)
    for changes in grids(target, size):
        for tried in [replace(best, **change) for change in changes] if found else []:
            reached = score if tried == best else precision(found, target, tried, cell)
            if reached > score:
                best, score = tried, reached
    return Tuned(best, before, score, len(found))


def start(target: str, size: ObjectSize) -> Separation:
    """What tuning begins with: as untuned, but objects are dropped that have less than a quarter of the smallest ones' pixels,
    and none that is as large as these."""
    usual = UNTUNED[target]
    return replace(usual, min_size=max(min(usual.min_size, size.least_area), size.least_area // 4))


def grids(target: str, size: ObjectSize) -> list[list[dict[str, Any]]]:
    """The changes to try, in the order in which they are tuned."""
    least = [{"min_size": int(share * size.least_area)} for share in LEAST]
    if target in ("stardist", "instances"):
        return [[{"threshold": threshold} for threshold in STARS], [{"nms": nms} for nms in SUPPRESSION], least]
    smooth = [min(round(share * size.diameter, 1), SMOOTH) for share in SMOOTHING]
    return [
        [{"neck": neck, "smooth": sigma} for neck in NECKS for sigma in smooth],
        least,
        [{"threshold": threshold} for threshold in THRESHOLDS],
    ]


def precision(found: list[Example], target: str, how: Separation, cell: int = 1) -> float:
    """The mean precision over IoU 0.5 to 0.95."""
    counts = ObjectCounts()
    for example in found:
        labels = renumber(separate(example.p, target, how, cell=cell), how.min_size)
        counts.add(example.truth, labels, example.valid)
    return counts.mean_precision()
