"""What is called while a prediction goes on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np

from .results import ImageResult


class Progress:
    """Base of objects that follow a prediction; it does nothing, subclasses show or count what they like."""

    shows_overlays = False  # whether pictures are to be made for `overlay` even if they are not written

    def step(self, what: str, done: int, total: int) -> None:
        """`done` of `total` steps are done; `what` is "image", "tile" (of an image), or "block" (of its objects).

        Where many processes work, `what` is one of `minunet.predict.distributed.tasks.STEPS` in the place of tiles and blocks.
        """

    def counter(self, what: str, total: int) -> Callable[[], None]:
        """A function that calls `step` with the next number each time."""
        done = count(1)
        return lambda: self.step(what, next(done), total)

    def plan(self, text: str) -> None:
        """Called before the work on an image begins that many processes do, with how they will do it."""

    def image(self, result: ImageResult) -> None:
        """Called when an image is finished and its files are written."""

    def overlay(self, path: Path, picture: np.ndarray) -> None:
        """Called with the overlay (h, w, 3) uint8 of an image, or of a page."""
