"""Starting the kernels of the conv*.cu: convolutions, their gradients, and which kernel and tile for which.

As in launch.py, there is one function for CuPy arrays (the GPU) and NumPy arrays (the emulator).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...array import Array, get_array_module
from .start import (
    Moments,
    address,
    device_of,
    has_wgmma,
    in_pieces,
    multiprocessors,
    run,
    step_of,
    storage,
    two_blocks_fit,
)

BM, BN, WIDE = 128, 64, 128
"""A tile of conv.cu has BM pixels and BN output channels, a wide tile WIDE output channels."""

DOWN = {False: 8, True: 16}
ACROSS = 16
"""A tile of conv_patch.cu has DOWN x ACROSS pixels, by whether wgmma multiplies it."""

ROWS, STRIP = 3, 32
"""A step of conv_patch_weights.cu takes ROWS rows of a strip that is as many pixels wide as STRIP bytes have numbers."""


def _results(rows: int, columns: int, threads: int) -> int:
    """Bytes of a tile of results in shared memory, and of sums for its moments."""
    return (rows * (columns + 4) + threads) * 4


def _patch_shared(columns: int, warpgroups: bool) -> int:
    """Two patches, each from a multiple of 1024 bytes on, and two steps' weights, in rows of 64 bytes; or the results."""
    rows = -(-(DOWN[warpgroups] + 2) * (ACROSS + 2) // 16) * 16
    results = _results(DOWN[warpgroups] * ACROSS, columns, 2 * columns if warpgroups else 128)
    return max(2 * (rows + 3 * columns) * 64, results)


CONV_SHARED = {(columns, stages): stages * (BM + columns) * 128 for columns in (BN, WIDE) for stages in (2, 3)}
FINISH_SHARED = _results(BM, BN, 128)
WEIGHTS_SHARED = 3 * 2 * 32
PATCH_SHARED = {(columns, by): _patch_shared(columns, by) for columns in (BN, WIDE) for by in DOWN}
PATCH_WEIGHTS_SHARED = {
    (size, by): 4 * ROWS * (2 * STRIP // size + 2) * BN * size + 2 * BN * 128 * by for size in (4, 2) for by in DOWN
}
"""Bytes of shared memory of a block: of conv, by the channels of its tile and its stages; of conv_finish; of conv_weights, for
each byte of a row; of conv_patch, by the channels of its tile and whether wgmma multiplies; and of conv_patch_weights, by the
bytes of a number and whether wgmma multiplies: of four steps rows of dy, and of x, which has two pixels more; and for wgmma
eight rows of dy, turned."""

MOST_SPLITS, SPLIT_STEPS, SPLIT_CHUNKS, SPLIT_ROWS, PARTIAL = 64, 10, 2, 16, 4 << 20
"""At most MOST_SPLITS blocks share a sum. Writing its part to memory, for another kernel to add up, costs a block as much as
SPLIT_STEPS steps, or in conv_patch.cu SPLIT_CHUNKS chunks, or in conv_patch_weights.cu SPLIT_ROWS steps. For weight gradients
more blocks may share a sum, as long as all parts take at most PARTIAL bytes: the weight gradient of a first layer is a single
tile. That of 64 channels is one, too, in conv_patch_weights.cu: see `splits_of_rows`."""


def conv(
    sources: Sequence[Array], w: Array, outputs: Sequence[Array], *, side: int, stride: int = 1, pad: int = 0, up: int = 1,
    flip: bool = False, gradient: bool = False, scale: Array | None = None, bias: Array | None = None, relu: bool = False,
    accumulate: bool = False, moments: bool = False, splits: int | None = None, columns: int | None = None,
    warpgroups: bool | None = None, patch: bool = True,
) -> Moments | None:  # fmt: skip
    """conv.cu, and conv_patch.cu: from one or two maps, over their concatenated channels, to one or two maps.

    Parameters
    ----------
    sources : one or two maps (N, H, W, C1) and (N, H, W, C2)
    w : (up*up or side*side, C1 + C2, K1 + K2) contiguous; with `gradient` (side*side, K1 + K2, C1 + C2)
    outputs : one or two maps to write (N, OH*up, OW*up, K1) and so on
    scale, bias : (K1 + K2,) float32
        y = sum * scale + bias.
    moments : bool
        Return those of the result's tiles, for `merge_moments`; not with `up` or `scale`.
    splits : int, optional
        Blocks that share the sum of a tile; chosen by how many tiles there are if not given.
    columns : int, optional
        Channels out of a tile, BN or WIDE; chosen by how many there are if not given.
    warpgroups : bool, optional
        Multiply by wgmma, which only compute capability 9.0 has; not if the maps cannot be read in pieces of 16 bytes.
    patch : bool
        Take conv_patch.cu where it can: for 3 x 3 taps without stride, of maps that can be read in pieces of 16 bytes.
    """
    xp, dtype = get_array_module(w), w.dtype
    (x1, x2), (y1, y2) = one_or_two(sources), one_or_two(outputs)
    N, H, W, C1 = x1.shape
    (_, OH, OW, K1), C2, K2 = y1.shape, 0 if x2 is None else x2.shape[3], 0 if y2 is None else y2.shape[3]
    OH, OW, C, K = OH // up, OW // up, C1 + C2, K1 + K2
    per_chunk = 16 // w.itemsize
    chunks = in_pieces(per_chunk, *sources) and address(w) % 16 == 0 and w.shape[-1] % per_chunk == 0
    chunks = chunks and side <= 16 and w.size < 1 << 31
    patch = patch and chunks and side == 3 and stride == up == 1
    if columns is None or not chunks:
        columns = WIDE if chunks and fill_wide(K) and roomy(xp) else BN
    if warpgroups is None:
        warpgroups = chunks and wgmma_agrees(xp, device_of(xp), dtype, columns, gradient, patch)
    warpgroups = warpgroups and chunks
    tall, P, wide = DOWN[warpgroups], N * OH * OW, in_pieces(4, *outputs)
    tiles = (N * -(-OH // tall) * -(-OW // ACROSS) if patch else -(-P // BM), -(-K // columns))
    row = 64 // w.itemsize if patch else 128 // w.itemsize
    steps = -(-C1 // row) + -(-C2 // row) if chunks else -(-(side * side * C) // row)
    if chunks and not patch:
        steps *= side * side
    if splits is None:
        cost = SPLIT_CHUNKS if patch else SPLIT_STEPS
        splits = choose_splits(tiles[0] * tiles[1] * up * up, steps, multiprocessors(xp), cost=cost)
    flat = splits > 1 or not patch  # conv_finish's tiles are conv.cu's
    found = xp.empty((-(-P // BM) if flat else tiles[0], 2, K), np.float32) if moments else None
    partial = xp.empty((up * up * splits, P, K), np.float32) if splits > 1 else None
    lds = [0 if m is None else step_of(m) for m in (x1, x2, y1, y2)]
    small = ["TWO_STAGES"] * (not roomy(xp))
    defines = [*storage(dtype), *["GRADIENT"] * gradient, *["WIDE"] * (columns == WIDE), *["WARPGROUPS"] * warpgroups]
    arrays = (x1, x2, w, scale, bias, y1, y2, found, partial)
    sizes = (N, OH, OW, H, W, C1, C2, *lds[:2], K1, K2, *lds[2:])
    block = (2 * columns if warpgroups else 128,)
    if patch:
        run("conv_patch.cu", "conv_patch", (*tiles, splits), block,
            (*arrays, *sizes, pad, flip, splits, relu, accumulate, wide), PATCH_SHARED[columns, warpgroups],
            defines)  # fmt: skip
    else:
        run("conv.cu", "conv", (*tiles, up * up * splits), block,
            (*arrays, *sizes, side, stride, pad, flip, up, splits, relu, accumulate, wide),
            CONV_SHARED[columns, 2 if small else 3], [*defines, *["FLAT"] * (not chunks), *small])  # fmt: skip
    if splits > 1:
        run("conv.cu", "conv_finish", (-(-P // BM), -(-K // BN), up * up), (128,),
            (partial, scale, bias, y1, y2, found, N, OH, OW, K1, K2, *lds[2:], up, splits, relu, accumulate, wide),
            FINISH_SHARED, [*storage(dtype), *small])  # fmt: skip
    if found is None:
        return None
    return Moments(found, 1, P, 1, BM) if flat else Moments(found, OH, OW, tall, ACROSS)


def roomy(xp: Any) -> bool:
    """Whether two blocks with a wide tile fit a multiprocessor; with 100 KB only two narrow ones do, with two stages."""
    return two_blocks_fit(xp, PATCH_SHARED[WIDE, False])


def one_or_two(maps: Sequence[Array]) -> tuple[Array, Array | None]:
    """The first map, and the second or None."""
    return maps[0], maps[1] if len(maps) > 1 else None


@functools.cache
def wgmma_agrees(xp: Any, device: int, dtype: Any, columns: int, gradient: bool, patch: bool) -> bool:
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
        conv([x], w, [y], side=3, pad=1, gradient=gradient, columns=columns, warpgroups=warpgroups, patch=patch)
    return _agree(ys, f"{'conv_patch' if patch else 'conv'}, of {np.dtype(dtype)}, tiles of {columns} channels")


@functools.cache
def weights_agree(xp: Any, device: int, dtype: Any) -> bool:
    """`wgmma_agrees` for the gradient of weights, of a tile and more steps than are under way at once."""
    if not has_wgmma(xp):
        return False
    rng = np.random.default_rng(0)
    x, dy = (xp.asarray(rng.standard_normal((1, 9, 29, BN), np.float32)).astype(dtype) for _ in range(2))
    dws = [xp.empty((9, BN, BN), np.float32) for _ in range(2)]
    for dw, warpgroups in zip(dws, (False, True)):
        conv_weights([x], dy, dw, side=3, pad=1, splits=1, warpgroups=warpgroups)
    return _agree(dws, f"conv_patch_weights, of {np.dtype(dtype)}")


def _agree(found: Sequence[Array], what: str) -> bool:
    """Whether the two results, by mma.sync and by wgmma, are the same but for rounding; a warning says so if not."""
    a, b = (y.astype(np.float32) for y in found)
    agree = bool(abs(a - b).max() < 0.02 * abs(a).max())
    if not agree:
        warnings.warn(
            f"wgmma and mma.sync differ on this GPU ({what}): it goes on with mma.sync; please report it", stacklevel=3
        )
    return agree


def fill_wide(*channels: int) -> bool:
    """Whether wide tiles have no more empty columns than narrow ones; else these would cost more than wide tiles gain."""
    return all(-(-n // BN) % 2 == 0 for n in channels)


@functools.cache
def choose_splits(
    tiles: int, steps: int, processors: int, most: int = MOST_SPLITS, cost: int = SPLIT_STEPS, alone: bool = False
) -> int:
    """How many blocks share the sum of a tile, which takes `steps` steps: the number that a simple model finds fastest.

    In the model, a multiprocessor takes the time of its blocks plus that of half a block, since nothing hides its first and
    last waits. So 144 tiles on 132 multiprocessors take as long as 264 would, since 12 of them get two; with four blocks for
    each tile all multiprocessors have work. Not so if each block is `alone` on its multiprocessor, where nothing ever hides
    its waits: then more blocks are no gain.
    """

    def time(splits: int) -> float:
        blocks = -(-tiles * splits // processors)
        return (blocks + (0 if alone else 0.5)) * (-(-steps // splits) + cost * (splits > 1))

    return min(range(1, max(1, min(most, steps)) + 1), key=time)


def conv_weights(
    sources: Sequence[Array], dy: Array, dw: Array, *, side: int, stride: int = 1, pad: int = 0, transposed: bool = False,
    accumulate: bool = False, splits: int | None = None, columns: int | None = None,
    warpgroups: bool | None = None, patch: bool = True,
) -> None:  # fmt: skip
    """conv_weights.cu, and conv_patch_weights.cu: dw (side*side, C1 + C2, K) float32 from x and dy.

    x is one or two maps, dy is (N, OH, OW, K). With `transposed` dw is (side*side, K, C1 + C2). `splits`, `patch`, of
    conv_weights.cu `columns` (here rows of a tile, too), and of conv_patch_weights.cu `warpgroups` as in `conv`.
    """
    xp = get_array_module(dy)
    x1, x2 = one_or_two(sources)
    (N, H, W, C1), (_, OH, OW, K), C2 = x1.shape, dy.shape, 0 if x2 is None else x2.shape[3]
    C, taps = C1 + C2, side * side
    chunks = in_pieces(16 // dy.itemsize, *sources, dy)
    patch = patch and chunks and side == 3 and stride == 1 and pad <= 2
    if patch or not chunks:
        columns = BN
    elif columns is None:
        fits = two_blocks_fit(xp, WEIGHTS_SHARED * WIDE * dy.itemsize)
        columns = WIDE if fits and fill_wide(C1, K) and (C2 == 0 or fill_wide(C2)) else BN
    rows = -(-C1 // columns) + -(-C2 // columns) if chunks else -(-(taps * C) // columns)
    tiles = (rows * (taps if chunks and not patch else 1), -(-K // columns))
    if splits is None and patch:
        steps = row_steps(N, H + pad, OW, dy.itemsize)
        splits = splits_of_rows(tiles[0] * tiles[1], steps, multiprocessors(xp), dw.nbytes, dy.nbytes)
    elif splits is None:
        most = max(MOST_SPLITS, min(PARTIAL // dw.nbytes, 512))
        splits = choose_splits(tiles[0] * tiles[1], -(-(N * OH * OW) // 32), multiprocessors(xp), most)
    alone = splits == 1 and not transposed and not accumulate
    partial = dw if alone else xp.empty((splits, taps, C, K), np.float32)
    lds = [0 if m is None else step_of(m) for m in (x1, x2)]
    arguments = (x1, x2, dy, partial, N, OH, OW, H, W, C1, C2, *lds, K, step_of(dy))
    if patch:
        if warpgroups is None:
            warpgroups = weights_agree(xp, device_of(xp), dy.dtype)
        run("conv_patch_weights.cu", "conv_patch_weights", (*tiles, splits), (384 if warpgroups else 256,),
            (*arguments, pad, splits), PATCH_WEIGHTS_SHARED[dy.itemsize, warpgroups],
            [*storage(dy.dtype), *["WARPGROUPS"] * warpgroups])  # fmt: skip
    else:
        run("conv_weights.cu", "conv_weights", (*tiles, splits), (columns,), (*arguments, side, stride, pad, splits),
            WEIGHTS_SHARED * columns * dy.itemsize,
            [*storage(dy.dtype), *["WIDE"] * (columns == WIDE), *["FLAT"] * (not chunks)])  # fmt: skip
    if not alone:
        run("conv_weights.cu", "conv_weights_sum", (-(-dw.size // 256),), (256,),
            (partial, dw, taps, C, K, splits, transposed, accumulate), defines=storage(dy.dtype))  # fmt: skip


def row_steps(N: int, rows: int, OW: int, itemsize: int) -> int:
    """Steps of conv_patch_weights.cu: all strips of N images have `rows` rows, zeros between them included."""
    return -(-(N * -(-OW * itemsize // STRIP) * rows) // ROWS)


def splits_of_rows(tiles: int, steps: int, processors: int, dw_bytes: int, dy_bytes: int) -> int:
    """`choose_splits` for conv_patch_weights.cu, whose tiles are few, large, and alone on a multiprocessor.

    More than `MOST_SPLITS` blocks, up to one for each multiprocessor, may share a sum as long as all parts take less memory
    than dy, by an eighth: a step of training takes most at its last layers, which have the largest maps.
    """
    most = max(MOST_SPLITS, min(PARTIAL // dw_bytes, 512), min(processors, dy_bytes * 7 // 8 // dw_bytes))
    return choose_splits(tiles, steps, processors, most, SPLIT_ROWS, alone=True)
