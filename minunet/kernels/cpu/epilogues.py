"""How the CPU kernels read lazy maps and write results: the work that is fused into a kernel's loads and stores.

A kernel reads a map through an `Operand`, which says how the values of the map are computed from those in memory:

    PLAIN       x
    RELU        max(x * scale + shift, 0)           a LazyAffine: norm and ReLU are still to be applied
    BLEND       a * x + b * other + c               a NormGradient: batch norm's backward is still to be applied

and writes its result through an `Epilogue`, which says what is done to a value before it is stored:

    STORE       nothing
    MOMENTS     mean and sum of squared deviations of each channel are gathered for the next batch norm
    MASK        zeros where raw * scale + shift <= 0, the ReLU's backward; sums of dy and of dy * (raw - mean) are
                gathered for the batch norm's backward

Coefficients are three rows of C numbers: scale, shift, mean, or a, b, c.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from ...array import Array
from ...ops.lazy import LazyConcat, LazyMap, MaybeLazy, materialize
from .launch import kernel, ready
from .lazy_maps import Gradient, LazyAffine, NormGradient, computes_affine
from .memory import LINE, address, empty
from .simd import VECTOR_BYTES, clear, copy, lanes_of, offset, pointer
from .simd_transform import sandwich

PLAIN, RELU, BLEND = 0, 1, 2
STORE, MOMENTS, MASK = 0, 1, 2

STREAMED = 4 << 20
"""Larger maps (in bytes) are written past the caches. They would not stay there until they are read; and an ordinary store
first reads the line from memory, which makes it 2.5 times slower (measured: 10 against 25 GB/s a core). Only where a vector is
a whole line (AVX-512): a line that leaves in two halves, with other lines between them, is written twice, and a convolution
then takes 2 to 3 times as long."""


class Operand(NamedTuple):
    """A map to read: x and other (N, H, W, C), coefficients (3, C), and PLAIN, RELU or BLEND."""

    x: Array
    other: Array
    coefficients: Array
    mode: int


class Epilogue(NamedTuple):
    """A map to write: y and raw (N, H, W, K), coefficients (3, K), sums (blocks, 2, K or more), the mode, and whether y is
    written past the caches."""

    y: Array
    raw: Array
    coefficients: Array
    sums: Array
    mode: int
    stream: bool


def operand(x: MaybeLazy) -> Operand:
    """How to read an array or a lazy map that is not a LazyConcat."""
    if isinstance(x, LazyAffine):
        raw = ready(x.raw)
        if x.relu:
            return Operand(raw, raw, coefficients(x), RELU)
        if x.table is not None:  # as a blend: scale * raw + 0 * raw + shift
            scale, shift, _ = x.table
            return Operand(raw, raw, np.stack([scale, 0 * scale, shift]), BLEND)
        x = raw
    elif isinstance(x, NormGradient):
        return Operand(ready(x.dy), ready(x.raw), x.table, BLEND)
    x = ready(x.dy if isinstance(x, Gradient) else materialize(x))
    return Operand(x, _none(x.dtype, x.ndim), _none(x.dtype, 2), PLAIN)


def operands(x: MaybeLazy) -> tuple[Operand, Operand]:
    """How to read an array or any lazy map, as two operands: the halves of a LazyConcat, or the map and an empty one."""
    if isinstance(x, LazyConcat):
        a, b = x.halves()
        return operand(a), operand(b)
    s = operand(x)
    return s, no_operand(s.x.dtype)


def coefficients(x: LazyAffine) -> Array:
    """Scale, shift and mean of a LazyAffine, (3, C)."""
    if x.table is not None:
        return x.table
    table = np.zeros((3, x.shape[3]), x.dtype)
    table[0] = 1
    return table


@functools.cache
def _none(dtype: Any, ndim: int) -> Array:
    """An array for an argument that is not used."""
    return np.zeros((1,) * ndim, dtype)


@functools.cache
def no_operand(dtype: Any) -> Operand:
    """In place of a second map to read."""
    return operand(np.empty((1, 1, 1, 0), dtype))


@functools.cache
def no_epilogue(dtype: Any) -> Epilogue:
    """In place of a second map to write."""
    return Output(np.empty((1, 1, 1, 0), dtype)).epilogue((1, 2, 1))


@computes_affine
def compute_affine(x: LazyMap) -> Array:
    """The array that a LazyAffine or NormGradient stands for."""
    y = empty(x.shape, x.dtype)
    materialize_pixels(operand(x), y)
    return y


# ---- results ---------------------------------------------------------------------------------------------------------


class Output:
    """A map to be written, and the sums that were gathered on the way.

    Parameters
    ----------
    y : (N, H, W, K) array
    mode : STORE, MOMENTS or MASK
    masked_by : LazyAffine, optional
        For MASK: the ReLU's result of which this is the gradient.

    Attributes
    ----------
    found : two (K,) float64 arrays
        After the kernel: mean and biased variance (MOMENTS), or the sums of y and of y * (raw - mean) (MASK).
    """

    def __init__(self, y: Array, mode: int = STORE, masked_by: LazyAffine | None = None) -> None:
        self.y, self.mode, self.masked_by = y, mode, masked_by
        self.found: Any = None

    def epilogue(self, shape: tuple[int, int, int]) -> Epilogue:
        """The epilogue for the kernel; `shape` is that of the sums: (blocks, 2, K or more)."""
        y, dtype, x = self.y, self.y.dtype, self.masked_by
        raw, table = (y, _none(dtype, 2)) if x is None else (ready(x.raw), coefficients(x))
        whole_lines = VECTOR_BYTES == LINE and y.shape[3] * y.itemsize % LINE == 0
        stream = y.nbytes >= STREAMED and whole_lines and address(y) % LINE == 0
        return Epilogue(y, raw, table, np.zeros(shape, dtype), self.mode, stream)

    def gather(self, epilogue: Epilogue, pixels: Array) -> None:
        """Add up the blocks' sums in float64; pixels (blocks,) says how many pixels each block has."""
        if self.mode == STORE:
            return
        *size, K = self.y.shape
        sums = epilogue.sums[..., :K].astype(np.float64)
        if self.mode == MASK:
            self.found = sums.sum(0)
            return
        count, first = math.prod(size), sums[:, 0]
        mean = pixels @ first / count
        self.found = mean, (sums[:, 1].sum(0) + pixels @ (first - mean) ** 2) / count


