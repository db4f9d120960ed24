"""Twins of the ops on the GPU: same names, same arguments, same caches; the kernels do the work.

Maps are float32, float16 or bfloat16; products of float32 are rounded to TF32 (10 bits of fraction, as cuDNN does by
default), sums are float32. So answers differ from the plain op's by some 1e-3 of their scale. Statistics, losses and weights'
gradients are computed in float32, and returned in the dtype of the op's arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...array import Array, get_array_module
from ...ops.conv import output_size, resolve_padding
from ...ops.loss import check_labels
from . import launch


def conv2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 1, padding: Any = "same", dilation: int = 1, groups: int = 1
) -> tuple[Array, tuple]:  # fmt: skip
    """Twin of `ops.conv2d` for square filters, one padding for all sides, no stride, dilation or groups."""
    (N, H, W, C), (side, _, _, K) = x.shape, w.shape
    pads = resolve_padding(padding, (H, W), (side, side), stride, dilation)
    y = _empty(x, (N, *output_size((H, W), (side, side), pads, stride, dilation), K))
    if _is_head(w):
        launch.head(launch.as_map(x), _float(w).reshape(C, K), _float(b), y)
    else:
        launch.conv([launch.as_map(x)], _taps(w), [y], side=side, pad=pads[0][0], bias=_float(b))
    return y, (x, w, b is not None, stride, pads, dilation, groups)


def conv2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Twin of `ops.conv2d_backward`."""
    x, w, has_bias, _, pads, _, _ = cache
    side, pad, dx = w.shape[0], pads[0][0], _empty(x, x.shape)
    dy = launch.as_map(dy)
    if _is_head(w):
        launch.head_back(_contiguous(dy), _float(w).reshape(w.shape[2:]), dx)
    else:
        launch.conv([dy], _taps(w), [dx], side=side, pad=side - 1 - pad, flip=True, gradient=True)
    dw = _empty(dy, w.shape, np.float32)
    launch.conv_weights([launch.as_map(x)], dy, dw, side=side, pad=pad)
    return dx, dw.astype(w.dtype, copy=False), _bias_gradient(dy) if has_bias else None


def conv_transpose2d(
    x: Array, w: Array, b: Array | None = None, stride: int = 2, padding: Any = 0
) -> tuple[Array, tuple]:
    """Twin of `ops.conv_transpose2d` for filters as large as the stride and no padding: stamps side by side."""
    (N, H, W, _), K = x.shape, w.shape[3]
    y = _empty(x, (N, H * stride, W * stride, K))
    launch.conv([launch.as_map(x)], _taps(w), [y], side=1, up=stride, bias=_float(b))
    return y, (x, w, b is not None, stride, ((0, 0), (0, 0)))


def conv_transpose2d_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array | None]:
    """Twin of `ops.conv_transpose2d_backward`."""
    x, w, has_bias, stride, _ = cache
    dx, dy, dw = _empty(x, x.shape), launch.as_map(dy), _empty(dy, w.shape, np.float32)
    launch.conv([dy], _taps(w), [dx], side=stride, stride=stride, gradient=True)
    launch.conv_weights([dy], launch.as_map(x), dw, side=stride, stride=stride, transposed=True)
    return dx, dw.astype(w.dtype, copy=False), _bias_gradient(dy) if has_bias else None


def max_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, tuple]:
    """Twin of `ops.max_pool2d`."""
    (N, H, W, C), stride = x.shape, stride or size
    shape = (N, *output_size((H, W), (size, size), ((0, 0), (0, 0)), stride), C)
    y, winner = _empty(x, shape), _empty(x, shape, np.uint8)
    launch.max_pool(launch.as_map(x), y, winner, size, stride)
    return y, (winner, x.shape, size, stride)


def max_pool2d_backward(dy: Array, cache: tuple) -> Array:
    """Twin of `ops.max_pool2d_backward`."""
    winner, x_shape, size, stride = cache
    dx = _empty(dy, x_shape)
    launch.max_pool_back(launch.as_map(dy), _contiguous(winner), dx, size, stride)
    return dx


def upsample_bilinear(x: Array, scale: int = 2, align_corners: bool = True) -> tuple[Array, tuple]:
    """Twin of `ops.upsample_bilinear`."""
    N, H, W, C = x.shape
    y = _empty(x, (N, scale * H, scale * W, C))
    launch.bilinear(launch.as_map(x), y, scale, align_corners)
    return y, (H, W, align_corners)


