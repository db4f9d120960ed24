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

import numpy as np
from numba import prange

from ..array import Array
from ..ops.conv import output_size
from .launch import kernel, ready

CHUNK = 64
BLOCKS = 64


# ---- twins of the ops ------------------------------------------------------------------------------------------------


def relu(x: Array) -> tuple[Array, tuple]:
    """Twin of `ops.relu`."""
    y, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, bool)
    relu_forward(ready(x).reshape(-1), y.reshape(-1), mask.reshape(-1))
    return y, (mask,)


def relu_backward(dy: Array, cache: tuple) -> Array:
    """Twin of `ops.relu_backward`."""
    (mask,) = cache
    dx = np.empty(dy.shape, dy.dtype)
    relu_back(ready(dy).reshape(-1), ready(mask).reshape(-1), dx.reshape(-1))
    return dx


def max_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """Twin of `ops.max_pool2d`."""
    stride = stride or size
    N, _, _, C = x.shape
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    y, winner = np.empty((N, OH, OW, C), x.dtype), np.empty((N, OH, OW, C), np.uint8)
    pool_forward(ready(x), y, winner, size, stride)
    return y, (winner, x.shape, size, stride)


def max_pool2d_backward(dy: Array, cache: tuple) -> Array:
    """Twin of `ops.max_pool2d_backward`."""
    winner, x_shape, size, stride = cache
    dx = np.empty(x_shape, dy.dtype)
    pool_back(ready(dy), ready(winner), dx, size, stride)
    return dx


def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> tuple[Array, tuple, tuple[Array, Array]]:
    """Twin of `ops.batch_norm`."""
    C, from_batch = x.shape[-1], mean is None
    pixels = ready(x).reshape(-1, C)
    if mean is None or var is None:
        mean, var = _moments(pixels)
    rstd = (1 / (var + eps) ** 0.5).astype(x.dtype)
    y = np.empty(x.shape, x.dtype)
    norm_forward(pixels, ready(mean), gamma * rstd, ready(beta), y.reshape(-1, C))
    return y, (x, gamma, mean, rstd, from_batch), (mean, var)


def batch_norm_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Twin of `ops.batch_norm_backward`."""
    x, gamma, mean, rstd, from_batch = cache
    C = x.shape[-1]
    pixels, dpixels = ready(x).reshape(-1, C), ready(dy).reshape(-1, C)
    mean = ready(mean)
    sums = np.zeros((_blocks(pixels), 2, C))
    norm_sums(pixels, dpixels, mean, sums)
    dbeta, dgamma = sums.sum(0)
    dgamma = dgamma * rstd
    dx = np.empty(x.shape, x.dtype)
    share = from_batch / max(1, len(pixels))
    a, b = (dbeta * share).astype(x.dtype), (dgamma * rstd * share).astype(x.dtype)
    norm_back(pixels, dpixels, mean, gamma * rstd, a, b, dx.reshape(-1, C))
    return dx, dgamma.astype(x.dtype), dbeta.astype(x.dtype)


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
def pool_forward(x, y, winner, size, stride):
    """x (N, H, W, C) to y and winner (N, OH, OW, C)."""
    N, OH, OW, C = y.shape
    for item in prange(N * OH):
        n, row = item // OH, item % OH
        for column in range(OW):
            best, number = y[n, row, column], winner[n, row, column]
            seen = x[n, row * stride, column * stride]
            for c in range(C):
                best[c] = seen[c]
                number[c] = 0
            for tap in range(1, size * size):
                seen = x[n, row * stride + tap // size, column * stride + tap % size]
                for c in range(C):
                    larger = seen[c] > best[c]
                    best[c] = seen[c] if larger else best[c]
                    number[c] = tap if larger else number[c]


@kernel
def pool_back(dy, winner, dx, size, stride):
    """dy and winner (N, OH, OW, C) to dx (N, H, W, C): every pixel gathers from the windows that it lies in."""
    N, H, W, C = dx.shape
    _, OH, OW, _ = dy.shape
    zero = dy.dtype.type(0)
    for item in prange(N * H):
        n, row = item // H, item % H
        for column in range(W):
            to = dx[n, row, column]
            for c in range(C):
                to[c] = zero
            for window_row in range(max(0, (row - size) // stride + 1), min(OH, row // stride + 1)):
                for window_column in range(max(0, (column - size) // stride + 1), min(OW, column // stride + 1)):
                    tap = (row - window_row * stride) * size + column - window_column * stride
                    number, source = winner[n, window_row, window_column], dy[n, window_row, window_column]
                    for c in range(C):
                        to[c] += source[c] if number[c] == tap else zero


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
