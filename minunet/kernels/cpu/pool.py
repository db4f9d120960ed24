"""Padded max-pool and unpooling on the CPU (the plain max-pool stands in pointwise.py), without a padded copy.

    padded pool:  for each output row, in parallel:
                      for each window, for each of its pixels that lie on the map, for each channel:   keep the larger value and
                      its number in the whole window
    its dx:       for each row, in parallel:   gather dy from the windows that a pixel has won; padding shifts the rows
    unpooling:    the gradient of a max-pool, forwards; backwards, every value is fetched from where its window's winner was

Shapes: any, contiguous or not, float32 and float64. A NaN on the map gives NaN; which of several pixels of a window that hold
one has won is not said.

Measure: python bench/pointwise.py
"""

from __future__ import annotations

import numpy as np
from numba import prange

from ...array import Array
from ...ops.lazy import MaybeLazy, materialize
from ...ops.pool import pool_margins
from .epilogues import operand, read, shape_of
from .launch import kernel, ready
from .memory import empty
from .pointwise import gather_windows
from .simd import clear, offset, pointer

# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def max_pool2d_padded(
    x: MaybeLazy, size: int = 3, stride: int = 2, padding: int = 1, ceil_mode: bool = False
) -> tuple[Array, tuple]:
    """The kernel of `ops.max_pool2d_padded`."""
    N, H, W, C = x.shape
    margins = pool_margins(x.shape, size, stride, padding, ceil_mode)
    rows, columns = H + sum(margins[0]), W + sum(margins[1])
    OH, OW = (rows - size) // stride + 1, (columns - size) // stride + 1
    y, winner = empty((N, OH, OW, C), x.dtype), empty((N, OH, OW, C), np.uint8)
    padded_forward(operand(x), y, winner, np.empty((N * OH, C), x.dtype), size, stride, padding)
    return y, ((winner, (N, rows, columns, C), size, stride), margins)


def max_pool2d_padded_backward(dy: MaybeLazy, cache: tuple) -> Array:
    """The kernel of `ops.max_pool2d_padded_backward`."""
    (winner, (N, rows, columns, C), size, stride), ((top, bottom), (left, right)) = cache
    dx = empty((N, rows - top - bottom, columns - left - right, C), dy.dtype)
    padded_back(ready(materialize(dy)), ready(winner), dx, size, stride, top, left)
    return dx


def max_unpool2d_backward(dy: MaybeLazy, cache: tuple) -> Array:
    """The kernel of `ops.max_unpool2d_backward`."""
    winner, size = cache
    dx = empty(winner.shape, dy.dtype)
    fetch(ready(materialize(dy)), ready(winner), dx, size)
    return dx


# ---- the compiled loops ----------------------------------------------------------------------------------------------


@kernel
def padded_forward(x, y, winner, work, size, stride, padding):
    """The Operand x (N, H, W, ...) to y and winner (N, OH, OW, C); work (N * OH, C)."""
    N, OH, OW, C = y.shape
    _, H, W, _ = shape_of(x)
    lowest = y.dtype.type(-np.inf)
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        seen = work[item]
        for column in range(OW):
            best, number = y[n, row, column], winner[n, row, column]
            for c in range(C):
                best[c] = lowest
                number[c] = 0
            top, left = row * stride - padding, column * stride - padding
            for i in range(max(0, top), min(H, top + size)):
                for j in range(max(0, left), min(W, left + size)):
                    read(pointer(seen), C, x, (n * H + i) * W + j, 1, 0, C)
                    tap = (i - top) * size + j - left
                    for c in range(C):
                        larger = seen[c] > best[c] or seen[c] != seen[c]
                        best[c] = seen[c] if larger else best[c]
                        number[c] = tap if larger else number[c]


@kernel
def padded_back(dy, winner, dx, size, stride, top, left):
    """dy and winner (N, OH, OW, C) to dx (N, H, W, C), around which there were margins."""
    N, H, W, C = dx.shape
    for item in prange(N * H):
        for column in range(W):
            to = offset(pointer(dx), (item * W + column) * C)
            clear(to, C)
            gather_windows(to, dy, winner, item // H, item % H + top, column + left, size, stride)


@kernel
def fetch(dy, winner, dx, size):
    """dy (N, H, W, C) at the winners (N, OH, OW, C) to dx; a number that is none of a window's gives 0."""
    N, OH, OW, C = dx.shape
    zero = dx.dtype.type(0)
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        for column in range(OW):
            to, number = dx[n, row, column], winner[n, row, column]
            for c in range(C):
                i, j = number[c] // size, number[c] % size
                to[c] = dy[n, row * size + i, column * size + j, c] if i < size else zero
