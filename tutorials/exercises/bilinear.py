"""Bilinear upsampling and its adjoint

Lesson 03, about 60 minutes. NumPy may be imported, nothing else.

Write `upsample_bilinear` and its backward. Interpolation is linear along rows and columns separately, so it can be
written with one matrix for each. Where output row r lies among the input rows, two conventions say differently:

    align_corners=True     r -> r * (H - 1) / (OH - 1)          first and last rows coincide
    align_corners=False    r -> (r + 1/2) * H / OH - 1/2        pixels are areas; clamped to the image

and the value is mixed from the two rows beside that place, in proportion to nearness. The backward is the adjoint of
the forward, for which <y, dy> = <x, dx> whatever x and dy: the grader tries it. You choose what the cache holds.

Grade it with:  python -m minunet.grade bilinear.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def upsample_bilinear(x: Array, scale: int = 2, align_corners: bool = True) -> tuple[Array, tuple]:
    """Interpolate linearly along rows and columns.

    Parameters
    ----------
    x : (N, H, W, C) float array
    scale : int
        Output pixels per input pixel, along each axis.
    align_corners : bool
        Which of the two conventions above places the output pixels.

    Returns
    -------
    y : (N, scale*H, scale*W, C) float array
    cache : tuple for `upsample_bilinear_backward`; nothing of x's size
    """
    raise NotImplementedError


def upsample_bilinear_backward(dy: Array, cache: tuple) -> Array:
    """The adjoint: dy (N, scale*H, scale*W, C) to dx (N, H, W, C)."""
    raise NotImplementedError
