"""Planted bugs in the parts of U-Net's relatives: gates, sums, other ways to combine and resize maps, losses of detectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..array import Array
from ..ops.conv import window
from .planting import planted

# ---- activations -----------------------------------------------------------------------------------------------------


@planted("relu6", "the mask is taken from dy instead of x: what lies between 0 and 6 passes")
def relu6_masks_by_dy(dy: Array, cache: tuple) -> Any:
    return dy * ((dy > 0) & (dy < 6))


@planted("relu6", "the gradient is clipped as the values were, to 0 at least")
def relu6_clips_the_gradient(dy: Array, cache: tuple) -> Any:
    return np.maximum(dy, 0) * cache[0]


@planted("sigmoid", "the slope y (1 - y) lacks its second factor")
def sigmoid_half_a_slope(dy: Array, cache: tuple) -> Any:
    return dy * cache[0]


@planted("sigmoid", "the cache has the output, and the sigmoid is applied to it once more")
def sigmoid_of_the_output(dy: Array, cache: tuple) -> Any:
    s = ops.sigmoid(cache[0])[0]
    return dy * s * (1 - s)


@planted("tanh", "the slope of the sigmoid, y (1 - y), in place of 1 - y^2")
def tanh_slope_of_the_sigmoid(dy: Array, cache: tuple) -> Any:
    (y,) = cache
    return dy * y * (1 - y)


@planted("tanh", "1 - y where the slope is 1 - y^2")
def tanh_without_the_square(dy: Array, cache: tuple) -> Any:
    return dy * (1 - cache[0])


@planted("scaled_exp", "dx lacks the scale: the inner derivative is forgotten")
def scaled_exp_without_the_scale(dy: Array, cache: tuple) -> Any:
    dx, dscale = ops.scaled_exp_backward(dy, cache)
    return dx / cache[1], dscale


@planted("scaled_exp", "where the exponent is bounded the gradient passes, though nothing moves there")
def scaled_exp_beyond_its_bound(dy: Array, cache: tuple) -> Any:
    x, scale, y = cache
    return dy * y * scale, (dy * y * x).sum().reshape(1)


# ---- several maps ----------------------------------------------------------------------------------------------------


@planted("concat of three", "every part is cut from the beginning: the widths are not added up")
def concat_widths_not_added_up(dy: Array, cache: tuple) -> Any:
    return tuple(dy[..., :n] for n in cache)


@planted("concat of three", "the parts are taken from the end, in the reverse order of the forward")
def concat_from_the_end(dy: Array, cache: tuple) -> Any:
    return ops.concat_backward(dy[..., ::-1], cache)


@planted("add", "the gradient is shared out between the summands, where each gets all of it")
def add_shares_out(dy: Array, cache: tuple) -> Any:
    return tuple(dx / cache[0] for dx in ops.add_backward(dy, cache))


@planted("add", "the second summand is forgotten: as if the shortcut were a constant")
def add_forgets_the_shortcut(dy: Array, cache: tuple) -> Any:
    return dy, np.zeros_like(dy)


@planted("gate of channels", "da is the mean over the pixels that the gate weighed, where their gradients add up")
def gate_mean_instead_of_sum(dy: Array, cache: tuple) -> Any:
    x, a = cache
    return dy * a, (dy * x).mean((1, 2), keepdims=True)


@planted("gate of pixels", "da is summed over the pixels instead of the channels: the axes of the other kind of gate")
def gate_sums_the_other_axes(dy: Array, cache: tuple) -> Any:
    x, a = cache
    return dy * a, np.zeros_like(a) + (dy * x).sum((1, 2, 3), keepdims=True)


@planted("gate of values", "the two factors are exchanged: each gets the other's gradient")
def gate_swapped(dy: Array, cache: tuple) -> Any:
    return ops.gate_backward(dy, cache)[::-1]


@planted("gate of pixels", "dx does not pass through the gate: the gate is taken for a constant 1")
def gate_forgotten_in_dx(dy: Array, cache: tuple) -> Any:
    return dy.copy(), ops.gate_backward(dy, cache)[1]


# ---- pools -----------------------------------------------------------------------------------------------------------


@planted("global_avg_pool2d", "every pixel gets the whole gradient instead of its share of 1 / (H * W)")
def global_mean_not_divided(dy: Array, cache: tuple) -> Any:
    return np.broadcast_to(dy, cache[0])


@planted("global_avg_pool2d", "the share is 1 / (N * H * W): the images are counted too")
def global_mean_counts_the_images(dy: Array, cache: tuple) -> Any:
    N, H, W, _ = cache[0]
    return np.broadcast_to(dy / (N * H * W), cache[0])


@planted(
    "max_pool2d padded ties", "the padding is 0: where all of a window is 0, the padding wins, and its gradient is lost"
)
def max_pool_padded_with_zeros(dy: Array, cache: tuple) -> Any:
    ((_, shape, size, stride), margins) = cache
    (top, bottom), (left, right) = margins
    x = np.zeros((shape[0], shape[1] - top - bottom, shape[2] - left - right, shape[3]))  # the case's input
    _, cache = ops.max_pool2d(ops.pad(x, margins)[0], size, stride)
    return ops.crop(ops.max_pool2d_backward(dy, cache), margins)[0]


@planted("max_pool2d padded", "dx is cut out of the padded gradient at its corner: off by the padding")
def max_pool_padding_not_cut(dy: Array, cache: tuple) -> Any:
    cache, ((top, bottom), (left, right)) = cache
    return ops.crop(ops.max_pool2d_backward(dy, cache), ((0, top + bottom), (0, left + right)))[0]


@planted(
    "max_pool2d padded ceil",
    "what the last windows pass on is dropped: they reach beyond the map, as if they were not there",
)
def max_pool_last_windows_forgotten(dy: Array, cache: tuple) -> Any:
    dy = dy.copy()
    dy[:, -1] = dy[:, :, -1] = 0
    return ops.max_pool2d_padded_backward(dy, cache)


@planted("max_unpool2d", "the first pixel of every window is gathered, not the one where the value was put")
def unpool_gathers_the_corner(dy: Array, cache: tuple) -> Any:
    winner, size = cache
    OH, OW = winner.shape[1:3]
    return window(dy, 0, 0, OH, OW, size).copy()


@planted("max_unpool2d", "all of a window is summed, as after up-sampling: the zeros between have no gradient to give")
def unpool_sums_the_window(dy: Array, cache: tuple) -> Any:
    winner, size = cache
    OH, OW = winner.shape[1:3]
    return sum(window(dy, i, j, OH, OW, size) for i in range(size) for j in range(size))


# ---- resizing --------------------------------------------------------------------------------------------------------


@planted("resize_nearest", "the source row is rounded, where the forward took the one below")
def resize_nearest_rounds(dy: Array, cache: tuple) -> Any:
    (H, W), (OH, OW) = cache, dy.shape[1:3]
    rows, columns = np.round(np.arange(OH) * H / OH).astype(int), np.round(np.arange(OW) * W / OW).astype(int)
    dx = np.zeros((len(dy), H, W, dy.shape[3]))
    np.add.at(dx, np.ix_(range(len(dx)), np.minimum(rows, H - 1), np.minimum(columns, W - 1)), dy)
    return dx


@planted("resize_nearest", "rows that were taken several times get one gradient, the last: = instead of +=")
def resize_nearest_overwrites(dy: Array, cache: tuple) -> Any:
    (H, W), (OH, OW) = cache, dy.shape[1:3]
    dx = np.zeros((len(dy), H, W, dy.shape[3]))
    dx[np.ix_(range(len(dx)), np.arange(OH) * H // OH, np.arange(OW) * W // OW)] = dy
    return dx


@planted("resize_bilinear", "dy is resized to the size of x: the shares of a row of the matrix, not of a column")
def resize_bilinear_resizes_back(dy: Array, cache: tuple) -> Any:
    H, W, align_corners = cache
    return ops.resize_bilinear(dy, (H, W), align_corners)[0]


@planted("resize_bilinear corners", "the backward uses the other convention for the corners than the forward")
def resize_bilinear_other_corners(dy: Array, cache: tuple) -> Any:
    H, W, align_corners = cache
    return ops.resize_bilinear_backward(dy, (H, W, not align_corners))


@planted("conv_transpose2d output padding", "the gradient's new last row is taken for the one that the padding cut off")
def output_padding_as_padding(dy: Array, cache: tuple) -> Any:
    x, w, has_bias, stride, _ = cache
    return ops.conv_transpose2d_backward(dy[:, :-1, :-1], (x, w, has_bias, stride, ((1, 1), (1, 1))))


@planted("conv_transpose2d output padding", "the margins are those of the near end: dy is read one pixel too late")
def output_padding_at_the_near_end(dy: Array, cache: tuple) -> Any:
    x, w, has_bias, stride, pads = cache
    return ops.conv_transpose2d_backward(dy, (x, w, has_bias, stride, tuple(p[::-1] for p in pads)))


# ---- instance norm ---------------------------------------------------------------------------------------------------


@planted("group_norm of each channel", "the means are taken over the images, too: a batch norm's backward")
def instance_norm_over_the_batch(dy: Array, cache: tuple) -> Any:
    x, gamma, mean, rstd = cache
    xhat = (x - mean.reshape(len(x), 1, 1, -1)) * rstd.reshape(len(x), 1, 1, -1)
    g, pixels = dy * gamma, (0, 1, 2)
    dx = g - g.mean(pixels, keepdims=True) - xhat * (g * xhat).mean(pixels, keepdims=True)
    return dx * rstd.reshape(len(x), 1, 1, -1), *ops.group_norm_backward(dy, cache)[1:]


@planted("group_norm of each channel", "dgamma and dbeta are means over the images, where every image adds its share")
def instance_norm_mean_of_images(dy: Array, cache: tuple) -> Any:
    dx, dgamma, dbeta = ops.group_norm_backward(dy, cache)
    return dx, dgamma / len(dy), dbeta / len(dy)


# ---- losses of detectors ---------------------------------------------------------------------------------------------


@planted("sigmoid_focal", "alpha weighs the positives only: the others count fully")
def focal_alpha_of_the_positives(dloss: float, cache: tuple) -> Array:
    signed, *rest = cache
    return ops.sigmoid_focal_backward(dloss, (np.where(signed < 0, signed / 0.75, signed), *rest))


@planted("sigmoid_focal", "the sign s is left out: background is pushed up as well")
def focal_pushes_all_up(dloss: float, cache: tuple) -> Array:
    signed, *rest = cache
    return ops.sigmoid_focal_backward(dloss, (np.abs(signed), *rest))


@planted("giou", "the union is taken for a constant: only the intersection and the hull move")
def giou_constant_union(dloss: float, cache: tuple) -> Array:
    boxes, targets, share, own, inner, hull, union, around = cache
    d_inner = -inner[..., ::-1] * (inner.prod(-1, keepdims=True) > 0) / union[:, None]
    d_hull = hull[..., ::-1] * (union / around**2)[:, None]
    begin = -(d_inner * (boxes > targets)[:, :2] + d_hull * (boxes < targets)[:, :2])
    end = d_inner * (boxes < targets)[:, 2:] + d_hull * (boxes > targets)[:, 2:]
    return dloss * share[:, None] * np.concatenate([begin, end], -1)


@planted("giou", "where the boxes do not meet there is no gradient, as the plain IoU has none: the hull is forgotten")
def giou_without_the_hull(dloss: float, cache: tuple) -> Array:
    return ops.giou_backward(dloss, cache) * (cache[4].prod(-1, keepdims=True) > 0)


@planted("sigmoid_bce", "the share is taken for a class: where it is not 0, it counts as 1")
def bce_of_a_class(dloss: float, cache: tuple) -> Array:
    logits, targets, share = cache
    return ops.sigmoid_bce_backward(dloss, (logits, np.ceil(targets), share))


@planted(
    "sigmoid_bce",
    "the slope of the sigmoid comes in once more, as for a squared error: what is sure and wrong stays so",
)
def bce_with_the_slope_of_a_sigmoid(dloss: float, cache: tuple) -> Array:
    s, _ = ops.sigmoid(cache[0])
    return ops.sigmoid_bce_backward(dloss, cache) * s * (1 - s)


@planted("prototype_masks", "the last object overwrites what the others gave the prototypes, where their boxes overlap")
def masks_overwrite_each_other(dloss: float, cache: tuple) -> Any:
    prototypes, coefficients, pieces = cache
    dprototypes, dcoefficients = ops.prototype_masks_backward(dloss, cache)
    crop, rows, dz, _ = pieces[1]
    own = dloss * dz[0] @ coefficients[rows]
    h, w = crop.truth.shape
    dprototypes[crop.image, crop.top : crop.top + h, crop.left : crop.left + w] = own
    return dprototypes, dcoefficients


@planted("prototype_masks", "the mean is taken over the box, its gradient over the object")
def masks_of_another_area(dloss: float, cache: tuple) -> Any:
    prototypes, coefficients, pieces = cache
    own = [(crop, rows, dz * crop.truth.size / (crop.truth > 0).sum(), conv) for crop, rows, dz, conv in pieces]
    return ops.prototype_masks_backward(dloss, (prototypes, coefficients, own))
