"""Winograd's convolution for 3x3 filters on the CPU: a quarter of the multiplications.

A tile of 4x4 outputs reads 6x6 inputs; with Y = A^T [ (B^T X B) * (G g G^T) ] A it takes 36 multiplications in place of 144.
winograd_transforms.py derives the matrices. The sum over input channels comes before the outer transform, so each of the 36
points is a matrix product over channels, for many tiles at once. Most of the time is spent in these products.

Forward (`convolve`): V = B^T X B of every tile and channel, U = G g G^T of every filter, M = V @ U at every point.

    for each item = (block of tiles, some panels of output channels):   in parallel
        V[36, tiles, C] = B^T X B, with norm and ReLU on the way
        for each panel, for each slice of input channels:
            U[36, slice, panel] = G w G^T, unless it was computed ahead for all items
            for each of the 36 points:   M[point] += V[point, :, slice] @ U[point]          multiply
        y = A^T M A, with its sums for the next norm

Adding a bias means adding a map that is b everywhere. Among the 36 points, such a map appears only at point (1, 1), so M starts
from b there. The input may be two maps (a concatenation), and so may the output; a slice or a panel always belongs to one of
them.

Data gradient: the same with the filters turned by 180 degrees and their channel axes swapped, inside their transform.

Weight gradient (`correlate`): y is linear in g, so dg = G^T [ sum over tiles of (B^T X B) * (A dY A^T) ] G.

    for each item = (split of the tiles, block of input channels, some panels of output channels):   in parallel
        for each block of tiles:
            V[36, tiles, channels] = B^T X B
            for each panel:
                D[36, tiles, panel] = A dY A^T
                for each of the 36 points:   S[panel, point] += V[point]^T @ D[point]       multiply
        dw = G^T S G
    add the splits, in their order

Each item computes all that it needs by itself and keeps it in its core's L2 cache. So some tiles are transformed more than
once, which costs less than reading them from memory. The order in which numbers are added depends on the shape alone.

Constants
    TILES     most tiles of a block, and GRADIENT_TILES for the weight gradient: V of a slice, U and M take 36*64*256 bytes
              each, which together stay in a 2 MB L2 cache
    SLICE     input channels of a slice, after which M is written: SLICE x 256 bytes of U stay in the L1 cache
    CHANNELS  input channels of an item of the weight gradient
    TOGETHER  most panels of an item of the weight gradient (half of it if there would be too few items). V is computed once
              for all of them; that gains more than is lost because their S, 36*64*256 bytes each, do not fit into the L2 cache
    ITEMS     least number of items of a weight gradient, if there are so many blocks: enough for so many threads
    AHEAD     most bytes of a U that is computed ahead; it must stay in a part of a 32 MB L3 cache. U is four times as large as
              the filters, and reading it from memory would take longer than computing it again

Shapes: any images, paddings and channels, float32 and float64; 3x3, stride 1, no dilation, one group. conv.py chooses.

Measure: python bench/layers.py
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ...array import Array
from ...ops.lazy import MaybeLazy
from .epilogues import Output, no_epilogue, operand, operands, shape_of
from .launch import alone, ceil_div, kernel, ready, round_up, workers
from .memory import empty, scratch
from .simd import copy, lanes, lanes_of, offset, pointer
from .simd_gemm import PANEL, multiply
from .winograd_transforms import filter_gradient, make_filters, read_gradient_tiles, read_tiles, write_tiles

TILES = 64
GRADIENT_TILES = 32
SLICE = 64
CHANNELS = 64
ITEMS = 16
TOGETHER = 8
AHEAD = 10 << 20


class WinogradPlan(NamedTuple):
    """How the work of Winograd's convolution is divided into items."""

    top: int  # zeros above x
    left: int  # zeros to the left of x
    tiles: int  # in a block
    shares: int  # into so many parts the panels of output channels are divided, each an item
    panel: int  # output channels of a panel
    ahead: bool  # the filters are transformed before, for all items
    turned: bool  # the filters are turned by 180 degrees, their channel axes swapped


class WinogradRoom(NamedTuple):
    """What a plan of Winograd's convolution takes: how many blocks, panels and slices there are, and numbers to work in."""

    blocks: int  # of tiles
    panels: int  # of output channels
    slices: int  # of input channels
    filters: int  # numbers of U, for a slice of a panel
    inputs: int  # of V, for a thread
    outputs: int  # of M, for a thread
    square: int


class WinogradWeightsPlan(NamedTuple):
    """How the work of a weight gradient is divided into items."""

    top: int  # zeros above x
    left: int  # zeros to the left of x
    tiles: int  # in a block
    channels: int  # of x, in an item
    panel: int  # output channels of a panel
    together: int  # panels in an item


