"""Convolution and its gradients on the CPU: direct, with explicit vectors, in any shape.

Most 3x3 convolutions go to `cpu_winograd` from here; `winograd_pays` chooses.

In NHWC the KW taps of a filter's row meet KW*C numbers that lie one after the other, and the next output pixel's start
stride*C numbers further. So a row of the output is a sum of KH matrix products, with overlapping rows and no im2col:

    y[row, :, :] = b + sum over i of  rows(x[row*stride + i*dilation]) @ w[i]       (OW, KW*C) @ (KW*C, K)

Forward (`convolve`):

    for each item = (some images, group, block of rows, some panels of w):   in parallel
        copy the input rows of the block into a band, with zeros around (no padded copy of the whole image)
        for each panel of w (PANEL vectors of output channels):
            for each tap row i, for each slice of its KW*C numbers:
                copy the slice of the panel in one piece               it stays in the L1 cache
                for each row of the block:
                    y[row, :, panel] += band rows @ slice              simd.multiply

Data gradient: the same with the filters turned by 180 degrees and their two channel axes swapped, for stride 1.

Weight gradient (`correlate`), dw[i] = sum over pixels of x^T dy, a matrix product that sums over pixels:

    for each item = (split of the pixels, group, panel of dy, block of input channels):   in parallel
        for each tile of about TILE pixels:
            copy x's part of the tile (and what the taps see around it) and dy's panel, each in one piece
            for each tap row i:  sums[i] += x_tile^T @ dy_tile         (KW*C, pixels) @ (pixels, panel)
    add the splits, in their order

The order in which numbers are added depends on the shape alone: results depend neither on timing nor on the number of
threads.

The transposed convolution with stride = KH = KW (stamps do not overlap) is a 1x1 convolution to KW*K channels for each
of the KH rows of a stamp. Its data gradient is a strided convolution, and its weight gradient a `correlate`.

Constants
    DEPTH     terms of a sum between two visits of y: a slice of a panel has DEPTH x 256 bytes, of a 32-48 KB L1 cache
              (a whole panel may have twice that, and then y is visited once)
    TILE      pixels of a weight gradient's tile, likewise
    CHANNELS  most input channels of an item of the weight gradient: its sums, KH*KW*64*256 bytes, stay in the L2 cache
    BAND      most bytes of a band: half of a 2 MB L2 cache
    PIXELS    of the output that an item wants, to be worth copying a slice
    ITEMS     least items of a weight gradient, if there are so many tiles: work for that many threads

Shapes: everything that ops/conv.py takes, float32 and float64; the data gradient with stride 1 and the transposed
forward without overlap only (`kernels.choose` leaves the rest to the plain ops).

Accuracy: the largest error against exact arithmetic is below eps * sqrt(KH*KW*C) of the largest output.

Measure: python bench/layers.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from ..array import Array
from ..ops.conv import output_size, resolve_padding
from . import cpu_winograd
from .cpu_pointwise import channel_sums
from .launch import empty, kernel, ready, workers
from .simd import PANEL, clear, copy, lanes, lanes_of, multiply, offset, pointer, transpose

DEPTH = 128
TILE = 128
BAND = 1 << 20
PIXELS = 256
CHANNELS = 64
ITEMS = 32


class Shape(NamedTuple):
    """The sizes of a convolution from x (N, H, W, C) to y (N, OH, OW, K), as one argument of a kernel."""

    N: int
    H: int
    W: int
    C: int
    OH: int
    OW: int
    K: int
    KH: int
    KW: int
    stride: int
    dilation: int
    top: int  # zeros around x, may be negative: rows and columns cut off
    left: int
    groups: int


# ---- twins of the ops ------------------------------------------------------------------------------------------------


def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 1, padding: Any = "same", dilation: int = 1,
    groups: int = 1,
) -> tuple[Array, tuple]:  # fmt: skip
    """Twin of `ops.conv2d`."""
    (N, H, W, C), (KH, KW, _, K) = x.shape, w.shape
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    s = Shape(N, H, W, C, OH, OW, K, KH, KW, stride, dilation, pads[0][0], pads[1][0], groups)
    y = empty((N, OH, OW, K), x.dtype)
    if winograd_pays(s, x.dtype):
        cpu_winograd.convolution(x, w, b, y, s.top, s.left)
    else:
        _convolve(x, w, lambda w: _by_group(w, groups), b, y, s)
    return y, (x, w, b is not None, stride, pads, dilation, groups)


def conv2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Twin of `ops.conv2d_backward`, for stride 1."""
    x, w, has_bias, stride, pads, dilation, groups = cache
    (N, H, W, C), (KH, KW, _, K), (OH, OW) = x.shape, w.shape, dy.shape[1:3]
    (top, _), (left, _) = pads
    dy = ready(dy)  # once for all that follows
    s = Shape(N, H, W, C, OH, OW, K, KH, KW, stride, dilation, top, left, groups)
    around = dilation * (KH - 1) - top, dilation * (KW - 1) - left
    back = Shape(N, OH, OW, K, H, W, C, KH, KW, 1, dilation, *around, groups)
    dx = empty(x.shape, x.dtype)
    if winograd_pays(back, x.dtype):
        cpu_winograd.convolution(dy, w, None, dx, back.top, back.left, turned=True)
    else:
        _convolve(dy, w, lambda w: _by_group(w, groups)[:, ::-1, ::-1].swapaxes(3, 4), None, dx, back)
    dw = cpu_winograd.weight_gradient(x, dy, s.top, s.left) if winograd_pays(s, x.dtype) else _correlate(x, dy, s)
    return dx, dw, channel_sums(dy) if has_bias else None


