"""The ops on the GPU: the names, arguments and caches of `minunet.ops`, computed by the CUDA kernels.

Maps are float32, float16 or bfloat16. Factors of products are rounded to TF32 (10 bits of fraction, cuDNN's default), sums are
float32. So results differ from those of the plain op by about 1e-3 of their scale. Statistics, losses and the gradients of all
parameters are float32 even if maps have 16 bits, whose range is too small for them; biases, gamma and beta may be float32
there, too.

Inside a network maps may stay lazy, see lazy_maps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...array import Array, get_array_module
from ...ops.conv import Padding, output_size, resolve_padding
from ...ops.lazy import IMAGE_CHANNELS, LazyConcat, concat, concat_backward, fusing, materialize
from . import launch, launch_conv, launch_norm
from .launch_many import adam_steps, cast, clip, move_averages, rmsprop_steps, sgd_steps, unscale
from .lazy_losses import Logits, LossGradient
from .lazy_maps import (
    Convolved,
    Merge,
    Normed,
    OfImage,
    Passed,
    Positive,
    Statistic,
    Unpooled,
    data_gradient,
    sources,
    taps,
)
from .ops_loss import soft_dice, soft_dice_backward, softmax_cross_entropy, softmax_cross_entropy_backward
from .start import as_map, contiguous, floats

__all__ = ["concat", "concat_backward"]  # these compute nothing, so the CPU uses the same
__all__ += ["adam_steps", "cast", "clip", "move_averages", "rmsprop_steps", "sgd_steps", "unscale"]
__all__ += ["soft_dice", "soft_dice_backward", "softmax_cross_entropy", "softmax_cross_entropy_backward"]


def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 1, padding: Padding = "same", dilation: int = 1, groups: int = 1
) -> tuple[Any, tuple]:  # fmt: skip
    """The kernel of `ops.conv2d` for square filters, the same padding on all sides, no stride, dilation or groups."""
    (N, H, W, _), (side, _, C, K) = x.shape, w.shape
    pads = resolve_padding(padding, (H, W), (side, side), stride, dilation)
    shape = (N, *output_size((H, W), (side, side), pads, stride, dilation), K)
    y: Any
    if _is_head(w, pads[0][0]):
        y = Logits(x, contiguous(w).reshape(C, K), floats(b), shape)
    else:
        y = Convolved(x, w, floats(b), shape, pads[0][0])
    return y if fusing() else materialize(y), (x, w, b is not None, stride, pads, dilation, groups)


def conv2d_backward(dy: Array, cache: tuple) -> tuple[Any, Array, Array | None]:
    """The kernel of `ops.conv2d_backward`."""
    x, w, has_bias, _, pads, _, _ = cache
    side, pad = w.shape[0], pads[0][0]
    dx: Any
    if _is_head(w, pad):
        on, dx, filters = _map(x), _empty(w, x.shape), contiguous(w).reshape(w.shape[2:])
        if isinstance(dy, LossGradient):
            dw, db = dy.back(on, filters, dx)
        else:
            dw, db = launch.head_back(on, floats(_map(dy)), filters, dx)
        return dx, dw.reshape(w.shape), db if has_bias else None
    dy = _map(dy)
    maps, dw = sources(x), _empty(w, w.shape, np.float32)
    launch_conv.conv_weights(maps, dy, dw, side=side, pad=pad)
    shapes = [m.shape for m in maps]
    del maps  # what was computed anew for them makes room for dx
    if len(shapes) == 1 and shapes[0][3] <= IMAGE_CHANNELS:
        dx = OfImage(dy, w, x.shape, pad)
    else:
        grads = data_gradient(dy, w, [_empty(w, shape) for shape in shapes], pad)
        dx = LazyConcat(*grads) if len(grads) == 2 else grads[0]
    dx = dx if fusing() else materialize(dx)
    return dx, dw, launch_norm.channel_sums(dy) if has_bias else None


def conv_transpose2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0
) -> tuple[Array, tuple]:
    """The kernel of `ops.conv_transpose2d` for filters as large as the stride and no padding: stamps side by side."""
    (N, H, W, _), K = x.shape, w.shape[3]
    y = _empty(w, (N, H * stride, W * stride, K))
    launch_conv.conv([_map(x)], taps(w), [y], side=1, up=stride, bias=floats(b))
    return y, (x, w, b is not None, stride, ((0, 0), (0, 0)))


def conv_transpose2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """The kernel of `ops.conv_transpose2d_backward`."""
    x, w, has_bias, stride, _ = cache
    dx, dy, dw = _empty(w, x.shape), _map(dy), _empty(w, w.shape, np.float32)
    launch_conv.conv([dy], taps(w), [dx], side=stride, stride=stride, gradient=True)
    launch_conv.conv_weights([dy], _map(x), dw, side=stride, stride=stride, transposed=True)
    return dx, dw, launch_norm.channel_sums(dy) if has_bias else None


def max_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """The kernel of `ops.max_pool2d`."""
    (N, H, W, C), stride = x.shape, stride or size
    shape = (N, *output_size((H, W), (size, size), ((0, 0), (0, 0)), stride), C)
    on = _map(x)
    y, winner = _empty(on, shape), _empty(on, shape, np.uint8)
    launch.max_pool(on, y, winner, size, stride)
    return y, (winner, x.shape, size, stride)


def max_pool2d_backward(dy: Array, cache: tuple) -> Any:
    """The kernel of `ops.max_pool2d_backward`."""
    winner, *rest = cache
    dx = Unpooled(materialize(dy), (contiguous(winner), *rest))
    return dx if fusing() else dx.array()


def upsample_bilinear(x: Array, scale: int = 2, align_corners: bool = True) -> tuple[Array, tuple]:
    """The kernel of `ops.upsample_bilinear`."""
    N, H, W, C = x.shape
    on = _map(x)
    y = _empty(on, (N, scale * H, scale * W, C))
    launch.bilinear(on, y, scale, align_corners)
    return y, (H, W, align_corners)


def upsample_bilinear_backward(dy: Array, cache: tuple) -> Array:
    """The kernel of `ops.upsample_bilinear_backward`."""
    H, W, align_corners = cache
    N, OH, _, C = dy.shape
    dy = _map(dy)
    dx = _empty(dy, (N, H, W, C))
    launch.bilinear_back(dy, dx, OH // H, align_corners)
    return dx


def batch_norm(
    x: Any, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> tuple[Any, tuple, tuple[Array, Array]]:
    """The kernel of `ops.batch_norm`; statistics are float32."""
    scale, shift = floats(gamma), floats(beta)
    waits = isinstance(x, Convolved) and x.takes_norm()
    if mean is None or var is None:
        merge = Merge(x.start(moments=True) if waits else launch_norm.moments(_map(x)), eps)
        mean, _, rstd = merge.values
        raw = materialize(x)
        y: Any = Normed(raw, mean, rstd, scale, shift, merge=merge)
        found: Any = (Statistic(merge, 0), Statistic(merge, 1))
        if not fusing():
            y, found = y.array(), tuple(materialize(s) for s in found)
        return y, (raw, gamma, mean, rstd, True), found
    bias = x.bias if waits else None
    folded_scale, folded_shift, rstd = launch_norm.fold_norm(floats(mean), floats(var), scale, shift, bias, eps)
    y = x.then(folded_scale, folded_shift) if waits else Normed(_map(x), floats(mean), rstd, scale, shift)
    return y if fusing() else y.array(), (x, gamma, mean, rstd, False), (mean, var)


def batch_norm_backward(dy: Any, cache: tuple) -> tuple[Array, Array, Array]:
    """The kernel of `ops.batch_norm_backward`."""
    return _norm_backward(dy, cache, None, cache[4])


def shared_batch_norm_backward(
    dy: Any, cache: tuple, total: Callable[..., Sequence[Array]]
) -> tuple[Array, Array, Array]:
    """The kernel of `ops.shared_batch_norm_backward`."""
    return _norm_backward(dy, cache, total, True)


def _norm_backward(
    dy: Any, cache: tuple, total: Callable[..., Sequence[Array]] | None, from_batch: bool
) -> tuple[Array, Array, Array]:
    x, gamma, mean, rstd, _ = cache
    raw, beta, rstd = materialize(x), None, floats(rstd)
    if isinstance(dy, Passed) and dy.y.raw is raw:
        dy, beta = dy.dy, dy.y.statistics[3]  # the kernels mask it
    dy, dx = _map(dy), _empty(raw, raw.shape)
    dbeta, dgamma = launch_norm.norm_back(
        dy, _map(raw), floats(mean), rstd, floats(gamma), beta, dx, beta is not None, from_batch, total
    )  # fmt: skip
    return dx, dgamma, dbeta


def running_average(mean: Array, var: Array, batch_mean: Any, batch_var: Any, M: int, momentum: float = 0.1) -> None:
    """The kernel of `ops.norm.running_average`; one start with what computes the batch's statistics, if that still waits."""
    of_batch = {"running": (mean, var), "momentum": momentum, "unbiased": M / max(M - 1, 1)}
    if isinstance(batch_mean, Statistic) and batch_mean.merge.run(**of_batch):
        return
    batch_mean, batch_var = materialize(batch_mean), materialize(batch_var)
    launch_norm.running_average(mean, var, floats(batch_mean), floats(batch_var), momentum, M / max(M - 1, 1))


