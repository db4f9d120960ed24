"""What a network knows of the objects that it was trained on: how large they are, and how its output is divided into them.

All are in pixels of the image as the network sees it, that is, after the scale of the preprocessing. A checkpoint stores them
with the preprocessing; `minunet.train.tuning` finds them at the end of a training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from ..errors import Settings, UserError, limits, setting
from .instance_labels import limit_numbers

SMOOTH = 128  # pixels, the most


@dataclass(frozen=True)
class ObjectSize(Settings):
    """How large objects are.

    Attributes
    ----------
    diameter : float
        Of a disc of the median area, in pixels.
    least_area : int
        All but the smallest hundredth of the objects have at least so many pixels.
    extent : int
        The longest side of the bounding box of all but the largest hundredth, in pixels.
    """

    diameter: float = field(metadata=limits(above=0))
    least_area: int = field(metadata=limits(least=1))
    extent: int = field(metadata=limits(least=1))


@dataclass(frozen=True)
class Separation(Settings):
    """How the network's probabilities become objects, see `minunet.predict.instances`.

    Attributes
    ----------
    threshold : float
        A pixel is foreground if its probability of foreground is above this.
    neck : float
        Two hills are one object if the pass between them is higher than this share of the lower one.
    smooth : float
        Sigma of the Gaussian that smooths the hills, in pixels.
    min_size : int
        Objects of fewer pixels are dropped, or belong to the object that they touch.
    nms : float
        Of polygons (see `minunet.predict.stars`): one of which more than this share lies in a more probable one is the same
        object. Of boxes: two that share more than this of what they cover together are the same.
    """

    threshold: float = setting(0.5, least=0, most=1)
    neck: float = setting(0.9, least=0, most=1)
    smooth: float = setting(1.0, least=0, most=SMOOTH)
    min_size: int = setting(20, least=0)
    nms: float = setting(0.4, least=0, most=1)

    def magnified(self, factor: float) -> Self:
        """The same for images that are larger by a factor."""
        smooth = min(self.smooth * factor, SMOOTH)
        return replace(self, smooth=smooth, min_size=round(self.min_size * factor**2))


@dataclass(frozen=True)
class Rays(Settings):
    """How a network describes objects as star-convex polygons, see `minunet.data.stars`.

    Attributes
    ----------
    count : int
        Rays of a polygon; a multiple of 4, so that turned images have turned rays.
    unit : float
        What the network's distances count in, in pixels: the typical radius of the objects.
    """

    count: int = setting(32, least=4, most=256)
    unit: float = setting(10.0, above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count % 4:
            raise UserError(
                f"rays: {self.count} is no multiple of 4: give {self.count // 4 * 4} or {self.count // 4 * 4 + 4}"
            )


def object_depths(numbers: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray, np.ndarray]]:
    """How deep in its object every pixel lies: for each object of a label image (H, W) a box around it, and in the box where
    the object is, and the distance to the nearest pixel outside of it. The image's edge is not outside of what it cuts off."""
    import scipy

    numbers = limit_numbers(numbers)
    for number, box in enumerate(scipy.ndimage.find_objects(numbers), start=1):
        if box is None:
            continue
        wider = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        own = numbers[wider] == number
        yield wider, own, own.astype(float) if own.all() else scipy.ndimage.distance_transform_edt(own)


def areas_and_sides(numbers: np.ndarray) -> tuple[list[int], list[int]]:
    """The area in pixels, and the longest side of the bounding box, of every object in a label image (H, W) of numbers up to
    the number of its pixels."""
    import scipy

    area = np.bincount(numbers.ravel())
    boxes = {number: box for number, box in enumerate(scipy.ndimage.find_objects(numbers), start=1) if box}
    return [int(area[n]) for n in boxes], [max(s.stop - s.start for s in box) for box in boxes.values()]


def diameter(area: float) -> float:
    """Of a disc of this area."""
    return 2 * float(np.sqrt(area / np.pi))


def measure_objects(labels: Iterable[np.ndarray]) -> ObjectSize | None:
    """The size of the objects in label images (H, W); None if there is no object.

    Objects that touch the image's edge count, though they may be cut off.
    """
    areas: list[int] = []
    sides: list[int] = []
    for found in map(areas_and_sides, map(limit_numbers, labels)):
        areas += found[0]
        sides += found[1]
    if not areas:
        return None
    least, middle = (int(np.percentile(areas, q, method="lower")) for q in (1, 50))
    return ObjectSize(diameter(middle), least, int(np.percentile(sides, 99, method="higher")))
