"""Direct convolution and its data gradient on the CPU, with explicit vectors.

In NHWC the KW taps of a filter's row read KW*C numbers that lie one after the other, and those of the next output pixel begin
stride*C numbers later. So a row of the output is a sum of KH matrix products whose left rows overlap in memory, without im2col:

    y[row, :, :] = b + sum over i of  rows(x[row*stride + i]) @ w[i]       (OW, KW*C) @ (KW*C, K)

Forward (`convolve`):

    for each item = (some images, group, block of rows, some panels of w):   in parallel
        copy the input rows of the block into a band, materialized, with zeros around (the whole image is never padded)
        for each panel of w (PANEL vectors of output channels):
            for each tap row i, for each slice of its KW*C numbers:
                copy the slice of the panel in one piece               it stays in the L1 cache
                for each row of the block:
                    y[row, :, panel] += band rows @ slice              multiply

Data gradient: the same with the filters turned by 180 degrees and their two channel axes swapped, for stride 1. Larger strides
and dilations are put together from such convolutions in direct_pieces.py.

The order in which numbers are added depends on the shape alone. So results depend neither on timing nor on the number of
threads.

The transposed convolution with stride = KH = KW (stamps do not overlap) is a 1x1 convolution for each of the KH*KW pixels
of a stamp, all from one band. Its data gradient is a strided convolution. Weight gradients: direct_weights.py. What is copied
how: direct_copies.py.

Constants
    DEPTH     terms of the sum that are added before y is written: a slice of a panel has DEPTH x 256 bytes, and the L1 cache
              32 to 48 KB (a panel of at most twice that is one slice, and y is written once)
    BAND      most bytes of a band: half of a 2 MB L2 cache
    PIXELS    output pixels that an item should have, so that copying a slice pays

Accuracy: the largest error against exact arithmetic is below eps * sqrt(KH*KW*C) of the largest output.

Measure: python bench/layers.py
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import prange

from ...array import Array
from ...ops.lazy import MaybeLazy
from .direct_copies import fill, pack
from .epilogues import PLAIN, operands, start_of
from .launch import alone, ceil_div, kernel, ready, workers
from .memory import address, scratch
from .simd import VECTOR_BYTES, clear, lanes, lanes_of, offset, pointer
from .simd_gemm import PANEL, multiply

DEPTH = 128
BAND = 1 << 20
PIXELS = 256


class ConvGeometry(NamedTuple):
    """A convolution from x (N, H, W, C) to y (N, OH, OW, K), as one argument of a kernel."""

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


class Place(NamedTuple):
    """Where the results of a convolution go: its pixel (r, c) is y[:, row + r * step, column + c * step]."""

    row: int = 0
    column: int = 0
    step: int = 1
    add: bool = False  # to what is there


WHOLE = Place()


class DirectPlan(NamedTuple):
    """How the work of a direct convolution is divided into items."""

    rows: int  # of the output, in an item
    images: int  # in an item
    shares: int  # into so many parts the panels of w are divided, each an item
    in_place: bool  # no tap reads outside of x: its rows are read where they are, without a band
    stamp: int  # side of a transposed convolution's stamp, else 1
    place: Place


class FilterStrides(NamedTuple):
    """Where the filters lie in a flat array: the first number, and how far apart neighbours are, in elements."""

    start: int
    group: int  # or stamp
    i: int  # rows of a filter
    j: int  # columns of a filter
    c: int  # input channels
    k: int  # output channels


# ---- planning: how much work an item is ------------------------------------------------------------------------------


def by_group(w: Array, groups: int) -> Array:
    """(KH, KW, C/groups, K) as a view (groups, KH, KW, C/groups, K/groups)."""
    return w.reshape(*w.shape[:3], groups, -1).transpose(3, 0, 1, 2, 4)


def convolution(
    x: MaybeLazy,
    w: Array,
    arrange: Callable[[Array], Array],
    b: Array | None,
    y: Array,
    s: ConvGeometry,
    stamp: int = 1,
    place: Place = WHOLE,
) -> None:
    """y = b + x * w, where arrange(w) is a view of w as (groups, KH, KW, C/groups, K/groups), without dilation.

    x may be a lazy map. With `stamp` there are stamp*stamp filters, the view is (stamp*stamp, KH, KW, C, K), and each
    of them writes one pixel of every square of stamp x stamp pixels of y (N, OH*stamp, OW*stamp, K). `place` says which pixels
    of y are written; by default (or with `stamp`) all.
    """
    if y.size == 0:
        return
    first, second = operands(x)
    w, dtype, count = ready(w), y.dtype, workers()
    plain = first.mode == PLAIN and second.x.size == 0
    plan, numbers = _divide(s, dtype.itemsize, count, plain, stamp, place if stamp == 1 else Place(step=stamp))
    bias = np.zeros(s.K, dtype) if b is None else ready(b)
    view = arrange(w)
    group, i, j, c, k = view.strides
    size = dtype.itemsize
    strides = FilterStrides(_distance(view, w), group // size, i // size, j // size, c // size, k // size)
    with alone():
        bands = scratch("bands", (count, numbers), dtype)
        slices = scratch("slices", (count, 2 * DEPTH * PANEL * lanes(dtype)), dtype)
        convolve(first, second, w.reshape(-1), strides, bias, y, s, plan, bands, slices)


@functools.lru_cache(4096)
def _divide(s: ConvGeometry, item: int, count: int, plain: bool, stamp: int, place: Place) -> tuple[DirectPlan, int]:
    """The plan for numbers of `item` bytes and `count` threads, and the numbers in a band.

    A network's convolutions have the same sizes in each step, and the smallest take less time than this function.
    """
    C, panels = s.C // s.groups, ceil_div(ceil_div(s.K // s.groups, VECTOR_BYTES // item), PANEL)
    columns = (s.OW - 1) * s.stride + s.KW  # that a row of the output sees

    def band(rows: int) -> int:
        """Numbers of the band of so many rows of the output."""
        return ((rows - 1) * s.stride + s.KH) * columns * C

    # An item gets as many rows as fit into BAND, then several images, as long as there are two items for each thread. If the
    # filters are larger than a map, items share the panels instead, so that each panel is copied once.
    wanted = 2 * count
    small = s.OH * s.OW * s.stride**2 < s.KH * s.KW * s.K
    rows_for = 1 if small and panels >= wanted else wanted
    blocks = 1
    while blocks < s.OH and (
        band(ceil_div(s.OH, blocks)) * item > BAND or (s.N * s.groups * blocks < rows_for and s.OH // blocks >= 16)
    ):
        blocks += 1
    rows, images = ceil_div(s.OH, blocks), 1
    if blocks == 1:
        images = max(
            1, min(BAND // (band(rows) * item), s.N * s.groups * panels // wanted, ceil_div(PIXELS, s.OH * s.OW))
        )
        images = ceil_div(s.N, ceil_div(s.N, min(images, s.N)))
    items = ceil_div(s.N, images) * s.groups * ceil_div(s.OH, rows)
    shares = min(panels, ceil_div(wanted, items))  # if there are too few items, they share the panels

    inside = max(s.top, s.left) <= 0 and columns - s.left <= s.W and (s.OH - 1) * s.stride + s.KH - s.top <= s.H
    in_place = plain and inside and s.groups == 1
    return DirectPlan(rows, images, shares, in_place, stamp, place), 16 if in_place else images * band(rows)


def _distance(view: Array, whole: Array) -> int:
    """Elements from the start of an array to that of its view."""
    return (address(view) - address(whole)) // whole.itemsize


# ---- the kernels -----------------------------------------------------------------------------------------------------


@kernel
def convolve(a, b, w, strides, bias, y, s, plan, bands, slices):
    """The forward loop of this file's head.

    Operands a and b (N, H, W, ...); bias (K,); w flat, and its FilterStrides; y as for `convolution`; s: ConvGeometry; plan:
    DirectPlan; bands and slices (threads, numbers) to work in.
    """
    rows, images, shares, in_place, stamp, (y_top, y_left, step, add) = plan
    w_start, w_group, w_i, _, _, w_k = strides
    y_line, y_image = y.shape[2] * s.K, y.shape[1] * y.shape[2] * s.K
    y_row, y_pixel = step * y_line, step * s.K
    C, K = s.C // s.groups, s.K // s.groups
    width = lanes_of(y)
    vectors_all = (K + width - 1) // width
    panels = (vectors_all + PANEL - 1) // PANEL
    batches, blocks = (s.N + images - 1) // images, (s.OH + rows - 1) // rows
    columns = (s.OW - 1) * s.stride + s.KW
    a_row = s.W * C if in_place else columns * C
    segment = s.KW * C  # numbers of a tap row, which lie in one piece
    flat = s.KH == s.KW == s.stride == step == 1 and a_row == s.OW * C and y.shape[2] == s.OW  # a block is one long row
    for worker in prange(bands.shape[0]):
        slice_ = offset(pointer(slices), worker * slices.shape[1])
        clear(slice_, slices.shape[1])  # the last vector's unused lanes
        for item in range(worker, batches * s.groups * blocks * shares, bands.shape[0]):
            share, block = item % shares, item // shares % blocks
            g, n0 = item // (shares * blocks) % s.groups, item // (shares * blocks * s.groups) * images
            row0 = block * rows
            height, count = min(rows, s.OH - row0), min(images, s.N - n0)
            if in_place:
                band = offset(start_of(a), ((n0 * s.H + row0 * s.stride - s.top) * s.W - s.left) * C)
                a_image = s.H * a_row
            else:
                band = offset(pointer(bands), worker * bands.shape[1])
                seen = (height - 1) * s.stride + s.KH
                a_image = seen * a_row
                for n in range(count):
                    fill(offset(band, n * a_image), a, b, n0 + n, g * C, C,
                         row0 * s.stride - s.top, seen, -s.left, columns)  # fmt: skip
            lines, across = (1, height * s.OW) if flat else (height, s.OW)
            for work in range(share * panels // shares * stamp * stamp, (share + 1) * panels // shares * stamp * stamp):
                p, pixel = work // (stamp * stamp), work % (stamp * stamp)
                k0 = p * PANEL * width
                vectors = min(PANEL, vectors_all - p * PANEL)
                panel = vectors * width
                real = min(panel, K - k0)
                last = real - panel + width
                here_w = w_start + (g + pixel) * w_group + k0 * w_k
                here_y = offset(pointer(y), n0 * y_image + (y_top + pixel // stamp) * y_line + row0 * y_row
                                + (y_left + pixel % stamp) * s.K + g * K + k0)  # fmt: skip
                start = offset(pointer(bias), g * K + k0)
                if s.KH * segment * panel <= slices.shape[1]:  # the whole sum in registers
                    for i in range(s.KH):
                        to = offset(slice_, i * segment * panel)
                        pack(to, panel, w, here_w + i * w_i, strides, C, 0, segment, real)
                    for n in range(count):
                        for r in range(lines):
                            rows_of_x = offset(band, n * a_image + r * s.stride * a_row)
                            c = offset(here_y, n * y_image + r * y_row)
                            init, init_row = (c, y_pixel) if add else (start, 0)
                            multiply(vectors, across, last, rows_of_x, s.stride * C, 1, a_row, s.KH, segment, slice_,
                                     c, y_pixel, init, init_row)  # fmt: skip
                    continue
                most = DEPTH * PANEL // vectors
                cuts = (segment + most - 1) // most
                depth = (segment + cuts - 1) // cuts
                for i in range(s.KH):
                    for d in range(0, segment, depth):
                        terms = min(depth, segment - d)
                        pack(slice_, panel, w, here_w + i * w_i, strides, C, d, terms, real)
                        for n in range(count):
                            for r in range(lines):
                                rows_of_x = offset(band, n * a_image + (r * s.stride + i) * a_row + d)
                                c = offset(here_y, n * y_image + r * y_row)
                                init, init_row = (start, 0) if i + d == 0 and not add else (c, y_pixel)
                                multiply(vectors, across, last, rows_of_x, s.stride * C, 1, 0, 1, terms, slice_,
                                         c, y_pixel, init, init_row)  # fmt: skip
