"""Label images: the numbers by which instances are told apart, 0 for background."""

from __future__ import annotations

import numpy as np


def renumber(labels: np.ndarray, min_size: int = 0) -> np.ndarray:
    """Number instances from 1 without gaps in the order of their first pixels, row by row.

    Parameters
    ----------
    labels : (H, W) integer array, 0 for background
    min_size : int
        Instances of fewer pixels become background.

    Returns
    -------
    (H, W) int32 array

    Examples
    --------
    >>> renumber(np.array([[7, 7, 0], [0, 2, 2]]), min_size=2).tolist()
    [[1, 1, 0], [0, 2, 2]]
    """
    numbers, first, place, area = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    kept = (numbers > 0) & (area >= min_size)
    new = np.zeros(len(numbers), np.int32)
    new[kept] = 1 + np.argsort(np.argsort(first[kept]))
    return new[place].reshape(labels.shape)


def limit_numbers(labels: np.ndarray) -> np.ndarray:
    """Renumber if a number exceeds the count of pixels, so that tables by number stay small; else the same array."""
    return labels if labels.max(initial=0) <= labels.size else renumber(labels)
