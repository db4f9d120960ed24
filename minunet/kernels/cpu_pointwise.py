"""Max-pool, batch norm and ReLU on the CPU: one pass over memory where the plain ops take several.

These do little arithmetic; what they cost is reading and writing, so each value is read as rarely as can be:

    relu:       for each value, in parallel:   y = max(x, 0), mask = x > 0
    max_pool:   for each output row, in parallel:
                    for each window, for each of its pixels, for each channel:   keep the larger value and its number
    moments:    for each block of pixels, in parallel:
                    for each chunk of CHUNK pixels:     it stays in the L1 or L2 cache, so that two passes cost one
                        pass 1: the chunk's mean (less x[0]);   pass 2: the sum of (x - the chunk's mean)^2
                        merge into the block's count, mean and sum of squares
                merge the blocks, in their order
    norm:       y = (x - mean) * scale + beta, with scale = gamma * rstd
    gradients:  for each block, in parallel: sum of dy and of dy * xhat, chunk by chunk; then dx in a second pass

Merging two sets with counts n, m, means a, b and sums of squares p, q (Chan, Golub and LeVeque 1979):

    mean = a + (b - a) * m / (n + m),    squares = p + q + (b - a)^2 * n * m / (n + m)

Nothing cancels here, unlike in E[x^2] - mean^2. Within a chunk numbers are added in their own dtype, chunks in float64.

Constants: CHUNK pixels; BLOCKS blocks at most, whatever the number of threads, so results do not depend on it.

Shapes: any, contiguous or not, float32 and float64. Differences from the plain ops: a NaN wins a pool's window only as
its first pixel, and `relu_backward` gives 0 where the mask is False, even if dy is infinite there.

Measure: python bench/layers.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..array import Array
from ..ops.conv import output_size
from .cpu_maps import coefficients, read, shape_of, source
from .deferred import Deferred, Gradient, Mask, NormGradient, Unpooled, finished, fusing
from .launch import empty, kernel, ready
from .simd import add_where_equal, clear, copy, lanes_of, offset, pointer
from .simd_transform import sandwich_into

CHUNK = 64
BLOCKS = 64


# ---- twins of the ops ------------------------------------------------------------------------------------------------


def relu(x: Any) -> tuple[Any, tuple]:
    """Twin of `ops.relu`."""
    if fusing() and isinstance(x, Deferred) and not x.relu:
        clipped = Deferred(x.raw, x.scale, x.shift, True, mean=x.mean)
        return clipped, (Mask(clipped),)
    x = finished(x)
    y, positive = empty(x.shape, x.dtype), empty(x.shape, bool)
    relu_forward(ready(x).reshape(-1), y.reshape(-1), positive.reshape(-1))
    return y, (positive,)


def relu_backward(dy: Any, cache: tuple) -> Any:
    """Twin of `ops.relu_backward`."""
    (where,) = cache
    if isinstance(where, Mask) and fusing():
        done = isinstance(dy, Gradient) and dy.is_masked_by(where.x)
        return dy if done else mask(dy, where.x)
    dy, where = ready(finished(dy)), ready(finished(where))
    dx = empty(dy.shape, dy.dtype)
    relu_back(dy.reshape(-1), where.reshape(-1), dx.reshape(-1))
    return dx


def mask(dy: Any, x: Deferred, out: Array | None = None) -> Gradient:
    """dy where the ReLU that gave x let it pass, with its sums, in `out` or a new array; dy may be Unpooled."""
    N, H, W, C = x.shape
    dx, sums = empty(x.shape, x.dtype) if out is None else out, np.zeros((N * H, 2, C), x.dtype)
    raw, table = ready(x.raw), coefficients(x)
    if isinstance(dy, Unpooled):
        pooled, (winner, _, size, stride) = ready(finished(dy.dy)), dy.cache
        plus = pooled if dy.plus is None else ready(finished(dy.plus))
        unpool_mask(pooled, ready(winner), plus, raw, table, dx, sums, size, stride, dy.plus is not None)
    else:
        mask_rows(ready(finished(dy)), raw, table, dx, sums)
    return Gradient(dx, sums.sum(0, dtype=np.float64), x)


def max_pool2d(x: Any, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """Twin of `ops.max_pool2d`."""
    stride = stride or size
    N, _, _, C = x.shape
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    y, winner = empty((N, OH, OW, C), x.dtype), empty((N, OH, OW, C), np.uint8)
    pool_forward(source(x), y, winner, np.empty((N * OH, C), x.dtype), size, stride)
    return y, (winner, x.shape, size, stride)


def max_pool2d_backward(dy: Any, cache: tuple) -> Any:
    """Twin of `ops.max_pool2d_backward`."""
    return Unpooled(dy, cache) if fusing() else unpool(finished(dy), cache)


def unpool(dy: Array, cache: tuple, plus: Array | None = None) -> Array:
    """The gradient before a max-pool, and what is to be added to it."""
    winner, x_shape, size, stride = cache
    dx = empty(x_shape, dy.dtype)
    pool_back(ready(dy), ready(winner), dx, size, stride)
    if plus is not None:
        dx += plus
    return dx


def batch_norm(
    x: Any, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> tuple[Any, tuple, tuple[Array, Array]]:
    """Twin of `ops.batch_norm`."""
    known = x.moments if isinstance(x, Deferred) else None
    x = finished(x)
    C, from_batch = x.shape[-1], mean is None
    pixels = ready(x).reshape(-1, C)
    if mean is None or var is None:
        mean, var = (m.astype(x.dtype) for m in known or _moments(pixels))
    rstd = (1 / (var + eps) ** 0.5).astype(x.dtype)
    cache, scale = (x, gamma, mean, rstd, from_batch), gamma * rstd
    if fusing():
        shift = (beta - mean.astype(np.float64) * scale).astype(x.dtype)
        return Deferred(x, scale, shift, mean=mean), cache, (mean, var)
    y = empty(x.shape, x.dtype)
    norm_forward(pixels, ready(mean), scale, ready(beta), y.reshape(-1, C))
    return y, cache, (mean, var)


def batch_norm_backward(dy: Any, cache: tuple) -> tuple[Any, Array, Array]:
    """Twin of `ops.batch_norm_backward`."""
    x, gamma, mean, rstd, from_batch = cache
    C = x.shape[-1]
    pixels, mean = ready(x).reshape(-1, C), ready(mean)
    if isinstance(dy, Gradient) and dy.has_sums_for(x):
        dbeta, dgamma = dy.sums
    else:
        sums = np.zeros((_blocks(pixels), 2, C))
        norm_sums(pixels, ready(finished(dy)).reshape(-1, C), mean, sums)
        dbeta, dgamma = sums.sum(0)
    dgamma = dgamma * rstd
    share, scale, dy = from_batch / max(1, len(pixels)), gamma * rstd, finished(dy)
    a, b = dbeta * share, dgamma * rstd * share  # dx = (dy - a - (x - mean) * b) * scale
    dgamma, dbeta = dgamma.astype(x.dtype), dbeta.astype(x.dtype)
    if fusing():
        terms = (-b * scale).astype(x.dtype), ((mean * b - a) * scale).astype(x.dtype)
        return NormGradient(dy, x, scale, *terms), dgamma, dbeta
    dx = empty(x.shape, x.dtype)
    a, b = a.astype(x.dtype), b.astype(x.dtype)
    norm_back(pixels, ready(dy).reshape(-1, C), mean, scale, a, b, dx.reshape(-1, C))
    return dx, dgamma, dbeta


def channel_sums(dy: Array) -> Array:
    """Sum of dy (N, H, W, C) over all pixels, (C,): the gradient of a bias."""
    pixels = ready(dy).reshape(-1, dy.shape[-1])
    sums = np.zeros((_blocks(pixels), pixels.shape[1]))
    plain_sums(pixels, sums)
    return sums.sum(0).astype(dy.dtype)


def _blocks(pixels: Array) -> int:
    return max(1, min(BLOCKS, len(pixels) // CHUNK))


def _moments(pixels: Array) -> tuple[Array, Array]:
    """Mean and biased variance of every channel of pixels (M, C)."""
    M, C = pixels.shape
    found = np.zeros((_blocks(pixels), 2, C))
    moments(pixels, found)
    count, mean, squares = 0, np.zeros(C), np.zeros(C)
    for n, (block_mean, block_squares) in enumerate(found):
        more = _start(n + 1, len(found), M) - _start(n, len(found), M)
        step = block_mean - mean
        mean += step * (more / (count + more))
        squares += block_squares + step**2 * (count * more / (count + more))
        count += more
    return (mean + pixels[0]).astype(pixels.dtype), (squares / M).astype(pixels.dtype)


def _start(block: int, blocks: int, M: int) -> int:
    """Where a block of pixels starts."""
    return block * M // blocks


# ---- the kernels -----------------------------------------------------------------------------------------------------


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
    """The Source x (N, H, W, ...) to y and winner (N, OH, OW, C); work (N * OH, C)."""
    N, OH, OW, C = y.shape
    _, H, W, _ = shape_of(x)
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        seen = work[item]
        for column in range(OW):
            best, number = y[n, row, column], winner[n, row, column]
            corner = (n * H + row * stride) * W + column * stride
            read(pointer(best), x, corner, 0, C)
            for c in range(C):
                number[c] = 0
            for tap in range(1, size * size):
                read(pointer(seen), x, corner + tap // size * W + tap % size, 0, C)
                for c in range(C):
                    larger = seen[c] > best[c]
                    best[c] = seen[c] if larger else best[c]
                    number[c] = tap if larger else number[c]


_mask_vector = sandwich_into([((1,),)], "mask")


@kernel
def mask_rows(dy, raw, table, dx, sums):
    """dy, raw, dx (N, H, W, C); table (3, C): scale, shift, mean; sums (N * H, 2, C)."""
    N, H, W, C = dx.shape
    for item in prange(N * H):
        for column in range(W):
            at = (item * W + column) * C
            mask_pixel(offset(pointer(dx), at), offset(pointer(dy), at), offset(pointer(raw), at), table,
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
            mask_pixel(to, to, offset(pointer(raw), at), table, offset(pointer(sums), item * 2 * C))


@njit
def mask_pixel(dx, dy, raw, table, sums):
    """dx = dy where the ReLU let raw pass, for one pixel's channels, and its part of the sums (2, C)."""
    C, width, n = table.shape[1], lanes_of(table), 0
    one = table.dtype.type(1)
    while n + width <= C:
        _mask_vector(offset(dy, n), 0, 0, offset(dx, n), 0, 0, offset(raw, n), offset(pointer(table), n), C,
                     offset(sums, n), C, one, one)  # fmt: skip
        n += width
    while n < C:
        value = dy[n] if raw[n] * table[0, n] + table[1, n] > 0 else 0 * one
        dx[n] = value
        sums[n] += value
        sums[C + n] += value * (raw[n] - table[2, n])
        n += 1


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


