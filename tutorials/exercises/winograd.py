"""One tile of Winograd's convolution

Lesson 08, about 45 minutes. Do conv_forward first. NumPy may be imported, nothing else.

A tile of 4x4 outputs of a 3x3 convolution reads 6x6 inputs and takes 144 multiplications a channel. With the matrices
given it takes 36: Y = A^T [ (B^T X B) * (G g G^T) ] A. Write the three transforms and the product between them. The
grader puts your parts together, with its own product too, and compares with a convolution.

Grade it with:  python -m minunet.grade winograd.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


BT = (
    (1, -3 / 2, -2, 3 / 2, 1, 0),
    (0, -1, 1 / 2, 5 / 2, 1, 0),
    (0, 1, -5 / 2, 1 / 2, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 1 / 2, -1, -1 / 2, 1, 0),
    (0, 1, -3 / 2, -2, 3 / 2, 1),
)


G = (
    (1, 0, 0),
    (1 / 3, 1 / 3, 1 / 3),
    (-1 / 3, 1 / 3, -1 / 3),
    (-16 / 15, -8 / 15, -4 / 15),
    (1 / 15, -2 / 15, 4 / 15),
    (0, 0, 1),
)


AT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 1 / 2, -2, 0),
    (0, 1, 1, 1 / 4, 4, 0),
    (0, 1, -1, 1 / 8, -8, 1),
)


# ---- yours -----------------------------------------------------------------------------------------------------------


def transform_input(d: Array) -> Array:
    """B^T d B for a tile of 6x6 pixels, for every channel: (6, 6, C) to (6, 6, C)."""
    raise NotImplementedError


def transform_filter(g: Array) -> Array:
    """G g G^T for 3x3 filters: (3, 3, C, K) to (6, 6, C, K)."""
    raise NotImplementedError


def multiply_points(v: Array, u: Array) -> Array:
    """Multiply point by point and sum over the channels: v (6, 6, C), u (6, 6, C, K) to (6, 6, K)."""
    raise NotImplementedError


def transform_output(m: Array) -> Array:
    """A^T m A: the 4x4 outputs of the tile, (6, 6, K) to (4, 4, K)."""
    raise NotImplementedError
