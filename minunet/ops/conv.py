"""Convolution, its transpose, and their gradients, as KH*KW shifted matrix products.

Write x for the padded input, s for the stride, d for the dilation. For one image and one group

    y[h, w, k] = b[k] + sum over i, j, c of  x[h*s + i*d, w*s + j*d, c] * w[i, j, c, k]                            (1)

Fix the tap (i, j). What it reads is a *window* of x: the view x[i*d :: s, j*d :: s] cut to the output's size OH x OW.
As a matrix of OH*OW rows and C columns it meets the C x K matrix w[i, j], so

    y = b + sum over taps of  window(x, i, j) @ w[i, j]                                                            (2)

and a convolution is KH*KW matrix products: no loop over pixels, and no im2col, which would hold all the windows at once.

Now let L be the loss and dy = dL/dy. By (2) y is a sum of products A @ B, and for P = A @ B the chain rule gives
dA = dP @ B^T and dB = A^T @ dP. Taking each tap in turn:

    dw[i, j]         = window(x, i, j)^T @ dy               what the tap read, correlated with the output's gradient
    window(dx, i, j) += dy @ w[i, j]^T                      the tap's share goes back to the pixels that it read
    db               = sum of dy over images, rows and columns

A pixel lies in several windows, hence the +=. What fell on the padding is cut off at the end.

The *transposed* convolution is the map dy -> dx above, used forwards: every input pixel stamps x[h, w] @ w[i, j] onto the
output at (h*s + i, w*s + j). Its own gradients are then a plain convolution's forward (dx) and weight gradient (dw). The
2x2 transposed convolution with stride 2 is the paper's "up-convolution": its stamps do not overlap.

Shapes (NHWC and HWIO): x (N, H, W, C), w (KH, KW, C/groups, K), b (K,), y (N, OH, OW, K).
As in every framework, "convolution" means a cross-correlation: the filter is not flipped.

Sources: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..array import Array, get_array_module
from .dispatch import accelerated

Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]  # "same", "valid" or pixels


@accelerated
def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    groups: int = 1,
) -> tuple[Array, tuple]:
    """Convolve a batch of images with a bank of filters, equation (2) above.

    Parameters
    ----------
    x : (N, H, W, C) float array
    w : (KH, KW, C/groups, K) float array, of the dtype of x
    b : (K,) float array or None
    stride : int
        Step between output pixels, in input pixels.
    padding : "same", "valid", int, (int, int) or ((int, int), (int, int))
        Zeros around x. "valid": none. "same": so many that OH = ceil(H/stride) (if dilation*(KH-1) + 1 >= stride); of an odd
        number, the extra one is below or to the right. Numbers are pixels for all sides, for (rows, columns), or for
        ((top, bottom), (left, right)).
    dilation : int
        Step between a filter's taps, in input pixels.
    groups : int
        Number of independent groups into which channels and filters are split; groups = C is a depthwise convolution.

    Returns
    -------
    y : (N, OH, OW, K) float array, with OH = (H + top + bottom - dilation*(KH-1) - 1) // stride + 1
    cache : tuple for `conv2d_backward`; holds x itself, not a copy

    Raises
    ------
    ValueError
        If the channels of x and w disagree, do not divide by groups, or the filter is larger than the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> x, w = np.ones((1, 4, 4, 2)), np.ones((3, 3, 2, 5))
    >>> y, cache = ops.conv2d(x, w)
    >>> y.shape, y[0, :, :, 0].tolist()[0]  # four taps of a corner's nine lie on the image, six of an edge's
    ((1, 4, 4, 5), [8.0, 12.0, 12.0, 8.0])
    >>> dx, dw, db = ops.conv2d_backward(np.ones_like(y), cache)
    >>> dx.shape, dw.shape, db
    ((1, 4, 4, 2), (3, 3, 2, 5), None)
    """
    xp = get_array_module(x)
    (N, H, W, C), (KH, KW, Cg, K) = x.shape, w.shape
    if Cg * groups != C or K % groups:
        raise ValueError(f"x has {C} channels, w takes {Cg} in each of {groups} groups and gives {K}")
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    padded = pad_spatial(x, pads)
    y = xp.zeros((N, OH, OW, K), x.dtype)
    for i, j, cs, ks in taps(w.shape, groups):
        y[..., ks] += matmul(window(padded, i, j, OH, OW, stride, dilation)[..., cs], w[i, j, :, ks])
    if b is not None:
        y += b
    return y, (x, w, b is not None, stride, pads, dilation, groups)


@accelerated
def conv2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Gradients of `conv2d`: dy (N, OH, OW, K) to dx, dw and db, in the shapes of x, w and b (db is None without b)."""
    x, w, has_bias, stride, pads, dilation, groups = cache
    xp = get_array_module(x)
    (_, H, W, _), (_, OH, OW, _) = x.shape, dy.shape
    padded = pad_spatial(x, pads)
    dpadded, dw = xp.zeros_like(padded), xp.zeros_like(w)
    for i, j, cs, ks in taps(w.shape, groups):
        seen = window(padded, i, j, OH, OW, stride, dilation)[..., cs]
        dw[i, j, :, ks] = as_rows(seen).T @ as_rows(dy[..., ks])
        window(dpadded, i, j, OH, OW, stride, dilation)[..., cs] += matmul(dy[..., ks], w[i, j, :, ks].T)
    (top, _), (left, _) = pads
    db = dy.sum((0, 1, 2)) if has_bias else None
    return dpadded[:, top : top + H, left : left + W], dw, db


