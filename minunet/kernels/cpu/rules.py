"""Which kernel runs for which op, and for which arguments.

`CPU_KERNELS` has a line for each op: the module with its kernel, and a rule that looks at the op's arguments. If the rule says
no, the plain op runs. All other choices are made inside the kernels' modules; `conv.winograd_pays` chooses between the
algorithms of convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...array import Array
from ...ops.conv import Padding
from ...ops.lazy import LazyConcat, LazyMap, MaybeLazy, fusing


class Rule(NamedTuple):
    """Where an op's kernel is, and for which arguments it runs."""

    module: str  # of this package, or a dotted path
    fits: Callable[..., bool]  # of the op's arguments


SMALLEST = 1 << 14
"""Least size of an array for which pools and activations use a kernel. NumPy handles a smaller one in the time that it takes to
start a kernel (measured with numba's work queue; OpenMP starts kernels sooner)."""


def _on_cpu(x: Any, *others: Any) -> bool:
    """Whether all these are NumPy arrays, or lazy maps, or None, of one dtype, float32 or float64."""
    return (
        (type(x) is np.ndarray or isinstance(x, LazyMap))
        and x.dtype in (np.float32, np.float64)
        and all(o is None or (isinstance(o, (np.ndarray, LazyMap)) and o.dtype == x.dtype) for o in others)
    )


def _conv2d(
    x: MaybeLazy,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    return _on_cpu(x, w, b) and w.size > 0 and w.shape[2] * groups == x.shape[3] and w.shape[3] % groups == 0


def _conv2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    x, w, _, stride, *_ = cache
    return _on_cpu(dy, x, w) and w.size > 0 and stride == 1


def _conv_transpose2d(x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0) -> bool:
    apart = w.shape[:2] == (stride, stride) and padding == 0  # the stamps do not overlap
    return _on_cpu(x, w, b) and w.size > 0 and x.shape[3] == w.shape[2] and apart


def _conv_transpose2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    x, w, *_ = cache
    return _on_cpu(dy, x, w) and w.size > 0


def _max_pool2d(x: MaybeLazy, size: int = 2, stride: int | None = None) -> bool:
    return size <= 16 and _large(x)


def _batch_norm(
    x: MaybeLazy, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> bool:
    return _on_cpu(x, gamma, beta, mean, var) and x.size > 0


def _batch_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _on_cpu(dy, *cache[:4]) and dy.size > 0


def _large(x: MaybeLazy, *cache: Any) -> bool:
    return _on_cpu(x) and (isinstance(x, LazyMap) or x.size >= SMALLEST)


def _relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _large(dy) or (_on_cpu(dy) and isinstance(cache[0], LazyMap))


def _concat(arrays: Sequence[MaybeLazy]) -> bool:
    return fusing() and len(arrays) == 2 and _on_cpu(*arrays) and arrays[0].shape[:-1] == arrays[1].shape[:-1]


def _concat_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return isinstance(dy, LazyConcat) and dy.a.shape[-1] == cache[0]


def _large_arrays(x: MaybeLazy, *others: Any) -> bool:
    """Whether all these are NumPy arrays of one dtype, float32 or float64, and the first one is large."""
    return all(type(a) is np.ndarray for a in (x, *others)) and _on_cpu(x, *others) and x.size >= SMALLEST


def _leaky_relu(x: MaybeLazy, slope: float = 0.01) -> bool:
    return _large_arrays(x) and np.result_type(slope, x) == x.dtype


def _leaky_relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _leaky_relu(dy, cache[1])


def _softmax(x: MaybeLazy) -> bool:
    return _large_arrays(x) and x.ndim > 1


def _softmax_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _large_arrays(dy, *cache) and dy.ndim > 1


def _group_norm(x: MaybeLazy, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> bool:
    return _large_arrays(x, gamma, beta) and x.shape[3] % groups == 0


def _group_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _large_arrays(dy, *cache)


def _window(x: MaybeLazy, *options: Any, **more: Any) -> bool:
    return _large_arrays(x)


def _window_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _large_arrays(dy)


def _upsample_nearest_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _large_arrays(dy) and dy.shape[1] % cache[0] == dy.shape[2] % cache[0] == 0


def _pixel_loss(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Any = None,
    ignore: int = -1,
    smooth: float = 1.0,
) -> bool:
    fits = _large_arrays(logits) and type(labels) is np.ndarray and labels.dtype.kind in "iu"
    fits = fits and labels.shape == logits.shape[:-1] and logits.shape[-1] >= 2
    fits = fits and (weight is None or np.shape(weight) == labels.shape)
    return fits and (class_weight is None or np.shape(class_weight) == logits.shape[-1:])


def _pixel_loss_backward(dloss: float, cache: tuple) -> bool:
    p, labels, share, *_ = cache
    same = _large_arrays(p, share) and np.result_type(dloss, p) == p.dtype  # a float64 scalar of NumPy's widens float32
    return same and type(labels) is np.ndarray


def _step(p: Array, g: Array, *rest: Any, **options: Any) -> bool:
    memory = [a for a in rest if isinstance(a, np.ndarray)]
    whole = _large_arrays(p, g, *memory) and g.shape == p.shape
    return whole and all(a.flags.c_contiguous and a.flags.writeable and a.shape == p.shape for a in (p, *memory))


CPU_KERNELS: dict[str, Rule] = {
    "conv2d": Rule("conv", _conv2d),
    "conv2d_backward": Rule("conv", _conv2d_backward),
    "conv_transpose2d": Rule("conv", _conv_transpose2d),
    "conv_transpose2d_backward": Rule("conv", _conv_transpose2d_backward),
    "max_pool2d": Rule("pointwise", _max_pool2d),
    "max_pool2d_backward": Rule("pointwise", _large),
    "batch_norm": Rule("norm", _batch_norm),
    "batch_norm_backward": Rule("norm", _batch_norm_backward),
    "relu": Rule("pointwise", _large),
    "relu_backward": Rule("pointwise", _relu_backward),
    "concat": Rule("minunet.ops.lazy", _concat),
    "concat_backward": Rule("minunet.ops.lazy", _concat_backward),
    "leaky_relu": Rule("activation", _leaky_relu),
    "leaky_relu_backward": Rule("activation", _leaky_relu_backward),
    "softmax": Rule("activation", _softmax),
    "softmax_backward": Rule("activation", _softmax_backward),
    "group_norm": Rule("norm", _group_norm),
    "group_norm_backward": Rule("norm", _group_norm_backward),
    "upsample_nearest": Rule("resample", _window),
    "upsample_nearest_backward": Rule("resample", _upsample_nearest_backward),
    "upsample_bilinear": Rule("resample", _window),
    "upsample_bilinear_backward": Rule("resample", _window_backward),
    "avg_pool2d": Rule("resample", _window),
    "avg_pool2d_backward": Rule("resample", _window_backward),
    "softmax_cross_entropy": Rule("loss", _pixel_loss),
    "softmax_cross_entropy_backward": Rule("loss", _pixel_loss_backward),
    "soft_dice": Rule("loss", _pixel_loss),
    "soft_dice_backward": Rule("loss", _pixel_loss_backward),
    "sgd_step": Rule("optim", _step),
    "adam_step": Rule("optim", _step),
    "rmsprop_step": Rule("optim", _step),
}
"""For each op that has a kernel for NumPy arrays: the kernel's module, and the rule that says for which arguments it runs."""