def conv_transpose2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 2, padding: Any = 0
) -> tuple[Array, tuple]:
    """Twin of `ops.conv_transpose2d`, for stride = KH = KW and no padding."""
    (N, H, W, C), (KH, KW, _, K) = x.shape, w.shape
    s = Shape(N, H, W, C, H, W, KW * K, 1, 1, 1, 1, 0, 0, 1)
    y = empty((N, H, KH, W, KW * K), x.dtype)
    bias = None if b is None else np.tile(b, KW)
    for i in range(KH):  # row i of every stamp
        row = w[i].swapaxes(0, 1).reshape(1, 1, C, KW * K)
        _convolve(x, row, lambda w: _by_group(w, 1), bias, y[:, :, i], s)
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, 1)
    return y.reshape(N, H * KH, W * KW, K), (x, w, b is not None, stride, pads)


def conv_transpose2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Twin of `ops.conv_transpose2d_backward`: the convolution whose transpose this is takes dy to dx."""
    x, w, has_bias, stride, pads = cache
    (N, H, W, C), (KH, KW, _, K), (OH, OW) = x.shape, w.shape, dy.shape[1:3]
    dy = ready(dy)  # once for all that follows
    s = Shape(N, OH, OW, K, H, W, C, KH, KW, stride, 1, pads[0][0], pads[1][0], 1)
    dx = empty(x.shape, x.dtype)
    _convolve(dy, w, lambda w: w.swapaxes(2, 3)[None], None, dx, s)
    db = channel_sums(dy) if has_bias else None
    return dx, _correlate(dy, x, s).swapaxes(2, 3).copy(), db


def winograd_pays(s: Shape, dtype: Any) -> bool:
    """Whether Winograd's algorithm (cpu_winograd.py) is the faster one, for each of a convolution's three passes by itself.

    It takes a quarter of the multiplications, and costs a transform of every tile of 4x4 pixels: too much with a few input
    channels, where there is little to save. Its matrix products have a row a tile; with less than about eight they are
    bound by reading the filters. Tiles that lie mostly outside of the image are wasted work, but so is a direct
    convolution's padding: a quarter of a tile is enough. All measured, on two AVX-512 cores.

    float64 stays direct: who asks for it wants the last digits, and Winograd's sums lose one.
    """
    tiles = s.N * _ceil(s.OH, 4) * _ceil(s.OW, 4)
    inside = s.N * s.OH * s.OW / (16 * max(1, tiles))  # the part of the tiles
    fits = (s.KH, s.KW, s.stride, s.dilation, s.groups) == (3, 3, 1, 1, 1) and dtype == np.float32
    return fits and s.C >= 8 and tiles >= 8 and inside >= 1 / 4


# ---- the plans: how much work an item is -----------------------------------------------------------------------------


def _by_group(w: Array, groups: int) -> Array:
    """(KH, KW, C/groups, K) as a view (groups, KH, KW, C/groups, K/groups)."""
    return w.reshape(*w.shape[:3], groups, -1).transpose(3, 0, 1, 2, 4)


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _convolve(x: Array, w: Array, arrange: Callable[[Array], Array], b: Array | None, y: Array, s: Shape) -> None:
    """y = b + x * w, where arrange(w) is a view of w as (groups, KH, KW, C/groups, K/groups); y may be a view."""
    if y.size == 0:
        return
    x, w, dtype = ready(x), ready(w), x.dtype
    C, item = s.C // s.groups, dtype.itemsize
    panels = _ceil(_ceil(s.K // s.groups, lanes(dtype)), PANEL)
    columns = (s.OW - 1) * s.stride + (s.KW - 1) * s.dilation + 1  # that a row of the output sees

    def band(rows: int) -> int:
        """Numbers of the band of so many rows of the output."""
        return ((rows - 1) * s.stride + (s.KH - 1) * s.dilation + 1) * columns * C

    # As many rows to an item as fit into BAND, then images, as long as all threads get two items.
    wanted = 2 * workers()
    blocks = 1
    while blocks < s.OH and (
        band(_ceil(s.OH, blocks)) * item > BAND or (s.N * s.groups * blocks < wanted and s.OH // blocks >= 16)
    ):
        blocks += 1
    rows, images = _ceil(s.OH, blocks), 1
    if blocks == 1:
        images = max(1, min(BAND // (band(rows) * item), s.N * s.groups * panels // wanted, _ceil(PIXELS, s.OH * s.OW)))
        images = _ceil(s.N, _ceil(s.N, min(images, s.N)))
    items = _ceil(s.N, images) * s.groups * _ceil(s.OH, rows)
    shares = min(panels, _ceil(wanted, items))  # if there are too few items, they share the panels

    inside = s.top == s.left == 0 and columns <= s.W and (s.OH - 1) * s.stride + (s.KH - 1) * s.dilation < s.H
    in_place = inside and s.groups == 1
    bands = np.empty((workers(), 16 if in_place else images * band(rows)), dtype)
    slices = np.zeros((workers(), 2 * DEPTH * PANEL * lanes(dtype)), dtype)
    bias = np.zeros(s.K, dtype) if b is None else ready(b)
    view, whole = arrange(w), y if y.base is None else y.base
    w_steps = (_distance(view, w), *(step // item for step in view.strides))
    y_steps = (_distance(y, whole), *(step // item for step in y.strides[:3]))
    plan = rows, images, shares, in_place
    convolve(x, w.reshape(-1), w_steps, bias, whole.reshape(-1), y_steps, s, plan, bands, slices)


def _distance(view: Array, whole: Array) -> int:
    """Elements from the start of an array to that of its view."""
    a, b = (array.__array_interface__["data"][0] for array in (view, whole))
    return (a - b) // whole.itemsize


def _correlate(x: Array, dy: Array, s: Shape) -> Array:
    """The weight gradient (KH, KW, C/groups, K)."""
    dtype, C, K = x.dtype, s.C // s.groups, s.K // s.groups
    if dy.size == 0 or x.size == 0:
        return np.zeros((s.KH, s.KW, C, s.K), dtype)
    x, dy = ready(x), ready(dy)
    columns = min(s.OW, TILE)
    rows = min(s.OH, max(1, TILE // columns))
    tiles = s.N * _ceil(s.OH, rows) * _ceil(s.OW, columns)
    channels = _ceil(C, _ceil(C, CHANNELS))
    tasks = s.groups * _ceil(K, PANEL * lanes(dtype)) * _ceil(C, channels)
    splits = min(tiles, _ceil(ITEMS, tasks))
    width = min(PANEL, _ceil(K, lanes(dtype))) * lanes(dtype)
    seen_rows = (rows - 1) * s.stride + (s.KH - 1) * s.dilation + 1
    seen_columns = (columns - 1) * s.stride + (s.KW - 1) * s.dilation + 1
    tile_x = np.empty((workers(), seen_rows * seen_columns * channels), dtype)
    tile_dy = np.empty((workers(), rows * columns * width), dtype)
    sums = np.empty((workers(), s.KH * s.KW * channels * width), dtype)
    dw = np.empty((splits, s.KH, s.KW, C, s.K), dtype)
    correlate(x, dy, dw, s, rows, columns, channels, tile_x, tile_dy, sums, np.zeros(width, dtype))
    return dw[0] if splits == 1 else dw.sum(0)


# ---- the kernels -----------------------------------------------------------------------------------------------------


@njit
def fill(to, image, H, W, C, channel, channels, row, rows, column, columns):
    """Copy a window (rows, columns, channels) of one image (H, W, C), with zeros where it reaches outside."""
    before = min(max(-column, 0), columns)
    first = max(column, 0)
    count = max(0, min(W - first, columns - before))
    after = columns - before - count
    for r in range(row, row + rows):
        if r < 0 or r >= H:
            clear(to, columns * channels)
        else:
            clear(to, before * channels)
            source = offset(image, (r * W + first) * C + channel)
            body = offset(to, before * channels)
            if channels == C:
                copy(body, source, count * C)
            else:
                for n in range(count):
                    copy(offset(body, n * channels), offset(source, n * C), channels)
            clear(offset(body, count * channels), after * channels)
        to = offset(to, columns * channels)


@njit
def pack(to, panel, w, start, w_steps, C, first, rows, real):
    """Copy some of a tap row's KW*C rows and `real` columns of w into a slice, `panel` numbers a row."""
    _, _, _, J, R, O = w_steps
    size = lanes_of(w)
    end = first + rows
    while first < end:
        j, c = first // C, first % C
        run = min(C - c, end - first)
        at = start + j * J + c * R
        source = offset(pointer(w), at)
        if O == 1:
            for n in range(run):
                copy(offset(to, n * panel), offset(source, n * R), real)
        else:  # the channel axes are swapped: squares in registers, the rest number by number
            squares = run // size * size if R == 1 else 0
            whole = real // size * size
            for k in range(0, whole, size):
                for n in range(0, squares, size):
                    transpose(offset(to, n * panel + k), panel, offset(source, n + k * O), O)
            for n in range(run):
                for k in range(whole if n < squares else 0, real):
                    copy(offset(to, n * panel + k), offset(source, n * R + k * O), 1)
        to = offset(to, run * panel)
        first += run