@accelerated
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

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> y, _ = ops.conv_transpose2d(np.ones((1, 3, 5, 8)), np.ones((2, 2, 8, 4)))
    >>> y.shape
    (1, 6, 10, 4)
    """
    xp = get_array_module(x)
    (N, H, W, C), (KH, KW, Cw, K) = x.shape, w.shape
    if Cw != C:
        raise ValueError(f"x has {C} channels, w takes {Cw}")
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, 1)
    (top, bottom), (left, right) = pads
    full = xp.zeros((N, (H - 1) * stride + KH, (W - 1) * stride + KW, K), x.dtype)
    for i, j, _, _ in taps(w.shape):
        window(full, i, j, H, W, stride)[...] += matmul(x, w[i, j])
    y = full[:, top : full.shape[1] - bottom, left : full.shape[2] - right]
    if b is not None:
        y = y + b
    return y, (x, w, b is not None, stride, pads)


@accelerated
def conv_transpose2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Gradients of `conv_transpose2d`: dy (N, OH, OW, K) to dx, dw and db (None without b)."""
    x, w, has_bias, stride, pads = cache
    xp = get_array_module(x)
    (_, H, W, _) = x.shape
    padded = pad_spatial(dy, pads)  # what was cut off gets no gradient
    dx, dw = xp.zeros_like(x), xp.empty_like(w)
    for i, j, _, _ in taps(w.shape):
        stamped = window(padded, i, j, H, W, stride)
        dx += matmul(stamped, w[i, j].T)
        dw[i, j] = as_rows(x).T @ as_rows(stamped)
    db = dy.sum((0, 1, 2)) if has_bias else None
    return dx, dw, db


# ---- the pieces ------------------------------------------------------------------------------------------------------


def taps(w_shape: tuple[int, ...], groups: int = 1) -> Iterator[tuple[int, int, slice, slice]]:
    """Every tap (i, j) of every group, with the group's slices of input and output channels."""
    KH, KW, Cg, K = w_shape
    Kg = K // groups
    for g in range(groups):
        for i in range(KH):
            for j in range(KW):
                yield i, j, slice(g * Cg, (g + 1) * Cg), slice(g * Kg, (g + 1) * Kg)


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
    return get_array_module(x).pad(x, ((0, 0), *pads, (0, 0)))


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
