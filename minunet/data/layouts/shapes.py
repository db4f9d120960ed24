"""Drawn outlines as masks: polygons, rectangles, ellipses, and COCO's run lengths.

Outlines are (x, y) with (0, 0) at the corner of the first pixel, as COCO, LabelMe and ImageJ have them. A pixel belongs to an
outline if its middle lies inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import UserError

Points = Sequence[Sequence[float]]


def polygon(points: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels (H, W) bool inside a closed outline (n, 2) of x and y.

    Examples
    --------
    >>> polygon([(1, 0), (3, 0), (3, 2), (1, 2)], (3, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    from skimage.draw import polygon as fill

    outline = np.asarray(points, float).reshape(-1, 2)
    mask = np.zeros(size, bool)
    if len(outline) >= 3 and np.isfinite(outline).all():
        outline = (
            np.clip(outline, -1e6, 1e6) - 0.5 + 1e-7
        )  # what lies on an edge belongs to the pixel on its right and below
        mask[fill(outline[:, 1], outline[:, 0], size)] = True
    return mask


def rectangle(corners: Points, size: tuple[int, int]) -> np.ndarray:
    """The pixels inside a rectangle of two corners."""
    (x0, y0), (x1, y1) = corners[:2]
    return polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], size)


def ellipse(left: float, top: float, width: float, height: float, size: tuple[int, int]) -> np.ndarray:
    """The pixels inside an ellipse in a box."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return (((x - left) / width - 0.5) ** 2 + ((y - top) / height - 0.5) ** 2 <= 0.25) if width and height else x < 0


def run_lengths(stored: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The pixels of COCO's run lengths {"size": [H, W], "counts": list or text}; they go down the columns, first outside."""
    counts = stored.get("counts") if isinstance(stored, dict) else None
    if isinstance(counts, str):
        counts = unpack_counts(counts)
    if not isinstance(counts, list) or list(stored.get("size", [])) != list(size):
        raise UserError(
            f"{where}: run lengths of the size {stored.get('size') if isinstance(stored, dict) else None}, the image is {size}"
        )
    whole = all(isinstance(n, int) and n >= 0 for n in counts)
    if not whole or sum(counts) != size[0] * size[1]:
        raise UserError(
            f"{where}: run lengths that do not fill an image of {size[1]}x{size[0]} pixels; export it again"
        )
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(size[1], size[0]).T


def unpack_counts(text: str) -> list[int]:
    """Run lengths from COCO's text: numbers in groups of five bits, each the difference to the one two before."""
    counts: list[int] = []
    value, shift = 0, 0
    for c in text:
        bits = ord(c) - 48
        if not 0 <= bits < 64 or shift > 60:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    return counts


class Canvas:
    """A mask that is drawn object by object; small objects are drawn over large ones, whatever their order."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.drawn: list[tuple[np.ndarray, int]] = []
        self.ignored = np.zeros(size, bool)

    def add(self, mask: np.ndarray, value: int) -> None:
        """Add an object of a class; one without pixels is dropped."""
        if mask.any():
            self.drawn.append((np.flatnonzero(mask), value))

    def ignore(self, mask: np.ndarray) -> None:
        """Add pixels that do not count."""
        self.ignored |= mask

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Values (H, W) uint8, object numbers (H, W) int32, and where it counts (None: everywhere)."""
        values, numbers = np.zeros(self.size, np.uint8), np.zeros(self.size, np.int32)
        order = sorted(range(len(self.drawn)), key=lambda i: -len(self.drawn[i][0]))
        for i in order:
            pixels, value = self.drawn[i]
            values.flat[pixels], numbers.flat[pixels] = value, i + 1
        counts = ~self.ignored | (numbers > 0)
        return values, numbers, None if counts.all() else counts
