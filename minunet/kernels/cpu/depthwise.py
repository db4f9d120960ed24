"""Depthwise convolution on the CPU, forward and backward, with a vector of channels in each register.

    forward (`gather`):        for each row of y, in parallel:
                                   for each run of columns in which the same taps lie on the image:
                                       for each block of up to 8 columns, for each vector of channels:
                                           for each of these taps:   sums[8] += x[8 columns] * w[tap]
                                           y[8 columns] = sums

    data gradient (`gather`):  the same from dy to dx, with the taps backwards. With a stride only every so many of them meet a
                               pixel; which, depends on the pixel's row and column modulo the stride (its phase). The columns of
                               a phase are a run.

    weights (`correlate`):     for each block of rows of dy, in parallel:
                                   for each run of columns, for each vector of channels:
                                       for each square of 3x3 taps (or fewer):   sums[3, 3] += x[tap, column] * dy[column]
                               add the blocks, in their order

Padding is neither stored nor read: where a tap would meet it, the tap is left out. A convolution with a dilation as large as
half of its map so does less than half of the work.

`Axis` tells, for rows and for columns, which taps meet which pixels. The last vector of channels overlaps the one before it,
and so does the last block of a run; fewer channels than a vector holds are computed number by number.

Constants
    BLOCKS    blocks of rows of a weight gradient, for any number of threads, so that sums are added in the same order
    ACROSS    most columns that are correlated at a time, so that they stay in the L1 cache for all taps

Shapes: any, float32 and float64; lazy maps are materialized.

Measure: python bench/convs.py --only depthwise
"""

from __future__ import annotations

import functools
from math import gcd
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ...array import Array
from ...ops.conv import Padding, output_size, resolve_padding
from ...ops.lazy import MaybeLazy, fusing, materialize
from .conv import bias_gradient, masked
from .launch import kernel, ready, round_up
from .lazy_maps import LazyAffine
from .memory import empty
from .simd import copy, lanes, lanes_of, offset, pointer
from .simd_depthwise import correlate11, correlate13, correlate33, gather1, gather4, gather8, gather8_of_3

BLOCKS = 32
ACROSS = 32


class Axis(NamedTuple):
    """Which taps of a filter meet which rows (or columns) of a map, for each row of the result.

    Taps that meet a map are `tap_step` apart; from one to the next, what they meet moves by `source_step`.
    """

    table: Array  # (results, 3): the first tap that meets the map, how many do, and the row that the first one meets
    runs: Array  # (runs, 5): first result, results, and the same three; results of a run are `step` apart
    step: int
    source: int  # from one result of a run to the next, what a tap meets moves by so much
    tap_step: int
    source_step: int


@functools.lru_cache(maxsize=512)
def axis(results: int, size: int, taps: int, stride: int, dilation: int, before: int, back: bool) -> Axis:
    """The Axis of a convolution's output over an input of `size` rows with `before` of padding; or, `back`, of the gradient
    of its input over that of its output."""
    tap, row = np.arange(taps), np.arange(results)[:, None]
    met = row + before - tap * dilation if back else row * stride - before + tap * dilation
    step, exact = (stride, met % stride == 0) if back else (1, True)
    met = met // step
    meets = exact & (met >= 0) & (met < size)
    first = meets.argmax(1)
    table = np.stack([first, meets.sum(1), met[row[:, 0], first]], 1)
    runs: list[list[int]] = []
    for phase in range(min(step, results)):
        for r in range(phase, results, step):
            if r == phase or (table[r, :2] != table[r - step, :2]).any():
                runs.append([r, 0, *table[r]])
            runs[-1][1] += 1
    tap_step = stride // gcd(stride, dilation) if back else 1
    moves = -dilation * tap_step // stride if back else dilation
    return Axis(table, np.array(runs), step, 1 if back else stride, tap_step, moves)


# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def depthwise_conv2d(
    x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> tuple[MaybeLazy, tuple]:
    """The kernel of `ops.depthwise_conv2d`."""
    (N, H, W, C), (KH, KW, _) = x.shape, w.shape
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    y = empty((N, OH, OW, C), x.dtype)
    rows = axis(OH, H, KH, stride, dilation, pads[0][0], False)
    columns = axis(OW, W, KW, stride, dilation, pads[1][0], False)
    bias = np.zeros(C, x.dtype) if b is None else ready(b)
    gather(ready(materialize(x)), ready(w), bias, y, rows, columns)
    return LazyAffine(y) if fusing() else y, (x, w, b is not None, stride, pads, dilation)


def depthwise_conv2d_backward(dy: MaybeLazy, cache: tuple) -> tuple[MaybeLazy, Array, Array | None]:
    """The kernel of `ops.depthwise_conv2d_backward`."""
    x, w, has_bias, stride, pads, dilation = cache
    (_, H, W, C), (KH, KW, _), (N, OH, OW, _) = x.shape, w.shape, dy.shape
    db = bias_gradient(dy) if has_bias else None
    dy, dx = ready(materialize(dy)), empty(x.shape, x.dtype)
    rows = axis(H, OH, KH, stride, dilation, pads[0][0], True)
    columns = axis(W, OW, KW, stride, dilation, pads[1][0], True)
    gather(dy, ready(w), np.zeros(C, x.dtype), dx, rows, columns)
    rows = axis(OH, H, KH, stride, dilation, pads[0][0], False)
    columns = axis(OW, W, KW, stride, dilation, pads[1][0], False)
    width = lanes(x.dtype)
    sums = np.zeros((min(BLOCKS, N * OH), KH, KW, round_up(C, width)), x.dtype)
    correlate(ready(materialize(x)), dy, sums, rows, columns)
    total, whole = sums.sum(0), C // width * width
    dw = total[..., :C].copy()
    if 0 < whole < C:
        dw[..., whole:] = total[..., whole - C :]
    return masked(dx, x), dw, db


# ---- the kernels -----------------------------------------------------------------------------------------------------


@njit
def gather_number(x, x_i, x_j, w, w_i, w_j, rows, columns, init, y):
    """What the block for one column computes, for one number instead of a vector."""
    total = init[0]
    for i in range(rows):
        for j in range(columns):
            total += x[i * x_i + j * x_j] * w[i * w_i + j * w_j]
    y[0] = total


@njit
def gather_run(x, x_n, x_i, x_j, w, w_i, w_j, rows, columns, init, y, y_n, count, C):
    """`count` columns of a run, all channels."""
    width = lanes_of(x)
    if columns > 1 and x_j == -x_n:  # taps are added from the other end
        x, w, x_j, w_j = offset(x, (columns - 1) * x_j), offset(w, (columns - 1) * w_j), x_n, -w_j
    n = 0
    while n < count:
        size = 8 if count >= 8 else 4 if count >= 4 else 1
        n = min(n, count - size)  # the last block overlaps the one before
        from_x, to_y = offset(x, n * x_n), offset(y, n * y_n)
        if width > C:
            for m in range(size):
                for c in range(C):
                    gather_number(offset(from_x, m * x_n + c), x_i, x_j, offset(w, c), w_i, w_j, rows, columns,
                                  offset(init, c), offset(to_y, m * y_n + c))  # fmt: skip
        else:
            for vector in range(0, C, width):
                c = min(vector, C - width)
                if size == 8 and columns == 3 and x_j == x_n:
                    gather8_of_3(offset(from_x, c), x_n, x_i, offset(w, c), w_i, w_j, rows, offset(init, c),
                                  offset(to_y, c), y_n)  # fmt: skip
                elif size == 8:
                    gather8(offset(from_x, c), x_n, x_i, x_j, offset(w, c), w_i, w_j, rows, columns, offset(init, c),
                             offset(to_y, c), y_n)  # fmt: skip
                elif size == 4:
                    gather4(offset(from_x, c), x_n, x_i, x_j, offset(w, c), w_i, w_j, rows, columns, offset(init, c),
                             offset(to_y, c), y_n)  # fmt: skip
                else:
                    gather1(offset(from_x, c), x_n, x_i, x_j, offset(w, c), w_i, w_j, rows, columns, offset(init, c),
                             offset(to_y, c), y_n)  # fmt: skip
        n += size