@kernel
def convolve(x, w, w_steps, bias, y, y_steps, s, plan, bands, slices):
    """The forward loop of this file's head.

    x (N, H, W, C); bias (K,); w and y flat, each with where it starts and its steps, along (group, i, j, C, K) and
    (image, row, column); the plan: `rows` of the output and `images` an item, the panels in `shares` parts, and
    in_place, if nothing around x is seen, so that no band is needed; bands and slices (threads, numbers) to work in.
    """
    rows, images, shares, in_place = plan
    w_start, w_group, w_i, _, _, w_k = w_steps
    y_start, y_image, y_row, y_pixel = y_steps
    C, K = s.C // s.groups, s.K // s.groups
    width = lanes_of(x)
    vectors_all = (K + width - 1) // width
    panels = (vectors_all + PANEL - 1) // PANEL
    batches, blocks = (s.N + images - 1) // images, (s.OH + rows - 1) // rows
    columns = (s.OW - 1) * s.stride + (s.KW - 1) * s.dilation + 1
    a_row = s.W * C if in_place else columns * C
    segment = s.KW * C if s.dilation == 1 else C  # numbers that lie in one piece, of each tap row or of each tap
    segments = s.KW * C // segment
    for worker in prange(bands.shape[0]):
        slice_ = offset(pointer(slices), worker * slices.shape[1])
        for item in range(worker, batches * s.groups * blocks * shares, bands.shape[0]):
            share, block = item % shares, item // shares % blocks
            g, n0 = item // (shares * blocks) % s.groups, item // (shares * blocks * s.groups) * images
            row0 = block * rows
            height, count = min(rows, s.OH - row0), min(images, s.N - n0)
            if in_place:
                band = offset(pointer(x), (n0 * s.H + row0 * s.stride) * a_row)
                a_image = s.H * a_row
            else:
                band = offset(pointer(bands), worker * bands.shape[1])
                seen = (height - 1) * s.stride + (s.KH - 1) * s.dilation + 1
                a_image = seen * a_row
                for n in range(count):
                    fill(offset(band, n * a_image), offset(pointer(x), (n0 + n) * s.H * s.W * s.C), s.H, s.W, s.C,
                         g * C, C, row0 * s.stride - s.top, seen, -s.left, columns)  # fmt: skip
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                k0 = p * PANEL * width
                vectors = min(PANEL, vectors_all - p * PANEL)
                panel = vectors * width
                real = min(panel, K - k0)
                last = real - panel + width
                here_w = w_start + g * w_group + k0 * w_k
                here_y = offset(pointer(y), y_start + n0 * y_image + row0 * y_row + g * K + k0)
                b = offset(pointer(bias), g * K + k0)
                if s.dilation == 1 and s.KH * segment * panel <= slices.shape[1]:  # the whole sum in registers
                    for i in range(s.KH):
                        to = offset(slice_, i * segment * panel)
                        pack(to, panel, w, here_w + i * w_i, w_steps, C, 0, segment, real)
                    for n in range(count):
                        for r in range(height):
                            a = offset(band, n * a_image + r * s.stride * a_row)
                            c = offset(here_y, n * y_image + r * y_row)
                            multiply(vectors, s.OW, last, a, s.stride * C, 1, a_row, s.KH, segment, slice_,
                                     c, y_pixel, b, 0)  # fmt: skip
                    continue
                most = DEPTH * PANEL // vectors
                cuts = (segment + most - 1) // most
                depth = (segment + cuts - 1) // cuts
                for i in range(s.KH):
                    for j in range(segments):
                        for d in range(0, segment, depth):
                            terms = min(depth, segment - d)
                            pack(slice_, panel, w, here_w + i * w_i, w_steps, C, j * C + d, terms, real)
                            seen_from = offset(band, i * s.dilation * a_row + j * s.dilation * C + d)
                            for n in range(count):
                                for r in range(height):
                                    a = offset(seen_from, n * a_image + r * s.stride * a_row)
                                    c = offset(here_y, n * y_image + r * y_row)
                                    init, init_row = c, y_pixel
                                    if i + j + d == 0:
                                        init, init_row = b, 0
                                    multiply(vectors, s.OW, last, a, s.stride * C, 1, 0, 1, terms, slice_,
                                             c, y_pixel, init, init_row)  # fmt: skip


