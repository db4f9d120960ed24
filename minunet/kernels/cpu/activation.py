"""Leaky ReLU, ReLU6, sigmoid and softmax on the CPU (ReLU stands in pointwise.py).

    leaky ReLU:   for each value, in parallel:   y = x if x > 0 else slope * x
    ReLU6:        for each row of pixels, in parallel:   read x as it is (a norm may still be to apply), clip it
    sigmoid:      for each value, in parallel:   e = exp(-|x|), y = (1 if x >= 0 else e) / (1 + e)
    softmax:      for each of BLOCKS blocks of pixels, in parallel:
                      for each chunk of CHUNK pixels, which stay in the L1 cache:   in vectors of pixels (simd_softmax.py)

Constants: BLOCKS blocks for any number of threads; CHUNK pixels, a multiple of every vector's length.

Shapes: any, contiguous or not, float32 and float64.

Measure: python bench/pointwise.py
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from ...array import Array
from ...ops.lazy import MaybeLazy, materialize
from .epilogues import operand, read
from .launch import kernel, ready
from .memory import empty
from .pointwise import relu_back
from .simd import offset, pointer
from .simd_softmax import softmax_vectors

BLOCKS = 64
CHUNK = 64

# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def leaky_relu(x: Array, slope: float = 0.01) -> tuple[Array, tuple]:
    """The kernel of `ops.leaky_relu`."""
    y, mask = np.empty(x.shape, x.dtype), np.empty(x.shape, bool)
    leaky_forward(ready(x).reshape(-1), x.dtype.type(slope), y.reshape(-1), mask.reshape(-1))
    return y, (mask, slope)


def leaky_relu_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.leaky_relu_backward`."""
    mask, slope = cache
    dx = np.empty(dy.shape, dy.dtype)
    leaky_back(ready(dy).reshape(-1), dy.dtype.type(slope), ready(mask).reshape(-1), dx.reshape(-1))
    return dx


def relu6(x: MaybeLazy) -> tuple[Array, tuple]:
    """The kernel of `ops.relu6`."""
    maps = operand(x if x.ndim == 4 else materialize(x).reshape(1, 1, -1, x.shape[-1] if x.ndim else 1))
    y, mask = empty(maps.x.shape, x.dtype), empty(maps.x.shape, bool)
    relu6_forward(maps, y, mask)
    return y.reshape(x.shape), (mask.reshape(x.shape),)


def relu6_backward(dy: MaybeLazy, cache: tuple) -> Array:
    """The kernel of `ops.relu6_backward`."""
    (mask,) = cache
    dx = empty(dy.shape, dy.dtype)
    relu_back(ready(materialize(dy)).reshape(-1), ready(mask).reshape(-1), dx.reshape(-1))
    return dx


def sigmoid(x: Array) -> tuple[Array, tuple]:
    """The kernel of `ops.sigmoid`."""
    y = empty(x.shape, x.dtype)
    sigmoid_forward(ready(x).reshape(-1), y.reshape(-1))
    return y, (y,)


def sigmoid_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.sigmoid_backward`."""
    (y,) = cache
    dx = empty(dy.shape, dy.dtype)
    sigmoid_back(ready(dy).reshape(-1), ready(y).reshape(-1), dx.reshape(-1))
    return dx


def softmax(x: Array) -> tuple[Array, tuple]:
    """The kernel of `ops.softmax`."""
    K, y = x.shape[-1], np.empty(x.shape, x.dtype)
    blocks = max(1, min(BLOCKS, y.size // K // CHUNK))
    softmax_forward(ready(x).reshape(-1, K), y.reshape(-1, K), softmax_work(y, blocks))
    return y, (y,)


def softmax_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.softmax_backward`."""
    (y,) = cache
    K, dx = y.shape[-1], np.empty(y.shape, y.dtype)
    softmax_back(ready(dy).reshape(-1, K), ready(y).reshape(-1, K), dx.reshape(-1, K))
    return dx


def softmax_work(y: Array, blocks: int) -> Array:
    """Memory to work in for the softmax of y (..., K): (blocks, K + 2, CHUNK)."""
    return np.empty((blocks, y.shape[-1] + 2, CHUNK), y.dtype)


# ---- the compiled loops ----------------------------------------------------------------------------------------------


@kernel
def leaky_forward(x, slope, y, mask):
    """Flat arrays."""
    for n in prange(x.size):
        mask[n] = x[n] > 0
        y[n] = x[n] if mask[n] else slope * x[n]


@kernel
def leaky_back(dy, slope, mask, dx):
    """Flat arrays."""
    for n in prange(dy.size):
        dx[n] = dy[n] if mask[n] else slope * dy[n]


@kernel
def relu6_forward(x, y, mask):
    """The Operand x to y and mask (N, H, W, C); a NaN stays one."""
    N, H, W, C = y.shape
    zero, six = y.dtype.type(0), y.dtype.type(6)
    for item in prange(N * H):
        n, row = item // H, item % H
        for column in range(W):
            to, passes = y[n, row, column], mask[n, row, column]
            read(pointer(to), C, x, item * W + column, 1, 0, C)
            for c in range(C):
                value = to[c]
                passes[c] = value > zero and value < six
                to[c] = zero if value <= zero else six if value >= six else value


@kernel
def sigmoid_forward(x, y):
    """Flat arrays."""
    one = x.dtype.type(1)
    for n in prange(x.size):
        e = math.exp(-abs(x[n]))
        y[n] = (one if x[n] >= 0 else e) / (one + e)


@kernel
def sigmoid_back(dy, y, dx):
    """Flat arrays."""
    one = y.dtype.type(1)
    for n in prange(y.size):
        dx[n] = dy[n] * y[n] * (one - y[n])


@kernel
def softmax_forward(x, y, work):
    """x to y, both (M, K); work (blocks, K + 2, CHUNK)."""
    M, K = x.shape
    blocks = len(work)
    for block in prange(blocks):
        stop = (block + 1) * M // blocks
        for n in range(block * M // blocks, stop, CHUNK):
            softmax_vectors(min(CHUNK, stop - n), K, offset(pointer(x), n * K), offset(pointer(y), n * K),
                            offset(pointer(work), block * (K + 2) * CHUNK), CHUNK)  # fmt: skip


@kernel
def softmax_back(dy, y, dx):
    """All (M, K)."""
    M, K = y.shape
    for n in prange(M):
        mean = y.dtype.type(0)
        for k in range(K):
            mean += dy[n, k] * y[n, k]
        for k in range(K):
            dx[n, k] = y[n, k] * (dy[n, k] - mean)