# ---- planning: how much work an item is ------------------------------------------------------------------------------


def convolution(
    x: MaybeLazy, w: Array, b: Array | None, to: list[Output], top: int, left: int, turned: bool = False
) -> None:
    """y = b + x * w, with so many zeros above and to the left of x, and as many below and to the right as y needs.

    Parameters
    ----------
    x : (N, H, W, C) array or lazy map
    w : (3, 3, C, K) array; (3, 3, K, C) if turned
    b : (K,) array or None
    to : one or two Outputs with K channels together
        Written to, and their sums filled in.
    top, left : int
    turned : bool
        Turn the filters by 180 degrees and swap their channel axes: the data gradient.
    """
    first, second = operands(x)
    (N, OH, OW, _), dtype, count = to[0].y.shape, first.x.dtype, workers()
    if to[0].y.size == 0:
        return
    inputs = first.x.shape[3], second.x.shape[3]
    outputs = to[0].y.shape[3], to[1].y.shape[3] if len(to) > 1 else 0
    plan, room = _divide((N, OH, OW), inputs, outputs, lanes(dtype), dtype.itemsize, count, top, left, turned)
    blocks, panels, panel, slices = room.blocks, room.panels, plan.panel, room.slices
    bias = np.zeros((2, panels, panel), dtype)  # zeros, and b filled up
    if b is not None:
        bias.reshape(2, -1)[1, : len(b)] = b  # with a bias there is one output
    epilogues = [t.epilogue((blocks, 2, round_up(K, panel))) for t, K in zip(to, outputs)]
    if len(epilogues) == 1:
        epilogues.append(no_epilogue(dtype))
    with alone():
        parts = panels * slices if plan.ahead else count
        U = scratch("filters", (parts, room.filters), dtype)
        V = scratch("inputs", (count, room.inputs), dtype)
        M = scratch("outputs", (count, room.outputs), dtype)
        squares = scratch("squares", (max(parts, count), room.square), dtype)
        w, pixels = ready(w), np.zeros(blocks)
        if plan.ahead:
            transform_filters(w, U, squares, inputs[0], outputs[0], panel, turned)
        convolve(first, second, w, bias, *epilogues, pixels, plan, U, V, M, squares)
    for t, i in zip(to, epilogues):
        t.gather(i, pixels)


@functools.lru_cache(4096)
def _divide(
    size: tuple[int, int, int], inputs: tuple[int, int], outputs: tuple[int, int], width: int, item: int, count: int,
    top: int, left: int, turned: bool,
) -> tuple[WinogradPlan, WinogradRoom]:  # fmt: skip
    """The plan for N, OH, OW, vectors of `width` numbers of `item` bytes, and `count` threads, and what it takes.

    A network's convolutions have the same sizes in each step, and the smallest take less time than this function.
    """
    N, OH, OW = size
    depth = min(max(inputs), SLICE)
    panel, part = min(PANEL * width, round_up(max(outputs), width)), round_up(depth, width)
    tiles, panels = N * ceil_div(OH, 4) * ceil_div(OW, 4), sum(ceil_div(K, panel) for K in outputs)
    slices = sum(ceil_div(C, SLICE) for C in inputs)
    together = ceil_div(tiles, ceil_div(tiles, TILES))
    blocks = ceil_div(tiles, together)
    shares = min(panels, ceil_div(2 * count, blocks))  # if there are too few blocks, they share the panels
    ahead = blocks > 1 and 36 * sum(inputs) * panels * panel * item <= AHEAD
    plan = WinogradPlan(top, left, together, shares, panel, ahead, turned)
    numbers = 36 * (depth * panel + width), slices * 36 * (together * part + width), 36 * (together * panel + width)
    return plan, WinogradRoom(blocks, panels, slices, *numbers, max(36 * width, 9 * width * width))


def weight_gradient(x: MaybeLazy, dy: MaybeLazy, top: int, left: int) -> Array:
    """The gradient (3, 3, C, K) of the filters of `convolution`, from maps x (N, H, W, C) and dy (N, OH, OW, K)."""
    C, (N, OH, OW, K), dtype = x.shape[3], dy.shape, x.dtype
    if x.size == 0 or dy.size == 0:
        return np.zeros((3, 3, C, K), dtype)
    first, second = operands(x)
    count, width, inputs = workers(), lanes(dtype), (first.x.shape[3], second.x.shape[3])
    plan, splits, numbers = _divide_weights((N, OH, OW), inputs, K, width, top, left)
    dw = empty((3, 3, C, K), dtype)
    with alone():
        split = dw[None] if splits == 1 else scratch("weight gradients", (splits, *dw.shape), dtype)
        V, D, S = (scratch(name, (count, n), dtype) for name, n in zip(("inputs", "outputs", "filters"), numbers))
        squares = scratch("squares", (count, 36 * width), dtype)
        correlate(first, second, operand(dy), split, np.zeros(plan.panel, dtype), plan, V, D, S, squares)
        if splits > 1:
            split.sum(0, out=dw)
    return dw


