"""Max-pooling, both ways

Lesson 03, about 45 minutes. NumPy may be imported, nothing else.

Write `max_pool2d` and its backward. y is the largest value of every size x size window, windows `stride` pixels apart;
what does not fill a window at the bottom and the right is dropped. Backwards only the winner gets the gradient; in a
tie the first of the window, in reading order, wins alone. Windows may overlap. You choose what the cache holds (x is
more than you need).

Grade it with:  python -m minunet.grade max_pool.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


def output_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
    stride: int,
    dilation: int = 1,
) -> tuple[int, int]:
    """Rows and columns of a convolution's or a pool's output; ValueError if the filter does not fit."""
    OH, OW = ((n + sum(p) - dilation * (k - 1) - 1) // stride + 1 for n, k, p in zip(size, kernel, pads))
    if OH < 1 or OW < 1:
        raise ValueError(f"a {kernel} filter with dilation {dilation} does not fit into {size} pixels padded by {pads}")
    return OH, OW


# ---- yours -----------------------------------------------------------------------------------------------------------


def max_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """Largest value of every window: x (N, H, W, C) to (y, cache), y (N, OH, OW, C)."""
    raise NotImplementedError


def max_pool2d_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `max_pool2d`: dy (N, OH, OW, C) to dx (N, H, W, C)."""
    raise NotImplementedError
