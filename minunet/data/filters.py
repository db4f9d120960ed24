"""Blurring by a Gaussian and by means, in NumPy: generated cells, and with them the first lessons, need no SciPy.

Both give the same numbers as SciPy's functions, to the last bit (sums in float64, one axis after the other, each rounded to the
array's dtype), so that generated cells are what they have always been. Beyond its edges an array is mirrored.
"""

from __future__ import annotations

import numpy as np


def gaussian(x: np.ndarray, sigma: float, truncate: float) -> np.ndarray:
    """`scipy.ndimage.gaussian_filter`: a convolution with a Gaussian.

    Parameters
    ----------
    x : (H, W) float array
    sigma : float
        Standard deviation in pixels.
    truncate : float
        So many standard deviations from its middle the Gaussian is cut off.
    """
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded, n = _mirrored(x, axis, radius, radius), x.shape[axis]
        y = padded[radius : radius + n] * weights[radius]
        for k in range(radius):  # the weights are symmetric: two pixels for each product
            y += (padded[k : k + n] + padded[2 * radius - k : 2 * radius - k + n]) * weights[k]
        x = np.moveaxis(y, 0, axis).astype(x.dtype)
    return x


def mean(x: np.ndarray, size: int) -> np.ndarray:
    """`scipy.ndimage.uniform_filter`: the mean of the size x size pixels around each of x (H, W).

    A running sum, to which each step adds one pixel and from which it takes one away.
    """
    for axis in (0, 1):
        padded, n = _mirrored(x, axis, size // 2, size - 1 - size // 2), x.shape[axis]
        steps = np.empty((n, *padded.shape[1:]))
        steps[0] = np.cumsum(padded[:size], axis=0)[-1]  # one after another, as np.sum does not add
        steps[1:] = padded[size:] - padded[: n - 1]
        x = np.moveaxis(np.cumsum(steps, axis=0) / size, 0, axis).astype(x.dtype)
    return x


def _mirrored(x: np.ndarray, axis: int, before: int, after: int) -> np.ndarray:
    """x in float64 with this axis first, continued by mirroring: d c b a | a b c d | d c b a."""
    return np.pad(np.moveaxis(x, axis, 0).astype(np.float64), ((before, after), (0, 0)), mode="symmetric")
