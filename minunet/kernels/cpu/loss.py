"""Cross-entropy and soft Dice on the CPU: one pass over the pixels, forwards and backwards.

    for each of BLOCKS blocks of pixels, in parallel:
        for each chunk of CHUNK pixels:              their logits stay in the L1 cache
            p = softmax(logits)
            add the pixels' terms to the block's sums, in float64
    add the blocks' sums in their order, and compute the loss from them

    backwards, for each block and pixel:   cross-entropy:  dz = dloss * share * (p - true)
                                           soft Dice:      dp = a * true + b,  dz = seen * p * (dp - sum of dp * p)

with numbers a and b for each class. The plain ops make about ten passes, each over an array as large as the logits.

Constants: those of activation.py, which has softmax; BLOCKS blocks for any number of threads, so that results do not depend on
that number.

Shapes: two channels or more, contiguous or not, float32 and float64; labels of any integer type. A difference from the
plain op: a logit of minus infinity is a probability of 0, not a NaN.

Measure: python bench/pointwise.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from ...array import Array
from ...ops.loss import check_labels, mean_dice
from .activation import BLOCKS, CHUNK, softmax_work
from .launch import kernel, ready
from .simd import offset, pointer
from .simd_softmax import softmax_vectors

# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Array, labels: Array, weight: Array | None = None, class_weight: Array | None = None, ignore: int = -1
) -> tuple[Any, tuple]:
    """The kernel of `ops.softmax_cross_entropy`."""
    K, dtype = logits.shape[-1], logits.dtype
    p, share, sums = np.empty(logits.shape, dtype), np.empty(labels.shape, dtype), np.zeros((BLOCKS, 3))
    factors = np.ones(K, dtype) if class_weight is None else ready(np.asarray(class_weight, dtype))
    cross_entropy(_pixels(logits), _classes(labels), _map(weight, dtype), factors, ignore,
                  p.reshape(-1, K), share.reshape(-1), sums, softmax_work(p, BLOCKS))  # fmt: skip
    loss, total, wrong = sums.sum(0)
    if wrong:
        check_labels(logits, labels, ignore)
    total = dtype.type(total) if total > 0 else dtype.type(1)
    share /= total
    return dtype.type(loss / total), (p, labels, share)


def softmax_cross_entropy_backward(dloss: float, cache: tuple) -> Array:
    """The kernel of `ops.softmax_cross_entropy_backward`."""
    p, labels, share = cache
    dz = np.empty(p.shape, p.dtype)
    cross_entropy_back(_pixels(p), _classes(labels), ready(share).reshape(-1), p.dtype.type(dloss), _pixels(dz))
    return dz


def soft_dice(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Array | None = None,
    ignore: int = -1,
    smooth: float = 1.0,
) -> tuple[Any, tuple]:
    """The kernel of `ops.soft_dice`."""
    K, dtype = logits.shape[-1], logits.dtype
    p, seen, sums = np.empty(logits.shape, dtype), np.empty(labels.shape, dtype), np.zeros((BLOCKS, 2 * K + 1))
    dice_sums(_pixels(logits), _classes(labels), _map(weight, dtype), ignore, p.reshape(-1, K), seen.reshape(-1), sums,
              softmax_work(p, BLOCKS))  # fmt: skip
    *counts, wrong = sums.sum(0)
    if wrong:
        check_labels(logits, labels, ignore)
    both, either = np.array(counts, dtype).reshape(2, K)
    loss, *kept = mean_dice(both, either, K, class_weight, smooth)
    return loss, (p, labels, seen, *kept, K)


def soft_dice_backward(dloss: float, cache: tuple) -> Array:
    """The kernel of `ops.soft_dice_backward`."""
    p, labels, seen, shares, dice, union, K = cache
    dz = np.empty(p.shape, p.dtype)
    slope = -p.dtype.type(dloss) * shares / union
    dice_back(_pixels(p), _classes(labels), ready(seen).reshape(-1), 2 * slope, -dice * slope, _pixels(dz))
    return dz if K > 1 else dz[..., 1:]


def _pixels(x: Array) -> Array:
    """(N, H, W, K) as (pixels, K)."""
    return ready(x).reshape(-1, x.shape[-1])


def _classes(labels: Array) -> Array:
    """Labels as the kernels are compiled for."""
    return ready(labels.astype(np.int64, copy=False)).reshape(-1)


def _map(weight: Array | None, dtype: np.dtype) -> Array:
    """The weights of the pixels, flat; an empty array for None, which means 1 everywhere."""
    return np.empty(0, dtype) if weight is None else ready(np.asarray(weight, dtype)).reshape(-1)


# ---- the compiled loops ----------------------------------------------------------------------------------------------


@kernel
def cross_entropy(z, labels, weight, class_weight, ignore, p, share, sums, work):
    """z, p (M, K); labels, share (M,); weight (M,) or empty; sums (blocks, 3) float64: loss, weights, wrong labels; work
    (blocks, K + 2, CHUNK)."""
    M, K = z.shape
    blocks = len(sums)
    for block in prange(blocks):
        here_work = offset(pointer(work), block * (K + 2) * CHUNK)
        top, log_total = offset(here_work, K * CHUNK), offset(here_work, (K + 1) * CHUNK)
        loss, total, wrong, stop = 0.0, 0.0, 0, (block + 1) * M // blocks
        for start in range(block * M // blocks, stop, CHUNK):
            end = min(start + CHUNK, stop)
            softmax_vectors(
                end - start, K, offset(pointer(z), start * K), offset(pointer(p), start * K), here_work, CHUNK
            )
            for n in range(start, end):
                counts = labels[n] != ignore
                is_class = 0 <= labels[n] < K
                t = labels[n] if is_class else 0
                here = class_weight[t] if counts else z.dtype.type(0)
                if len(weight):
                    here *= weight[n]
                share[n] = here
                loss += here * (log_total[n - start] - (z[n, t] - top[n - start]))
                total += here
                wrong += counts and not is_class
        sums[block, 0], sums[block, 1], sums[block, 2] = loss, total, wrong


@kernel
def cross_entropy_back(p, labels, share, dloss, dz):
    """p, dz (M, K); labels, share (M,)."""
    M, K = p.shape
    for n in prange(M):
        here = dloss * share[n]
        for k in range(K):
            dz[n, k] = here * (p[n, k] - (p.dtype.type(1) if k == labels[n] else p.dtype.type(0)))


@kernel
def dice_sums(z, labels, weight, ignore, p, seen, sums, work):
    """z, p (M, K); labels, seen (M,); weight (M,) or empty; sums (blocks, 2K + 1) float64: each class's sum of seen * p
    where it is true, its sum of seen * (p + true), and the number of wrong labels; work (blocks, K + 2, CHUNK)."""
    M, K = z.shape
    blocks = len(sums)
    for block in prange(blocks):
        here_work = offset(pointer(work), block * (K + 2) * CHUNK)
        found, stop = sums[block], (block + 1) * M // blocks
        for start in range(block * M // blocks, stop, CHUNK):
            end = min(start + CHUNK, stop)
            softmax_vectors(
                end - start, K, offset(pointer(z), start * K), offset(pointer(p), start * K), here_work, CHUNK
            )
            for n in range(start, end):
                t = labels[n]
                here = z.dtype.type(t != ignore)
                if len(weight):
                    here *= weight[n]
                seen[n] = here
                for k in range(K):
                    found[K + k] += here * p[n, k]
                if 0 <= t < K:
                    found[t] += here * p[n, t]
                    found[K + t] += here
                elif t != ignore:
                    found[2 * K] += 1


@kernel
def dice_back(p, labels, seen, a, b, dz):
    """p, dz (M, K); labels, seen (M,); a, b (K,)."""
    M, K = p.shape
    for n in prange(M):
        mean = p.dtype.type(0)
        for k in range(K):
            mean += p[n, k] * (a[k] + b[k] if k == labels[n] else b[k])
        for k in range(K):
            dz[n, k] = seen[n] * p[n, k] * ((a[k] + b[k] if k == labels[n] else b[k]) - mean)