@kernel
def gather(x, w, bias, y, rows, columns):
    """y (N, OH, OW, C) = bias (C,) + x (N, H, W, C) convolved with w (KH, KW, C), as the two Axes say."""
    N, OH, _, C = y.shape
    table, _, _, _, tap_i, down = rows
    _, runs, step, source, tap_j, across = columns
    H, W, KW = x.shape[1], x.shape[2], w.shape[1]
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        i, taps_i, seen = table[row, 0], table[row, 1], table[row, 2]
        for r in range(len(runs)):
            first, count, j, taps_j, column = runs[r, 0], runs[r, 1], runs[r, 2], runs[r, 3], runs[r, 4]
            to = offset(pointer(y), (item * y.shape[2] + first) * C)
            if taps_i * taps_j == 0:
                for k in range(count):
                    copy(offset(to, k * step * C), pointer(bias), C)
                continue
            gather_run(offset(pointer(x), ((n * H + seen) * W + column) * C), source * C, down * W * C, across * C,
                       offset(pointer(w), (i * KW + j) * C), tap_i * KW * C, tap_j * C, taps_i, taps_j, pointer(bias),
                       to, step * C, count, C)  # fmt: skip


@njit
def correlate_run(x, x_n, x_i, x_j, dy, count, rows, columns, sums, sums_i, sums_j, C):
    """sums[i, j] += sum over a run's columns of x[n, i, j] * dy[n], all channels."""
    width = lanes_of(x)
    if width > C:
        for i in range(rows):
            for j in range(columns):
                for n in range(count):
                    for c in range(C):
                        sums[i * sums_i + j * sums_j + c] += x[n * x_n + i * x_i + j * x_j + c] * dy[n * C + c]
        return
    for vector in range(0, C, width):
        c = min(vector, C - width)
        i = 0
        while i < rows:
            tall = 3 if rows - i >= 3 and columns >= 3 else 1
            j = 0
            while j < columns:
                from_x, to = offset(x, i * x_i + j * x_j + c), offset(sums, i * sums_i + j * sums_j + vector)
                if tall == 3 and columns - j >= 3:
                    correlate33(from_x, x_n, x_i, x_j, offset(dy, c), C, count, to, sums_i, sums_j)
                    j += 3
                elif columns - j >= 3:
                    correlate13(from_x, x_n, x_i, x_j, offset(dy, c), C, count, to, sums_i, sums_j)
                    j += 3
                else:
                    for k in range(tall):
                        correlate11(offset(from_x, k * x_i), x_n, x_i, x_j, offset(dy, c), C, count,
                                     offset(to, k * sums_i), sums_i, sums_j)  # fmt: skip
                    j += 1
            i += tall


@kernel
def correlate(x, dy, sums, rows, columns):
    """sums (blocks, KH, KW, whole vectors of channels), zeros at first: the gradient of w from x (N, H, W, C) and
    dy (N, OH, OW, C), by blocks of rows; the last vector's numbers are those of the last channels."""
    N, OH, OW, C = dy.shape
    table, _, _, _, _, down = rows
    _, runs, _, source, _, across = columns
    H, W = x.shape[1], x.shape[2]
    blocks, KH, KW, padded = sums.shape
    for block in prange(blocks):
        for item in range(block * N * OH // blocks, (block + 1) * N * OH // blocks):
            n, row = item // OH, item % OH
            i, taps_i, seen = table[row, 0], table[row, 1], table[row, 2]
            for r in range(len(runs)):
                first, count, j, taps_j, column = runs[r, 0], runs[r, 1], runs[r, 2], runs[r, 3], runs[r, 4]
                for k in range(0, count, ACROSS):
                    from_x = offset(pointer(x), ((n * H + seen) * W + column + k * source) * C)
                    from_dy = offset(pointer(dy), (item * OW + first + k) * C)
                    to = offset(pointer(sums), ((block * KH + i) * KW + j) * padded)
                    correlate_run(from_x, source * C, down * W * C, across * C, from_dy, min(ACROSS, count - k), taps_i,
                                  taps_j, to, KW * padded, padded, C)  # fmt: skip
