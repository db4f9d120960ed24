"""Which sizes of an op's arguments must agree before any kernel, on the CPU or a GPU, gets its memory.

A kernel computes addresses from sizes and looks at nothing else: a gradient with more channels than the cache says would be
written beyond its end. So every kernel is entered through `takes`. `SHAPES` has a function for each op, with the op's
arguments, that unpacks the shapes by their letters (N H W C, KH KW C K) and compares them, each with all others; whole numbers
such as a stride must be ints in their range, and nothing is empty. This takes at most 3 microseconds.

What does not agree is not refused here. It is for the plain op, which raises an error, or has an answer, as for a bias of one
number that is added to all channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array import Array
from ..ops.conv import Padding, resolve_padding
from ..ops.lazy import MaybeLazy

SHAPES: dict[str, Callable[..., bool]] = {}
"""For each op that has a kernel: whether the sizes of its arguments agree."""


def takes(name: str, fits: Callable[..., bool], args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether a kernel for an op may run: a backend's rule `fits`, and all sizes agree.

    Arguments that cannot even be looked at, such as a cache of another op, are for the plain op to complain about, too.
    """
    try:
        return fits(*args, **options) and SHAPES[name](*args, **options)
    except Exception:
        return False


def of(op: Callable[..., bool]) -> Callable[..., bool]:
    """Decorate the function that compares the sizes of the op of the same name."""
    SHAPES[op.__name__] = op
    return op


# ---- the pieces ------------------------------------------------------------------------------------------------------


def counts(*numbers: Any) -> bool:
    """Whether all are ints from 1 on; an integer of NumPy could overflow in a kernel."""
    for n in numbers:  # noqa: SIM110 (faster than all(...))
        if type(n) is not int or n < 1:
            return False
    return True


def is_number(*values: Any) -> bool:
    """Whether all are real numbers, not arrays."""
    for v in values:  # noqa: SIM110 (faster than all(...))
        if not isinstance(v, (float, int, np.floating, np.integer)):
            return False
    return True


def is_margin(n: Any) -> bool:
    """Whether n counts pixels of padding."""
    return type(n) is int and n >= 0


def outputs(pixels: int, side: int, stride: int, dilation: int = 1) -> int:
    """At how many places a filter or a window fits into so many pixels of a row or column."""
    return (pixels - dilation * (side - 1) - 1) // stride + 1


def pooled(x_shape: tuple[int, ...], size: int, stride: int) -> tuple[int, ...]:
    """The shape that a pool makes of (N, H, W, C)."""
    N, H, W, C = x_shape
    return N, outputs(H, size, stride), outputs(W, size, stride), C


# ---- convolutions ----------------------------------------------------------------------------------------------------


@of
def conv2d(
    x: MaybeLazy,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    """x (N, H, W, C), w (KH, KW, C/groups, K), b (K,)."""
    (_, H, W, C), (KH, KW, Cg, K) = x.shape, w.shape
    agree = counts(stride, dilation, groups) and Cg * groups == C and K % groups == 0 and (b is None or b.shape == (K,))
    if not agree or 0 in x.shape or 0 in w.shape:
        return False
    if isinstance(padding, str) or is_margin(padding):
        return True
    rows, columns = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)
    return all(map(is_margin, (*rows, *columns)))


@of
def conv2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, OH, OW, K), x (N, H, W, C), w (KH, KW, C/groups, K)."""
    x, w, _, stride, ((top, bottom), (left, right)), dilation, groups = cache
    (N, H, W, C), (KH, KW, Cg, K) = x.shape, w.shape
    margins = is_margin(top) and is_margin(bottom) and is_margin(left) and is_margin(right)
    if not margins or not counts(stride, dilation, groups, N, H, W, C, KH, KW, K):
        return False
    OH, OW = outputs(H + top + bottom, KH, stride, dilation), outputs(W + left + right, KW, stride, dilation)
    return Cg * groups == C and K % groups == 0 and dy.shape == (N, OH, OW, K) and OH > 0 and OW > 0


@of
def depthwise_conv2d(
    x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> bool:
    """x (N, H, W, C), w (KH, KW, C), b (C,)."""
    KH, KW, C = w.shape
    return x.shape[3] == C and conv2d(x, w.reshape(KH, KW, C, 1), None, stride, padding, dilation) and (
        b is None or b.shape == (C,)
    )  # fmt: skip


@of
def depthwise_conv2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, OH, OW, C), x (N, H, W, C), w (KH, KW, C)."""
    x, w, _, stride, ((top, bottom), (left, right)), dilation = cache
    (N, H, W, C), (KH, KW, Cw) = x.shape, w.shape
    margins = is_margin(top) and is_margin(bottom) and is_margin(left) and is_margin(right)
    if not margins or Cw != C or not counts(stride, dilation, N, H, W, C, KH, KW):
        return False
    OH, OW = outputs(H + top + bottom, KH, stride, dilation), outputs(W + left + right, KW, stride, dilation)
    return dy.shape == (N, OH, OW, C) and OH > 0 and OW > 0


