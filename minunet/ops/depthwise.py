"""Depthwise convolution: every channel has a filter of its own, and channels do not mix.

Write x for the padded input, s for the stride, d for the dilation. For one image

    y[h, w, c] = b[c] + sum over i, j of  x[h*s + i*d, w*s + j*d, c] * w[i, j, c]                                  (1)

Fix the tap (i, j): it reads the *window* of x that a convolution's tap reads (`conv.py`), and where that meets a matrix, here
each channel meets its own number,

    y = b + sum over taps of  window(x, i, j) * w[i, j]                                                            (2)

A product a * m of numbers gives da = dp * m and dm = dp * a, and m = w[i, j, c] is used at every pixel of every image:

    dw[i, j]         = sum over images, rows and columns of  window(x, i, j) * dy
    window(dx, i, j) += dy * w[i, j]                        the tap's share goes back to the pixels that it read
    db               = sum of dy over images, rows and columns

It is `conv2d` with groups = C, without the C small matrix products that this would take. A 1x1 `conv2d` behind it mixes the
channels; together, as a "separable" convolution, the two need about KH*KW times fewer multiplications than the full convolution
that they replace.

Shapes: x (N, H, W, C), w (KH, KW, C), b (C,), y (N, OH, OW, C).

Sources: Sifre, "Rigid-motion scattering for image classification", PhD thesis 2014; Howard et al., "MobileNets",
arXiv:1704.04861.
"""

from __future__ import annotations

from ..array import Array, get_array_module
from .conv import Padding, output_size, pad_spatial, resolve_padding, window
from .dispatch import accelerated
from .norm import widened


@accelerated
@widened
def depthwise_conv2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> tuple[Array, tuple]:
    """Convolve every channel with its own filter, equation (2) above.

    Parameters
    ----------
    x : (N, H, W, C) float array
    w : (KH, KW, C) float array, of the dtype of x
    b : (C,) float array or None
    stride, padding, dilation : as in `conv2d`

    Returns
    -------
    y : (N, OH, OW, C) float array, with OH and OW as in `conv2d`
    cache : tuple for `depthwise_conv2d_backward`; holds x itself, not a copy

    Raises
    ------
    ValueError
        If the channels of x and w disagree, or the filter is larger than the padded image.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> x, w = np.ones((1, 4, 4, 2)), np.ones((3, 3, 2)) * [1, 10]
    >>> y, cache = ops.depthwise_conv2d(x, w, stride=2, padding=1)
    >>> y[0, :, :, 1].tolist()  # four taps of a corner's nine lie on the image
    [[40.0, 60.0], [60.0, 90.0]]
    """
    xp = get_array_module(x)
    (N, H, W, C), (KH, KW, Cw) = x.shape, w.shape
    if Cw != C:
        raise ValueError(f"x has {C} channels, w takes {Cw}")
    pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    padded, y = pad_spatial(x, pads), xp.zeros((N, OH, OW, C), x.dtype)
    for i in range(KH):
        for j in range(KW):
            y += window(padded, i, j, OH, OW, stride, dilation) * w[i, j]
    if b is not None:
        y += b
    return y, (x, w, b is not None, stride, pads, dilation)


@accelerated
@widened
def depthwise_conv2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Gradients of `depthwise_conv2d`: dy (N, OH, OW, C) to dx, dw and db, in the shapes of x, w and b (None without b)."""
    x, w, has_bias, stride, pads, dilation = cache
    xp = get_array_module(x)
    (_, H, W, _), (_, OH, OW, _), (KH, KW, _) = x.shape, dy.shape, w.shape
    padded = pad_spatial(x, pads)
    dpadded, dw = xp.zeros_like(padded), xp.empty_like(w)
    for i in range(KH):
        for j in range(KW):
            dw[i, j] = (window(padded, i, j, OH, OW, stride, dilation) * dy).sum((0, 1, 2))
            window(dpadded, i, j, OH, OW, stride, dilation)[...] += dy * w[i, j]
    (top, _), (left, _) = pads
    db = dy.sum((0, 1, 2)) if has_bias else None
    return dpadded[:, top : top + H, left : left + W], dw, db
