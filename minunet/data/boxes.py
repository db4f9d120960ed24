"""Boxes as a training target: which object each location of a detector answers for (Tian et al. 2019, FCOS, arXiv:1904.01355).

The detector has several levels, maps at strides of 4 pixels and more. The pixel (i, j) of a map stands for the *location*
(s i + s/2, s j + s/2) of the image, in pixels from its upper left corner. It answers for an object if

* it lies in the object's box, and within 1.5 strides of the box's middle;
* the farthest of the box's four sides is as far away as suits its level: up to 8 strides, and farther than the next finer level
  reaches; the first level has all that are nearer, and the last all that are farther;
* no smaller object has it.

All this is taken after augmentation, from the object numbers of the patch. Of an object that the patch cuts off, the box is
that of what is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..array import Array, get_array_module
from .instance_labels import limit_numbers

DISTANCES = (
    "right",
    "down",
    "left",
    "up",
)  # the order in which a network gives them: as rays at 0, 90, 180 and 270 degrees
RADIUS = 1.5  # strides around the middle of a box
FARTHEST = 8  # strides to the farthest side


class Assignment(NamedTuple):
    """What locations answer for. Locations are counted level by level, each level row by row.

    Attributes
    ----------
    there : (N, L) int8 array
        1 where a location has an object, 0 where not, -1 where it does not count.
    image, location : (P,) int64 arrays
        The locations that have an object: the image's number and the location's.
    owner : (P,) int64 array
        Which object each has.
    objects : list of (int, int)
        The image of each object, and its number there.
    boxes : (objects, 4) float64 array
        Top, left, bottom and right of each object in pixels; bottom and right lie behind the last pixel.
    """

    there: np.ndarray
    image: np.ndarray
    location: np.ndarray
    owner: np.ndarray
    objects: list[tuple[int, int]]
    boxes: np.ndarray


def places(sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of every location in pixels (L, 2), and its stride (L,), from the levels' sizes and strides.

    >>> places([(1, 2), (1, 1)], [4, 8])[0].tolist()
    [[2.0, 2.0], [2.0, 6.0], [4.0, 4.0]]
    """
    grids = [s * (np.indices(size).reshape(2, -1).T + 0.5) for size, s in zip(sizes, strides)]
    return np.concatenate(grids), np.repeat(strides, [h * w for h, w in sizes])


def boxes_at(distances: Array, at: Array, stride: Array) -> Array:
    """Boxes (M, 4), top, left, bottom and right in pixels, from distances (M, 4) at places (M, 2); strides are (M, 1)."""
    right, down, left, up = (distances[:, i : i + 1] * stride for i in range(4))
    y, x = at[:, :1], at[:, 1:]
    return get_array_module(distances).concatenate([y - up, x - left, y + down, x + right], axis=1)


