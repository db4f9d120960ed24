"""Unpooling, both ways

Lesson 14, about 30 minutes. Do max_pool first. NumPy may be imported, nothing else.

Write `unpool` and its backward, SegNet's way up: every value goes back to the pixel that was the largest of its window,
all other pixels get 0. Windows are size x size and do not overlap. The map that was pooled may have had rows or columns
that filled no window: they get 0, too. The backward is the adjoint of the forward, <y, dy> = <x, dx>. You choose what
the cache holds.

Grade it with:  python -m minunet.grade unpool.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def unpool(x: Array, winner: Array, output_size: tuple[int, int], size: int = 2) -> tuple[Array, tuple]:
    """Put every value where the winner of its window was, and zeros elsewhere: x (N, OH, OW, C) to (y, cache), y (N, H, W, C).

    winner (N, OH, OW, C) uint8 has the winners' numbers: i*size + j for the pixel in row i and column j of its size x size
    window. output_size is (H, W), of the map that was pooled; rows and columns that filled no window were dropped by the pool.
    """
    raise NotImplementedError


def unpool_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `unpool`: dy (N, H, W, C) to dx (N, OH, OW, C)."""
    raise NotImplementedError
