"""Planted bugs: wrong backwards, each of which the checker must catch.

A checker that has never failed proves nothing. These are the mistakes that people make when they write backprop by hand;
each stands in for the right backward of one case, and the tests require that the check of that case fails. Lessons show
some of them, and a grader uses their stories as hints.

To plant one more, add a function decorated with ``@planted(case name, story)`` that has the right one's signature. Those of the
losses, and of the parts of U-Net's relatives, are in bugs_losses.py, bugs_maps.py and bugs_networks.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..array import Array
from ..ops.conv import as_rows, matmul, output_size, pad_spatial, taps, window
from . import bugs_losses as bugs_losses
from . import bugs_maps as bugs_maps
from . import bugs_networks as bugs_networks
from .planting import BUGS as BUGS
from .planting import Bug as Bug
from .planting import planted

# ---- convolution -----------------------------------------------------------------------------------------------------


@planted(
    "conv2d",
    "dx is right but for the kernel, which must be seen from the other side: tap (i, j) gave, tap (i, j) takes",
)
def conv_kernel_not_flipped(dy: Array, cache: tuple) -> Any:
    x, w, *rest = cache
    dx, _, _ = ops.conv2d_backward(dy, (x, w[::-1, ::-1], *rest))
    return dx, *ops.conv2d_backward(dy, cache)[1:]


def _conv_with_other_windows(dy: Array, cache: tuple, stride: int, dilation: int) -> tuple[Array, Array, Array | None]:
    """The convolution's gradients, but dw from windows with another stride or dilation."""
    x, w, _, _, pads, _, _ = cache
    dx, _, db = ops.conv2d_backward(dy, cache)
    padded, dw = pad_spatial(x, pads), np.empty_like(w)
    OH, OW = dy.shape[1:3]
    for i, j, _, _ in taps(w.shape):
        dw[i, j] = as_rows(window(padded, i, j, OH, OW, stride, dilation)).T @ as_rows(dy)
    return dx, dw, db


@planted("conv2d stride", "dw ignores the stride: the windows that the taps saw are s pixels apart")
def conv_dw_ignores_stride(dy: Array, cache: tuple) -> Any:
    return _conv_with_other_windows(dy, cache, stride=1, dilation=cache[5])


@planted("conv2d dilation", "dw ignores the dilation: neighbouring taps see pixels d apart")
def conv_dw_ignores_dilation(dy: Array, cache: tuple) -> Any:
    return _conv_with_other_windows(dy, cache, stride=cache[3], dilation=1)


@planted("conv2d", "db is summed over rows and columns but not over the images")
def conv_db_of_one_image(dy: Array, cache: tuple) -> Any:
    dx, dw, _ = ops.conv2d_backward(dy, cache)
    return dx, dw, dy[0].sum((0, 1))


@planted("conv2d", "db is summed over the wrong axes: one number a row, where there should be one a channel")
def conv_db_wrong_axes(dy: Array, cache: tuple) -> Any:
    dx, dw, _ = ops.conv2d_backward(dy, cache)
    return dx, dw, dy.sum((0, 2, 3))[: dw.shape[-1]]


@planted("conv2d", "dw is a mean over the images, where every image adds its share: a sum")
def conv_dw_mean_instead_of_sum(dy: Array, cache: tuple) -> Any:
    dx, dw, db = ops.conv2d_backward(dy, cache)
    return dx, dw / len(dy), db


@planted("conv2d", "dx is cut out of the padded gradient one pixel too early: off by the padding")
def conv_dx_off_by_one(dy: Array, cache: tuple) -> Any:
    dx, dw, db = ops.conv2d_backward(dy, cache)
    return np.roll(dx, 1, axis=1), dw, db


@planted("conv2d", "dw is 0.1 % too large: a constant that was rounded")
def conv_dw_a_thousandth_too_large(dy: Array, cache: tuple) -> Any:
    dx, dw, db = ops.conv2d_backward(dy, cache)
    return dx, dw * 1.001, db


@planted("depthwise_conv2d", "dw is summed over the channels, too: every channel gets the sum of all")
def depthwise_dw_mixes_channels(dy: Array, cache: tuple) -> Any:
    dx, dw, db = ops.depthwise_conv2d_backward(dy, cache)
    return dx, np.broadcast_to(dw.sum(2, keepdims=True), dw.shape).copy(), db


@planted("depthwise_conv2d", "where taps meet, the last one overwrites what the others gave: = instead of +=")
def depthwise_dx_overwrites(dy: Array, cache: tuple) -> Any:
    x, w, _, stride, pads, dilation = cache
    dpadded, (OH, OW) = np.zeros_like(pad_spatial(x, pads)), dy.shape[1:3]
    for i, j in np.ndindex(w.shape[:2]):
        window(dpadded, i, j, OH, OW, stride, dilation)[...] = dy * w[i, j]
    (top, _), (left, _) = pads
    dx = dpadded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return dx, *ops.depthwise_conv2d_backward(dy, cache)[1:]


@planted(
    "depthwise_conv2d stride, dilation", "dx is cut out of the padded gradient at (left, top) instead of (top, left)"
)
def depthwise_dx_margins_swapped(dy: Array, cache: tuple) -> Any:
    x, w, has_bias, stride, (rows, columns), dilation = cache
    dx, dw, db = ops.depthwise_conv2d_backward(dy, cache)
    whole = np.zeros(pad_spatial(x, (rows, columns)).shape)
    whole[:, rows[0] : rows[0] + x.shape[1], columns[0] : columns[0] + x.shape[2]] = dx
    return whole[:, columns[0] : columns[0] + x.shape[1], rows[0] : rows[0] + x.shape[2]], dw, db


