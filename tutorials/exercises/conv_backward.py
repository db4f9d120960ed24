"""The three gradients of a convolution

Lesson 02, about 90 minutes. Do conv_forward first. NumPy may be imported, nothing else.

Write `conv2d_backward`: from dy = dL/dy to dx, dw and db. Each counts by itself: return None for what you have not
written yet, as in `return None, None, db`.

The forward is a sum of products, one for each tap, y += window(x, i, j) @ w[i, j]; for P = A @ B the chain rule gives
dA = dP @ B^T and dB = A^T @ dP. Lesson 02 derives it with a pencil. What a padded pixel gets is cut off at the end.

The cache holds (x, w, whether there is a bias, stride, pads, dilation, groups), groups = 1, pads = ((top, bottom),
(left, right)). Do not change dy, x or w.

Grade it with:  python -m minunet.grade conv_backward.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


def window(padded: Array, i: int, j: int, OH: int, OW: int, stride: int = 1, dilation: int = 1) -> Array:
    """The view of a padded image that tap (i, j) reads: (N, OH, OW, C)."""
    i, j = i * dilation, j * dilation
    return padded[:, i : i + (OH - 1) * stride + 1 : stride, j : j + (OW - 1) * stride + 1 : stride]


def as_rows(a: Array) -> Array:
    """(N, H, W, C) as a matrix of pixels, (N*H*W, C); copies only if it must."""
    return a.reshape(-1, a.shape[-1])


def matmul(a: Array, m: Array) -> Array:
    """(N, H, W, C) times (C, K) as one large matrix product."""
    return (as_rows(a) @ m).reshape(*a.shape[:-1], m.shape[-1])


def pad_spatial(x: Array, pads: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    """x with zeros around its rows and columns; x itself if there are none to add."""
    if pads == ((0, 0), (0, 0)):
        return x
    return np.pad(x, ((0, 0), *pads, (0, 0)))


# ---- yours -----------------------------------------------------------------------------------------------------------


def conv2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """dy (N, OH, OW, K) to dx, dw and db, in the shapes of x, w and b; db is None without b."""
    x, w, has_bias, stride, pads, dilation, groups = cache
    raise NotImplementedError
