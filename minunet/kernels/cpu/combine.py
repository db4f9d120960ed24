"""Sums of two maps, gates and global means on the CPU: one pass over memory where the plain ops need several.

    add:        for each row of pixels, in parallel:   read both maps as they are (a norm or a ReLU may still be to apply), add
    gate:       for each row, in parallel:             read a pixel, times the channels' numbers, or the pixel's, or all
    its dx, da: for each row, in parallel:             dx = dy * a; dy * x is summed along the channels for a gate of pixels, by
                                                       rows for a gate of channels; these are added up afterwards
    mean:       for each image, for each of its blocks of pixels, in parallel:   sums of the channels

Inside a network the sum is handed on as a raw map, so that a ReLU behind it is done by the next kernel that reads it.

Shapes: maps (N, H, W, C), contiguous or not, float32 and float64; gates (N, 1, 1, C), (N, H, W, 1) and (N, H, W, C).

Measure: python bench/pointwise.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import prange

from ...array import Array
from ...ops.lazy import MaybeLazy, fusing, materialize
from .epilogues import operand, read
from .launch import kernel, ready
from .lazy_maps import LazyAffine
from .memory import empty
from .norm import _blocks
from .simd import pointer

CHANNELS, PIXELS, VALUES = 0, 1, 2


# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def add(arrays: Sequence[MaybeLazy]) -> tuple[MaybeLazy, tuple]:
    """The kernel of `ops.add`, for two maps."""
    a, b = arrays
    N, H, _, C = a.shape
    y = empty(a.shape, a.dtype)
    sum_rows(operand(a), operand(b), y, np.empty((N * H, C), y.dtype))
    return LazyAffine(y) if fusing() else y, (2,)


def gate(x: MaybeLazy, a: MaybeLazy) -> tuple[Array, tuple]:
    """The kernel of `ops.gate`."""
    a, y = materialize(a), empty(x.shape, x.dtype)
    gate_rows(operand(x), ready(a), y, kind_of(x.shape, a.shape))
    return y, (x, a)


def gate_backward(dy: MaybeLazy, cache: tuple) -> tuple[Array, Array]:
    """The kernel of `ops.gate_backward`."""
    x, a = cache
    (N, H, _, C), kind = x.shape, kind_of(x.shape, a.shape)
    dx, da = empty(x.shape, x.dtype), np.empty(a.shape, a.dtype)
    sums = np.zeros((N * H if kind == CHANNELS else 1, C))
    gate_back(ready(materialize(dy)), operand(x), ready(a), dx, da, sums, np.empty((N * H, C), x.dtype), kind)
    if kind == CHANNELS:
        da[...] = sums.reshape(N, H, 1, C).sum(1, keepdims=True)
    return dx, da


def kind_of(x_shape: tuple[int, ...], a_shape: tuple[int, ...]) -> int:
    """Whether a gate has numbers for channels, pixels or values of a map; KeyError if for something else."""
    N, H, W, C = x_shape
    kinds: dict[tuple[int, ...], int] = {(N, H, W, C): VALUES, (N, H, W, 1): PIXELS, (N, 1, 1, C): CHANNELS}
    return kinds[a_shape]


def global_avg_pool2d(x: MaybeLazy) -> tuple[Array, tuple]:
    """The kernel of `ops.global_avg_pool2d`."""
    N, H, W, C = x.shape
    pixels = ready(materialize(x)).reshape(N, H * W, C)
    sums = np.zeros((N, _blocks(pixels), C))
    for n in range(N):
        sum_pixels(pixels[n], sums[n])
    return (sums.sum(1) / (H * W)).astype(x.dtype).reshape(N, 1, 1, C), (x.shape,)


# ---- the compiled loops ----------------------------------------------------------------------------------------------


@kernel
def sum_rows(a, b, y, work):
    """y (N, H, W, C) = the sum of the Operands a and b; work (N * H, C)."""
    N, H, W, C = y.shape
    for item in prange(N * H):
        n, row = item // H, item % H
        more = work[item]
        for column in range(W):
            to = y[n, row, column]
            read(pointer(to), C, a, item * W + column, 1, 0, C)
            read(pointer(more), C, b, item * W + column, 1, 0, C)
            for c in range(C):
                to[c] += more[c]


@kernel
def sum_pixels(x, sums):
    """x (M, C); sums (blocks, C) float64: each block's sum of x, which keeps the digits of a mean of many numbers."""
    M, C = x.shape
    blocks = sums.shape[0]
    for block in prange(blocks):
        to = sums[block]
        for p in range(block * M // blocks, (block + 1) * M // blocks):
            for c in range(C):
                to[c] += x[p, c]


@kernel
def gate_rows(x, a, y, kind):
    """y (N, H, W, C) = the Operand x times a."""
    N, H, W, C = y.shape
    for item in prange(N * H):
        n, row = item // H, item % H
        for column in range(W):
            to = y[n, row, column]
            read(pointer(to), C, x, item * W + column, 1, 0, C)
            if kind == PIXELS:
                weight = a[n, row, column, 0]
                for c in range(C):
                    to[c] *= weight
            else:
                weights = a[n, 0, 0] if kind == CHANNELS else a[n, row, column]
                for c in range(C):
                    to[c] *= weights[c]


@kernel
def gate_back(dy, x, a, dx, da, sums, work, kind):
    """dx = dy * a and da = dy * x, summed; for CHANNELS by rows, into sums (N * H, C) float64; work (N * H, C)."""
    N, H, W, C = dx.shape
    for item in prange(N * H):
        n, row = item // H, item % H
        seen = work[item]
        for column in range(W):
            to, d = dx[n, row, column], dy[n, row, column]
            read(pointer(seen), C, x, item * W + column, 1, 0, C)
            if kind == PIXELS:
                weight, total = a[n, row, column, 0], 0.0
                for c in range(C):
                    to[c] = d[c] * weight
                    total += d[c] * seen[c]
                da[n, row, column, 0] = total
            elif kind == CHANNELS:
                weights, row_sums = a[n, 0, 0], sums[item]
                for c in range(C):
                    to[c] = d[c] * weights[c]
                    row_sums[c] += d[c] * seen[c]
            else:
                weights, found = a[n, row, column], da[n, row, column]
                for c in range(C):
                    to[c] = d[c] * weights[c]
                    found[c] = d[c] * seen[c]
