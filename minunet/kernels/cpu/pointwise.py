"""Max-pool and ReLU on the CPU: one pass over memory where the plain ops need several.

These do little arithmetic and spend their time on reading and writing, so each value is read as rarely as possible:

    relu:       for each value, in parallel:   y = max(x, 0), mask = x > 0
    max_pool:   for each output row, in parallel:
                    for each window, for each of its pixels, for each channel:   keep the larger value and its number
    gradients:  for each row, in parallel:
                    for each pixel: gather dy from the windows that it has won; where the ReLU lets it pass, store it and add
                    it to the row's sums of dy and of dy * (x - mean), which the norm before the ReLU needs

Pools of 2x2 with stride 2, which U-Nets have, run the loops of pool_pairs.py.

Shapes: any, contiguous or not, float32 and float64. Differences from the plain ops: a NaN wins a pool's window only as
its first pixel, and `relu_backward` gives 0 where the mask is False, even if dy is infinite there.

Measure: python bench/layers.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ...array import Array
from ...ops.conv import output_size
from ...ops.lazy import LazyMap, MaybeLazy, fusing, materialize
from .epilogues import BLEND, RELU, coefficients, operand, read, shape_of
from .launch import kernel, ready
from .lazy_maps import Gradient, LazyAffine, ReluMask
from .memory import empty
from .pool_pairs import mask_pixels, pool_pairs, unpool_mask_pairs
from .simd import add_where_equal, clear, copy, lanes_of, offset, pointer

# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def relu(x: MaybeLazy) -> tuple[MaybeLazy, tuple]:
    """The kernel of `ops.relu`."""
    if fusing() and isinstance(x, LazyAffine) and not x.relu:
        clipped = LazyAffine(x.raw, x.table, relu=True)
        return clipped, (ReluMask(clipped),)
    x = materialize(x)
    y, positive = empty(x.shape, x.dtype), empty(x.shape, bool)
    relu_forward(ready(x).reshape(-1), y.reshape(-1), positive.reshape(-1))
    return y, (positive,)


def relu_backward(dy: MaybeLazy, cache: tuple) -> MaybeLazy:
    """The kernel of `ops.relu_backward`."""
    (where,) = cache
    if isinstance(where, ReluMask) and fusing():
        done = isinstance(dy, Gradient) and dy.is_masked_by(where.x)
        return dy if done else mask(dy, where.x)
    dy, where = ready(materialize(dy)), ready(materialize(where))
    dx = empty(dy.shape, dy.dtype)
    relu_back(dy.reshape(-1), where.reshape(-1), dx.reshape(-1))
    return dx


def mask(dy: MaybeLazy, x: LazyAffine, out: Array | None = None) -> Gradient:
    """dy where the ReLU that gave x let it pass, with its sums, in `out` or a new array; dy may be Unpooled."""
    N, H, W, C = x.shape
    dx, sums = empty(x.shape, x.dtype) if out is None else out, np.zeros((N * H, 2, C), x.dtype)
    raw, table = ready(x.raw), coefficients(x)
    if isinstance(dy, Unpooled):
        pooled, (winner, _, size, stride) = ready(materialize(dy.dy)), dy.cache
        plus = pooled if dy.plus is None else ready(materialize(dy.plus))
        if size == stride == 2 and dy.plus is not None:
            unpool_mask_pairs(pooled, ready(winner), plus, raw, table, dx, sums)
        else:
            unpool_mask(pooled, ready(winner), plus, raw, table, dx, sums, size, stride, dy.plus is not None)
    else:
        mask_rows(ready(materialize(dy)), raw, table, dx, sums)
    if isinstance(dy, LazyMap):
        dy.release()
    return Gradient(dx, sums.sum(0, dtype=np.float64), x)


def max_pool2d(x: MaybeLazy, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """The kernel of `ops.max_pool2d`."""
    stride = stride or size
    N, _, _, C = x.shape
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    y, winner = empty((N, OH, OW, C), x.dtype), empty((N, OH, OW, C), np.uint8)
    source = operand(x)
    if size == stride == 2 and source.mode != BLEND:
        table, floor = (source.coefficients, 0) if source.mode == RELU else (_as_it_is(C, x.dtype), -np.inf)
        pool_pairs(source.x, table, x.dtype.type(floor), y, winner)
    else:
        pool_forward(source, y, winner, np.empty((N * OH, C), x.dtype), size, stride)
    return y, (winner, x.shape, size, stride)


def max_pool2d_backward(dy: MaybeLazy, cache: tuple) -> MaybeLazy:
    """The kernel of `ops.max_pool2d_backward`."""
    return Unpooled(dy, cache) if fusing() else unpool(materialize(dy), cache)


def _as_it_is(C: int, dtype: np.dtype) -> Array:
    """A scale and a shift that change no number: 1 and -0, since -0 + 0 would be 0."""
    return np.repeat(np.array([1, -0.0, 0], dtype), C).reshape(3, C)


class Unpooled(LazyMap):
    """The gradient of a max-pool's input: dy at each window's winner, plus the gradient that came over the skip connection."""

    def __init__(self, dy: MaybeLazy, cache: tuple, plus: Any = None) -> None:
        self.dy: Any = dy  # None once it has been released
        self.cache, self.plus = cache, plus
        self.shape, self.dtype = cache[1], dy.dtype

    def array(self) -> np.ndarray:
        return unpool(materialize(self.dy), self.cache, materialize(self.plus))

    def release(self) -> None:
        if self.once:
            self.dy = self.plus = None

    def __add__(self, other: Any) -> Any:
        if self.plus is None and getattr(other, "shape", None) == self.shape and other.dtype == self.dtype:
            return Unpooled(self.dy, self.cache, other)
        return self.array() + materialize(other)

    __iadd__ = __radd__ = __add__


def unpool(dy: Array, cache: tuple, plus: Array | None = None) -> Array:
    """The gradient of a max-pool's input, plus `plus`."""
    winner, x_shape, size, stride = cache
    dx = empty(x_shape, dy.dtype)
    pool_back(ready(dy), ready(winner), dx, size, stride)
    if plus is not None:
        dx += plus
    return dx


