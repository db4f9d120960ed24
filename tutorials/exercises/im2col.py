"""Image to columns: a convolution as one matrix product

Lesson 01, about 30 minutes. Do conv_forward first. NumPy may be imported, nothing else.

Write `im2col`, which lays every output pixel's patch down as a row of a matrix, and with it `conv2d_im2col`: then the
whole convolution is a single product, rows @ (w as a matrix).

Grade it with:  python -m minunet.grade im2col.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def im2col(x: Array, KH: int, KW: int, stride: int = 1) -> Array:
    """Every output pixel's patch as a row of a matrix; no padding.

    x (N, H, W, C) to (N*OH*OW, KH*KW*C), with OH = (H - KH) // stride + 1 and OW alike. Rows in the order of (n, h, w), the
    numbers of a row in the order of (i, j, c).
    """
    raise NotImplementedError


def conv2d_im2col(x: Array, w: Array, stride: int = 1) -> Array:
    """The convolution without padding, as one matrix product: x (N, H, W, C), w (KH, KW, C, K) to (N, OH, OW, K)."""
    raise NotImplementedError