def group_norm(x: Any, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> tuple[Any, tuple]:
    """The kernel of `ops.group_norm`; statistics are float32."""
    N, H, W, C = x.shape
    if (
        isinstance(x, Convolved) and x.takes_norm() and (N == 1 or H * W % launch_conv.BM == 0)
    ):  # no tile has two images
        tiles = x.start(moments=True)
    else:
        tiles = launch_norm.moments(_map(x), N)
    mean, rstd = launch_norm.merge_group_moments(tiles, N, groups, eps)
    raw = materialize(x)
    y = Normed(raw, mean, rstd, floats(gamma), floats(beta))
    of_groups = (a.reshape(N, 1, groups, C // groups)[..., :1] for a in (mean, rstd))
    return y if fusing() else y.array(), (raw, gamma, *of_groups)


def group_norm_backward(dy: Any, cache: tuple) -> tuple[Array, Array, Array]:
    """The kernel of `ops.group_norm_backward`."""
    x, gamma, *of_groups = cache
    (N, _, groups, _), C = of_groups[0].shape, x.shape[3]
    xp, raw, beta = get_array_module(gamma), materialize(x), None
    mean, rstd = (floats(xp.broadcast_to(a, (N, 1, groups, C // groups))).reshape(N, C) for a in of_groups)
    if isinstance(dy, Passed) and dy.y.raw is raw:
        dy, beta = dy.dy, dy.y.statistics[3]  # the kernels mask it
    dy, dx = _map(dy), _empty(raw, raw.shape)
    dbeta, dgamma = launch_norm.group_norm_back(
        dy, _map(raw), mean, rstd, floats(gamma), beta, dx, groups, beta is not None
    )  # fmt: skip
    return dx, dgamma, dbeta


def relu(x: Convolved | Normed) -> tuple[Any, tuple]:
    """The kernel of `ops.relu` for lazy maps: the ReLU is added to the work that is still to be done."""
    y = x.clipped()
    return y if fusing() else y.array(), (Positive(y),)


def relu_backward(dy: Any, cache: tuple) -> Any:
    """The kernel of `ops.relu_backward` for what `relu` here returned."""
    dx = Passed(materialize(dy), cache[0].y)
    return dx if fusing() and isinstance(dx.y, Normed) else dx.array()


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _empty(like: Array, shape: tuple[int, ...], dtype: Any = None) -> Array:
    return get_array_module(like).empty(shape, dtype or like.dtype)


def _map(x: Any) -> Array:
    """x as kernels read it: materialized, its pixels at one distance from each other."""
    return as_map(materialize(x))


def _is_head(w: Array, pad: int) -> bool:
    """Whether a convolution is for head.cu."""
    return bool(w.shape[:2] == (1, 1) and pad == 0 and w.shape[3] <= launch.CLASSES)
