"""Batch norm and group norm on the CPU: the map is read once for the statistics and once more for the values.

    moments:    for each image, for each of its blocks of pixels, in parallel:
                    for each chunk of CHUNK pixels:     it stays in the L1 or L2 cache, so that two passes cost one
                        pass 1: each channel's mean (less that of pixel 0);   pass 2: its sum of (x - this mean)^2
                        merge into the block's mean and sum of squares
                merge the blocks, in their order
    norm:       y = (x - mean) * scale + beta, with scale = gamma * rstd
    gradients:  sums of dy and of dy * (x - mean) by block and channel; dx = dy * scale - a - (x - mean) * b, with a and b
                from the sums

A batch norm treats all pixels of a batch as one image. A group norm merges the channels of each image by groups.

Merging two sets with counts n, m, means a, b and sums of squares p, q (Chan, Golub and LeVeque 1979):

    mean = a + (b - a) * m / (n + m),    squares = p + q + (b - a)^2 * n * m / (n + m)

Nothing cancels here, unlike in E[x^2] - mean^2. Within a chunk numbers are added in their own dtype, chunks in float64.

Constants: CHUNK pixels in a chunk; at most BLOCKS blocks in an image, for any number of threads, so that results do not depend
on that number.

Shapes: any, contiguous or not, float32 and float64.

Measure: python bench/layers.py, python bench/pointwise.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import prange

from ...array import Array
from ...ops.lazy import MaybeLazy, fusing, materialize
from .launch import kernel, ready
from .lazy_maps import Gradient, LazyAffine, NormGradient
from .memory import empty

CHUNK = 64
BLOCKS = 64


# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def batch_norm(
    x: MaybeLazy, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> tuple[MaybeLazy, tuple, tuple[Array, Array]]:
    """The kernel of `ops.batch_norm`."""
    known = x.moments if isinstance(x, LazyAffine) else None
    x = materialize(x)
    from_batch = mean is None
    if mean is None or var is None:
        mean, var = known or _moments(_one_image(x), x.shape[-1])
        mean, var = mean.astype(x.dtype).reshape(-1), var.astype(x.dtype).reshape(-1)
    rstd = (1 / (var + eps) ** 0.5).astype(x.dtype)
    cache, scale = (x, gamma, mean, rstd, from_batch), gamma * rstd
    if fusing():
        table = np.empty((3, len(scale)), x.dtype)
        table[0], table[1], table[2] = scale, beta - mean.astype(np.float64) * scale, mean
        return LazyAffine(x, table), cache, (mean, var)
    y = empty(x.shape, x.dtype)
    norm_forward(_one_image(x), ready(mean)[None], scale[None], ready(beta), _one_image(y))
    return y, cache, (mean, var)


def batch_norm_backward(dy: MaybeLazy, cache: tuple) -> tuple[MaybeLazy, Array, Array]:
    """The kernel of `ops.batch_norm_backward`."""
    return _norm_backward(dy, cache, lambda *sums: sums, cache[4])


def shared_batch_norm_backward(
    dy: MaybeLazy, cache: tuple, total: Callable[..., Sequence[Array]]
) -> tuple[MaybeLazy, Array, Array]:
    """The kernel of `ops.shared_batch_norm_backward`."""
    return _norm_backward(dy, cache, total, True)


def _norm_backward(
    dy: MaybeLazy, cache: tuple, total: Callable[..., Sequence[Any]], from_batch: bool
) -> tuple[MaybeLazy, Array, Array]:
    """Gradients of a batch norm; `total` of the sums of dy * xhat and dy, and of the pixels, are those of the whole batch."""
    x, gamma, mean, rstd, _ = cache
    if isinstance(dy, Gradient) and dy.has_sums_for(x):
        dbeta, dgamma = dy.sums
    else:
        pixels = _one_image(x)
        sums = np.zeros((1, _blocks(pixels), 2, x.shape[-1]))
        norm_sums(pixels, _one_image(materialize(dy)), ready(mean)[None], sums)
        dbeta, dgamma = sums.sum((0, 1))
    dgamma = dgamma * rstd
    scale, lazy, dy = gamma * rstd, dy, materialize(dy)
    if isinstance(lazy, Gradient):
        lazy.release()
    g, b, M = total(dgamma, dbeta, x.size // x.shape[-1])
    share = scale * (from_batch / max(1, M))
    a, b = b * share, g * rstd * share  # dx = dy * scale - a - (x - mean) * b
    dgamma, dbeta = dgamma.astype(x.dtype), dbeta.astype(x.dtype)
    if fusing():
        table = np.empty((3, len(scale)), x.dtype)
        table[0], table[1], table[2] = scale, -b, mean * b - a
        return NormGradient(dy, x, table), dgamma, dbeta
    dx = empty(x.shape, x.dtype)
    a, b = a.astype(x.dtype), b.astype(x.dtype)
    norm_back(_one_image(x), _one_image(dy), ready(mean)[None], scale[None], a[None], b[None], _one_image(dx))
    return dx, dgamma, dbeta


def group_norm(x: Array, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> tuple[Array, tuple]:
    """The kernel of `ops.group_norm`."""
    N, C = len(x), x.shape[3]
    pixels = _pixels(x)
    mean, var = _moments(pixels, groups)
    rstd = (1 / (var + eps) ** 0.5).astype(x.dtype)
    y = np.empty(x.shape, x.dtype)
    scale = _by_channel(rstd, C) * gamma
    norm_forward(pixels, _by_channel(mean, C), scale, ready(beta), y.reshape(pixels.shape))
    return y, (x, gamma, mean.reshape(N, 1, groups, 1), rstd.reshape(N, 1, groups, 1))


def group_norm_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """The kernel of `ops.group_norm_backward`."""
    x, gamma, mean, rstd = cache
    (N, _, _, C), groups = x.shape, mean.shape[2]
    pixels, dpixels, dx = _pixels(x), _pixels(dy), np.empty(x.shape, x.dtype)
    mean, rstd = _by_channel(mean, C), _by_channel(rstd, C)
    sums = np.zeros((N, _blocks(pixels), 2, C))
    norm_sums(pixels, dpixels, mean, sums)
    dbeta, dgamma = sums[:, :, 0].sum(1), sums[:, :, 1].sum(1) * rstd  # (N, C): each image's share
    size = pixels.shape[1] * (C // groups)
    a, b = ((gamma * s).reshape(N, groups, -1).sum(2) / size for s in (dbeta, dgamma))  # mean(g), mean(g * xhat)
    a, b = _by_channel(a, C) * rstd, _by_channel(b, C) * rstd**2
    norm_back(pixels, dpixels, mean, rstd * gamma, a.astype(x.dtype), b.astype(x.dtype), dx.reshape(pixels.shape))
    return dx, dgamma.sum(0).astype(x.dtype), dbeta.sum(0).astype(x.dtype)


def channel_sums(dy: Array) -> Array:
    """Sum of dy (N, H, W, C) over all pixels, (C,): the gradient of a bias."""
    pixels = _one_image(dy)
    sums = np.zeros((_blocks(pixels), dy.shape[-1]))
    plain_sums(pixels[0], sums)
    return sums.sum(0).astype(dy.dtype)


def _one_image(x: Array) -> Array:
    """All pixels of (..., C) as those of one image: (1, pixels, C)."""
    return ready(x).reshape(1, -1, x.shape[-1])


def _pixels(x: Array) -> Array:
    """(N, H, W, C) as (N, pixels, C)."""
    return ready(x).reshape(len(x), -1, x.shape[3])


def _blocks(pixels: Array) -> int:
    return max(1, min(BLOCKS, pixels.shape[1] // CHUNK))


def _by_channel(of_group: Array, C: int) -> Array:
    """Repeat the number of each group for each of its channels: N * groups numbers to (N, C)."""
    of_group = of_group.reshape(-1, of_group.size // len(of_group))
    return np.repeat(of_group, C // of_group.shape[1], axis=1)


def _moments(pixels: Array, groups: int) -> tuple[Array, Array]:
    """Mean and biased variance of every group of pixels (N, M, C): (N, groups)."""
    N, M, C = pixels.shape
    found = np.zeros((N, _blocks(pixels), 2, C))
    mean, squares = np.zeros((N, C)), np.zeros((N, C))
    moments(pixels, found, mean, squares)
    means = (mean + pixels[:, 0]).reshape(N, groups, -1)
    whole = means.mean(2)
    var = (squares.reshape(means.shape) / M + (means - whole[:, :, None]) ** 2).mean(2)
    return whole.astype(pixels.dtype), var.astype(pixels.dtype)


# ---- the compiled loops: arrays (N, M, C), statistics (N, C) ---------------------------------------------------------


@kernel
def moments(x, found, whole_mean, whole_squares):
    """found (N, blocks, 2, C) float64: each block's mean, less x[n, 0], and its sum of squared deviations; whole_mean and
    whole_squares (N, C): the same of all blocks, zeros at first."""
    N, M, C = x.shape
    blocks = found.shape[1]
    work = np.empty((N * blocks, 2, C), x.dtype)
    for item in prange(N * blocks):
        n, block = item // blocks, item % blocks
        mean, squares, base = found[n, block, 0], found[n, block, 1], x[n, 0]
        here, spread = work[item, 0], work[item, 1]
        start, stop = block * M // blocks, (block + 1) * M // blocks
        for p in range(start, stop, CHUNK):
            end = min(p + CHUNK, stop)
            part = x.dtype.type(1) / x.dtype.type(end - p)
            here[:] = 0
            spread[:] = 0
            for q in range(p, end):
                for c in range(C):
                    here[c] += x[n, q, c] - base[c]
            for c in range(C):
                here[c] *= part
            for q in range(p, end):
                for c in range(C):
                    spread[c] += (x[n, q, c] - base[c] - here[c]) ** 2
            for c in range(C):
                step = here[c] - mean[c]
                done, new = p - start, end - p
                mean[c] += step * new / (done + new)
                squares[c] += spread[c] + step * step * done * new / (done + new)
    for n in range(N):
        count = 0
        for block in range(blocks):
            more = (block + 1) * M // blocks - block * M // blocks
            for c in range(C):
                step = found[n, block, 0, c] - whole_mean[n, c]
                whole_mean[n, c] += step * (more / (count + more))
                whole_squares[n, c] += found[n, block, 1, c] + step * step * (count * more / (count + more))
            count += more


@kernel
def norm_forward(x, mean, scale, beta, y):
    """y = (x - mean) * scale + beta; beta (C,)."""
    N, M, C = x.shape
    for item in prange(N * M):
        n, p = item // M, item % M
        for c in range(C):
            y[n, p, c] = (x[n, p, c] - mean[n, c]) * scale[n, c] + beta[c]


@kernel
def norm_sums(x, dy, mean, sums):
    """sums (N, blocks, 2, C) float64: each block's sums of dy and of dy * (x - mean)."""
    N, M, C = x.shape
    blocks = sums.shape[1]
    work = np.empty((N * blocks, 2, C), x.dtype)
    for item in prange(N * blocks):
        n, block = item // blocks, item % blocks
        a, b = work[item, 0], work[item, 1]
        stop = (block + 1) * M // blocks
        for p in range(block * M // blocks, stop, CHUNK):
            a[:] = 0
            b[:] = 0
            for q in range(p, min(p + CHUNK, stop)):
                for c in range(C):
                    a[c] += dy[n, q, c]
                    b[c] += dy[n, q, c] * (x[n, q, c] - mean[n, c])
            for c in range(C):
                sums[n, block, 0, c] += a[c]
                sums[n, block, 1, c] += b[c]


@kernel
def norm_back(x, dy, mean, scale, a, b, dx):
    """dx = dy * scale - a - (x - mean) * b."""
    N, M, C = x.shape
    for item in prange(N * M):
        n, p = item // M, item % M
        for c in range(C):
            dx[n, p, c] = dy[n, p, c] * scale[n, c] - a[n, c] - (x[n, p, c] - mean[n, c]) * b[n, c]


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
