"""Starting the CUDA kernels: one function for each, the same for CuPy arrays (the GPU) and NumPy arrays (the emulator).

The head of a .cu file says what its kernels compute, and for which shapes; start.py says what a map is. Statistics, gradients
of weights and losses are float32.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...array import Array, get_array_module
from .start import (
    address,
    device_of,
    elementwise,
    has_wgmma,
    in_pieces,
    multiprocessors,
    pixels,
    run,
    step_of,
    storage,
)

BM, BN, WIDE = 128, 64, 128
"""A tile of conv.cu has BM pixels and BN output channels, a wide tile WIDE output channels."""

CONV_SHARED = {columns: 3 * (BM + columns) * 128 for columns in (BN, WIDE)}
FINISH_SHARED = BM * (BN + 4) * 4 + 128 * 4
"""Bytes of shared memory of a block: of conv, by the channels of its tile, and of conv_finish."""

MOST_SPLITS, SPLIT_STEPS, PARTIAL = 64, 10, 4 << 20
"""At most MOST_SPLITS blocks share a sum. Writing its part to memory, for another kernel to add up, costs a block as much as
SPLIT_STEPS steps. For weight gradients more blocks may share a sum, as long as all parts take at most PARTIAL bytes: the weight
gradient of a first layer is a single tile."""

CLASSES = 8
"""The most channels that the head's kernel gives, and the most classes of soft Dice's."""

HEAD_TILE = 256
"""Pixels of a tile of head.cu."""

# ---- convolutions ----------------------------------------------------------------------------------------------------


def conv(
    sources: Sequence[Array], w: Array, outputs: Sequence[Array], *, side: int, stride: int = 1, pad: int = 0, up: int = 1,
    flip: bool = False, gradient: bool = False, scale: Array | None = None, bias: Array | None = None, relu: bool = False,
    accumulate: bool = False, moments: bool = False, splits: int | None = None, columns: int | None = None,
    warpgroups: bool | None = None,
) -> Array | None:  # fmt: skip
    """conv.cu: from one or two maps, over their concatenated channels, to one or two maps.

    Parameters
    ----------
    sources : one or two maps (N, H, W, C1) and (N, H, W, C2)
    w : (up*up or side*side, C1 + C2, K1 + K2) contiguous; with `gradient` (side*side, K1 + K2, C1 + C2)
    outputs : one or two maps to write (N, OH*up, OW*up, K1) and so on
    scale, bias : (K1 + K2,) float32
        y = sum * scale + bias.
    moments : bool
        Return the moments of tiles of BM pixels, (tiles, 2, K1 + K2) float32, for `merge_moments`; not with `up` or `scale`.
    splits : int, optional
        Blocks that share the sum of a tile; chosen by how many tiles there are if not given.
    columns : int, optional
        Channels out of a tile, BN or WIDE; chosen by how many there are if not given.
    warpgroups : bool, optional
        Multiply by wgmma, which only compute capability 9.0 has; not if the maps cannot be read in pieces of 16 bytes.
    """
    xp, dtype = get_array_module(w), w.dtype
    (x1, x2), (y1, y2) = one_or_two(sources), one_or_two(outputs)
    N, H, W, C1 = x1.shape
    (_, OH, OW, K1), C2, K2 = y1.shape, 0 if x2 is None else x2.shape[3], 0 if y2 is None else y2.shape[3]
    OH, OW, C, K = OH // up, OW // up, C1 + C2, K1 + K2
    per_chunk = 16 // w.itemsize
    chunks = in_pieces(per_chunk, *sources) and address(w) % 16 == 0 and w.shape[-1] % per_chunk == 0
    chunks = chunks and side <= 16 and w.size < 1 << 31
    wide = in_pieces(4, *outputs)
    if columns is None or not chunks:
        columns = WIDE if chunks and fill_wide(K) else BN
    if warpgroups is None:
        warpgroups = chunks and wgmma_agrees(xp, device_of(xp), dtype, columns, gradient)
    warpgroups = warpgroups and chunks
    kinds = [*storage(dtype), *["GRADIENT"] * gradient]
    defines = [*kinds, *["WIDE"] * (columns == WIDE), *["FLAT"] * (not chunks), *["WARPGROUPS"] * warpgroups]
    row = 128 // w.itemsize
    steps = -(-(side * side * C) // row) if not chunks else side * side * (-(-C1 // row) + -(-C2 // row))
    P, tiles = N * OH * OW, (-(-N * OH * OW // BM), -(-K // columns))
    if splits is None:
        splits = choose_splits(tiles[0] * tiles[1] * up * up, steps, multiprocessors(xp))
    found = xp.empty((tiles[0], 2, K), np.float32) if moments else None
    partial = xp.empty((up * up * splits, P, K), np.float32) if splits > 1 else None
    lds = [0 if m is None else step_of(m) for m in (x1, x2, y1, y2)]
    run("conv.cu", "conv", (*tiles, up * up * splits), (2 * columns if warpgroups else 128,),
        (x1, x2, w, scale, bias, y1, y2, found, partial, N, OH, OW, H, W, C1, C2, *lds[:2], K1, K2, *lds[2:], side, stride, pad,
         flip, up, splits, relu, accumulate, wide), CONV_SHARED[columns], defines)  # fmt: skip
    if splits > 1:
        run("conv.cu", "conv_finish", (tiles[0], -(-K // BN), up * up), (128,),
            (partial, scale, bias, y1, y2, found, N, OH, OW, K1, K2, *lds[2:], up, splits, relu, accumulate, wide),
            FINISH_SHARED, [*kinds, *["FLAT"] * (not chunks)])  # fmt: skip
    return found


def one_or_two(maps: Sequence[Array]) -> tuple[Array, Array | None]:
    """The first map, and the second or None."""
    return maps[0], maps[1] if len(maps) > 1 else None


@functools.cache
def wgmma_agrees(xp: Any, device: int, dtype: Any, columns: int, gradient: bool) -> bool:
    """Whether to multiply by wgmma: the GPU has it, and the kernel's result agrees with that of the kernel with mma.sync.

    Every process checks this once for each kind of kernel, because the emulator may be wrong about how wgmma finds a tile's
    rows. There are as many channels as a tile has, so that every warpgroup's results count, and more pixels than a tile has.
    """
    if not has_wgmma(xp):
        return False
    rng, filters = np.random.default_rng(0), (9, columns, BN) if gradient else (9, BN, columns)
    x, w = (xp.asarray(rng.standard_normal(s, np.float32)).astype(dtype) for s in ((1, 5, 29, BN), filters))
    ys = [xp.empty((1, 5, 29, columns), w.dtype) for _ in range(2)]
    for y, warpgroups in zip(ys, (False, True)):
        conv([x], w, [y], side=3, pad=1, gradient=gradient, columns=columns, warpgroups=warpgroups)
    a, b = (y.astype(np.float32) for y in ys)
    agree = bool(abs(a - b).max() < 0.02 * abs(a).max())
    if not agree:
        what = f"of {np.dtype(dtype)}, tiles of {columns} channels"
        warnings.warn(
            f"wgmma and mma.sync differ on this GPU ({what}): it goes on with mma.sync; please report it", stacklevel=2
        )
    return agree


def fill_wide(*channels: int) -> bool:
    """Whether wide tiles have no more empty columns than narrow ones; else these would cost more than wide tiles gain."""
    return all(-(-n // BN) % 2 == 0 for n in channels)


@functools.cache
def choose_splits(tiles: int, steps: int, processors: int, most: int = MOST_SPLITS) -> int:
    """How many blocks share the sum of a tile, which takes `steps` steps: the number that a simple model finds fastest.

    In the model, a multiprocessor takes the time of its blocks plus that of half a block, since nothing hides its first and
    last waits. So 144 tiles on 132 multiprocessors take as long as 264 would, since 12 of them get two; with four blocks for
    each tile all multiprocessors have work.
    """

    def time(splits: int) -> float:
        blocks = -(-tiles * splits // processors)
        return (blocks + 0.5) * (-(-steps // splits) + SPLIT_STEPS * (splits > 1))

    return min(range(1, max(1, min(most, steps)) + 1), key=time)


def conv_weights(
    sources: Sequence[Array], dy: Array, dw: Array, *, side: int, stride: int = 1, pad: int = 0, transposed: bool = False,
    accumulate: bool = False, splits: int | None = None, columns: int | None = None,
) -> None:  # fmt: skip
    """conv_weights.cu: dw (side*side, C1 + C2, K) float32 from x, one or two maps, and dy (N, OH, OW, K).

    With `transposed` dw is (side*side, K, C1 + C2). `splits` and `columns` (here rows of a tile, too) as in `conv`.
    """
    xp = get_array_module(dy)
    x1, x2 = one_or_two(sources)
    (N, H, W, C1), (_, OH, OW, K), C2 = x1.shape, dy.shape, 0 if x2 is None else x2.shape[3]
    C, taps = C1 + C2, side * side
    chunks = in_pieces(16 // dy.itemsize, *sources, dy)
    if columns is None or not chunks:
        columns = WIDE if chunks and fill_wide(C1, K) and (C2 == 0 or fill_wide(C2)) else BN
    rows = taps * (-(-C1 // columns) + -(-C2 // columns)) if chunks else -(-(taps * C) // columns)
    tiles = (rows, -(-K // columns))
    if splits is None:
        most = max(MOST_SPLITS, min(PARTIAL // dw.nbytes, 512))
        splits = choose_splits(tiles[0] * tiles[1], -(-(N * OH * OW) // 32), multiprocessors(xp), most)
    alone = splits == 1 and not transposed and not accumulate
    partial = dw if alone else xp.empty((splits, taps, C, K), np.float32)
    run("conv_weights.cu", "conv_weights", (*tiles, splits), (columns,),
        (x1, x2, dy, partial, N, OH, OW, H, W, C1, C2, step_of(x1), 0 if x2 is None else step_of(x2), K, step_of(dy), side,
         stride, pad, splits), 3 * 2 * 32 * columns * dy.itemsize,
        [*storage(dy.dtype), *["WIDE"] * (columns == WIDE), *["FLAT"] * (not chunks)])  # fmt: skip
    if not alone:
        run("conv_weights.cu", "conv_weights_sum", (-(-dw.size // 256),), (256,),
            (partial, dw, taps, C, K, splits, transposed, accumulate), defines=storage(dy.dtype))  # fmt: skip


def head(x: Array, w: Array, bias: Array | None, y: Array) -> None:
    """head.cu: y (N, H, W, K) float32 from a map x, w (C, K) and bias (K,) float32."""
    P, (C, K) = pixels(x), w.shape
    run("head.cu", "head", (-(-P // 32),), (256,), (x, w, bias, y, P, C, K, step_of(x), in_pieces(4, x)),
        defines=storage(x.dtype))  # fmt: skip


def head_back(x: Array, dy: Array, w: Array, dx: Array) -> tuple[Array, Array]:
    """head.cu: the map dx (N, H, W, C), and dw (C, K) and db (K,), from a map x, dy (N, H, W, K) and w (C, K), float32."""
    P, (C, K) = pixels(x), w.shape
    partial = get_array_module(x).empty((-(-P // HEAD_TILE), (C + 1) * K), np.float32)
    run("head.cu", "head_back", (len(partial), -(-C // 32)), (32, 8),
        (x, dy, w, dx, partial, P, C, K, step_of(x), step_of(dx)), 256 * 4, storage(dx.dtype))  # fmt: skip
    sums = merged_sums(partial)
    return sums[: C * K].reshape(C, K), sums[C * K :]


def merged_sums(partial: Array, rstd: Array | None = None, dgamma: Array | None = None) -> Array:
    """norm.cu: the sum of (tiles, C) over the tiles; with rstd (C / 2,) the second half times rstd to dgamma."""
    tiles, C = partial.shape
    sums = get_array_module(partial).empty(C, np.float32)
    run("norm.cu", "merge_sums", (-(-C // 32),), (32, 32), (partial, sums, rstd, dgamma, tiles, C), 1024 * 8)
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