@of
def conv_transpose2d(x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0) -> bool:
    """x (N, H, W, C), w (KH, KW, C, K), b (K,)."""
    (N, H, W, C), (KH, KW, Cw, K) = x.shape, w.shape
    return counts(stride, N, H, W, C, KH, KW, K) and Cw == C and (b is None or b.shape == (K,))


@of
def conv_transpose2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy (N, OH, OW, K), x (N, H, W, C), w (KH, KW, C, K)."""
    x, w, _, stride, ((top, bottom), (left, right)) = cache
    (N, H, W, C), (KH, KW, Cw, K) = x.shape, w.shape
    margins = is_margin(top) and is_margin(bottom) and is_margin(left) and is_margin(right)
    OH, OW = (H - 1) * stride + KH - top - bottom, (W - 1) * stride + KW - left - right
    agree = margins and Cw == C and dy.shape == (N, OH, OW, K)
    return agree and counts(stride, N, H, W, C, KH, KW, K, OH, OW)


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


# ---- norms -----------------------------------------------------------------------------------------------------------


@of
def batch_norm(
    x: MaybeLazy, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> bool:
    """x (N, H, W, C), gamma, beta, mean and var (C,)."""
    N, H, W, C = x.shape
    if (mean is None) != (var is None) or not (mean is None or var is None or mean.shape == var.shape == (C,)):
        return False
    return gamma.shape == beta.shape == (C,) and is_number(eps) and counts(N, H, W, C)


@of
def batch_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and x (N, H, W, C), gamma, mean and rstd (C,)."""
    x, gamma, mean, rstd, from_batch = cache
    N, H, W, C = shape = x.shape
    agree = dy.shape == shape and gamma.shape == mean.shape == rstd.shape == (C,)
    return agree and type(from_batch) is bool and counts(N, H, W, C)


@of
def running_average(
    mean: Array, var: Array, batch_mean: Array, batch_var: Array, M: int, momentum: float = 0.1
) -> bool:
    """All four (C,)."""
    (C,) = mean.shape
    return counts(C, M) and var.shape == batch_mean.shape == batch_var.shape == mean.shape and is_number(momentum)