@planted("conv_transpose2d", "dx multiplies by w where it should by its transpose; it only fits because C = K here")
def conv_transpose_w_not_transposed(dy: Array, cache: tuple) -> Any:
    x, w, _, stride, pads = cache
    dx, padded = np.zeros_like(x), pad_spatial(dy, pads)
    H, W = x.shape[1:3]
    for i, j, _, _ in taps(w.shape):
        dx += matmul(window(padded, i, j, H, W, stride), w[i, j])
    return dx, *ops.conv_transpose2d_backward(dy, cache)[1:]


# ---- pooling and resampling ------------------------------------------------------------------------------------------


@planted("max_pool2d ties", "in a tie every one of the tied gets the whole gradient: it is counted several times")
def max_pool_ties_counted_twice(dy: Array, cache: tuple) -> Any:
    _, x_shape, size, stride = cache
    x = np.ones(x_shape)  # the case's input: all tied
    OH, OW = output_size(x_shape[1:3], (size, size), ((0, 0), (0, 0)), stride)
    dx = np.zeros(x_shape)
    for n in range(size * size):
        i, j = divmod(n, size)
        window(dx, i, j, OH, OW, stride)[...] += dy * (window(x, i, j, OH, OW, stride) == 1)
    return dx


@planted(
    "max_pool2d overlapping", "where windows overlap, the last one overwrites what the others gave: = instead of +="
)
def max_pool_overwrites(dy: Array, cache: tuple) -> Any:
    winner, x_shape, size, stride = cache
    dx = np.zeros(x_shape)
    OH, OW = dy.shape[1:3]
    for n in range(size * size):
        i, j = divmod(n, size)
        view = window(dx, i, j, OH, OW, stride)
        view[...] = np.where(winner == n, dy, view)
    return dx


@planted("avg_pool2d", "every pixel of a window gets the whole gradient instead of its share of 1/size^2")
def avg_pool_not_divided(dy: Array, cache: tuple) -> Any:
    return ops.avg_pool2d_backward(dy, cache) * 4


@planted("upsample_bilinear", "the backward uses the other convention for the corners than the forward")
def bilinear_other_corners(dy: Array, cache: tuple) -> Any:
    H, W, align_corners = cache
    return ops.upsample_bilinear_backward(dy, (H, W, not align_corners))


@planted("crop", "the gradient is put back one pixel off: top and bottom margins are swapped")
def crop_off_by_one(dy: Array, cache: tuple) -> Any:
    ((top, bottom), columns), *_ = cache
    return ops.pad(dy, ((bottom, top), columns))[0]


@planted("concat", "the two halves are handed back in the wrong order")
def concat_swapped(dy: Array, cache: tuple) -> Any:
    a, b = ops.concat_backward(dy, cache)
    return b, a


# ---- norms, activations, dropout -------------------------------------------------------------------------------------


@planted("batch_norm", "dx lacks the term -mean(g): x moves the mean too. With dy = 1 this cannot be seen")
def batch_norm_forgets_the_mean(dy: Array, cache: tuple) -> Any:
    x, gamma, mean, rstd, _ = cache
    xhat = (x - mean) * rstd
    dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
    return gamma * rstd * (dy - xhat * (dy * xhat).mean((0, 1, 2))), dgamma, dbeta


@planted("batch_norm", "dx lacks the term -xhat * mean(g * xhat): x moves the variance too")
def batch_norm_forgets_the_variance(dy: Array, cache: tuple) -> Any:
    x, gamma, mean, rstd, _ = cache
    dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
    return gamma * rstd * (dy - dy.mean((0, 1, 2))), dgamma, dbeta


@planted("batch_norm", "dx misses the factor gamma")
def batch_norm_forgets_gamma(dy: Array, cache: tuple) -> Any:
    dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
    return dx / cache[1], dgamma, dbeta


@planted("group_norm", "the means are taken over one channel instead of the whole group")
def group_norm_of_one_channel(dy: Array, cache: tuple) -> Any:
    x, gamma, mean, rstd = cache
    N, H, W, C = x.shape
    xhat = (x.reshape(N, H * W, 2, -1) - mean) * rstd
    g = (dy * gamma).reshape(xhat.shape)
    dx = rstd * (g - g.mean(1, keepdims=True) - xhat * (g * xhat).mean(1, keepdims=True))
    return dx.reshape(x.shape), *ops.group_norm_backward(dy, cache)[1:]


@planted("relu", "the mask is taken from the sign of dy instead of x")
def relu_masks_by_dy(dy: Array, cache: tuple) -> Any:
    return dy * (dy > 0)


@planted("relu", "dy is multiplied in place: other code that holds the same array finds it changed")
def relu_modifies_dy(dy: Array, cache: tuple) -> Any:
    dy *= cache[0]
    return dy.copy()


@planted("leaky_relu", "the slope is applied on the wrong side")
def leaky_relu_wrong_side(dy: Array, cache: tuple) -> Any:
    mask, slope = cache
    return np.where(mask, slope * dy, dy)


@planted("softmax", "only the diagonal of the Jacobian: y (1 - y), as if the channels did not compete")
def softmax_diagonal_only(dy: Array, cache: tuple) -> Any:
    (y,) = cache
    return dy * y * (1 - y)


@planted("dropout", "the survivors are scaled by 1 / (1 - rate) forwards but not backwards")
def dropout_not_scaled(dy: Array, cache: tuple) -> Any:
    return dy * cache[0]
