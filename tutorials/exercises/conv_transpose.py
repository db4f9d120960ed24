"""The transposed convolution

Lesson 03, about 60 minutes. Do conv_backward first. NumPy may be imported, nothing else.

Write `conv_transpose2d` and its backward. Every input pixel stamps x[n, h, w] @ w[i, j] onto the output at row h*s + i
and column w*s + j; where stamps overlap they add up. `padding` pixels are then cut off the border, and b is added if
there is one. It is the map dy -> dx of a convolution, used forwards: which of a convolution's three maps are its own
gradients?

Grade it with:  python -m minunet.grade conv_transpose.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]  # "same", "valid" or pixels


def window(padded: Array, i: int, j: int, OH: int, OW: int, stride: int = 1, dilation: int = 1) -> Array:
    """The view of a padded image that tap (i, j) reads: (N, OH, OW, C)."""
    i, j = i * dilation, j * dilation
    return padded[:, i : i + (OH - 1) * stride + 1 : stride, j : j + (OW - 1) * stride + 1 : stride]


def as_rows(a: Array) -> Array:
    """(N, H, W, C) as a matrix of pixels, (N*H*W, C); copies only if it must."""
    return a.reshape(-1, a.shape[-1])


def matmul(a: Array, m: Array) -> Array:
    """(N, H, W, C) times (C, K) as one large matrix product."""
    return (as_rows(a) @ m).reshape(*a.shape[:-1], m.shape[-1])


def pad_spatial(x: Array, pads: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    """x with zeros around its rows and columns; x itself if there are none to add."""
    if pads == ((0, 0), (0, 0)):
        return x
    return np.pad(x, ((0, 0), *pads, (0, 0)))


def resolve_padding(
    padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: int, dilation: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Turn any way of stating the padding into ((top, bottom), (left, right)), in pixels."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        total = [max(0, (-(-n // stride) - 1) * stride + dilation * (k - 1) + 1 - n) for n, k in zip(size, kernel)]
        rows, columns = ((t // 2, t - t // 2) for t in total)
        return rows, columns
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    try:
        rows, columns = ((p, p) if isinstance(p, int) else (int(p[0]), int(p[1])) for p in padding)
    except (TypeError, ValueError, IndexError):
        raise ValueError(
            f'padding must be "same", "valid", p, (rows, columns) or pairs of these, not {padding!r}'
        ) from None
    return rows, columns


# ---- yours -----------------------------------------------------------------------------------------------------------


def conv_transpose2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0
) -> tuple[Array, tuple]:
    """Transposed convolution: every input pixel stamps a KH x KW patch onto the output.

    Parameters
    ----------
    x : (N, H, W, C) float array
    w : (KH, KW, C, K) float array, for C input and K output channels
    b : (K,) float array or None
    stride : int
        Step between stamps, in output pixels.
    padding : as in `conv2d`, numbers only
        Pixels cut off the output's border: the padding of the convolution whose transpose this is. Where that has a stride,
        it maps several sizes to one; what PyTorch calls output padding says which of them this one gives: a padding of p with
        an output padding of q is ((p, p - q), (p, p - q)) here.

    Returns
    -------
    y : (N, OH, OW, K) float array, with OH = (H - 1)*stride + KH - top - bottom
    cache : tuple for `conv_transpose2d_backward`
    """
    raise NotImplementedError


def conv_transpose2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Gradients of `conv_transpose2d`: dy (N, OH, OW, K) to dx, dw and db (None without b)."""
    raise NotImplementedError
