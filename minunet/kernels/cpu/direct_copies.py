"""What direct convolutions copy: pixels into a band or a tile, and a slice of the filters into the L1 cache."""

from __future__ import annotations

from numba import njit

from .epilogues import PLAIN, read
from .simd import clear, copy, lanes_of, offset, pointer, transpose
from .simd_gemm import PANEL


@njit
def copy_rows(to, to_row, source, source_row, rows, numbers):
    """Copy rows of so many numbers. A whole panel's row is a few instructions where its length is known to the compiler, and
    otherwise the call of a function, which takes as long as the copy."""
    whole = PANEL * lanes_of(to)
    if numbers == whole:
        for n in range(rows):
            copy(offset(to, n * to_row), offset(source, n * source_row), whole)
        return
    for n in range(rows):
        copy(offset(to, n * to_row), offset(source, n * source_row), numbers)


@njit
def fill_from(to, to_pixel, operand, image, channel, channels, row, rows, column, columns):
    """Copy a window of an image's pixels, materialized, `to_pixel` numbers apart, with zeros where it reaches outside."""
    _, H, W, C = operand.x.shape
    first, end = min(max(0, -column), columns), max(0, min(columns, W - column))
    whole = operand.mode == PLAIN and channels == C == to_pixel
    for r in range(row, row + rows):
        here, pixel = to, (image * H + r) * W + column
        to = offset(to, columns * to_pixel)
        if r < 0 or r >= H or first >= end:
            for n in range(columns):
                clear(offset(here, n * to_pixel), channels)
            continue
        for n in range(first):
            clear(offset(here, n * to_pixel), channels)
        if whole:
            copy(offset(here, first * C), offset(pointer(operand.x), (pixel + first) * C), (end - first) * C)
        elif operand.mode == PLAIN:  # `read` does the same, at several times the cost for a few numbers
            source = offset(pointer(operand.x), (pixel + first) * C + channel)
            copy_rows(offset(here, first * to_pixel), to_pixel, source, C, end - first, channels)
        else:
            read(offset(here, first * to_pixel), to_pixel, operand, pixel + first, end - first, channel, channels)
        for n in range(end, columns):
            clear(offset(here, n * to_pixel), channels)


@njit
def fill(to, a, b, image, channel, channels, row, rows, column, columns):
    """The same from two maps side by side; channels are counted through both."""
    Ca = a.x.shape[3]
    here = min(max(Ca - channel, 0), channels)
    if here > 0:
        fill_from(to, channels, a, image, channel, here, row, rows, column, columns)
    if here < channels:
        rest = max(channel - Ca, 0)
        fill_from(offset(to, here), channels, b, image, rest, channels - here, row, rows, column, columns)


@njit
def pack(to, panel, w, start, strides, C, first, rows, real):
    """Copy `rows` of a tap row's KW*C rows of w, `real` columns each, into a slice with `panel` numbers a row."""
    _, _, _, J, R, O = strides
    size = lanes_of(w)
    end = first + rows
    while first < end:
        j, c = first // C, first % C
        run = min(C - c, end - first)
        at = start + j * J + c * R
        source = offset(pointer(w), at)
        if O == 1:
            copy_rows(to, panel, source, R, run, real)
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
