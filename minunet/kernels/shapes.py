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
def shared_batch_norm_backward(dy: MaybeLazy, cache: tuple, total: object) -> bool:
    """The same."""
    return batch_norm_backward(dy, cache)


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
