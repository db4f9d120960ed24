"""The eight symmetries of the square, for averaging predictions over flips and rotations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Symmetry(NamedTuple):
    """Flip rows, flip columns, then exchange the two; with all three an image X becomes swapaxes(X[::-1, ::-1], 0, 1)."""

    flip_rows: bool
    flip_columns: bool
    exchange: bool

    def turn(self, x: np.ndarray) -> np.ndarray:
        """An image (H, W, ...) as the network sees it."""
        x = x[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return x.swapaxes(0, 1) if self.exchange else x

    def back(self, v: np.ndarray) -> np.ndarray:
        """The inverse of `turn`."""
        v = v.swapaxes(0, 1) if self.exchange else v
        return v[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def rays_back(self, count: int) -> np.ndarray:
        """Which ray of the turned image each of so many rays, a multiple of 4, is: (count,) indices."""
        k = np.arange(count)
        k = count // 4 - k if self.exchange else k  # sine and cosine change places
        k = -k if self.flip_rows else k
        k = count // 2 - k if self.flip_columns else k
        return np.argsort(k % count)

    def turn_part(self, rows: slice, columns: slice, size: tuple[int, int]) -> tuple[slice, slice]:
        """Where rows and columns of an image of that size lie in the turned image."""
        (H, W) = size
        rows = slice(H - rows.stop, H - rows.start) if self.flip_rows else rows
        columns = slice(W - columns.stop, W - columns.start) if self.flip_columns else columns
        return (columns, rows) if self.exchange else (rows, columns)

    def indices_back(
        self, rows: np.ndarray, columns: np.ndarray, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which rows and columns of the image lie at these of the turned image."""
        rows, columns = (columns, rows) if self.exchange else (rows, columns)
        (H, W) = size
        return H - 1 - rows if self.flip_rows else rows, W - 1 - columns if self.flip_columns else columns


SYMMETRIES = [
    Symmetry(*flags)
    for flags in (
        (False, False, False), (True, True, False), (False, True, True), (True, False, True),  # turned by 0, 180, 90, 270
        (False, True, False), (True, False, False), (False, False, True), (True, True, True),  # and mirrored
    )
]  # fmt: skip
"""The image as it is, its three rotations, then the mirror image and its three rotations."""