@functools.lru_cache(4096)
def _divide_weights(
    size: tuple[int, int, int], inputs: tuple[int, int], K: int, width: int, top: int, left: int
) -> tuple[WinogradWeightsPlan, int, tuple[int, int, int]]:
    """The weight gradient's plan, into how many splits it is divided, and the numbers of V, D and S for a thread."""
    N, OH, OW = size
    panel = min(PANEL * width, round_up(K, width))
    panels, largest = ceil_div(K, panel), max(inputs)
    tiles, channels = N * ceil_div(OH, 4) * ceil_div(OW, 4), ceil_div(largest, ceil_div(largest, CHANNELS))
    parts = sum(ceil_div(C, channels) for C in inputs)
    together = TOGETHER if parts >= ITEMS else TOGETHER // 2
    splits = min(ceil_div(tiles, GRADIENT_TILES), ceil_div(ITEMS, ceil_div(panels, together) * parts))
    count = min(GRADIENT_TILES, ceil_div(tiles, splits))
    point = count * round_up(channels, width), count * panel, channels * panel
    v, d, s = (36 * (numbers + width) for numbers in point)
    plan = WinogradWeightsPlan(top, left, count, channels, panel, together)
    return plan, splits, (v, d, min(together, panels) * s)


# ---- the kernels -----------------------------------------------------------------------------------------------------


@njit
def part_count(first, second, size):
    """Parts of at most `size` channels, none of which belongs to two maps of `first` and `second` channels."""
    return (first + size - 1) // size + (second + size - 1) // size


@njit
def part_of(n, first, second, size):
    """Part number n: which map (0 or 1), its first channel there, and how many."""
    parts = (first + size - 1) // size
    if n < parts:
        return 0, n * size, min(size, first - n * size)
    return 1, (n - parts) * size, min(size, second - (n - parts) * size)