# ---- inside kernels --------------------------------------------------------------------------------------------------
# numba's analysis of parallel functions fails on arrays in tuples, hence these two functions.


@njit
def shape_of(map_):
    """(N, H, W, C) of an Operand or an Epilogue, whose first part is the array."""
    return map_[0].shape


@njit
def start_of(map_):
    """Pointer to the first number of that array."""
    return pointer(map_[0])


_plain_vector = sandwich([((1,),)])
_relu_vector = sandwich([((1,),)], load="relu")
_blend_vector = sandwich([((1,),)], load="blend")


@njit
def read(to, to_pixel, operand, pixel, pixels, channel, channels):
    """The values of neighbouring pixels, some channels of each, to `to`, `to_pixel` numbers apart; `pixel` counts through
    (N, H, W)."""
    C, width, mode = operand.x.shape[3], lanes_of(operand.x), operand.mode
    at, whole = pixel * C + channel, channels // width * width
    x, other = offset(pointer(operand.x), at), offset(pointer(operand.other), at)  # `other` is read only for BLEND
    table = offset(pointer(operand.coefficients), channel)
    for n in range(0, whole, width):  # a vector of channels of all pixels: its coefficients stay at hand
        v = offset(table, n)
        for p in range(pixels):
            here, from_ = offset(to, p * to_pixel + n), offset(x, p * C + n)
            if mode == PLAIN:
                _plain_vector(from_, 0, 0, here, 0, 0)
            elif mode == RELU:
                _relu_vector(from_, 0, 0, here, 0, 0, from_, v, C)
            else:
                _blend_vector(from_, 0, 0, here, 0, 0, offset(other, p * C + n), v, C)
    for p in range(pixels if whole < channels else 0):
        for n in range(whole, channels):
            here, value = p * to_pixel + n, x[p * C + n]
            if mode == RELU:
                value = value * table[n] + table[C + n]
                value = 0 if value < 0 else value
            elif mode == BLEND:
                value = table[n] * value + table[C + n] * other[p * C + n] + table[2 * C + n]
            to[here] = value


@kernel
def materialize_pixels(operand, y):
    """y (N, H, W, C) = the map's values."""
    N, H, W, C = y.shape
    for row in prange(N * H):
        read(offset(pointer(y), row * W * C), C, operand, row * W, W, 0, C)


@njit
def read_square(to, operand, image, row, column, size, channel, numbers):
    """to[size, size, lanes] = the pixels of a square, materialized; zeros where it reaches over the edge."""
    _, H, W, _ = operand.x.shape
    width = lanes_of(operand.x)
    first, end = max(0, -column), min(size, W - column)
    clear(to, size * size * width)
    for i in range(max(0, -row), min(size, H - row)):
        pixel = (image * H + row + i) * W + column
        here = offset(to, (i * size + first) * width)
        read(here, width, operand, pixel + first, max(0, end - first), channel, numbers)


@njit
def write_square(square, rows, columns, numbers, epilogue, at, channel, sums, share, weight):
    """Write the part of square[4, 4, lanes] that lies inside: `numbers` channels of rows x columns pixels from y + at.

    Moments or masked sums are merged into `sums` as in simd_transform.sandwich_into.
    """
    _, _, OW, K = epilogue.y.shape
    width, sums_row = lanes_of(epilogue.y), epilogue.sums.shape[2]
    y, raw = offset(pointer(epilogue.y), at), offset(pointer(epilogue.raw), at)
    for i in range(rows):
        for j in range(columns):
            copy(offset(y, (i * OW + j) * K), offset(square, (4 * i + j) * width), numbers)
    if epilogue.mode == STORE:
        return
    for k in range(numbers):
        first = second = epilogue.y.dtype.type(0)
        if epilogue.mode == MASK:
            scale, shift = epilogue.coefficients[0, channel + k], epilogue.coefficients[1, channel + k]
            mean = epilogue.coefficients[2, channel + k]
            for i in range(rows):
                for j in range(columns):
                    p = (i * OW + j) * K + k
                    if not raw[p] * scale + shift > 0:
                        y[p] = 0
                    first += y[p]
                    second += y[p] * (raw[p] - mean)
            sums[k] += first
            sums[sums_row + k] += second
            continue
        for i in range(rows):
            for j in range(columns):
                first += y[(i * OW + j) * K + k]
        first /= rows * columns
        for i in range(rows):
            for j in range(columns):
                second += (y[(i * OW + j) * K + k] - first) ** 2
        step = first - sums[k]
        sums[k] += step * share
        sums[sums_row + k] += second + step * step * weight
