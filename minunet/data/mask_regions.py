"""Classes or objects? By the connected pieces in which the values of masks lie: how many, how alike, and which values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .mask_scan import Regions

MANY_WIDE = 8  # one-piece values above which masks in over 8 bits, which usually hold object numbers, hold them


def pieces(regions: list[Regions], values: list[int]) -> float:
    """In how many pieces a value lies on average in the masks that hold it."""
    counts = [r.pieces[np.isin(r.values, values)] for r in regions]
    joined = np.concatenate(counts) if counts else np.zeros(0)
    return float(joined.mean()) if joined.size else 1.0


def consistency(regions: list[Regions], values: list[int]) -> bool | None:
    """Whether values have their own size, or their own place, in all masks: as classes have and objects have not.

    By the intraclass correlation of sizes and of places (one-way analysis of variance, Shrout and Fleiss 1979,
    doi:10.1037/0033-2909.86.2.420). None if it is neither clearly there nor clearly absent.
    """
    group = np.concatenate([r.values for r in regions]) if regions else np.zeros(0, int)
    chosen = np.isin(group, values)
    if len(np.unique(group[chosen])) < 2 or chosen.sum() == len(np.unique(group[chosen])):
        return None
    size, row, column = (
        intraclass(group[chosen], np.concatenate([measure(r) for r in regions])[chosen])
        for measure in (lambda r: np.log(r.area), lambda r: r.row, lambda r: r.column)
    )
    axes = [
        axis for axis in (row, column) if axis is not None
    ]  # objects that are numbered row by row agree in one of two
    sized = size is not None and size[0] > 0.5 and size[1] < 0.01
    placed = bool(axes) and all(axis[0] > 0.5 and axis[1] < 0.05 for axis in axes)
    if sized or placed:
        return True
    return False if (size or (0, 1))[0] < 0.4 and min((axis[0] for axis in axes), default=0) < 0.4 else None


def intraclass(group: np.ndarray, x: np.ndarray) -> tuple[float, float] | None:
    """Intraclass correlation of x (n,) in the groups (n,), and the probability that chance gives as much.

    None if x is nearly the same everywhere.
    """
    import scipy

    _, which, counts = np.unique(group, return_inverse=True, return_counts=True)
    k, n = len(counts), len(x)
    means = np.bincount(which, x) / counts
    between = float((counts * (means - x.mean()) ** 2).sum()) / (k - 1)
    within = float(((x - means[which]) ** 2).sum()) / (n - k)
    if x.std() < 0.01:
        return None
    size = (n - (counts**2).sum() / n) / (k - 1)
    chance = float(scipy.stats.f.sf(between / within, k - 1, n - k)) if within > 1e-12 * between else 0.0
    return (between - within) / (between + (size - 1) * within), chance


def objecthood(regions: list[Regions], values: list[int]) -> int:
    """How much the sets of values are like those of object numbers: 0 not, 1 somewhat, 2 much.

    They are if masks hold 1 to n with different n, much so with three n or more; and if masks hold altogether different
    numbers.
    """
    held = [set(r.values[np.isin(r.values, values)].tolist()) for r in regions]
    held = [numbers for numbers in held if numbers]
    counted = sum(numbers == set(range(1, len(numbers) + 1)) for numbers in held)
    sizes = set(map(len, held))
    if counted >= 0.9 * len(held) and len(sizes) > 1 and max(sizes) > 2:
        return 2 if len(sizes) > 2 else 1
    shared = [len(a & b) / len(a | b) for a, b in pairwise(held)]
    return 2 if len(values) > MANY_WIDE and shared and float(np.mean(shared)) < 0.2 else 0
