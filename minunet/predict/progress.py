"""What a prediction tells of itself while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np

from .results import ImageResult


class Progress:
    """Does nothing; a subclass shows or counts what it likes."""

    shows_overlays = False  # whether pictures are to be made for `overlay` even if they are not written

    def step(self, what: str, done: int, total: int) -> None:
        """So many of the images ("image"), of an image's tiles ("tile") or blocks of objects ("block") are done."""

    def counter(self, what: str, total: int) -> Callable[[], None]:
        """A function that counts steps up and tells of each."""
        done = count(1)
        return lambda: self.step(what, next(done), total)

    def image(self, result: ImageResult) -> None:
        """An image is finished, and its files are written."""

    def overlay(self, path: Path, picture: np.ndarray) -> None:
        """The overlay (h, w, 3) uint8 of an image, or of a page."""