def upsample_bilinear_backward(dy: Array, cache: tuple) -> Array:
    """Twin of `ops.upsample_bilinear_backward`."""
    H, W, align_corners = cache
    N, OH, _, C = dy.shape
    dx = _empty(dy, (N, H, W, C))
    launch.bilinear_back(launch.as_map(dy), dx, OH // H, align_corners)
    return dx


def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> tuple[Array, tuple, tuple[Array, Array]]:
    """Twin of `ops.batch_norm`; statistics are float32."""
    source, y, from_batch = launch.as_map(x), _empty(x, x.shape), mean is None
    if mean is None or var is None:
        mean, var, rstd = launch.merge_moments(launch.moments(source), launch.pixels(x), launch.TILE, eps)
    else:
        mean, rstd = _float(mean), _float(1 / (_float(var) + eps) ** 0.5)
    launch.norm(source, mean, rstd, _float(gamma), _float(beta), y, relu=False)
    return y, (x, gamma, mean, rstd, from_batch), (mean, var)


def batch_norm_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Twin of `ops.batch_norm_backward`."""
    x, gamma, mean, rstd, from_batch = cache
    dx, rstd = _empty(x, x.shape), _float(rstd)
    dbeta, shares = launch.norm_back(
        launch.as_map(dy), launch.as_map(x), _float(mean), rstd, _float(gamma), None, dx, False, from_batch
    )
    return dx, (shares * rstd).astype(gamma.dtype, copy=False), dbeta.astype(gamma.dtype, copy=False)


def softmax_cross_entropy(
    logits: Array, labels: Array, weight: Array | None = None, class_weight: Array | None = None, ignore: int = -1
) -> tuple[Any, tuple]:
    """Twin of `ops.softmax_cross_entropy`; the loss is an array of no axes, so that nobody waits for it."""
    xp = get_array_module(logits)
    weight, class_weight = (
        None if a is None else _contiguous(xp.asarray(a, np.float32)) for a in (weight, class_weight)
    )
    labels = _contiguous(labels.astype(np.int32, copy=False))
    p, share, result = launch.cross_entropy(_contiguous(_float(logits)), labels, weight, class_weight, ignore)
    if result[2]:
        check_labels(logits, labels, ignore)
    share /= result[1]
    return result[0], (p, labels, share)


def softmax_cross_entropy_backward(dloss: float, cache: tuple) -> Array:
    """Twin of `ops.softmax_cross_entropy_backward`."""
    p, labels, share = cache
    xp, dz = get_array_module(p), _empty(p, p.shape)
    result = xp.asarray([0, 1, 0], np.float32)  # the shares have been divided already
    dloss = xp.asarray(dloss, np.float32).reshape(1)
    launch.cross_entropy_back(p, labels.astype(np.int32, copy=False), share, result, dloss, dz)
    return dz


def sgd_step(
    p: Array, g: Array, velocity: Array, rate: float, momentum: float = 0.9, nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """Twin of `optim.sgd_step`."""
    launch.sgd(p, _contiguous(g), velocity, rate, momentum, nesterov, weight_decay)


def adam_step(
    p: Array, g: Array, m: Array, s: Array, steps: int, rate: float, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> None:  # fmt: skip
    """Twin of `optim.adam_step`."""
    launch.adam(p, _contiguous(g), m, s, steps, rate, beta1, beta2, eps, weight_decay, decoupled)


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _empty(like: Array, shape: tuple[int, ...], dtype: Any = None) -> Array:
    return get_array_module(like).empty(shape, dtype or like.dtype)


def _contiguous(a: Array) -> Array:
    return get_array_module(a).ascontiguousarray(a)


def _float(a: Array | None) -> Any:
    """As the kernels want statistics, biases and the head's weights: contiguous float32."""
    return None if a is None else _contiguous(a.astype(np.float32, copy=False))


def _taps(w: Array) -> Array:
    """Filters (KH, KW, C, K) as (taps, C, K)."""
    return _contiguous(w).reshape(-1, *w.shape[2:])


def _is_head(w: Array) -> bool:
    """Whether a convolution is for head.cu, whose output is float32."""
    return bool(w.shape[:2] == (1, 1) and w.shape[3] <= launch.CLASSES and w.dtype == np.float32)


def _bias_gradient(dy: Array) -> Array:
    return launch.channel_sums(dy).astype(dy.dtype, copy=False)
