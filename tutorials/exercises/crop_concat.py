"""Crop and concat: the joint of a skip connection

Lesson 03, about 20 minutes. NumPy may be imported, nothing else.

Write `crop` and `concat` and their backwards. They move values and change none, so their gradients move them back.
Margins are ((top, bottom), (left, right)) pixels to cut off; channels are stacked in the order given. You choose the
caches.

Grade it with:  python -m minunet.grade crop_concat.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


Margins = tuple[tuple[int, int], tuple[int, int]]


# ---- yours -----------------------------------------------------------------------------------------------------------


def crop(x: Array, margins: Margins) -> tuple[Array, tuple]:
    """Cut the margins off x (N, H, W, C): (y, cache)."""
    raise NotImplementedError


def crop_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `crop`: dy to dx, in the shape of the x that was cropped."""
    raise NotImplementedError


def concat(arrays: Sequence[Array]) -> tuple[Array, tuple]:
    """Stack (N, H, W, C1), (N, H, W, C2), ... along the channels, in this order: (y, cache)."""
    raise NotImplementedError


def concat_backward(dy: Array, cache: tuple) -> tuple[Array, ...]:
    """Gradient of `concat`: a tuple with one gradient for each array."""
    raise NotImplementedError
