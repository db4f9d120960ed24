"""Concatenation of maps on the CPU, where it is made: of three or more, or outside of networks.

Of two maps a network's kernels need no array (`LazyConcat` of ops/lazy.py). Of more, each is written beside the others once:

    for each map, for each row of pixels, in parallel:   for each pixel, for each channel:   what the map stands for, so that a
                                                          norm or a ReLU that has still to be applied is done on the way

These are plain loops, which the compiler turns into vector instructions: a call of `read` (epilogues.py) for every pixel would
take twice as long.

Shapes: (N, H, W, C) each, contiguous or not, float32 and float64.
"""

from __future__ import annotations

from collections.abc import Sequence

from numba import prange

from ...array import Array
from ...ops import lazy
from ...ops.lazy import MaybeLazy, fusing
from .epilogues import PLAIN, RELU, operand
from .launch import kernel
from .memory import empty


def concat(arrays: Sequence[MaybeLazy]) -> tuple[MaybeLazy, tuple]:
    """The kernel of `ops.concat`."""
    if len(arrays) == 2 and fusing():
        return lazy.concat(arrays)
    channels = tuple(a.shape[-1] for a in arrays)
    y: Array = empty((*arrays[0].shape[:3], sum(channels)), arrays[0].dtype)
    first = 0
    for a, C in zip(arrays, channels):
        place(*operand(a), y, first)
        first += C
    return y, channels


@kernel
def place(x, other, table, mode, y, first):
    """The channels of y (N, H, W, K) from `first` on = the values of a map (N, H, W, C), whose Operand comes in its parts."""
    N, H, W, C = x.shape
    zero = y.dtype.type(0)
    for row in prange(N * H):
        n, h = row // H, row % H
        for column in range(W):
            to, a = y[n, h, column, first : first + C], x[n, h, column]
            if mode == PLAIN:
                for c in range(C):
                    to[c] = a[c]
            elif mode == RELU:
                for c in range(C):
                    value = a[c] * table[0, c] + table[1, c]
                    to[c] = zero if value < zero else value
            else:
                b = other[n, h, column]
                for c in range(C):
                    to[c] = table[0, c] * a[c] + table[1, c] * b[c] + table[2, c]
