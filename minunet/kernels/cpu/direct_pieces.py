"""Convolutions put together from direct ones: with a dilation tap by tap, data gradients with a stride phase by phase.

A dilation d parts the taps of a filter, so that little of what they read lies together, and in a small map most of them meet
padding. But each tap by itself is a 1x1 convolution, from the part of x that it meets to the part of y that meets it:

    for each tap (i, j):   y[part] += x[the part that the tap meets] @ w[i, j]              `convolution`
                           dw[i, j] = x[the part that the tap meets]^T @ dy[part]           `weight_gradient`

Taps that meet nothing cost nothing.

The data gradient of a convolution with stride s (`data_gradient`): a pixel h of dx gets dy[(h + top - i * d) / s] @ w[i]^T
from those taps i for which this is a whole number. Which they are depends on h modulo s only, its phase. So the pixels of a
phase are a convolution of dy, with stride 1, with a part of the filter, and s * s such convolutions make dx. Of a 3x3 filter
with stride 2 they have 2x2, 2x1, 1x2 and 1x1 taps.

Measure: python bench/convs.py
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from math import gcd
from typing import NamedTuple

from ...array import Array
from ...ops.lazy import MaybeLazy, materialize
from . import direct, direct_weights
from .direct import WHOLE, ConvGeometry, Place, by_group
from .launch import ceil_div, ready
from .memory import empty


class Part(NamedTuple):
    """What one tap does: the 1x1 convolution from what it meets of x to the part of y that begins at (row, column)."""

    i: int
    j: int
    row: int
    column: int
    geometry: ConvGeometry


def taps_met(s: ConvGeometry) -> int:
    """How many taps meet pixels of an image, in all pixels of its result together."""
    down, across = _all_met(s)
    return sum(max(0, rows) for _, rows, _ in down) * sum(max(0, columns) for _, columns, _ in across)


def parts(s: ConvGeometry) -> Iterator[Part]:
    """The parts of all taps that meet x."""
    down, across = _all_met(s)
    for i, (row, rows, top) in enumerate(down):
        for j, (column, columns, left) in enumerate(across):
            if rows > 0 and columns > 0:
                size = {"OH": rows, "OW": columns, "KH": 1, "KW": 1, "dilation": 1, "top": -top, "left": -left}
                yield Part(i, j, row, column, s._replace(**size))


def _all_met(s: ConvGeometry) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """`_met` for each row and for each column of the filter."""
    down = [_met(i * s.dilation - s.top, s.stride, s.OH, s.H) for i in range(s.KH)]
    return down, [_met(j * s.dilation - s.left, s.stride, s.OW, s.W) for j in range(s.KW)]


def _met(shift: int, stride: int, results: int, size: int) -> tuple[int, int, int]:
    """First result r and number of results for which row r * stride + shift is one of `size`; and that of the first one."""
    first = max(0, ceil_div(-shift, stride))
    return first, min(results, (size - 1 - shift) // stride + 1) - first, first * stride + shift


def convolution(
    x: MaybeLazy, w: Array, arrange: Callable[[Array], Array], b: Array | None, y: Array, s: ConvGeometry,
    place: Place = WHOLE,
) -> None:  # fmt: skip
    """`direct.convolution` for any dilation."""
    if s.dilation == 1:
        direct.convolution(x, w, arrange, b, y, s, place=place)
        return
    x, (row, column, step, _) = ready(materialize(x)), place
    y[:, row : row + s.OH * step : step, column : column + s.OW * step : step] = 0 if b is None else b
    for i, j, first, left, tap in parts(s):

        def of_tap(w: Array, i: int = i, j: int = j) -> Array:
            return arrange(w)[:, i : i + 1, j : j + 1]

        at = Place(row + first * step, column + left * step, step, True)
        direct.convolution(x, w, of_tap, None, y, tap, place=at)


def data_gradient(dy: MaybeLazy, w: Array, dx: Array, s: ConvGeometry) -> None:
    """The gradient of the input of the convolution s, written to dx (N, H, W, C)."""
    for p in range(min(s.stride, s.H)):
        i, ni, top, dilation = _phase(p + s.top, s.KH, s.stride, s.dilation)
        for q in range(min(s.stride, s.W)):
            j, nj, left, _ = _phase(q + s.left, s.KW, s.stride, s.dilation)
            if ni * nj == 0:
                dx[:, p :: s.stride, q :: s.stride] = 0
                continue
            step = s.stride // gcd(s.stride, s.dilation)
            rows, columns = ceil_div(s.H - p, s.stride), ceil_div(s.W - q, s.stride)
            back = ConvGeometry(s.N, s.OH, s.OW, s.K, rows, columns, s.C, ni, nj, 1, dilation, top, left, s.groups)

            def turned(w: Array, i: int = i, j: int = j, step: int = step) -> Array:
                return by_group(w, s.groups)[:, i::step, j::step][:, ::-1, ::-1].swapaxes(3, 4)

            convolution(dy, w, turned, None, dx, back, Place(p, q, s.stride))


@functools.lru_cache(4096)
def _phase(at: int, taps: int, stride: int, dilation: int) -> tuple[int, int, int, int]:
    """Of the rows of dx that are congruent to row `at` of the padded x: the first tap that meets them, how many do, and the
    padding and dilation of the convolution of dy that gives them."""
    meet = [i for i in range(taps) if (at - i * dilation) % stride == 0]
    first, apart = meet[0] if meet else 0, dilation // gcd(stride, dilation)
    return first, len(meet), (len(meet) - 1) * apart - (at - first * dilation) // stride, apart


def weight_gradient(x: MaybeLazy, dy: MaybeLazy, s: ConvGeometry) -> Array:
    """`direct_weights.weight_gradient` for any dilation."""
    if s.dilation == 1:
        return direct_weights.weight_gradient(x, dy, s)
    x, dy = ready(materialize(x)), materialize(dy)
    dw = empty((s.KH, s.KW, s.C // s.groups, s.K), x.dtype)
    dw[...] = 0
    for i, j, row, column, tap in parts(s):
        part = dy[:, row : row + tap.OH, column : column + tap.OW]
        direct_weights.weight_gradient(x, part, tap, out=dw[i : i + 1, j : j + 1])
    return dw
