"""What an output pixel depends on: within its receptive field, the gradient that says which input pixels count.

Source: Luo et al., arXiv:1701.04128, on how few of the field do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..models.receptive_field import Range
from ..nn import Module


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
