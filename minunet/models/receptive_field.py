"""How far a network looks: the pixels of the image that an output pixel depends on.

It follows from the layers alone, separately for rows and columns. We walk back from the output: every layer turns the range of
pixels that is wanted of its output into the range that it reads of its input (`nn.Window`). If two layers read the same map, as
pool and skip do, the range that covers both is taken.

Source: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil, lcm
from typing import Any

from ..nn import Window
from .trace import Map, Step, Trace

Range = tuple[Any, Any]  # first and last row (or column), both included; empty if first > last
EMPTY: Range = (1, 0)


def receptive_field(trace: Trace, pixel: tuple[int, int]) -> tuple[Range, Range]:
    """The rows and the columns of the image that an output pixel (row, column) can depend on, as (first, last) each."""
    rows, columns = (walk_back(trace, axis, (pixel[axis], pixel[axis]), pixels_read) for axis in (0, 1))
    return rows, columns


def reach(trace: Trace) -> int:
    """How many pixels away from an output pixel, wherever it lies, the image can still change it.

    For networks whose output is as large as the image. Layers that look at all of their map are not counted; `why_not_local`
    tells whether there are any. A U-Net of depth 4 reaches 6 * 16 - 4 pixels by its convolutions, and 15 by its pools.
    """
    farthest = 0
    for axis in (0, 1):
        for pixel in (0, trace.output.shape[1 + axis] - 1):  # the same everywhere, except for aligned corners
            field = walk_back(trace, axis, (Fraction(pixel), Fraction(pixel)), places_read)
            if not is_empty(field):
                farthest = max(farthest, ceil(pixel - field[0]), ceil(field[1] - pixel))
    return farthest


def why_not_local(trace: Trace) -> str:
    """Why a network that sees only a part of the image, however large, can give another result; "" if it cannot."""
    for step in trace.steps:
        d = step.description
        if any(d.window(i, axis).whole for i in range(len(step.inputs)) for axis in (0, 1)):
            return f"{d.words or step.name} takes in all of its map, here each window"
        if d.depends_on_size:
            return f"{d.words or step.name} depends on the size of its map, here of the window"
    return ""


def stride(trace: Trace) -> int:
    """The step, in pixels of the image, after which the grids of all maps repeat: 2^depth in a U-Net.

    A map that is made from all of another one, such as its mean, has no grid.
    """
    found = 1
    for axis in (0, 1):
        spacing = {trace.image: Fraction(1)}  # pixels of the image from one pixel of a map to the next
        for step in trace.steps:
            for i, x in enumerate(step.inputs):
                if x in spacing and (factor := spacing_factor(step, i, axis)):
                    spacing.update(dict.fromkeys(step.outputs, spacing[x] * factor))
        found = lcm(found, *(s.numerator for s in spacing.values()))
    return found


def spacing_factor(step: Step, i: int, axis: int) -> Fraction:
    """How far apart, in pixels of a step's input i, two neighbouring output pixels read; 0 if all read the same."""
    window, (n, m) = step.description.window(i, axis), (step.inputs[i].shape[1 + axis], step.outputs[0].shape[1 + axis])
    if window.whole:
        return Fraction(n == m)
    factor = Fraction(window.down, window.up)
    # with aligned corners the factor is (n - 1) / (m - 1), which counts as n / m
    aligned = n < m and m % n == 0 and factor == Fraction(n - 1, m - 1)
    return Fraction(n, m) if aligned else factor


def walk_back(trace: Trace, axis: int, wanted: Range, read: Callable[[Window, Range, int, int], Range]) -> Range:
    """The range of the image that a range of the output depends on; `read` gives what each layer reads."""
    ranges: dict[Map, Range] = {trace.output: wanted}
    for step in reversed(trace.steps):
        out = EMPTY
        for y in step.outputs:
            out = unite(out, ranges.pop(y, EMPTY))
        if is_empty(out):
            continue
        for i, x in enumerate(step.inputs):
            sizes = x.shape[1 + axis], step.outputs[0].shape[1 + axis]
            ranges[x] = unite(ranges.get(x, EMPTY), read(step.description.window(i, axis), out, *sizes))
    return ranges.get(trace.image, EMPTY)


def pixels_read(window: Window, out: Range, size: int, out_size: int) -> Range:
    """The pixels of an input of `size` that a range of the output reads."""
    if window.whole:
        return 0, size - 1
    first, last = out
    first = -(-(first * window.down + window.first) // window.up)  # rounded up
    last = (last * window.down + window.last) // window.up
    return max(first, 0), min(last, size - 1)


def places_read(window: Window, out: Range, size: int, out_size: int) -> Range:
    """The same without rounding and borders, so that it holds for every pixel; layers that read all of a map do not count."""
    if window.whole:
        return out if size == out_size else EMPTY
    first, last = out
    return (first * window.down + window.first) / window.up, (last * window.down + window.last) / window.up


def unite(a: Range, b: Range) -> Range:
    """The smallest range that holds both."""
    if is_empty(a) or is_empty(b):
        return b if is_empty(a) else a
    return min(a[0], b[0]), max(a[1], b[1])


def is_empty(a: Range) -> bool:
    return bool(a[0] > a[1])