@kernel
def transform_filters(w, U, squares, c_first, k_first, panel, turned):
    """U (panels * slices, numbers): `make_filters` of every slice of every panel."""
    C, K = (w.shape[3], w.shape[2]) if turned else (w.shape[2], w.shape[3])
    slices = part_count(c_first, C - c_first, SLICE)
    width = lanes_of(w)
    u_point = min(max(c_first, C - c_first), SLICE) * panel + width
    for part in prange(U.shape[0]):
        c_map, c0, depth = part_of(part % slices, c_first, C - c_first, SLICE)
        k_map, k0, real = part_of(part // slices, k_first, K - k_first, panel)
        wide = (real + width - 1) // width * width
        make_filters(offset(pointer(U), part * U.shape[1]), u_point, wide, w,
                     offset(pointer(squares), part * squares.shape[1]), c0 + c_map * c_first, depth,
                     k0 + k_map * k_first, real, turned)  # fmt: skip


@kernel
def convolve(a, b, w, bias, to_a, to_b, pixels, plan, U, V, M, squares):
    """The forward loop of this file's head.

    Operands a and b (N, H, W, ...); Epilogues to_a and to_b (N, OH, OW, ...); w as for `convolution`; bias (2, panels, panel):
    zeros and b; pixels (blocks,), written to; plan: WinogradPlan; U (panels * slices, numbers) if made ahead, else
    (threads, numbers) to work in, like V, M and squares.
    """
    top, left, tiles, shares, panel, ahead, turned = plan
    (N, OH, OW, Ka), Kb, Ca, Cb = shape_of(to_a), shape_of(to_b)[3], shape_of(a)[3], shape_of(b)[3]
    width = lanes_of(w)
    down, across = (OH + 3) // 4, (OW + 3) // 4
    blocks, panels, slices = pixels.size, part_count(Ka, Kb, panel), part_count(Ca, Cb, SLICE)
    deepest = min(max(Ca, Cb), SLICE)
    v_tile = (deepest + width - 1) // width * width
    # Steps from point to point are never a power of two: such addresses share one place in the L1 cache.
    u_point, v_point, m_point = deepest * panel + width, tiles * v_tile + width, tiles * panel + width
    for worker in prange(V.shape[0]):
        v, m = offset(pointer(V), worker * V.shape[1]), offset(pointer(M), worker * M.shape[1])
        square = offset(pointer(squares), worker * squares.shape[1])
        # Each worker takes consecutive items, so that the next item finds in the cache what the last one needed.
        read = -1
        for item in range(worker * blocks * shares // V.shape[0], (worker + 1) * blocks * shares // V.shape[0]):
            block, share = item // shares, item % shares
            first = block * tiles
            count = min(tiles, N * down * across - first)
            for s in range(0 if block == read else slices):
                c_map, c0, depth = part_of(s, Ca, Cb, SLICE)
                read_tiles(offset(v, s * 36 * v_point), v_point, v_tile, b if c_map else a, first, count, down, across,
                           top, left, c0, depth, square)  # fmt: skip
            read = block
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                k_map, k0, real = part_of(p, Ka, Kb, panel)
                wide = (real + width - 1) // width * width
                for s in range(slices):
                    c_map, c0, depth = part_of(s, Ca, Cb, SLICE)
                    if ahead:
                        u = offset(pointer(U), (p * slices + s) * U.shape[1])
                    else:
                        u = offset(pointer(U), worker * U.shape[1])
                        make_filters(u, u_point, wide, w, square, c0 + c_map * Ca, depth, k0 + k_map * Ka, real, turned)
                    for point in range(36):
                        to = offset(m, point * m_point)
                        init, init_row = to, wide
                        if s == 0:
                            init, init_row = offset(pointer(bias), ((point == 7) * panels + p) * panel), 0
                        multiply(wide // width, count, width, offset(v, (s * 36 + point) * v_point), v_tile, 1, 0,
                                 1, depth, offset(u, point * u_point), to, wide, init, init_row)  # fmt: skip
                written = write_tiles(m, m_point, wide, to_b if k_map else to_a, block, first, count, down, across,
                                      k0, real, square)  # fmt: skip
                if p == 0:
                    pixels[block] = written


@kernel
def correlate(a, b, dy, dw, zeros, plan, V, D, S, squares):
    """The weight gradient's loop of this file's head.

    Operands a, b (N, H, W, ...) and dy (N, OH, OW, K); dw (splits, 3, 3, C, K); zeros (panel,); plan: WinogradWeightsPlan;
    V, D, S and squares (threads, numbers) to work in.
    """
    top, left, tiles, channels, panel, together = plan
    (N, OH, OW, K), Ca, Cb = shape_of(dy), shape_of(a)[3], shape_of(b)[3]
    width, C = lanes_of(zeros), Ca + Cb
    down, across = (OH + 3) // 4, (OW + 3) // 4
    panels, parts, splits = part_count(K, 0, panel), part_count(Ca, Cb, channels), dw.shape[0]
    groups = (panels + together - 1) // together
    v_tile = (channels + width - 1) // width * width
    v_point, d_point, s_point = tiles * v_tile + width, tiles * panel + width, channels * panel + width
    for worker in prange(V.shape[0]):
        v, d = offset(pointer(V), worker * V.shape[1]), offset(pointer(D), worker * D.shape[1])
        sums = offset(pointer(S), worker * S.shape[1])
        square = offset(pointer(squares), worker * squares.shape[1])
        for item in range(worker, splits * groups * parts, V.shape[0]):
            split, p0 = item // (groups * parts), item // parts % groups * together
            p_end = min(p0 + together, panels)
            c_map, c0, part = part_of(item % parts, Ca, Cb, channels)
            start, end = split * N * down * across // splits, (split + 1) * N * down * across // splits
            for first in range(start, end, tiles):
                count = min(tiles, end - first)
                read_tiles(
                    v, v_point, v_tile, b if c_map else a, first, count, down, across, top, left, c0, part, square
                )
                for p in range(p0, p_end):
                    _, k0, real = part_of(p, K, 0, panel)
                    wide = (real + width - 1) // width * width
                    read_gradient_tiles(d, d_point, wide, dy, first, count, down, across, 0, 0, k0, real, square)
                    for point in range(36):
                        to = offset(sums, ((p - p0) * 36 + point) * s_point)
                        init, init_row = to, wide
                        if first == start:
                            init, init_row = pointer(zeros), 0
                        multiply(wide // width, part, width, offset(v, point * v_point), 1, v_tile, 0, 1, count,
                                 offset(d, point * d_point), to, wide, init, init_row)  # fmt: skip
            for p in range(p0, p_end):
                _, k0, real = part_of(p, K, 0, panel)
                wide = (real + width - 1) // width * width
                for c in range(part):
                    row = offset(pointer(dw), (split * 9 * C + c_map * Ca + c0 + c) * K + k0)
                    for k in range(0, real, width):
                        source = offset(sums, (p - p0) * 36 * s_point + c * wide + k)
                        if real - k >= width:
                            filter_gradient(source, 6 * s_point, s_point, offset(row, k), 3 * C * K, C * K)
                            continue
                        filter_gradient(source, 6 * s_point, s_point, square, 3 * width, width)
                        for tap in range(9):
                            copy(offset(row, tap * C * K + k), offset(square, tap * width), real - k)
