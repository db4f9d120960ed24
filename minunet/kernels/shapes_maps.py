"""The same for what brings maps together or changes their size: sums, gates, pools, resampling; and for a few activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..array import Array
from ..ops.lazy import MaybeLazy
from ..ops.pool import pool_margins
from .shapes import counts, is_margin, of, pooled

# ---- activations -----------------------------------------------------------------------------------------------------


@of
def sigmoid(x: MaybeLazy) -> bool:
    """x of any shape."""
    return 0 not in x.shape


@of
def sigmoid_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and y of one shape."""
    (y,) = cache
    return dy.shape == y.shape and 0 not in dy.shape


@of
def relu6(x: MaybeLazy) -> bool:
    """x of any shape."""
    return 0 not in x.shape


@of
def relu6_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and the mask of one shape."""
    (mask,) = cache
    return dy.shape == mask.shape and 0 not in dy.shape


# ---- several maps ----------------------------------------------------------------------------------------------------


@of
def add(arrays: Sequence[MaybeLazy]) -> bool:
    """Two maps (N, H, W, C)."""
    a, b = arrays
    N, H, W, C = a.shape
    return a.shape == b.shape and counts(N, H, W, C)


@of
def gate(x: MaybeLazy, a: MaybeLazy) -> bool:
    """x (N, H, W, C), a (N, 1, 1, C), (N, H, W, 1) or (N, H, W, C)."""
    N, H, W, C = x.shape
    return counts(N, H, W, C) and a.shape in ((N, 1, 1, C), (N, H, W, 1), (N, H, W, C))


@of
def gate_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, H, W, C), x and a as in `gate`."""
    x, a = cache
    return dy.shape == x.shape and gate(x, a)


# ---- pools and resampling --------------------------------------------------------------------------------------------


@of
def avg_pool2d(x: MaybeLazy, size: int = 2, stride: int | None = None) -> bool:
    """x (N, H, W, C), H and W at least a window's size."""
    N, H, W, C = x.shape
    return counts(size, stride or size, N, H, W, C) and size <= H and size <= W


@of
def avg_pool2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, OH, OW, C), and (N, H, W, C) in the cache."""
    x_shape, size, stride = cache
    return (
        type(x_shape) is tuple
        and counts(size, stride, *x_shape, *dy.shape)
        and dy.shape == pooled(x_shape, size, stride)
    )


@of
def max_pool2d(x: MaybeLazy, size: int = 2, stride: int | None = None) -> bool:
    """As `avg_pool2d`; a window's pixels are numbered in one byte."""
    return size <= 16 and avg_pool2d(x, size, stride)


@of
def max_pool2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and winner (N, OH, OW, C), and (N, H, W, C) in the cache."""
    winner, *rest = cache
    return winner.shape == dy.shape and avg_pool2d_backward(dy, rest)


@of
def upsample_nearest(x: MaybeLazy, scale: int = 2) -> bool:
    """x (N, H, W, C)."""
    N, H, W, C = x.shape
    return counts(scale, N, H, W, C)


@of
def upsample_nearest_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, scale*H, scale*W, C)."""
    (scale,) = cache
    N, OH, OW, C = dy.shape
    return counts(scale, N, OH, OW, C) and OH % scale == OW % scale == 0


@of
def upsample_bilinear(x: MaybeLazy, scale: int = 2, align_corners: bool = True) -> bool:
    """x (N, H, W, C)."""
    return type(align_corners) is bool and upsample_nearest(x, scale)


@of
def upsample_bilinear_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, scale*H, scale*W, C), and H and W in the cache."""
    H, W, align_corners = cache
    N, OH, OW, C = dy.shape
    whole = type(align_corners) is bool and counts(H, W, N, OH, OW, C)
    return whole and OH % H == 0 and OW == OH // H * W


@of
def global_avg_pool2d(x: MaybeLazy) -> bool:
    """x (N, H, W, C)."""
    N, H, W, C = x.shape
    return counts(N, H, W, C)


@of
def max_pool2d_padded(x: MaybeLazy, size: int = 3, stride: int = 2, padding: int = 1, ceil_mode: bool = False) -> bool:
    """x (N, H, W, C), in which with its margins a window fits; a window's pixels are numbered in one byte."""
    N, H, W, C = x.shape
    if not counts(size, stride, N, H, W, C) or size > 16 or not is_margin(padding) or type(ceil_mode) is not bool:
        return False
    rows, columns = pool_margins(x.shape, size, stride, padding, ceil_mode)
    return size <= H + sum(rows) and size <= W + sum(columns)


@of
def max_pool2d_padded_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and winner (N, OH, OW, C); in the cache the shape of the padded map, and margins that leave something of it."""
    (winner, shape, size, stride), ((top, bottom), (left, right)) = cache
    whole = type(shape) is tuple and counts(size, stride, *shape, *dy.shape)
    margins = is_margin(top) and is_margin(bottom) and is_margin(left) and is_margin(right)
    if not whole or not margins or top + bottom >= shape[1] or left + right >= shape[2]:
        return False
    return winner.shape == dy.shape == pooled(shape, size, stride)


@of
def max_unpool2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, H, W, C) and winner (N, H // size, W // size, C)."""
    winner, size = cache
    N, H, W, C = dy.shape
    return counts(size, N, H, W, C) and winner.shape == (N, H // size, W // size, C) and 0 not in winner.shape


@of
def resize_nearest(x: MaybeLazy, size: tuple[int, int]) -> bool:
    """x (N, H, W, C), to (OH, OW)."""
    N, H, W, C = x.shape
    OH, OW = size
    return type(size) is tuple and counts(N, H, W, C, OH, OW)


@of
def resize_nearest_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, OH, OW, C), and H and W in the cache."""
    H, W = cache
    N, OH, OW, C = dy.shape
    return counts(N, OH, OW, C, H, W)


@of
def resize_bilinear(x: MaybeLazy, size: tuple[int, int], align_corners: bool = False) -> bool:
    """x (N, H, W, C), to (OH, OW)."""
    return type(align_corners) is bool and resize_nearest(x, size)


@of
def resize_bilinear_backward(dy: Array, cache: Any) -> bool:
    """dy (N, OH, OW, C), and H and W in the cache."""
    H, W, align_corners = cache
    return type(align_corners) is bool and resize_nearest_backward(dy, (H, W))
