"""Starting the CUDA kernels: one function for each, the same for CuPy arrays (the GPU) and NumPy arrays (the emulator).

The head of a .cu file says what its kernels compute, and for which shapes; start.py says what a map is. Statistics, gradients
of weights and losses are float32.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ...array import Array, get_array_module
from .start import (
    device_of,
    elementwise,
    in_pieces,
    pixels,
    run,
    step_of,
    storage,
)

CLASSES = 8
"""The most channels that the head's kernel gives, and the most classes of soft Dice's."""

HEAD_TILE = 256
"""Pixels of a tile of head.cu."""

LOSS_BLOCKS = 1024
"""The most blocks that compute losses; of small maps each takes 64 pixels."""

# ---- the head --------------------------------------------------------------------------------------------------------


def head(x: Array, w: Array, bias: Array | None, y: Array) -> None:
    """head.cu: y (N, H, W, K) float32 from a map x, w (C, K) as x is, and bias (K,) float32."""
    P, (C, K) = pixels(x), w.shape
    run("head.cu", "head", (-(-P // 32),), (256,), (x, w, bias, y, P, C, K, step_of(x), in_pieces(4, x)),
        defines=storage(x.dtype))  # fmt: skip


def head_back(x: Array, dy: Array, w: Array, dx: Array) -> tuple[Array, Array]:
    """head.cu: the map dx (N, H, W, C) and, float32, dw (C, K) and db (K,), from x, dy (N, H, W, K) float32, and w (C, K)."""
    return _back("head_back", x, w, dx, (x, dy))


class Truth(NamedTuple):
    """What logits are compared with: labels (N, H, W), int32 or int64, and weights of pixels and classes, float32 or None."""

    labels: Array
    weight: Array | None
    class_weight: Array | None
    ignore: int

    def wide(self) -> bool:
        return self.labels.dtype.itemsize == 8


def head_loss(x: Array, w: Array, bias: Array | None, y: Array, truth: Truth, smooth: float) -> tuple[Array, Array]:
    """head.cu: y as `head`; and (cross-entropy, total weight, wrong labels, soft Dice, ...) and each class's share, Dice and
    union, (3, K), all float32. Losses are NaN if there are wrong labels."""
    xp, P, (C, K) = get_array_module(x), pixels(x), w.shape
    sums, blocks = 3 + 2 * K, min(-(-P // 64), LOSS_BLOCKS)
    partial, result = xp.empty((blocks, sums), np.float64), xp.empty(4 + 3 * K, np.float32)
    labels, weight, class_weight, ignore = truth
    run("head.cu", "head_loss", (blocks,), (256,),
        (x, w, bias, labels, weight, class_weight, y, partial, _finished(xp), result, P, C, K, step_of(x), in_pieces(4, x),
         truth.wide(), ignore, smooth), 8 * sums * 8, storage(x.dtype))  # fmt: skip
    return result, result[4:].reshape(3, K)


def head_loss_back(
    x: Array, z: Array, truth: Truth, result: Array, of_class: Sequence[Array], now: Array | None,
    factors: tuple[float, float], w: Array, dx: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """head.cu: as `head_back`, for the gradient of the losses that `head_loss` returned with the logits z.

    `factors` are those of cross-entropy and of soft Dice in what is differentiated, and `now` is one more, in memory;
    `of_class` is each class's share, Dice and union, (K,).
    """
    labels, weight, class_weight, ignore = truth
    given = (x, z, labels, weight, class_weight, result, *of_class, now, *factors)
    return _back("head_loss_back", x, w, dx, given, (truth.wide(), ignore))


def _back(name: str, x: Array, w: Array, dx: Array, given: tuple, more: tuple = ()) -> tuple[Array, Array]:
    P, (C, K) = pixels(x), w.shape
    partial = get_array_module(x).empty((-(-P // HEAD_TILE), (C + 1) * K), np.float32)
    arguments = (*given, w, dx, partial, P, C, K, step_of(x), step_of(dx), *more)
    grid, shared = (len(partial), -(-C // 32)), (1 + K) * HEAD_TILE * 4
    run("head.cu", name, grid, (32, 8), arguments, shared, storage(dx.dtype))
    sums = merged_sums(partial)
    return sums[: C * K].reshape(C, K), sums[C * K :]


def _finished(xp: Any) -> Array:
    """The counter by which the blocks of a start find out which is the last: of this thread's current stream, on which starts
    never overlap."""
    return _counter(xp, device_of(xp), 0 if xp is np else xp.cuda.get_current_stream().ptr, threading.get_ident())


@functools.cache
def _counter(xp: Any, device: int, stream: int, thread: int) -> Array:
    return xp.zeros(1, np.uint32)  # the stream that each thread has by default has one number for all threads


def merged_sums(partial: Array, rstd: Array | None = None, dgamma: Array | None = None) -> Array:
    """norm_merge.cu: the sum of (tiles, C) over the tiles; with rstd (C / 2,) the second half times rstd to dgamma."""
    tiles, C = partial.shape
    if tiles == 1 and rstd is None:
        return partial[0]
    sums = get_array_module(partial).empty(C, np.float32)
    run("norm_merge.cu", "merge_sums", (-(-C // 32),), (32, 32), (partial, sums, rstd, dgamma, tiles, C), 1024 * 8)
    return sums


# ---- pool and resampling ---------------------------------------------------------------------------------------------


def max_pool(x: Array, y: Array, winner: Array, size: int, stride: int) -> None:
    """pool.cu: the map y and winner (N, OH, OW, C) uint8 from the map x."""
    wide = in_pieces(4, x, y)
    grid, block = elementwise(pixels(y), x.shape[3], wide)
    run("pool.cu", "max_pool", grid, block,
        (x, y, winner, *x.shape, *y.shape[1:3], step_of(x), step_of(y), size, stride, wide),
        defines=storage(x.dtype))  # fmt: skip


def max_pool_back(dy: Array, winner: Array, dx: Array, size: int, stride: int, plus: Array | None = None) -> None:
    """pool.cu: the map dx from the map dy, plus another map, which may be dx itself."""
    wide = in_pieces(4, dy, dx) and (plus is None or in_pieces(4, plus))
    grid, block = elementwise(pixels(dx), dx.shape[3], wide)
    run("pool.cu", "max_pool_back", grid, block,
        (dy, winner, plus, dx, *dx.shape, *dy.shape[1:3], step_of(dy), 0 if plus is None else step_of(plus), step_of(dx),
         size, stride, wide), defines=storage(dy.dtype))  # fmt: skip


def bilinear(x: Array, y: Array, scale: int, corners: bool) -> None:
    """resample.cu: the map y (N, scale*H, scale*W, C) from the map x."""
    wide = in_pieces(4, x, y)
    grid, block = elementwise(pixels(y), x.shape[3], wide)
    run("resample.cu", "bilinear", grid, block, (x, y, *x.shape, scale, corners, step_of(x), step_of(y), wide),
        defines=storage(x.dtype))  # fmt: skip


def bilinear_back(dy: Array, dx: Array, scale: int, corners: bool) -> None:
    """resample.cu: the map dx (N, H, W, C) from the map dy (N, scale*H, scale*W, C)."""
    wide = in_pieces(4, dy, dx)
    grid, block = elementwise(pixels(dx), dx.shape[3], wide)
    run("resample.cu", "bilinear_back", grid, block, (dy, dx, *dx.shape, scale, corners, step_of(dy), step_of(dx), wide),
        defines=storage(dy.dtype))  # fmt: skip


# ---- loss: contiguous float32 ----------------------------------------------------------------------------------------


def cross_entropy(
    z: Array, labels: Array, weight: Array | None, class_weight: Array | None, ignore: int
) -> tuple[Array, Array, Array]:
    """loss.cu: p (like z), share (like labels) and (loss, total weight, wrong labels), all float32; labels int32.

    The loss is NaN if there are wrong labels.
    """
    xp, K, P = get_array_module(z), z.shape[-1], labels.size
    p, share, result = xp.empty(z.shape, np.float32), xp.empty(labels.shape, np.float32), xp.empty(3, np.float32)
    partial = xp.empty((-(-P // 256), 3), np.float64)
    run("loss.cu", "cross_entropy", (len(partial),), (256,),
        (z, labels, weight, class_weight, p, share, partial, P, K, ignore), 256 * 8)  # fmt: skip
    run("loss.cu", "cross_entropy_sum", (1,), (256,), (partial, result, len(partial)), 256 * 8)
    return p, share, result


def cross_entropy_back(
    p: Array, labels: Array, share: Array, result: Array | None, dloss: float | Array, dz: Array
) -> None:
    """loss.cu: dz from what `cross_entropy` returned; without `result` from shares that were divided by the total weight."""
    run("loss.cu", "cross_entropy_back", (-(-labels.size // 256),), (256,),
        (p, labels, share, result, *in_memory(dloss, p), dz, labels.size, p.shape[-1]))  # fmt: skip


def in_memory(number: float | Array, like: Array) -> tuple[Array | None, float]:
    """A number as a pair of arguments for a kernel: an array that holds it, or None and its value."""
    return (number.astype(np.float32, copy=False), 0.0) if isinstance(number, type(like)) else (None, float(number))


def soft_dice(
    z: Array, labels: Array, weight: Array | None, class_weight: Array | None, ignore: int, smooth: float
) -> tuple[Array, Array, Array, Array]:
    """loss.cu: p (like z), seen (like labels), (loss, wrong labels), and each class's share, Dice and union, (3, K)."""
    xp, K, P = get_array_module(z), z.shape[-1], labels.size
    p, seen = xp.empty(z.shape, np.float32), xp.empty(labels.shape, np.float32)
    result, per_class = xp.empty(2, np.float32), xp.empty((3, K), np.float32)
    partial = xp.empty((min(-(-P // 256), 1024), 2 * K + 1), np.float64)
    run("loss.cu", "soft_dice", (len(partial),), (256,), (z, labels, weight, p, seen, partial, P, K, ignore), 256 * 8)
    run("loss.cu", "soft_dice_sum", (1,), (256,),
        (partial, class_weight, result, per_class, len(partial), K, smooth), 256 * 8)  # fmt: skip
    return p, seen, result, per_class


def soft_dice_back(
    p: Array, labels: Array, seen: Array, per_class: Sequence[Array], dloss: float | Array, dz: Array
) -> None:
    """loss.cu: dz from what `soft_dice` returned; of each class its share, Dice and union, (K,)."""
    run("loss.cu", "soft_dice_back", (-(-labels.size // 256),), (256,),
        (p, labels, seen, *per_class, *in_memory(dloss, p), dz, labels.size, p.shape[-1]))  # fmt: skip