@kernel
def moments(x, found):
    """x (M, C); found (blocks, 2, C) float64: each block's mean, less x[0], and its sum of squared deviations."""
    M, C = x.shape
    base = x[0]  # if all numbers are large, their differences from this are small, and so are the rounding errors
    blocks = found.shape[0]
    work = np.empty((blocks, 2, C), x.dtype)
    for block in prange(blocks):
        mean, squares = found[block, 0], found[block, 1]
        here, spread = work[block, 0], work[block, 1]
        start = block * M // blocks
        for p in range(start, (block + 1) * M // blocks, CHUNK):
            end = min(p + CHUNK, (block + 1) * M // blocks)
            part = x.dtype.type(1) / x.dtype.type(end - p)
            here[:] = 0
            spread[:] = 0
            for q in range(p, end):
                for c in range(C):
                    here[c] += x[q, c] - base[c]
            for c in range(C):
                here[c] *= part
            for q in range(p, end):
                for c in range(C):
                    spread[c] += (x[q, c] - base[c] - here[c]) ** 2
            for c in range(C):
                step = here[c] - mean[c]
                done, new = p - start, end - p
                mean[c] += step * new / (done + new)
                squares[c] += spread[c] + step * step * done * new / (done + new)


@kernel
def norm_forward(x, mean, scale, beta, y):
    """y = (x - mean) * scale + beta for x, y (M, C)."""
    M, C = x.shape
    for p in prange(M):
        for c in range(C):
            y[p, c] = (x[p, c] - mean[c]) * scale[c] + beta[c]


@kernel
def norm_sums(x, dy, mean, sums):
    """x, dy (M, C); sums (blocks, 2, C) float64: each block's sums of dy and of dy * (x - mean)."""
    M, C = x.shape
    blocks = sums.shape[0]
    work = np.empty((blocks, 2, C), x.dtype)
    for block in prange(blocks):
        a, b = work[block, 0], work[block, 1]
        for p in range(block * M // blocks, (block + 1) * M // blocks, CHUNK):
            a[:] = 0
            b[:] = 0
            for q in range(p, min(p + CHUNK, (block + 1) * M // blocks)):
                for c in range(C):
                    a[c] += dy[q, c]
                    b[c] += dy[q, c] * (x[q, c] - mean[c])
            for c in range(C):
                sums[block, 0, c] += a[c]
                sums[block, 1, c] += b[c]


@kernel
def norm_back(x, dy, mean, scale, a, b, dx):
    """dx = (dy - a - (x - mean) * b) * scale for x, dy, dx (M, C)."""
    M, C = x.shape
    for p in prange(M):
        for c in range(C):
            dx[p, c] = (dy[p, c] - a[c] - (x[p, c] - mean[c]) * b[c]) * scale[c]


@kernel
def plain_sums(dy, sums):
    """dy (M, C); sums (blocks, C) float64: each block's sum of dy."""
    M, C = dy.shape
    blocks = sums.shape[0]
    work = np.empty((blocks, C), dy.dtype)
    for block in prange(blocks):
        a = work[block]
        for p in range(block * M // blocks, (block + 1) * M // blocks, CHUNK):
            a[:] = 0
            for q in range(p, min(p + CHUNK, (block + 1) * M // blocks)):
                for c in range(C):
                    a[c] += dy[q, c]
            for c in range(C):
                sums[block, c] += a[c]
