"""Answers of exercises that no op of the package has in this form.

A filter, im2col, a small gradient checker, the wiring of the U-Net's backward, and one Winograd tile. Like the ops, they are
cut into exercises, and the checks compare them with the package's own functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array import Array
from ..kernels.cpu.winograd_transforms import AT, BT, G


def filter_image(x: Array, w: Array, stride: int = 1) -> Array:
    """Filter an image x (H, W, C) with w (KH, KW, C), wherever it fits whole: (OH, OW), OH = (H - KH) // stride + 1."""
    (H, W, _), (KH, KW, _) = x.shape, w.shape
    y = np.empty(((H - KH) // stride + 1, (W - KW) // stride + 1), x.dtype)
    for row, column in np.ndindex(*y.shape):
        top, left = row * stride, column * stride
        y[row, column] = (x[top : top + KH, left : left + KW] * w).sum()
    return y


def im2col(x: Array, KH: int, KW: int, stride: int = 1) -> Array:
    """Every output pixel's patch as a row of a matrix; no padding.

    x (N, H, W, C) to (N*OH*OW, KH*KW*C), with OH = (H - KH) // stride + 1 and OW alike. Rows in the order of (n, h, w), the
    numbers of a row in the order of (i, j, c).
    """
    N, H, W, C = x.shape
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    rows = np.empty((N, OH, OW, KH, KW, C), x.dtype)
    for i in range(KH):
        for j in range(KW):
            rows[:, :, :, i, j] = x[:, i : i + (OH - 1) * stride + 1 : stride, j : j + (OW - 1) * stride + 1 : stride]
    return rows.reshape(N * OH * OW, KH * KW * C)


def conv2d_im2col(x: Array, w: Array, stride: int = 1) -> Array:
    """The convolution without padding, as one matrix product: x (N, H, W, C), w (KH, KW, C, K) to (N, OH, OW, K)."""
    (N, H, W, C), (KH, KW, _, K) = x.shape, w.shape
    OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1
    return (im2col(x, KH, KW, stride) @ w.reshape(KH * KW * C, K)).reshape(N, OH, OW, K)


def numerical_gradient(f: Callable[[Array], Array], x: Array, dy: Array, h: float = 1e-5) -> Array:
    """The gradient of L(x) = sum of f(x) * dy by central differences, in the shape of x.

    f takes an array of x's shape and gives one of dy's. x must be unchanged at the end.
    """
    dx = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        probe = x.copy()
        probe[index] = x[index] + h
        above = (f(probe) * dy).sum()
        probe[index] = x[index] - h
        below = (f(probe) * dy).sum()
        dx[index] = (above - below) / (2 * h)
    return dx


def is_gradient(f: Callable[[Array], Array], backward: Callable[[Array, Array], Array], x: Array) -> bool:
    """Whether backward(dy, x) is the gradient of the sum of f(x) * dy: everywhere, and for whatever dy.

    It must see an error of 0.1 % of the gradient's largest element in a single place, however small the gradient is, and one
    that hides where dy = 1; and it must let right ones pass.
    """
    dy = np.random.default_rng(0).standard_normal(f(x).shape)
    dx, wanted = backward(dy, x), numerical_gradient(f, x, dy)
    scale = np.abs(wanted).max()
    return bool(np.abs(dx - wanted).max() <= 1e-5 * scale)


def unet_backward(dy: Array, back: Callable[[str, Any], Any], depth: int) -> Array:
    """The gradient of a U-Net's image from that of its output.

    back(part, dy) is the backward of one part: it takes the gradient of what the part gave, notes the gradients of its
    parameters, and returns the gradient of what it took; each may be called once. The parts, in the order of the forward:

        encoder.0  pool.0  encoder.1  pool.1 ...  bottom  ...  up.1  join.1  decoder.1  up.0  join.0  decoder.0  head

    encoder.l feeds both pool.l and the skip; join.l puts the skip and what comes from up.l together, and its backward returns
    two gradients, (dskip, dup).
    """
    dskips = []
    dx = back("head", dy)
    for level in range(depth):
        dx = back(f"decoder.{level}", dx)
        dskip, dx = back(f"join.{level}", dx)
        dskips.append(dskip)
        dx = back(f"up.{level}", dx)
    dx = back("bottom", dx)
    for level in reversed(range(depth)):
        dx = back(f"pool.{level}", dx)
        dx = dx + dskips.pop()
        dx = back(f"encoder.{level}", dx)
    return dx


def both_axes(matrix: Sequence[Sequence[float]], a: Array) -> Array:
    """matrix @ a @ matrix^T over the first two axes of a (n, n, ...), for every index of the others."""
    m = np.array(matrix)
    return np.einsum("pi,qj,ij...->pq...", m, m, a)


def transform_input(d: Array) -> Array:
    """B^T d B for a tile of 6x6 pixels, for every channel: (6, 6, C) to (6, 6, C)."""
    return both_axes(BT, d)


def transform_filter(g: Array) -> Array:
    """G g G^T for 3x3 filters: (3, 3, C, K) to (6, 6, C, K)."""
    return both_axes(G, g)


def multiply_points(v: Array, u: Array) -> Array:
    """Multiply point by point and sum over the channels: v (6, 6, C), u (6, 6, C, K) to (6, 6, K)."""
    return np.einsum("pqc,pqck->pqk", v, u)


def transform_output(m: Array) -> Array:
    """A^T m A: the 4x4 outputs of the tile, (6, 6, K) to (4, 4, K)."""
    return both_axes(AT, m)
