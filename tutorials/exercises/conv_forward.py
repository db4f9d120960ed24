"""The convolution, forwards

Lesson 01, about 45 minutes. Do filter_image first. NumPy may be imported, nothing else.

Write `conv2d`. For one image

    y[h, w, k] = b[k] + sum over i, j, c of  x[h*s + i*d, w*s + j*d, c] * w[i, j, c, k]

where x is padded with zeros, s is the stride and d the dilation. The kernel is not flipped. How many zeros go where,
and how large y is, the given functions say. Return (y, cache); nobody looks at the cache yet, None will do. `groups`
stays 1. Loops over pixels are right; loops over the taps (i, j) alone are right and a thousand times faster.

Grade it with:  python -m minunet.grade conv_forward.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]  # "same", "valid" or pixels


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


def output_size(
    size: tuple[int, int],
    kernel: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
    stride: int,
    dilation: int = 1,
) -> tuple[int, int]:
    """Rows and columns of a convolution's or a pool's output; ValueError if the filter does not fit."""
    OH, OW = ((n + sum(p) - dilation * (k - 1) - 1) // stride + 1 for n, k, p in zip(size, kernel, pads))
    if OH < 1 or OW < 1:
        raise ValueError(f"a {kernel} filter with dilation {dilation} does not fit into {size} pixels padded by {pads}")
    return OH, OW


# ---- yours -----------------------------------------------------------------------------------------------------------


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Array, tuple]:
    """Convolve x (N, H, W, C) with w (KH, KW, C, K), and add b (K,) if there is one: (y, cache).

    y is (N, OH, OW, K). padding is "same", "valid", a number of pixels or pairs, see `resolve_padding`."""
    raise NotImplementedError