# ---- the compiled loops ----------------------------------------------------------------------------------------------


@kernel
def relu_forward(x, y, mask):
    """Flat arrays; a NaN stays one, as in np.maximum."""
    zero = x.dtype.type(0)
    for n in prange(x.size):
        value = x[n]
        mask[n] = value > zero
        y[n] = zero if value <= zero else value


@kernel
def relu_back(dy, mask, dx):
    """Flat arrays."""
    zero = dy.dtype.type(0)
    for n in prange(dy.size):
        dx[n] = dy[n] if mask[n] else zero


@kernel
def pool_forward(x, y, winner, work, size, stride):
    """The Operand x (N, H, W, ...) to y and winner (N, OH, OW, C); work (N * OH, C)."""
    N, OH, OW, C = y.shape
    _, H, W, _ = shape_of(x)
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        seen = work[item]
        for column in range(OW):
            best, number = y[n, row, column], winner[n, row, column]
            corner = (n * H + row * stride) * W + column * stride
            read(pointer(best), C, x, corner, 1, 0, C)
            for c in range(C):
                number[c] = 0
            for tap in range(1, size * size):
                read(pointer(seen), C, x, corner + tap // size * W + tap % size, 1, 0, C)
                for c in range(C):
                    larger = seen[c] > best[c]
                    best[c] = seen[c] if larger else best[c]
                    number[c] = tap if larger else number[c]


@kernel
def mask_rows(dy, raw, table, dx, sums):
    """dy, raw, dx (N, H, W, C); table (3, C): scale, shift, mean; sums (N * H, 2, C)."""
    N, H, W, C = dx.shape
    for item in prange(N * H):
        at = item * W * C
        mask_pixels(W, offset(pointer(dx), at), offset(pointer(dy), at), offset(pointer(raw), at), table,
                    offset(pointer(sums), item * 2 * C))  # fmt: skip


@kernel
def unpool_mask(dy, winner, plus, raw, table, dx, sums, size, stride, has_plus):
    """The same for dy (N, OH, OW, C) before a max-pool's backward, with plus (N, H, W, C) added to it."""
    N, H, W, C = dx.shape
    for item in prange(N * H):
        for column in range(W):
            at = (item * W + column) * C
            to = offset(pointer(dx), at)
            if has_plus:
                copy(to, offset(pointer(plus), at), C)
            else:
                clear(to, C)
            gather_windows(to, dy, winner, item // H, item % H, column, size, stride)
            mask_pixels(1, to, to, offset(pointer(raw), at), table, offset(pointer(sums), item * 2 * C))


@njit
def gather_windows(to, dy, winner, n, row, column, size, stride):
    """Add to a pixel's channels what comes from the windows that it lies in and won."""
    _, OH, OW, C = dy.shape
    width = lanes_of(dy)
    for window_row in range(max(0, (row - size) // stride + 1), min(OH, row // stride + 1)):
        for window_column in range(max(0, (column - size) // stride + 1), min(OW, column // stride + 1)):
            tap = (row - window_row * stride) * size + column - window_column * stride
            at, c = ((n * OH + window_row) * OW + window_column) * C, 0
            source, numbers = offset(pointer(dy), at), offset(pointer(winner), at)
            while c + width <= C:
                add_where_equal(offset(to, c), offset(source, c), offset(numbers, c), tap)
                c += width
            while c < C:
                if numbers[c] == tap:
                    to[c] += source[c]
                c += 1


@kernel
def pool_back(dy, winner, dx, size, stride):
    """dy and winner (N, OH, OW, C) to dx (N, H, W, C): every pixel gathers from the windows that it lies in."""
    N, H, W, C = dx.shape
    for item in prange(N * H):
        for column in range(W):
            to = offset(pointer(dx), (item * W + column) * C)
            clear(to, C)
            gather_windows(to, dy, winner, item // H, item % H, column, size, stride)
