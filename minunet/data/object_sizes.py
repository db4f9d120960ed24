"""How large the objects of a data set are, and signs that only some of them are outlined; for `minunet.doctor`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .checks import Survey
from .classes import as_numbers
from .instance_labels import limit_numbers
from .label_images import as_instances
from .layouts.source import counting
from .objects import areas_and_sides

LOOKED_AT = 60  # masks, evenly over the data set
SOME = 0.3  # share of the images that look partly outlined, from which on it is said
SPREAD = 0.25  # how far towards the objects' brightness a pixel must be to look like one, at least: see `unlabelled`


@dataclass(frozen=True)
class ObjectSizes:
    """What the masks' objects are like.

    Attributes
    ----------
    areas, sides : (n,) arrays
        Pixels of each object, and the longer side of its box.
    partial : list of str
        Images in which as much lies outside of the objects that looks like them as within; empty if these are few.
    marked : list of str
        Images whose truth says that it counts only in part.
    """

    areas: np.ndarray
    sides: np.ndarray
    partial: list[str]
    marked: list[str]


def object_sizes(seen: Survey) -> ObjectSizes | None:
    """Measure objects: numbered ones, or the connected regions of the foreground of two classes; None if there are none."""
    if seen.classes is None or seen.classes.num_classes != 2:
        return None
    areas, sides, partial, marked = [], [], [], []
    usable = [entry for entry in seen.entries if entry.name in seen.sizes]
    looked_at = usable[:: max(1, -(-len(usable) // LOOKED_AT))]
    for entry in looked_at:
        try:
            mask = entry.read_mask()
            labels = seen.classes.encode(mask.values, entry.mask, mask.palette)
            image = entry.read_image()
        except UserError:
            continue  # has been said
        valid = counting(mask, seen.classes)
        if mask.valid is not None:
            marked.append(entry.name)
        numbers = as_instances(labels)
        if mask.instances is not None or seen.classes.rule == "instances":
            numbers = mask.instances if mask.instances is not None else as_numbers(mask.values, mask.palette)
        numbers = limit_numbers(np.where(labels > 0, numbers, 0))
        found = areas_and_sides(numbers)
        areas += found[0]
        sides += found[1]
        if mask.valid is None and unlabelled(image, labels > 0, valid) >= 1:
            partial.append(entry.name)
    if len(partial) < SOME * len(looked_at):
        partial = []  # dirt, or another stain
    return ObjectSizes(np.array(areas), np.array(sides), partial, marked) if areas else None


def unlabelled(image: np.ndarray, labelled: np.ndarray, valid: np.ndarray | None = None) -> float:
    """How much of an image looks like its objects but is none, as a multiple of their area.

    A pixel looks like an object if its smoothed brightness is nearer to the objects' median than to that of what is far from
    it; pieces smaller than a quarter of the smallest object do not count. 0 where objects do not differ from what is around.

    Parameters
    ----------
    image : (H, W, C) array
    labelled : (H, W) bool array
    valid : (H, W) bool array or None
        Where the mask counts.
    """
    import scipy

    if not labelled.any() or labelled.all():
        return 0.0
    grey = scipy.ndimage.gaussian_filter(np.nan_to_num(image[..., :3].astype(np.float32)).mean(-1), 1.0)
    outside = ~scipy.ndimage.binary_dilation(labelled, iterations=3)
    if valid is not None:
        outside &= valid
    if not outside.any():
        return 0.0
    inside, ground = np.percentile(grey[labelled], (25, 50, 75)), float(np.median(grey[outside]))
    spread = float(np.median(np.abs(grey[outside] - ground)))
    middle = float(inside[1])
    if abs(middle - ground) < 6 * max(spread, 1e-6) or min(abs(inside[[0, 2]] - ground)) < SPREAD * abs(
        middle - ground
    ):
        return 0.0  # brightness does not tell objects
    alike = outside & (np.abs(grey - middle) < np.abs(grey - ground))
    number, count = scipy.ndimage.label(alike)
    own = np.bincount(scipy.ndimage.label(labelled)[0].ravel())[1:]
    size = np.bincount(number.ravel(), minlength=count + 1)[1:]
    return float(size[size >= own.min() / 4].sum() / labelled.sum())
