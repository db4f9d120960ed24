"""Size, place and brightness of every object, added up over the blocks of an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

COLOURS = ("red", "green", "blue")


class Measurements:
    """Measurements of the objects 1 to n of an image, in pixels and in the image's own grey values.

    x counts columns from the left and y rows from the top; both are 0 in the middle of the first pixel, as in scikit-image and
    napari (in ImageJ, which counts from that pixel's corner, they are larger by 0.5). A bounding box is given by its first
    column and row, its width and its height.

    Parameters
    ----------
    n : int
    channels : int
        Of the image.

    Attributes
    ----------
    area : (n,) int64 array
    boxes : (n, 4) int64 array
        Left, top, right and bottom; right and bottom are the first column and row after the object.
    """

    def __init__(self, n: int, channels: int) -> None:
        far = np.iinfo(np.int64).max
        self.area = np.zeros(n, np.int64)
        self.place = np.zeros((n, 2))  # sums of x and y
        self.intensity = np.zeros((n, channels))  # sums of grey values
        self.boxes = np.tile(np.array([far, far, 0, 0]), (n, 1))

    def __len__(self) -> int:
        return len(self.area)

    def add(self, labels: np.ndarray, image: np.ndarray, top: int = 0, left: int = 0) -> None:
        """Add a part of the image that begins at row `top` and column `left`: object numbers (h, w) and pixels (h, w, C)."""
        self.enter(measure_part(labels, image, top, left))

    def enter(self, found: PartMeasurements) -> None:
        """Add what was measured of a part of the image."""
        i = found.numbers.astype(np.int64) - 1
        self.area[i] += found.area
        self.place[i] += found.place
        self.intensity[i] += found.intensity
        self.boxes[i, :2] = np.minimum(self.boxes[i, :2], found.boxes[:, :2])
        self.boxes[i, 2:] = np.maximum(self.boxes[i, 2:], found.boxes[:, 2:])

    def rows(self, page: int | None = None) -> Iterator[dict[str, Any]]:
        """One row for each object, with the keys of `columns`; for a stack, with the page's number from 1."""
        names = columns(self.intensity.shape[1], page is not None)
        for i, area in enumerate(self.area.tolist()):
            if area:
                left, top, right, bottom = self.boxes[i].tolist()
                x, y = (self.place[i] / area).tolist()
                values = [
                    i + 1,
                    area,
                    x,
                    y,
                    left,
                    top,
                    right - left,
                    bottom - top,
                    *(self.intensity[i] / area).tolist(),
                ]
                yield dict(zip(names, values if page is None else [page, *values]))


class PartMeasurements(NamedTuple):
    """The measurements of the n objects in a part of an image: their numbers (n,), and the arrays of `Measurements`."""

    numbers: np.ndarray
    area: np.ndarray
    place: np.ndarray
    intensity: np.ndarray
    boxes: np.ndarray


def measure_part(labels: np.ndarray, image: np.ndarray, top: int, left: int) -> PartMeasurements:
    """Measure a part of the image that begins at row `top` and column `left`: object numbers (h, w) and pixels (h, w, C)."""
    y, x = np.nonzero(labels)
    numbers, here = np.unique(labels[y, x], return_inverse=True)  # sums over this part's objects alone
    n, place, values = len(numbers), np.stack([x + left, y + top], axis=1), image[y, x]
    sums = [np.bincount(here, weights, n) for weights in (*place.T, *values.astype(float).T)]
    low, high = np.full((n, 2), np.iinfo(np.int64).max), np.zeros((n, 2), np.int64)
    np.minimum.at(low, here, place)
    np.maximum.at(high, here, place + 1)
    boxes = np.concatenate([low, high], axis=1)
    return PartMeasurements(
        numbers, np.bincount(here, minlength=n), np.stack(sums[:2], 1), np.stack(sums[2:], 1), boxes
    )


def columns(channels: int, paged: bool) -> list[str]:
    """The columns of X_objects.csv for images of so many channels."""
    colours = COLOURS if channels == 3 else [f"channel_{c + 1}" for c in range(channels)]
    means = ["mean_intensity"] if channels == 1 else [f"mean_intensity_{c}" for c in colours]
    box = [f"bbox_{side}_px" for side in ("x", "y", "width", "height")]
    return ["page"] * paged + ["object", "area_px", "centroid_x_px", "centroid_y_px", *box, *means]


def measure(labels: np.ndarray, image: np.ndarray) -> Measurements:
    """The measurements of a whole image: object numbers (H, W) and pixels (H, W, C)."""
    found = Measurements(int(labels.max(initial=0)), image.shape[-1])
    found.add(labels, image)
    return found