def assign(numbers: np.ndarray, sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> Assignment:
    """Which object each location answers for.

    Parameters
    ----------
    numbers : (N, H, W) integer array
        Object numbers; 0 for background, -1 where nothing counts.
    sizes : sequence of (rows, columns)
        Of the levels' maps.
    strides : sequence of int

    Examples
    --------
    >>> numbers = np.zeros((1, 32, 32), int)
    >>> numbers[0, 8:16, 8:24] = 1
    >>> found = assign(numbers, [(8, 8), (4, 4)], [4, 8])
    >>> found.boxes.tolist(), len(found.location), found.there[0, :64].reshape(8, 8)[2].tolist()
    ([[8.0, 8.0, 16.0, 24.0]], 4, [0, 0, 0, 1, 1, 0, 0, 0])
    """
    N, H, W = numbers.shape
    at, _ = places(sizes, strides)
    inside = (at[:, 0] < H) & (at[:, 1] < W)
    row, column = (np.minimum(at[:, axis].astype(int), n - 1) for axis, n in ((0, H), (1, W)))
    there = np.where(inside & (numbers[:, row, column] >= 0), 0, -1).astype(np.int8)
    owner = np.full(there.shape, -1, np.int64)
    objects: list[tuple[int, int]] = []
    boxes: list[np.ndarray] = []
    for n in range(N):
        for number, box in sorted(find_boxes(numbers[n]), key=lambda found: -area_of(found[1])):
            claim(owner[n], box, len(objects), sizes, strides)
            objects.append((n, number))
            boxes.append(box)
    image, location = np.nonzero(owner >= 0)
    there[image, location] = 1
    return Assignment(there, image, location, owner[image, location], objects, np.reshape(boxes, (-1, 4)))


def claim(
    owner: np.ndarray, box: np.ndarray, number: int, sizes: Sequence[tuple[int, int]], strides: Sequence[int]
) -> None:  # fmt: skip
    """Write an object's number into `owner` (L,) at the locations that answer for its box, whoever had them before."""
    start, middle = 0, (box[:2] + box[2:]) / 2
    for level, (size, s) in enumerate(zip(sizes, strides)):
        least, most = np.maximum(box[:2], middle - RADIUS * s), np.minimum(box[2:], middle + RADIUS * s)
        first = np.maximum(np.floor(least / s - 0.5).astype(int) + 1, 0)
        last = np.minimum(np.ceil(most / s - 0.5).astype(int), size)  # behind the last
        i, j = np.mgrid[first[0] : last[0], first[1] : last[1]]
        y, x = s * (i + 0.5), s * (j + 0.5)
        far = np.maximum(np.maximum(y - box[0], box[2] - y), np.maximum(x - box[1], box[3] - x))
        nearest = FARTHEST * strides[level - 1] if level else 0
        suits = (far > nearest) & ((far <= FARTHEST * s) | (level == len(strides) - 1))
        owner[start + (i * size[1] + j)[suits]] = number
        start += size[0] * size[1]


def find_boxes(numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """The objects of a label image (H, W), negative where nothing counts: number and box of each."""
    import scipy

    limited = limit_numbers(np.maximum(numbers, 0))
    found = []
    for number, part in enumerate(scipy.ndimage.find_objects(limited), start=1):
        if part is not None:
            rows, columns = part
            own = int(numbers[part][limited[part] == number][0])
            found.append((own, np.array([rows.start, columns.start, rows.stop, columns.stop], float)))
    return found


def area_of(box: np.ndarray) -> float:
    """Of a box: top, left, bottom, right."""
    return float((box[2] - box[0]) * (box[3] - box[1]))


def mask_in(numbers: np.ndarray, number: int, box: np.ndarray, step: int) -> tuple[int, int, np.ndarray]:
    """An object's mask at a coarser resolution, in its box.

    Parameters
    ----------
    numbers : (H, W) integer array, -1 where nothing counts
    number : int
    box : top, left, bottom, right in pixels
    step : int
        Pixels, in rows and columns, for one of the mask.

    Returns
    -------
    top, left : int
        The mask's first row and column, in its own pixels.
    truth : (h, w) float32 array
        Which share of the pixels is the object's; -1 where none of them counts.

    Examples
    --------
    >>> numbers = np.array([[0, 3, 3, 3], [0, 3, -1, -1], [0, 0, -1, -1]])
    >>> mask_in(numbers, 3, np.array([0, 1, 2, 4]), 2)
    (0, 0, array([[0.5, 1. ]], dtype=float32))
    """
    first, last = np.asarray(box[:2], int) // step, -(-np.asarray(box[2:], int) // step)
    h, w = last - first
    part = numbers[first[0] * step : last[0] * step, first[1] * step : last[1] * step]
    lack = [(0, n * step - m) for n, m in zip((h, w), part.shape)]
    part = np.pad(part, lack, constant_values=-1).reshape(h, step, w, step)
    counts = (part >= 0).sum((1, 3))
    share = (part == number).sum((1, 3)) / np.maximum(counts, 1)
    return int(first[0]), int(first[1]), np.where(counts > 0, share, -1).astype(np.float32)
