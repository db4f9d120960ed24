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

Padded max-pool. What is added around the map is -inf, so that it never wins. Zeros would give the right y after a ReLU, but the
wrong dx: where all pixels of a window at the border are 0, the padding would win and its gradient would be lost. With
`ceil_mode` the last window may reach beyond the map: OH = ceil((H + 2 padding - size) / stride) + 1, or one less if that window
would begin beyond the map. (All as in PyTorch.)

Unpooling puts every value back where its window's winner was, and zeros elsewhere. That is what a max-pool's backward does with
dy, used forwards; so the backward of unpooling is a gather:

    window(y, i, j) = x where (i, j) won, else 0        dx = sum over (i, j) of window(dy, i, j) where (i, j) won

The winners are numbers, and get no gradient. Windows must not overlap, else two values could fall on one pixel.

Sources: Badrinarayanan, Kendall and Cipolla, "SegNet", arXiv:1511.00561 (unpooling); He et al., arXiv:1512.03385, and its code
(padded pool).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import Array, get_array_module
from .conv import output_size, window
from .dispatch import accelerated
from .lazy import materialize
from .shape import Margins, crop


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
def max_pool2d_padded(
    x: Array, size: int = 3, stride: int = 2, padding: int = 1, ceil_mode: bool = False
) -> tuple[Array, tuple]:
    """Largest value of every window of a map with -inf around it; by default the pool at the beginning of a ResNet.

    Parameters
    ----------
    x : (N, H, W, C) float array
    size, stride : int
        As in `max_pool2d`.
    padding : int, at most size // 2
        Pixels around the map, on all four sides.
    ceil_mode : bool
        Whether the last window may reach beyond the padded map, so that no pixel is dropped.

    Returns
    -------
    y : (N, OH, OW, C) float array
    cache : tuple for `max_pool2d_padded_backward`; holds the winners, a byte each

    Raises
    ------
    ValueError
        If the padding is more than half of a window, or a window does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> y, _ = ops.max_pool2d_padded(np.arange(5.0).reshape(1, 5, 1, 1))
    >>> y.ravel().tolist()
    [1.0, 3.0, 4.0]
    """
    margins = pool_margins(x.shape, size, stride, padding, ceil_mode)
    padded = get_array_module(x).pad(x, ((0, 0), *margins, (0, 0)), constant_values=-np.inf)
    y, cache = max_pool2d(padded, size, stride)
    return y, (cache, margins)


@accelerated
def max_pool2d_padded_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `max_pool2d_padded`: dy (N, OH, OW, C) goes to each window's winner in dx (N, H, W, C)."""
    cache, margins = cache
    return crop(materialize(max_pool2d_backward(dy, cache)), margins)[0]


def pool_margins(x_shape: tuple[int, ...], size: int, stride: int, padding: int, ceil_mode: bool) -> Margins:
    """What must be added around a map (N, H, W, C), so that just the windows of a padded pool fit."""
    if not 0 <= padding <= size // 2:
        raise ValueError(
            f"padding {padding}: at most half of the window, {size // 2}, else it may hold nothing but padding"
        )
    ends = []
    for n in x_shape[1:3]:
        windows = (n + 2 * padding - size + (stride - 1 if ceil_mode else 0)) // stride + 1
        if ceil_mode and (windows - 1) * stride >= n + padding:
            windows -= 1
        ends.append(max(0, (windows - 1) * stride + size - n - padding))
    return (padding, ends[0]), (padding, ends[1])


@accelerated
def max_unpool2d(x: Array, winner: Array, output_size: tuple[int, int], size: int = 2) -> tuple[Array, tuple]:
    """Put every value where the winner of its window was; zeros elsewhere.

    Parameters
    ----------
    x : (N, OH, OW, C) float array
    winner : (N, OH, OW, C) uint8 array
        The winners of ``max_pool2d(..., size)``, the first part of its cache.
    output_size : (H, W)
        Rows and columns of the map that was pooled: size * OH or a few more, which the pool has dropped.
    size : int
        Side and stride of the windows.

    Returns
    -------
    y : (N, H, W, C) float array
    cache : tuple for `max_unpool2d_backward`; holds the winners

    Raises
    ------
    ValueError
        If the sizes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> x = np.array([[3.0, 1.0, 5.0], [2.0, 9.0, 7.0]]).reshape(1, 2, 3, 1)
    >>> y, (winner, *_) = ops.max_pool2d(x)  # the third column is dropped
    >>> ops.max_unpool2d(y, winner, (2, 3))[0][0, :, :, 0].tolist()
    [[0.0, 0.0, 0.0], [0.0, 9.0, 0.0]]
    """
    N, OH, OW, C = x.shape
    H, W = output_size
    if winner.shape != x.shape or (H // size, W // size) != (OH, OW):
        raise ValueError(
            f"winners {winner.shape} of {size} x {size} windows do not bring {x.shape} to {H} x {W} pixels"
        )
    return materialize(max_pool2d_backward(x, (winner, (N, H, W, C), size, size))), (winner, size)


@accelerated
def max_unpool2d_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `max_unpool2d`: what lies at the winners of dy (N, H, W, C) is gathered to dx (N, OH, OW, C)."""
    winner, size = cache
    OH, OW = winner.shape[1:3]
    dx = get_array_module(dy).zeros(winner.shape, dy.dtype)
    for n in range(size * size):
        i, j = divmod(n, size)
        dx += window(dy, i, j, OH, OW, size) * (winner == n)
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
