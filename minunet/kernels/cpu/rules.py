"""Which kernel runs for which op, and for which arguments.

`CPU_KERNELS` has a line for each op: the module with its kernel, and a rule that looks at the op's arguments. If the rule says
no, the plain op runs, and so it does if sizes do not agree (`kernels/shapes.py`, which sees the arguments before any kernel).
All other choices are made inside the kernels' modules; `conv.winograd_pays` chooses between the algorithms of convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...array import Array
from ...ops.conv import Padding
from ...ops.lazy import LazyConcat, LazyMap, MaybeLazy, fusing
from ..shapes import is_number


class Rule(NamedTuple):
    """Where an op's kernel is, and for which arguments it runs."""

    module: str  # of this package, or a dotted path
    fits: Callable[..., bool]  # of the op's arguments


SMALLEST = 1 << 14
"""Least size of an array for which pools and activations use a kernel. NumPy handles a smaller one in the time that it takes to
start a kernel (measured with numba's work queue; OpenMP starts kernels sooner)."""

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
BOOL, BYTE = np.dtype(bool), np.dtype(np.uint8)


def _on_cpu(x: Any, *others: Any) -> bool:
    """Whether all these are NumPy arrays, or lazy maps, or None, of one dtype, float32 or float64."""
    dtype = x.dtype
    for a in (x, *others):
        if a is not None and not ((type(a) is np.ndarray or isinstance(a, LazyMap)) and a.dtype == dtype):
            return False
    return dtype in FLOATS


def _large_arrays(x: MaybeLazy, *others: Any) -> bool:
    """Whether all these are NumPy arrays of one dtype, float32 or float64, and the first one is large."""
    if x.size < SMALLEST:
        return False
    dtype = x.dtype
    for a in (x, *others):
        if type(a) is not np.ndarray or a.dtype != dtype:
            return False
    return dtype in FLOATS


def _keeps_dtype(x: MaybeLazy, number: Any) -> bool:
    """Whether x times a number has the dtype of x: a float64 scalar of NumPy's widens float32."""
    return type(number) in (float, int) or np.result_type(number, x.dtype) == x.dtype


