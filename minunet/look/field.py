"""What an output pixel depends on: the box of input pixels that can change it, and the gradient that says which ones do.

The box (the receptive field) follows from the layers alone, rows and columns each on their own: walking back through the
calls, every layer turns the range of pixels wanted of its output into the range it reads of its input. Where a map has two
readers, the pool and the skip, the ranges unite.

Sources: Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill, 2019; Luo et al.,
arXiv:1701.04128, on how little of the field counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..models.blocks import Join
from ..nn import AvgPool2d, Conv2d, ConvTranspose2d, GroupNorm, MaxPool2d, Module, UpsampleBilinear, UpsampleNearest
from ..ops.conv import resolve_padding
from ..ops.resample import places
from .record import Call

Range = tuple[int, int]  # first and last row (or column), both included; empty if first > last
EMPTY = (1, 0)


def receptive_field(calls: list[Call], pixel: tuple[int, int]) -> tuple[Range, Range]:
    """The rows and the columns of the image that an output pixel (row, column) can depend on.

    Parameters
    ----------
    calls : list of Call
        From `record`: the network's layers on this image.
    pixel : (row, column) of the logits
    """
    fields = []
    for axis in (0, 1):
        wanted = {id(calls[-1].output): (pixel[axis], pixel[axis])}
        for call in reversed(calls):
            out = wanted.pop(id(call.output), EMPTY)
            sizes = [a.shape[1 + axis] for a in call.inputs]
            for x, read in zip(call.inputs, read_by(call, axis, out, sizes)):
                wanted[id(x)] = unite(wanted.get(id(x), EMPTY), clip(read, x.shape[1 + axis]))
        fields.append(wanted[id(calls[0].inputs[0])])
    return fields[0], fields[1]


def read_by(call: Call, axis: int, out: Range, sizes: list[int]) -> list[Range]:
    """What a layer reads of its inputs, of these sizes, along an axis for a range of its output; may reach over the edges."""
    m, (first, last) = call.module, out
    if first > last:
        return [EMPTY] * len(sizes)
    if isinstance(m, Conv2d):
        s, d = m.options["stride"], m.options["dilation"]
        K, before = m.params["w"].shape[axis], padding_of(m, call, s, d)[axis][0]
        return [(first * s - before, last * s - before + d * (K - 1))]
    if isinstance(m, ConvTranspose2d):  # input pixel i stamps the outputs i*s - before ... i*s - before + K - 1
        s = m.options["stride"]
        K, before = m.params["w"].shape[axis], padding_of(m, call, s, 1)[axis][0]
        return [(-((K - 1 - first - before) // s), (last + before) // s)]
    if isinstance(m, (MaxPool2d, AvgPool2d)):
        s = m.options["stride"] or m.options["size"]
        return [(first * s, last * s + m.options["size"] - 1)]
    if isinstance(m, UpsampleNearest):
        return [(first // m.options["scale"], last // m.options["scale"])]
    if isinstance(m, UpsampleBilinear):
        below, nearness = places(sizes[0], sizes[0] * m.options["scale"], m.options["align_corners"])
        return [(int(below[first]), int(below[last]) + bool(nearness[last] > 0))]
    if isinstance(m, Join):  # whichever is smaller lies in the middle of the other
        OH = call.output.shape[1 + axis]
        before = [(n - OH) // 2 if n >= OH else -((OH - n) // 2) for n in sizes]
        return [(first + b, last + b) for b in before]
    if isinstance(m, GroupNorm):  # its statistics are taken from the whole map
        return [(0, sizes[0] - 1)]
    return [out]  # a ReLU, a dropout, or a batch norm with its running statistics: pixel by pixel


def padding_of(m: Module, call: Call, stride: int, dilation: int) -> Any:
    """((top, bottom), (left, right)) of a convolution, or of the one that it transposes."""
    H, W = call.inputs[0].shape[1:3]
    return resolve_padding(m.options["padding"], (H, W), m.params["w"].shape[:2], stride, dilation)  # type: ignore[attr-defined]


def unite(a: Range, b: Range) -> Range:
    """The smallest range that holds both."""
    if a[0] > a[1] or b[0] > b[1]:
        return b if a[0] > a[1] else a
    return min(a[0], b[0]), max(a[1], b[1])


def clip(a: Range, size: int) -> Range:
    """What of a range lies on a map of that size."""
    first, last = max(a[0], 0), min(a[1], size - 1)
    return (first, last) if first <= last else EMPTY


def grid(size: int, n: int = 8) -> list[int]:
    """Up to n rows (or columns) of a map, evenly spread."""
    n = min(n, size)
    return [int((i + 0.5) * size / n) for i in range(n)]


def pixel_gradients(
    model: Module, x: np.ndarray, pixels: list[tuple[int, int]], boxes: list[tuple[Range, Range]], classes: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """For each output pixel the gradient of one logit, that of the class given for it, with respect to the image.

    Pixels whose receptive fields lie apart share a pass through the network, as their gradients do not meet: a large image
    takes fewer of its long passes.

    Parameters
    ----------
    model : Module
    x : (1, H, W, C) array
    pixels : list of (row, column)
    boxes : list of (rows, columns)
        Their receptive fields.
    classes : (OH, OW) array of the numbers of logits

    Yields
    ------
    i : int
        Number of the pixel.
    gradient : (H, W, C) array
    """
    for group in lying_apart(boxes):
        logits, cache = model.forward(x, train=False)
        dlogits = np.zeros_like(logits)
        for row, column in (pixels[i] for i in group):
            dlogits[0, row, column, classes[row, column]] = 1
        dx = model.backward(dlogits, cache)[0]
        for i in group:
            (top, bottom), (left, right) = boxes[i]
            own = np.s_[top : bottom + 1, left : right + 1]
            gradient = np.zeros_like(dx)
            gradient[own] = dx[own]
            yield i, gradient
    model.zero_grad()


def lying_apart(boxes: list[tuple[Range, Range]]) -> list[list[int]]:
    """Numbers of boxes in groups, of which no two of a group overlap."""
    groups: list[list[int]] = []
    for i, box in enumerate(boxes):
        free = (g for g in groups if not any(overlap(box, boxes[k]) for k in g))
        group = next(free, None)
        if group is None:
            groups.append(group := [])
        group.append(i)
    return groups


def overlap(a: tuple[Range, Range], b: tuple[Range, Range]) -> bool:
    """Whether two boxes have a pixel in common."""
    return all(max(p[0], q[0]) <= min(p[1], q[1]) for p, q in zip(a, b))
