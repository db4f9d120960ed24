"""Upsampling, resizing and mean-pooling on the CPU, without an array between input and output.

    bilinear:   for each output row, in parallel:   its two input rows and their shares are known
                    for each column, for each channel:   mix four numbers
    its dx:     for each input row, in parallel:    the output rows that used it are a range
                    for each column, the range of columns that used it, for each channel:   add share * dy
    nearest:    every output pixel copies one; dx sums a block, or, to any size, the range of pixels that copied it
    mean-pool:  every output pixel sums a window; each pixel of dx gathers from the windows that it lies in

Gradients gather: each number of dx is written by one thread, in one order, whatever the number of threads.

Shapes: any, contiguous or not, float32 and float64.

Measure: python bench/pointwise.py
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...array import Array
from ...ops.conv import output_size
from ...ops.resample import nearest_places, places
from .launch import kernel, ready
from .memory import empty

# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def upsample_nearest(x: Array, scale: int = 2) -> tuple[Array, tuple]:
    """The kernel of `ops.upsample_nearest`."""
    N, H, W, C = x.shape
    y = np.empty((N, H * scale, W * scale, C), x.dtype)
    nearest(ready(x), y, scale)
    return y, (scale,)


def upsample_nearest_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.upsample_nearest_backward`."""
    (scale,) = cache
    N, OH, OW, C = dy.shape
    dx = np.empty((N, OH // scale, OW // scale, C), dy.dtype)
    pool_windows(ready(dy), dx, scale, scale, dy.dtype.type(1))
    return dx


def upsample_bilinear(x: Array, scale: int = 2, align_corners: bool = True) -> tuple[Array, tuple]:
    """The kernel of `ops.upsample_bilinear`."""
    N, H, W, C = x.shape
    y = np.empty((N, H * scale, W * scale, C), x.dtype)
    bilinear(
        ready(x), *_places(H, H * scale, align_corners, x.dtype), *_places(W, W * scale, align_corners, x.dtype), y
    )
    return y, (H, W, align_corners)


def upsample_bilinear_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.upsample_bilinear_backward`."""
    H, W, align_corners = cache
    N, OH, OW, C = dy.shape
    dx = np.empty((N, H, W, C), dy.dtype)
    rows, columns = _places(H, OH, align_corners, dy.dtype), _places(W, OW, align_corners, dy.dtype)
    bilinear_back(ready(dy), *rows, _users(rows[0], H), *columns, _users(columns[0], W), dx)
    return dx


def resize_bilinear(x: Array, size: tuple[int, int], align_corners: bool = False) -> tuple[Array, tuple]:
    """The kernel of `ops.resize_bilinear`."""
    N, H, W, C = x.shape
    y = empty((N, *size, C), x.dtype)
    rows, columns = (_places(n, m, align_corners, x.dtype) for n, m in zip((H, W), size))
    bilinear(ready(x), *rows, *columns, y)
    return y, (H, W, align_corners)


resize_bilinear_backward = upsample_bilinear_backward


def resize_nearest(x: Array, size: tuple[int, int]) -> tuple[Array, tuple]:
    """The kernel of `ops.resize_nearest`."""
    N, H, W, C = x.shape
    y = empty((N, *size, C), x.dtype)
    pick(ready(x), nearest_places(H, size[0]), nearest_places(W, size[1]), y)
    return y, (H, W)


def resize_nearest_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.resize_nearest_backward`."""
    H, W = cache
    N, OH, OW, C = dy.shape
    dx = empty((N, H, W, C), dy.dtype)
    pick_back(ready(dy), _takers(nearest_places(H, OH), H), _takers(nearest_places(W, OW), W), dx)
    return dx


def avg_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """The kernel of `ops.avg_pool2d`."""
    stride = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    y = np.empty((x.shape[0], OH, OW, x.shape[3]), x.dtype)
    pool_windows(ready(x), y, size, stride, x.dtype.type(size**2))
    return y, (x.shape, size, stride)


def avg_pool2d_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.avg_pool2d_backward`."""
    x_shape, size, stride = cache
    dx = np.empty(x_shape, dy.dtype)
    spread_windows(ready(dy), dx, size, stride)
    return dx


def _places(n: int, m: int, align_corners: bool, dtype: np.dtype) -> tuple[Array, Array]:
    """For m output rows: the numbers of the input rows before them (m,), and the shares of the next ones (m,)."""
    below, nearness = places(n, m, align_corners)
    return below.astype(np.int64), nearness.astype(dtype)


def _users(below: Array, n: int) -> Array:
    """The ranges of output rows that used each of n input rows, as their own or as the next: (n, 2)."""
    rows = np.arange(n)
    return np.stack([np.searchsorted(below, rows - 1, "left"), np.searchsorted(below, rows, "right")], 1)


def _takers(taken: Array, n: int) -> Array:
    """The ranges of output rows that took each of n input rows: (n, 2)."""
    rows = np.arange(n)
    return np.stack([np.searchsorted(taken, rows, "left"), np.searchsorted(taken, rows, "right")], 1)


# ---- the compiled loops ----------------------------------------------------------------------------------------------


@kernel
def nearest(x, y, scale):
    """x (N, H, W, C) to y (N, scale*H, scale*W, C)."""
    N, OH, OW, C = y.shape
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        for column in range(OW):
            to, source = y[n, row, column], x[n, row // scale, column // scale]
            for c in range(C):
                to[c] = source[c]


@kernel
def pick(x, rows, columns, y):
    """x (N, H, W, C) to y (N, OH, OW, C), which takes these rows and columns."""
    N, OH, OW, C = y.shape
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        for column in range(OW):
            to, source = y[n, row, column], x[n, rows[row], columns[column]]
            for c in range(C):
                to[c] = source[c]


@kernel
def pick_back(dy, row_takers, column_takers, dx):
    """dy (N, OH, OW, C) to dx (N, H, W, C); the takers of a row or column: a range of dy's."""
    N, H, W, C = dx.shape
    zero = dx.dtype.type(0)
    for item in prange(N * H):
        n, row = item // H, item % H
        for column in range(W):
            to = dx[n, row, column]
            for c in range(C):
                to[c] = zero
            for i in range(row_takers[row, 0], row_takers[row, 1]):
                for j in range(column_takers[column, 0], column_takers[column, 1]):
                    source = dy[n, i, j]
                    for c in range(C):
                        to[c] += source[c]


@kernel
def bilinear(x, above, down, left, right, y):
    """x (N, H, W, C) to y (N, OH, OW, C); above, left: input rows and columns; down, right: the shares of the next."""
    N, OH, OW, C = y.shape
    _, H, W, _ = x.shape
    one = x.dtype.type(1)
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        i, d = above[row], down[row]
        upper, lower = x[n, i], x[n, min(i + 1, H - 1)]
        for column in range(OW):
            j, r = left[column], right[column]
            a, b, to = upper[j], lower[j], y[n, row, column]
            a_next, b_next = upper[min(j + 1, W - 1)], lower[min(j + 1, W - 1)]
            for c in range(C):
                to[c] = ((one - d) * a[c] + d * b[c]) * (one - r) + ((one - d) * a_next[c] + d * b_next[c]) * r


@kernel
def bilinear_back(dy, above, down, row_users, left, right, column_users, dx):
    """dy (N, OH, OW, C) to dx (N, H, W, C); the users of a row or column: a range of dy's."""
    N, H, W, C = dx.shape
    zero, one = dx.dtype.type(0), dx.dtype.type(1)
    for item in prange(N * H):
        n, row = item // H, item % H
        for column in range(W):
            to = dx[n, row, column]
            for c in range(C):
                to[c] = zero
            for i in range(row_users[row, 0], row_users[row, 1]):
                d = one - down[i] if above[i] == row else down[i]
                for j in range(column_users[column, 0], column_users[column, 1]):
                    share = d * (one - right[j] if left[j] == column else right[j])
                    source = dy[n, i, j]
                    for c in range(C):
                        to[c] += share * source[c]


@kernel
def pool_windows(x, y, size, stride, divisor):
    """y (N, OH, OW, C) = the sums over the windows of x (N, H, W, C), divided."""
    N, OH, OW, C = y.shape
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        for column in range(OW):
            to, seen = y[n, row, column], x[n, row * stride, column * stride]
            for c in range(C):
                to[c] = seen[c]
            for tap in range(1, size * size):
                seen = x[n, row * stride + tap // size, column * stride + tap % size]
                for c in range(C):
                    to[c] += seen[c]
            for c in range(C):
                to[c] /= divisor


@kernel
def spread_windows(dy, dx, size, stride):
    """dx (N, H, W, C): every pixel gathers dy / size^2 from the windows that it lies in."""
    N, H, W, C = dx.shape
    _, OH, OW, _ = dy.shape
    zero, divisor = dy.dtype.type(0), dy.dtype.type(size * size)
    for item in prange(N * H):
        n, row = item // H, item % H
        for column in range(W):
            to = dx[n, row, column]
            for c in range(C):
                to[c] = zero
            for window_row in range(max(0, (row - size) // stride + 1), min(OH, row // stride + 1)):
                for window_column in range(max(0, (column - size) // stride + 1), min(OW, column // stride + 1)):
                    source = dy[n, window_row, window_column]
                    for c in range(C):
                        to[c] += source[c] / divisor