@of
def group_norm(x: MaybeLazy, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> bool:
    """x (N, H, W, C), gamma and beta (C,), C a multiple of groups."""
    N, H, W, C = x.shape
    return counts(groups, N, H, W, C) and C % groups == 0 and gamma.shape == beta.shape == (C,) and is_number(eps)


@of
def group_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and x (N, H, W, C), gamma (C,), mean and rstd (N, 1, groups, 1)."""
    x, gamma, mean, rstd = cache
    N, H, W, C = shape = x.shape
    groups = mean.shape[2]
    agree = dy.shape == shape and gamma.shape == (C,) and mean.shape == rstd.shape == (N, 1, groups, 1)
    return agree and counts(groups, N, H, W, C) and C % groups == 0


# ---- activations and concatenation -----------------------------------------------------------------------------------


@of
def relu(x: MaybeLazy) -> bool:
    """x of any shape."""
    return 0 not in x.shape


@of
def relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and the mask of one shape."""
    (mask,) = cache
    return dy.shape == mask.shape and 0 not in dy.shape


@of
def leaky_relu(x: MaybeLazy, slope: float = 0.01) -> bool:
    """x of any shape."""
    return 0 not in x.shape and is_number(slope)


@of
def leaky_relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and the mask of one shape."""
    mask, slope = cache
    return dy.shape == mask.shape and 0 not in dy.shape and is_number(slope)


@of
def softmax(x: MaybeLazy) -> bool:
    """x (..., K)."""
    return len(x.shape) > 1 and 0 not in x.shape


@of
def softmax_backward(dy: MaybeLazy, cache: tuple) -> bool:
    """dy and y (..., K)."""
    (y,) = cache
    return len(dy.shape) > 1 and dy.shape == y.shape and 0 not in dy.shape


@of
def concat(arrays: Sequence[MaybeLazy]) -> bool:
    """(N, H, W, C1), (N, H, W, C2) and so on, at least two."""
    first, *others = arrays
    N, H, W, C = first.shape
    fit = [b.shape == (N, H, W, b.shape[-1]) and b.shape[-1] > 0 for b in others]
    return counts(N, H, W, C) and bool(fit) and all(fit)


@of
def concat_backward(dy: Any, cache: tuple) -> bool:
    """dy.a (N, H, W, C1) and dy.b (N, H, W, C2), with C1 and C2 in the cache."""
    return (dy.a.shape[-1], dy.b.shape[-1]) == cache


# ---- losses ----------------------------------------------------------------------------------------------------------


@of
def softmax_cross_entropy(
    logits: Array, labels: Array, weight: Array | None = None, class_weight: Any = None, ignore: int = -1
) -> bool:
    """logits (N, H, W, K), K >= 2; labels and weight (N, H, W); class_weight (K,)."""
    return logits.shape[-1] >= 2 and _pixel_loss(logits, labels, weight, class_weight, ignore)


@of
def softmax_cross_entropy_backward(dloss: float, cache: tuple) -> bool:
    """p (N, H, W, K), labels and share (N, H, W)."""
    p, labels, share = cache
    N, H, W, K = p.shape
    return labels.shape == share.shape == (N, H, W) and counts(N, H, W, K)


@of
def soft_dice(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Any = None,
    ignore: int = -1,
    smooth: float = 1.0,
) -> bool:
    """As `softmax_cross_entropy`; on a GPU, where plain operations compute it, K may be 1."""
    agree = _pixel_loss(logits, labels, weight, class_weight, ignore) and is_number(smooth)
    return agree and (logits.shape[-1] >= 2 or type(logits) is not np.ndarray)


@of
def soft_dice_backward(dloss: float, cache: tuple) -> bool:
    """p (N, H, W, K), labels and seen (N, H, W), shares, dice and union (K,); K is 2 for a single channel of logits."""
    p, labels, seen, shares, dice, union, channels = cache
    N, H, W, K = p.shape
    agree = labels.shape == seen.shape == (N, H, W) and shares.shape == dice.shape == union.shape == (K,)
    return agree and counts(channels, N, H, W) and max(channels, 2) == K


@of
def star_loss(
    logits: Array, target: Array, weight: Array | None = None, distances: float = 1.0, outside: float = 1e-4
) -> bool:
    """logits and target (N, H, W, 1 + R), weight (N, H, W)."""
    N, H, W, channels = shape = logits.shape
    agree = target.shape == shape and (weight is None or _shape(weight) == (N, H, W))
    return agree and channels > 1 and counts(N, H, W) and is_number(distances, outside)


@of
def star_loss_backward(dloss: float, cache: tuple) -> bool:
    """logits and target (N, H, W, 1 + R), seen (N, H, W), and four numbers, of which two divide."""
    logits, target, seen, total, inside, distances, outside = cache
    N, H, W, channels = shape = logits.shape
    agree = target.shape == shape and seen.shape == (N, H, W) and channels > 1 and counts(N, H, W)
    return agree and is_number(total, inside, distances, outside) and total > 0 and inside > 0


def _pixel_loss(logits: Array, labels: Array, weight: Any, class_weight: Any, ignore: Any) -> bool:
    N, H, W, K = logits.shape
    agree = labels.shape == (N, H, W) and (class_weight is None or _shape(class_weight) == (max(K, 2),))
    agree = agree and (weight is None or _shape(weight) == (N, H, W))
    return agree and counts(N, H, W, K) and type(ignore) is int


def _shape(a: Any) -> tuple[int, ...]:
    """The shape of an array, or of a list of numbers."""
    return a.shape if hasattr(a, "shape") else np.shape(a)


# ---- optimisers ------------------------------------------------------------------------------------------------------


@of
def unscale(g: Array, factor: Any, broken: Array) -> bool:
    """g of any shape, broken (1,)."""
    return 0 not in g.shape and broken.shape == (1,)


@of
def sgd_step(
    p: Array,
    g: Array,
    velocity: Array,
    lr: Any,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> bool:
    """All arrays of one shape."""
    agree = p.shape == g.shape == velocity.shape and 0 not in p.shape
    return agree and is_number(momentum, weight_decay) and type(nesterov) is bool


@of
def adam_step(
    p: Array, g: Array, m: Array, s: Array, steps: int | None, lr: Any, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> bool:  # fmt: skip
    """All arrays of one shape. The numbers leave nothing to be divided by 0, at which a kernel would stop halfway."""
    agree = p.shape == g.shape == m.shape == s.shape and 0 not in p.shape and type(decoupled) is bool
    divides = (steps is None or counts(steps)) and 0 <= beta1 < 1 and 0 <= beta2 < 1 and eps > 0
    return agree and divides and is_number(beta1, beta2, eps, weight_decay)


@of
def rmsprop_step(
    p: Array, g: Array, s: Array, velocity: Array, lr: Any, momentum: float = 0.9, decay: float = 0.99, eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> bool:  # fmt: skip
    """As `adam_step`."""
    agree = p.shape == g.shape == s.shape == velocity.shape and 0 not in p.shape
    return agree and eps > 0 and is_number(momentum, decay, eps, weight_decay)
