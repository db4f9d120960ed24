"""Pooling: a window of pixels becomes one, by its largest value or its mean.

Like a convolution's, a pool's windows are views: tap (i, j) of all of them is the view window(x, i, j) of shape
(N, OH, OW, C), see ops/conv.py.

Max-pool. Only the winner of a window reaches the output, so only the winner gets the gradient:

    y = max over (i, j) of window(x, i, j)           window(dx, i, j) += dy where (i, j) won, else 0

The backward needs only the winner's number i*size + j, which fits into a byte; it does not need x. In a tie the first pixel of
the window, in reading order, wins alone: the whole gradient goes to one pixel, not to each of the tied ones.

Mean-pool is linear; every pixel of the window counts 1/size^2, forwards and backwards. The mean over the whole map does the
same with one window of H * W pixels.

Sizes: OH = (H - size) // stride + 1; pixels at the bottom and the right that do not fill a window are dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import Array, get_array_module
from .conv import output_size, window
from .dispatch import accelerated


@accelerated
def max_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """Largest value of every window.

    Parameters
    ----------
    x : (N, H, W, C) float array
    size : int, at most 16
        Side of the square window, in pixels.
    stride : int, optional
        Step between windows; the window's size if not given.

    Returns
    -------
    y : (N, OH, OW, C) float array
    cache : tuple for `max_pool2d_backward`; holds the winners as (N, OH, OW, C) uint8

    Raises
    ------
    ValueError
        If the window is larger than the image or than 16 pixels.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> x = np.array([[3.0, 1.0], [2.0, 9.0]]).reshape(1, 2, 2, 1)
    >>> y, cache = ops.max_pool2d(x)
    >>> y.tolist()
    [[[[9.0]]]]
    >>> ops.max_pool2d_backward(np.ones_like(y), cache)[..., 0].tolist()
    [[[0.0, 0.0], [0.0, 1.0]]]
    """
    if size > 16:
        raise ValueError(f"size {size}: a window's pixels are numbered in one byte, 16 x 16 is the most")
    stride = stride or size
    xp = get_array_module(x)
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    y = window(x, 0, 0, OH, OW, stride).copy()
    winner = xp.zeros(y.shape, xp.uint8)
    for n in range(1, size * size):
        i, j = divmod(n, size)
        seen = window(x, i, j, OH, OW, stride)
        winner[seen > y] = n  # > and not >=: of equals the first one stays
        xp.maximum(y, seen, out=y)
    return y, (winner, x.shape, size, stride)


@accelerated
def max_pool2d_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `max_pool2d`: dy (N, OH, OW, C) goes to each window's winner in dx (N, H, W, C)."""
    winner, x_shape, size, stride = cache
    OH, OW = dy.shape[1:3]
    dx = get_array_module(dy).zeros(x_shape, dy.dtype)
    for n in range(size * size):
        i, j = divmod(n, size)
        window(dx, i, j, OH, OW, stride)[...] += dy * (winner == n)
    return dx


@accelerated
def avg_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """Mean of every window; parameters and shapes as in `max_pool2d`, any size."""
    stride = stride or size
    OH, OW = output_size(x.shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    y: Any = sum(window(x, i, j, OH, OW, stride) for i in range(size) for j in range(size)) / size**2
    return y, (x.shape, size, stride)


@accelerated
def avg_pool2d_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `avg_pool2d`: every pixel of a window gets its share of dy (N, OH, OW, C)."""
    x_shape, size, stride = cache
    OH, OW = dy.shape[1:3]
    dx = get_array_module(dy).zeros(x_shape, dy.dtype)
    share = dy / size**2
    for i in range(size):
        for j in range(size):
            window(dx, i, j, OH, OW, stride)[...] += share
    return dx


@accelerated
def global_avg_pool2d(x: Array) -> tuple[Array, tuple]:
    """Mean of every channel over the whole map: (N, H, W, C) to (N, 1, 1, C), summed in float64; the cache is the shape of x.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> y, cache = ops.global_avg_pool2d(np.array([3.0, 1.0, 2.0, 6.0]).reshape(1, 2, 2, 1))
    >>> y.tolist()
    [[[[3.0]]]]
    >>> ops.global_avg_pool2d_backward(y, cache).ravel().tolist()
    [0.75, 0.75, 0.75, 0.75]
    """
    return x.mean((1, 2), dtype=np.float64, keepdims=True).astype(x.dtype), (x.shape,)


@accelerated
def global_avg_pool2d_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `global_avg_pool2d`: every pixel of dx (N, H, W, C) gets dy / (H * W); a view, in which all share memory."""
    (shape,) = cache
    return get_array_module(dy).broadcast_to(dy / (shape[1] * shape[2]), shape)
