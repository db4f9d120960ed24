"""Star-convex polygons as a training target (Schmidt et al. 2018, arXiv:1806.03535).

Every pixel of an object tells where the object's outline is, along R rays from the pixel, and how near to the middle it lies:

* distance: ray k leaves at the angle 2 pi k / R, a row per sine and a column per cosine, in steps of one pixel, until it comes
  to a pixel that is not of the object. The outline lies half a pixel before, so n steps count as
  n - 1 + 0.5 / max(|sin|, |cos|).
* probability: the pixel's distance to the nearest one outside, divided by the largest of the object: 1 in the middle, 0
  outside. The image's edge is no outline here, but it ends rays.

Both are taken after augmentation, from the object numbers of the patch. Distances are stored in units of the objects' typical
radius (`Rays.unit`), so that the network's outputs are about 1 for objects of any size.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..ops.dispatch import are_fast
from .instance_labels import limit_numbers
from .objects import Rays, object_depths
from .sample import Sample, true_labels


def object_numbers(sample: Sample) -> np.ndarray:
    """A sample's object numbers (H, W) int32, -1 where labels do not count."""
    if sample.instances is None:
        raise ValueError(f"{sample.name} has no object numbers")
    numbers = limit_numbers(sample.instances).astype(np.int32, copy=False)
    return numbers if sample.valid is None else np.where(sample.valid, numbers, np.int32(-1))


def true_target(sample: Sample, rays: Rays | None, one_by_one: bool = False) -> np.ndarray:
    """What the loss of a whole sample takes: `true_labels`, `star_targets` if there are rays, or else objects' numbers."""
    if rays is not None:
        return star_targets(object_numbers(sample), rays)
    return object_numbers(sample) if one_by_one else true_labels(sample)


def star_targets(numbers: np.ndarray, rays: Rays) -> np.ndarray:
    """What the network is to give: probability and distances.

    Parameters
    ----------
    numbers : (H, W) integer array
        Object numbers; 0 for background, -1 where nothing counts.
    rays : Rays

    Returns
    -------
    (H, W, 1 + R) float32 array
        The probability, -1 where nothing counts, and the distances in `rays.unit`; 0 in the background.

    Examples
    --------
    >>> numbers = np.zeros((5, 9), int)
    >>> numbers[1:4, 1:8] = 1
    >>> found = star_targets(numbers, Rays(4, unit=1.0))
    >>> found[2, 4].tolist()  # in the middle: right, down, left, up
    [1.0, 3.5, 1.5, 3.5, 1.5]
    """
    target = np.zeros((*numbers.shape, 1 + rays.count), np.float32)
    depth = target[..., 0]
    for box, own, deep in object_depths(np.maximum(numbers, 0)):
        depth[box][own] = deep[own] / deep.max()
    depth[numbers < 0] = -1
    rows, columns = np.nonzero(numbers > 0)  # few pixels, with many rays
    target[rows, columns, 1:] = ray_lengths(numbers, rays.count, (rows, columns)) / np.float32(rays.unit)
    return target


def ray_lengths(numbers: np.ndarray, count: int, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The distances (n, count) float32, in pixels, from pixels of objects, at n rows and columns, to their outlines."""
    sines, cosines = directions(count)
    steps = np.zeros((*numbers.shape, count), np.float32)
    if are_fast():
        from ..kernels.cpu.stars import ray_steps

        ray_steps(np.ascontiguousarray(numbers, np.int32), sines, cosines, steps)
    else:
        plain_ray_steps(numbers, sines, cosines, steps)
    return steps[at] - (1 - 0.5 / np.maximum(np.abs(sines), np.abs(cosines))).astype(np.float32)


def plain_ray_steps(numbers: np.ndarray, sines: np.ndarray, cosines: np.ndarray, steps: np.ndarray) -> None:
    """Write into `steps` (H, W, R) how many steps each ray takes until it leaves its object; what the kernel computes, too."""
    rows, columns = np.nonzero(numbers > 0)
    own = numbers[rows, columns]
    for k, (down, right) in enumerate(zip(sines, cosines)):
        going, n = np.arange(len(own)), 0
        while len(going):
            n += 1
            y = np.floor(rows[going] + n * down + 0.5).astype(int)
            x = np.floor(columns[going] + n * right + 0.5).astype(int)
            inside = (y >= 0) & (x >= 0) & (y < numbers.shape[0]) & (x < numbers.shape[1])
            inside[inside] = numbers[y[inside], x[inside]] == own[going][inside]
            steps[rows[going], columns[going], k] = n
            going = going[inside]


@lru_cache(maxsize=8)
def directions(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sines and cosines of the rays, (count,) float64: rows and columns per step."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.sin(angles), np.cos(angles)