@kernel
def correlate(x, dy, dw, s, rows, columns, channels, tiles_x, tiles_dy, all_sums, zeros):
    """The weight gradient's loop of this file's head.

    x (N, H, W, C); dy (N, OH, OW, K); dw (splits, KH, KW, C/groups, K); tiles of rows x columns pixels, `channels` of
    x an item; tiles_x, tiles_dy, all_sums (threads, ...) to work in; zeros (a panel's width,).
    """
    C, K = s.C // s.groups, s.K // s.groups
    width = lanes_of(x)
    vectors_all = (K + width - 1) // width
    panels, parts = (vectors_all + PANEL - 1) // PANEL, (C + channels - 1) // channels
    down, across = (s.OH + rows - 1) // rows, (s.OW + columns - 1) // columns
    tiles, splits = s.N * down * across, dw.shape[0]
    for worker in prange(tiles_x.shape[0]):
        for item in range(worker, splits * s.groups * panels * parts, tiles_x.shape[0]):
            split, g = item // (s.groups * panels * parts), item // (panels * parts) % s.groups
            p, c0 = item // parts % panels, item % parts * channels
            part = min(channels, C - c0)
            k0 = p * PANEL * width
            vectors = min(PANEL, vectors_all - p * PANEL)
            panel = vectors * width
            real = min(panel, K - k0)
            tile_x = offset(pointer(tiles_x), worker * tiles_x.shape[1])
            tile_dy = offset(pointer(tiles_dy), worker * tiles_dy.shape[1])
            sums = offset(pointer(all_sums), worker * all_sums.shape[1])
            clear(tile_dy, tiles_dy.shape[1])  # the last vector's unused lanes
            first = split * tiles // splits
            for tile in range(first, (split + 1) * tiles // splits):
                n, row0, column0 = tile // (down * across), tile // across % down * rows, tile % across * columns
                height, length = min(rows, s.OH - row0), min(columns, s.OW - column0)
                seen = (height - 1) * s.stride + (s.KH - 1) * s.dilation + 1
                seen_columns = (length - 1) * s.stride + (s.KW - 1) * s.dilation + 1
                fill(tile_x, offset(pointer(x), n * s.H * s.W * s.C), s.H, s.W, s.C, g * C + c0, part,
                     row0 * s.stride - s.top, seen, column0 * s.stride - s.left, seen_columns)  # fmt: skip
                for r in range(height):
                    source = offset(pointer(dy), ((n * s.OH + row0 + r) * s.OW + column0) * s.K + g * K + k0)
                    if panel == s.K:
                        copy(offset(tile_dy, r * length * panel), source, length * panel)
                        continue
                    for q in range(length):
                        copy(offset(tile_dy, (r * length + q) * panel), offset(source, q * s.K), real)
                run = s.KW if s.dilation == 1 else 1  # taps that lie in one piece
                for i in range(s.KH):
                    for j in range(0, s.KW, run):
                        c = offset(sums, (i * s.KW + j) * part * panel)
                        init, init_row = c, panel
                        if tile == first:
                            init, init_row = pointer(zeros), 0
                        multiply(vectors, run * part, width, offset(tile_x, (i * seen_columns + j) * s.dilation * part),
                                 1, s.stride * part, s.stride * seen_columns * part, height, length, tile_dy,
                                 c, panel, init, init_row)  # fmt: skip
            for tap in range(s.KH * s.KW):
                for c in range(part):
                    to = offset(pointer(dw), (((split * s.KH * s.KW) + tap) * C + c0 + c) * s.K + g * K + k0)
                    copy(to, offset(sums, (tap * part + c) * panel), real)
