"""The weight gradient of direct convolution on the CPU, for any stride (with a dilation: direct_pieces.py).

dw[i] = sum over pixels of x^T dy, for each tap row i, is a matrix product that sums over pixels (`correlate`):

    for each item = (split of the pixels, group, some panels of dy, block of input channels):   in parallel
        for each tile of about TILE pixels:
            copy x's part of the tile (and what the taps see around it) in one piece
            for each panel:
                copy dy's part of the tile in one piece
                for each tap row i:  sums[panel, i] += x_tile^T @ dy_tile         (KW*C, pixels) @ (pixels, panel)
    add the splits, in their order

In NHWC the KW taps of a row read numbers that lie one after the other, as in direct.py. With one tap, the sums are the item's
part of dw itself. The order in which numbers are added depends on the shape alone. The weight gradient of a transposed
convolution is that of the strided convolution that takes dy to x, with the two channel axes swapped (`swap`).

Constants
    TILE      pixels of a tile: TILE x 256 bytes of dy stay in the L1 cache
    CHANNELS  most input channels of an item; with one tap four times as many, since dy's part of a tile is copied for each
              item, and with one tap little is computed with it
    SUMS      most bytes of an item's sums, KH*KW*CHANNELS x 256 for each panel, so that they stay in the L2 cache; with more
              panels in an item, a tile of x is used more often
    ITEMS     least number of items, if there are so many panels and blocks of channels: enough for so many threads
    SPLITS    least number of items for which pixels are split, if there are so many tiles; each split writes all of dw

Measure: python bench/layers.py
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ...array import Array
from ...ops.lazy import MaybeLazy
from .direct import ConvGeometry
from .direct_copies import fill, fill_from
from .epilogues import operand, operands
from .launch import alone, ceil_div, kernel, workers
from .memory import empty, scratch
from .simd import clear, copy, lanes, lanes_of, offset, pointer, transpose
from .simd_gemm import PANEL, multiply

TILE = 128
CHANNELS = 64
SUMS = 1 << 19
ITEMS = 16
SPLITS = 8


class DirectWeightsPlan(NamedTuple):
    """How the work of a weight gradient is divided into items."""

    rows: int  # of a tile of the output
    columns: int  # of a tile
    channels: int  # of x, in an item
    together: int  # panels of dy in an item
    swap: bool  # dw is stored with its channel axes swapped
    straight: bool  # the sums are made in dw itself


def weight_gradient(
    x: MaybeLazy, dy: MaybeLazy, s: ConvGeometry, swap: bool = False, out: Array | None = None
) -> Array:
    """The weight gradient (KH, KW, C/groups, K) from maps x and dy, without dilation; (KH, KW, K, C/groups) with swap.

    It is written to `out`, if given: a contiguous array.
    """
    dtype, C, K = x.dtype, s.C // s.groups, s.K // s.groups
    shape = (s.KH, s.KW, s.K, C) if swap else (s.KH, s.KW, C, s.K)
    dw = empty(shape, dtype) if out is None else out
    if dy.size == 0 or x.size == 0:
        dw[...] = 0
        return dw
    (first, second), gradient = operands(x), operand(dy)
    one, columns = s.KH * s.KW == 1, min(s.OW, TILE)
    rows = min(s.OH, max(1, TILE // columns))
    tiles = s.N * ceil_div(s.OH, rows) * ceil_div(s.OW, columns)
    channels = ceil_div(C, ceil_div(C, 4 * CHANNELS if one else CHANNELS))
    width = min(PANEL, ceil_div(K, lanes(dtype))) * lanes(dtype)
    size, panels, parts = s.KH * s.KW * channels * width, ceil_div(K, PANEL * lanes(dtype)), ceil_div(C, channels)
    fit, wanted = SUMS // (size * dtype.itemsize), s.groups * panels * parts // ITEMS
    together = max(1, min(panels, fit, wanted))  # panels of an item
    tasks = s.groups * ceil_div(panels, together) * parts
    splits = min(tiles, ceil_div(SPLITS, tasks))
    seen_rows = (rows - 1) * s.stride + s.KH
    seen_columns = (columns - 1) * s.stride + s.KW
    plan = DirectWeightsPlan(rows, columns, channels, together, swap, one and not swap)
    with alone():
        split = dw[None] if splits == 1 else scratch("weight gradients", (splits, *shape), dtype)
        tiles_x = scratch("inputs", (workers(), seen_rows * seen_columns * channels), dtype)
        tiles_dy = scratch("outputs", (workers(), rows * columns * width), dtype)
        sums = scratch("filters", (workers(), 16 if plan.straight else together * size), dtype)
        correlate(first, second, gradient, split, s, plan, tiles_x, tiles_dy, sums, np.zeros(width, dtype))
        if splits > 1:
            split.sum(0, out=dw)
    return dw


@kernel
def correlate(a, b, dy, dw, s, plan, tiles_x, tiles_dy, all_sums, zeros):
    """The weight gradient's loop of this file's head.

    Operands a, b (N, H, W, ...) and dy (N, OH, OW, K); dw (splits, KH, KW, C/groups, K), or with swap
    (splits, KH, KW, K, C); s: ConvGeometry; plan: DirectWeightsPlan; tiles_x, tiles_dy, all_sums (threads, ...) to work in;
    zeros (a panel's width,).
    """
    rows, columns, channels, together, swap, straight = plan
    C, K = s.C // s.groups, s.K // s.groups
    width = lanes_of(zeros)
    vectors_all = (K + width - 1) // width
    panels, parts = (vectors_all + PANEL - 1) // PANEL, (C + channels - 1) // channels
    shares, taps = (panels + together - 1) // together, s.KH * s.KW
    down, across = (s.OH + rows - 1) // rows, (s.OW + columns - 1) // columns
    tiles, splits = s.N * down * across, dw.shape[0]
    for worker in prange(tiles_x.shape[0]):
        tile_x, tile_dy = (
            offset(pointer(tiles_x), worker * tiles_x.shape[1]),
            offset(pointer(tiles_dy), worker * tiles_dy.shape[1]),
        )
        for item in range(worker, splits * s.groups * shares * parts, tiles_x.shape[0]):
            split, g = item // (s.groups * shares * parts), item // (shares * parts) % s.groups
            share, c0 = item // parts % shares, item % parts * channels
            p0, p_end = share * panels // shares, (share + 1) * panels // shares
            part = min(channels, C - c0)
            first = split * tiles // splits
            for tile in range(first, (split + 1) * tiles // splits):
                n, row0, column0 = tile // (down * across), tile // across % down * rows, tile % across * columns
                height, length = min(rows, s.OH - row0), min(columns, s.OW - column0)
                seen = (height - 1) * s.stride + s.KH
                seen_columns = (length - 1) * s.stride + s.KW
                fill(tile_x, a, b, n, g * C + c0, part, row0 * s.stride - s.top, seen, column0 * s.stride - s.left,
                     seen_columns)  # fmt: skip
                for p in range(p0, p_end):
                    k0, vectors = p * PANEL * width, min(PANEL, vectors_all - p * PANEL)
                    panel = vectors * width
                    real = min(panel, K - k0)
                    if real < panel:
                        clear(tile_dy, height * length * panel)  # the last vector's unused lanes
                    fill_from(tile_dy, panel, dy, n, g * K + k0, real, row0, height, column0, length)
                    sums = offset(
                        pointer(all_sums), worker * all_sums.shape[1] + (p - p0) * taps * part * PANEL * width
                    )
                    c_row, last = panel, width
                    if straight:
                        sums = offset(pointer(dw), (split * C + c0) * s.K + g * K + k0)
                        c_row, last = s.K, real - panel + width
                    for i in range(s.KH):
                        c = offset(sums, i * s.KW * part * panel)
                        init, init_row = (pointer(zeros), 0) if tile == first else (c, c_row)
                        multiply(vectors, s.KW * part, last, offset(tile_x, i * seen_columns * part), 1, s.stride * part,
                                 s.stride * seen_columns * part, height, length, tile_dy, c, c_row, init, init_row)  # fmt: skip
            for p in range(p0, p0 if straight else p_end):
                k0, panel = p * PANEL * width, min(PANEL, vectors_all - p * PANEL) * width
                real = min(panel, K - k0)
                sums = offset(pointer(all_sums), worker * all_sums.shape[1] + (p - p0) * taps * part * PANEL * width)
                for tap in range(taps):
                    here = offset(sums, tap * part * panel)
                    if swap:
                        to = offset(pointer(dw), ((split * taps + tap) * K + k0) * C + c0)
                        turn(to, C, here, panel, part, real)
                        continue
                    to = offset(pointer(dw), ((split * taps + tap) * C + c0) * s.K + g * K + k0)
                    for c in range(part):
                        copy(offset(to, c * s.K), offset(here, c * panel), real)


@njit
def turn(to, to_row, source, source_row, rows, columns):
    """to[column, row] = source[row, column]: squares in registers, the rest number by number."""
    width = lanes_of(to)
    for r in range(0, rows, width):
        for q in range(0, columns, width):
            if r + width <= rows and q + width <= columns:
                transpose(offset(to, q * to_row + r), to_row, offset(source, r * source_row + q), source_row)
                continue
            for i in range(r, min(rows, r + width)):
                for j in range(q, min(columns, q + width)):
                    to[j * to_row + i] = source[i * source_row + j]