def _conv2d(
    x: MaybeLazy,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    return _on_cpu(x, w, b)


def _conv2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _on_cpu(dy, *cache[:2])


def _conv_transpose2d(x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0) -> bool:
    apart = w.shape[:2] == (stride, stride) and type(padding) is int and padding == 0  # the stamps do not overlap
    return apart and _on_cpu(x, w, b)


def _conv_transpose2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _on_cpu(dy, *cache[:2])


def _depthwise_conv2d(
    x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 1, padding: Padding = "same", dilation: int = 1
) -> bool:
    return _on_cpu(x, w, b)


def _depthwise_conv2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _on_cpu(dy, *cache[:2])


def _max_pool2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    winner, *_ = cache
    return _large(dy) and type(winner) is np.ndarray and winner.dtype == BYTE


def _batch_norm(
    x: MaybeLazy, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> bool:
    return _on_cpu(x, gamma, beta, mean, var)


def _batch_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _on_cpu(dy, *cache[:4])


def _shared_batch_norm_backward(dy: MaybeLazy, cache: tuple, total: object) -> bool:
    return _batch_norm_backward(dy, cache)


def _large(x: MaybeLazy, *options: Any, **more: Any) -> bool:
    return _on_cpu(x) and (isinstance(x, LazyMap) or x.size >= SMALLEST)


def _relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    lazy = isinstance(cache[0], LazyMap)
    return (_on_cpu(dy) and lazy) or (_large(dy) and type(cache[0]) is np.ndarray and cache[0].dtype == BOOL)


def _concat(arrays: Sequence[MaybeLazy]) -> bool:
    large = sum(a.size for a in arrays) >= SMALLEST
    return _on_cpu(*arrays) and (large or (fusing() and len(arrays) == 2))


def _concat_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return isinstance(dy, LazyConcat)


def _leaky_relu(x: MaybeLazy, slope: float = 0.01) -> bool:
    return _large_arrays(x) and _keeps_dtype(x, slope)


def _leaky_relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    mask, slope = cache
    return _leaky_relu(dy, slope) and type(mask) is np.ndarray and mask.dtype == BOOL


def _relu6_backward(dy: MaybeLazy, cache: tuple) -> bool:
    (mask,) = cache
    return _large(dy) and type(mask) is np.ndarray and mask.dtype == BOOL


def _add(arrays: Sequence[MaybeLazy]) -> bool:
    return len(arrays) == 2 and _on_cpu(*arrays) and (fusing() or arrays[0].size >= SMALLEST)


def _gate(x: MaybeLazy, a: MaybeLazy) -> bool:
    return _on_cpu(x, a) and x.size >= SMALLEST


def _gate_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _on_cpu(dy, *cache) and dy.size >= SMALLEST


def _max_pool2d_padded_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _max_pool2d_backward(dy, cache[0])


def _large_with_cache(dy: MaybeLazy, cache: tuple) -> bool:
    return _large_arrays(dy, *cache)


def _group_norm(x: MaybeLazy, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> bool:
    return _large_arrays(x, gamma, beta)


def _large_array(x: MaybeLazy, *options: Any, **more: Any) -> bool:
    return _large_arrays(x)


def _are_labels(labels: Any) -> bool:
    """Whether labels can be converted to int64, as the kernels are compiled for, and none becomes another one."""
    return type(labels) is np.ndarray and labels.dtype.kind in "iu" and labels.dtype != np.uint64


def _pixel_loss(logits: Array, labels: Array, *options: Any, **more: Any) -> bool:
    return _large_arrays(logits) and _are_labels(labels)


def _pixel_loss_backward(dloss: float, cache: tuple) -> bool:
    p, labels, *others = cache
    arrays = [a for a in others if type(a) is not int]
    return _large_arrays(p, *arrays) and is_number(dloss) and _keeps_dtype(p, dloss) and _are_labels(labels)


def _star_loss(
    logits: Array, target: Array, weight: Array | None = None, distances: float = 1.0, outside: float = 1e-4
) -> bool:
    return _large_arrays(logits, target) and type(weight) in (type(None), np.ndarray) and is_number(distances, outside)


def _star_loss_backward(dloss: float, cache: tuple) -> bool:
    logits, target, seen, *sums = cache
    return _large_arrays(logits, target, seen) and is_number(dloss, *sums) and _keeps_dtype(logits, dloss)


def _in_place(g: Array, *changed: Array) -> bool:
    """Whether arrays are as the optimisers' kernels change them, and none lies across another one or across the gradient: the
    plain rules read all of it before they write."""
    if not _large_arrays(*changed, g):  # as most of a network's parameters
        return False
    for n, a in enumerate(changed):
        if not a.flags.carray or _overlap(a, g):
            return False
        for b in changed[:n]:
            if _overlap(a, b):
                return False
    return True


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays may lie across each other; what has no base has memory of its own."""
    return a is b or ((a.base is not None or b.base is not None) and np.may_share_memory(a, b))


def _sgd_step(p: Array, g: Array, velocity: Array, lr: float, *options: Any, **more: Any) -> bool:
    return is_number(lr) and _in_place(g, p, velocity)


def _adam_step(p: Array, g: Array, m: Array, s: Array, steps: int, lr: float, *options: Any, **more: Any) -> bool:
    return steps is not None and is_number(lr) and _in_place(g, p, m, s)


def _rmsprop_step(p: Array, g: Array, s: Array, velocity: Array, lr: float, *options: Any, **more: Any) -> bool:
    return is_number(lr) and _in_place(g, p, s, velocity)


CPU_KERNELS: dict[str, Rule] = {
    "conv2d": Rule("conv", _conv2d),
    "conv2d_backward": Rule("conv", _conv2d_backward),
    "conv_transpose2d": Rule("conv", _conv_transpose2d),
    "conv_transpose2d_backward": Rule("conv", _conv_transpose2d_backward),
    "depthwise_conv2d": Rule("depthwise", _depthwise_conv2d),
    "depthwise_conv2d_backward": Rule("depthwise", _depthwise_conv2d_backward),
    "max_pool2d": Rule("pointwise", _large),
    "max_pool2d_backward": Rule("pointwise", _max_pool2d_backward),
    "batch_norm": Rule("norm", _batch_norm),
    "batch_norm_backward": Rule("norm", _batch_norm_backward),
    "shared_batch_norm_backward": Rule("norm", _shared_batch_norm_backward),
    "relu": Rule("pointwise", _large),
    "relu_backward": Rule("pointwise", _relu_backward),
    "concat": Rule("concat", _concat),
    "concat_backward": Rule("minunet.ops.lazy", _concat_backward),
    "add": Rule("combine", _add),
    "gate": Rule("combine", _gate),
    "gate_backward": Rule("combine", _gate_backward),
    "global_avg_pool2d": Rule("combine", _large),
    "max_pool2d_padded": Rule("pool", _large),
    "max_pool2d_padded_backward": Rule("pool", _max_pool2d_padded_backward),
    "max_unpool2d_backward": Rule("pool", _max_pool2d_backward),
    "relu6": Rule("activation", _large),
    "relu6_backward": Rule("activation", _relu6_backward),
    "sigmoid": Rule("activation", _large_array),
    "sigmoid_backward": Rule("activation", _large_with_cache),
    "leaky_relu": Rule("activation", _leaky_relu),
    "leaky_relu_backward": Rule("activation", _leaky_relu_backward),
    "softmax": Rule("activation", _large_array),
    "softmax_backward": Rule("activation", _large_with_cache),
    "group_norm": Rule("norm", _group_norm),
    "group_norm_backward": Rule("norm", _large_with_cache),
    "upsample_nearest": Rule("resample", _large_array),
    "upsample_nearest_backward": Rule("resample", _large_array),
    "upsample_bilinear": Rule("resample", _large_array),
    "upsample_bilinear_backward": Rule("resample", _large_array),
    "resize_nearest": Rule("resample", _large_array),
    "resize_nearest_backward": Rule("resample", _large_array),
    "resize_bilinear": Rule("resample", _large_array),
    "resize_bilinear_backward": Rule("resample", _large_array),
    "avg_pool2d": Rule("resample", _large_array),
    "avg_pool2d_backward": Rule("resample", _large_array),
    "softmax_cross_entropy": Rule("loss", _pixel_loss),
    "softmax_cross_entropy_backward": Rule("loss", _pixel_loss_backward),
    "soft_dice": Rule("loss", _pixel_loss),
    "soft_dice_backward": Rule("loss", _pixel_loss_backward),
    "star_loss": Rule("stars", _star_loss),
    "star_loss_backward": Rule("stars", _star_loss_backward),
    "sgd_step": Rule("optim", _sgd_step),
    "adam_step": Rule("optim", _adam_step),
    "rmsprop_step": Rule("optim", _rmsprop_step),
}
"""For each op that has a kernel for NumPy arrays: the kernel's module, and the rule that says for which arguments it runs."""
