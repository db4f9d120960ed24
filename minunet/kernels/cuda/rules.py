"""Which CUDA kernel runs for which op, and for which arguments; rules look at dtypes and shapes only.

`CUDA_KERNELS` is for CuPy arrays what `kernels.cpu.rules.CPU_KERNELS` is for NumPy arrays. If a rule says no, the plain op runs
on the GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...array import Array
from ...ops.conv import Padding
from ...ops.lazy import LazyConcat, MaybeLazy, fusing
from .lazy_maps import Convolved, Normed, Positive

STORED = ("float32", "float16", "bfloat16")


@functools.cache
def _stored(dtype: np.dtype) -> bool:
    return dtype.name in STORED


def _maps(x: Any, *others: Any) -> bool:
    """Whether x is a map (N, H, W, C), not empty, of a dtype that the kernels store, and all others have its dtype."""
    if getattr(x, "ndim", 0) != 4 or not _stored(x.dtype) or not 0 < x.size < x.shape[3] << 31:
        return False
    return all(o is None or o.dtype == x.dtype for o in others)


def _conv2d(
    x: MaybeLazy,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    fits = _maps(x, w) and w.size > 0 and w.shape[0] == w.shape[1] and stride == dilation == groups == 1
    even = w.shape[0] % 2 == 0 and padding == "same"  # one more pixel of padding on one side
    return fits and not even and (isinstance(padding, (int, str)) or _one_number(padding)) and w.shape[2] == x.shape[3]


def _one_number(padding: Any) -> bool:
    return bool(np.unique(np.asarray(padding)).size == 1)


def _conv2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    x, w, _, stride, pads, dilation, groups = cache
    square = w.shape[0] == w.shape[1] and stride == dilation == groups == 1 and _one_number(pads)
    return _maps(dy, x, w) and x.size > 0 and w.size > 0 and square


def _conv_transpose2d(x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0) -> bool:
    apart = w.shape[:2] == (stride, stride) and isinstance(padding, int) and padding == 0
    return _maps(x, w) and w.size > 0 and apart and w.shape[2] == x.shape[3]


def _conv_transpose2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    x, w, _, stride, pads = cache
    return _maps(dy, x, w) and w.size > 0 and w.shape[:2] == (stride, stride) and not np.any(pads)


def _map(x: MaybeLazy, *options: Any, **more: Any) -> bool:
    return _maps(x)


def _relu(x: MaybeLazy) -> bool:
    return isinstance(x, Normed) or (isinstance(x, Convolved) and x.raw is None)


def _relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _maps(dy) and isinstance(cache[0], Positive)


def _concat(arrays: Sequence[MaybeLazy]) -> bool:
    return fusing() and len(arrays) == 2 and _maps(*arrays) and arrays[0].shape[:3] == arrays[1].shape[:3]


def _concat_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return isinstance(dy, LazyConcat) and dy.a.shape[-1] == cache[0]


def _max_pool2d(x: MaybeLazy, size: int = 2, stride: int | None = None) -> bool:
    return _maps(x) and size <= min(16, *x.shape[1:3])


def _batch_norm(
    x: MaybeLazy, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> bool:
    return _maps(x)


def _batch_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _maps(dy, cache[0])


def _running_average(mean: Array, var: Array, *batch: Any, **options: Any) -> bool:
    return mean.size > 0 and all(a.dtype == np.float32 and a.flags.c_contiguous for a in (mean, var))


def _group_norm(x: MaybeLazy, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> bool:
    return _maps(x) and x.shape[3] % groups == 0 and x.shape[0] < 1 << 16  # a grid has no more blocks beside each other


def _group_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _maps(dy, cache[0]) and dy.shape[0] < 1 << 16


def _cross_entropy(
    logits: Array, labels: Array, weight: Array | None = None, class_weight: Any = None, ignore: int = -1
) -> bool:
    fits = _maps(logits) and logits.dtype == np.float32 and logits.shape[3] >= 2 and labels.shape == logits.shape[:3]
    return fits and labels.dtype.kind in "iu" and (weight is None or np.shape(weight) == labels.shape)


def _cross_entropy_backward(dloss: float, cache: tuple) -> bool:
    return _maps(cache[0]) and all(a.dtype == np.float32 and a.flags.c_contiguous for a in (cache[0], cache[2]))


def _soft_dice(logits: Array, labels: Array, *options: Any, **more: Any) -> bool:
    return _maps(logits) and logits.dtype == np.float32 and labels.shape == logits.shape[:3]


def _unscale(g: Array, factor: Any, broken: Array) -> bool:
    return g.size > 0 and g.dtype == np.float32 and g.flags.c_contiguous


def _step(p: Array, g: Array, *memory: Any, **options: Any) -> bool:
    arrays = [p, *(a for a in memory if hasattr(a, "flags"))]
    return p.size > 0 and g.dtype == np.float32 and all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


CUDA_KERNELS: dict[str, Callable[..., bool]] = {
    "conv2d": _conv2d,
    "conv2d_backward": _conv2d_backward,
    "conv_transpose2d": _conv_transpose2d,
    "conv_transpose2d_backward": _conv_transpose2d_backward,
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _map,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "running_average": _running_average,
    "group_norm": _group_norm,
    "group_norm_backward": _group_norm_backward,
    "relu": _relu,
    "relu_backward": _relu_backward,
    "concat": _concat,
    "concat_backward": _concat_backward,
    "upsample_bilinear": _map,
    "upsample_bilinear_backward": _map,
    "softmax_cross_entropy": _cross_entropy,
    "softmax_cross_entropy_backward": _cross_entropy_backward,
    "soft_dice": _soft_dice,
    "unscale": _unscale,
    "sgd_step": _step,
    "adam_step": _step,
}
"""For each op with a kernel in ops.py: the rule that says for which arguments it runs."""
