"""Upsampling by a whole factor, and resizing to any size: nearest neighbour and bilinear.

Both are linear in x, and linear along rows and columns separately: with one interpolation matrix R (OH, H) for the rows
and one Q (OW, W) for the columns, each channel of each image is

    y = R x Q^T                        and so the gradient is its transpose,   dx = R^T dy Q

Row r of R says where output row r lies among the input rows. Two conventions exist:

    align_corners=True     r -> r * (H - 1) / (OH - 1)          first and last rows coincide
    align_corners=False    r -> (r + 1/2) * H / OH - 1/2        pixels are areas; clamped to the image

and the value is interpolated from the two rows beside that place: a row of R has two entries, which sum to 1. The nearest
neighbour needs no matrix: every pixel becomes a block, and the gradients of the block are summed.

To any size, up or down, the same matrices serve, for any H and OH; down, some rows of the input may not be read at all. Of the
nearest neighbours, output row r takes the input row floor(r * H / OH), as PyTorch does: R has a single 1 in each row, and R^T
dy sums the gradients of all rows that took the same one. Sizes are given, not factors: a factor that does not divide leaves
open whether H / OH or the factor places the pixels, and frameworks differ.
"""

from __future__ import annotations

import numpy as np

from ..array import Array, get_array_module
from .dispatch import accelerated


@accelerated
def upsample_nearest(x: Array, scale: int = 2) -> tuple[Array, tuple]:
    """Repeat every pixel as a scale x scale block: (N, H, W, C) to (N, scale*H, scale*W, C)."""
    return x.repeat(scale, axis=1).repeat(scale, axis=2), (scale,)


@accelerated
def upsample_nearest_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `upsample_nearest`: the sum over each block of dy (N, scale*H, scale*W, C)."""
    (scale,) = cache
    N, OH, OW, C = dy.shape
    return dy.reshape(N, OH // scale, scale, OW // scale, scale, C).sum((2, 4))


@accelerated
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

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> ops.upsample_bilinear(np.array([0.0, 3.0]).reshape(1, 1, 2, 1))[0][0, 0, :, 0].tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    H, W = x.shape[1:3]
    return _apply(
        x, interpolation_matrix(H, scale * H, align_corners), interpolation_matrix(W, scale * W, align_corners)
    ), (H, W, align_corners)


@accelerated
def upsample_bilinear_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `upsample_bilinear`: the same two matrices, transposed, applied to dy (N, scale*H, scale*W, C)."""
    H, W, align_corners = cache
    OH, OW = dy.shape[1:3]
    return _apply(dy, interpolation_matrix(H, OH, align_corners).T, interpolation_matrix(W, OW, align_corners).T)


@accelerated
def resize_nearest(x: Array, size: tuple[int, int]) -> tuple[Array, tuple]:
    """Take the pixel of row floor(r * H / OH), and of columns alike: (N, H, W, C) to (N, OH, OW, C), for size (OH, OW).

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> ops.resize_nearest(np.array([0.0, 1.0, 2.0]).reshape(1, 1, 3, 1), (1, 5))[0].ravel().tolist()
    [0.0, 0.0, 1.0, 1.0, 2.0]
    """
    (H, W), (OH, OW), xp = x.shape[1:3], size, get_array_module(x)
    rows, columns = xp.asarray(nearest_places(H, OH)), xp.asarray(nearest_places(W, OW))
    return x.take(rows, axis=1).take(columns, axis=2), (H, W)


@accelerated
def resize_nearest_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `resize_nearest`: every pixel of dx (N, H, W, C) gets the sum of dy (N, OH, OW, C) where it was taken."""
    rows, columns = (nearest_places(n, m)[:, None] == np.arange(n) for n, m in zip(cache, dy.shape[1:3]))
    return _apply(dy, rows.T, columns.T)


@accelerated
def resize_bilinear(x: Array, size: tuple[int, int], align_corners: bool = False) -> tuple[Array, tuple]:
    """Interpolate linearly along rows and columns, to any size.

    Parameters
    ----------
    x : (N, H, W, C) float array
    size : (OH, OW)
    align_corners : bool
        Which of the two conventions above places the output pixels.

    Returns
    -------
    y : (N, OH, OW, C) float array
    cache : tuple for `resize_bilinear_backward`; nothing of x's size

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> ops.resize_bilinear(np.array([0.0, 3.0]).reshape(1, 2, 1, 1), (3, 1), align_corners=True)[0].ravel().tolist()
    [0.0, 1.5, 3.0]
    """
    (H, W), (OH, OW) = x.shape[1:3], size
    rows, columns = interpolation_matrix(H, OH, align_corners), interpolation_matrix(W, OW, align_corners)
    return _apply(x, rows, columns), (H, W, align_corners)


@accelerated
def resize_bilinear_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `resize_bilinear`: the same two matrices, transposed, applied to dy (N, OH, OW, C)."""
    H, W, align_corners = cache
    OH, OW = dy.shape[1:3]
    return _apply(dy, interpolation_matrix(H, OH, align_corners).T, interpolation_matrix(W, OW, align_corners).T)


def nearest_places(n: int, m: int) -> np.ndarray:
    """Which of n rows each of m output rows takes: (m,) integers."""
    return np.arange(m) * n // m


def interpolation_matrix(n: int, m: int, align_corners: bool) -> np.ndarray:
    """The (m, n) float64 matrix that interpolates n values linearly at m places."""
    r = np.arange(m)
    below, nearness = places(n, m, align_corners)
    matrix = np.zeros((m, n))
    matrix[r, below] = 1 - nearness
    matrix[r, np.minimum(below + 1, n - 1)] += nearness
    return matrix


def places(n: int, m: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray]:
    """Where m output rows lie among n input rows: for each, the input row before it, and the next row's share, both (m,)."""
    r = np.arange(m)
    if align_corners:
        place = r * (n - 1) / max(m - 1, 1)
    else:
        place = np.clip((r + 0.5) * n / m - 0.5, 0, n - 1)
    below = np.minimum(place.astype(int), n - 1)
    return below, place - below


def _apply(x: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """rows @ x @ columns^T for every image and channel of x (N, H, W, C)."""
    xp = get_array_module(x)
    rows, columns = (xp.asarray(m, x.dtype) for m in (rows, columns))
    N, H, W, C = x.shape
    y = (rows @ x.reshape(N, H, W * C)).reshape(-1, W, C)
    return (columns @ y).reshape(N, len(rows), len(columns), C)
