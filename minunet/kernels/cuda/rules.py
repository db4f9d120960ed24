"""Which CUDA kernel runs for which op, and for which arguments; rules look at dtypes and shapes only.

`CUDA_KERNELS` is for CuPy arrays what `kernels.cpu.rules.CPU_KERNELS` is for NumPy arrays. If a rule says no, or sizes do not
agree (`kernels/shapes.py`), the plain op runs on the GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...array import Array
from ...ops.conv import Padding
from ...ops.lazy import LazyConcat, LazyMap, MaybeLazy, fusing
from ..shapes import is_number
from .launch import CLASSES
from .lazy_maps import Convolved, Normed, OnGpu, Positive

STORED = ("float32", "float16", "bfloat16")
FLOAT, BOOL, BYTE = np.dtype(np.float32), np.dtype(bool), np.dtype(np.uint8)


@functools.cache
def _stored(dtype: np.dtype) -> bool:
    return dtype.name in STORED and dtype.isnative


def _maps(x: Any, *others: Any) -> bool:
    """Whether x is a map (N, H, W, C), not empty, of a dtype that the kernels store, and all others have its dtype."""
    if getattr(x, "ndim", 0) != 4 or not _stored(x.dtype) or not 0 < x.size < x.shape[3] << 31:
        return False
    return all(o is None or o.dtype == x.dtype for o in others) and _together(x, *others)


def _together(*arrays: Any) -> bool:
    """Whether all these are arrays of one library, or lazy maps, or None."""
    return len({type(a) for a in arrays if a is not None and not isinstance(a, LazyMap)}) < 2


def _parameters(x: Any, *arrays: Any) -> bool:
    """Whether biases, statistics and the like are float32, or have the dtype of the map x."""
    return all(a is None or a.dtype == FLOAT or a.dtype == x.dtype for a in arrays) and _together(*arrays)


def _conv2d(
    x: MaybeLazy,
    w: Array,
    b: Array | None = None,
    stride: int = 1,
    padding: Padding = "same",
    dilation: int = 1,
    groups: int = 1,
) -> bool:
    fits = _maps(x, w) and w.shape[0] == w.shape[1] and stride == dilation == groups == 1
    even = w.shape[0] % 2 == 0 and padding == "same"  # one more pixel of padding on one side
    fits = fits and not even and (isinstance(padding, (int, str)) or _one_number(padding))
    return fits and _parameters(x, b) and _together(w, b)


def _one_number(padding: Any) -> bool:
    return bool(np.unique(np.asarray(padding)).size == 1)


def _conv2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    x, w, _, stride, pads, dilation, groups = cache
    square = w.shape[0] == w.shape[1] and stride == dilation == groups == 1 and _one_number(pads)
    return square and _maps(dy, x, w)


def _conv_transpose2d(x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0) -> bool:
    apart = w.shape[:2] == (stride, stride) and type(padding) is int and padding == 0
    return apart and _maps(x, w) and _parameters(x, b) and _together(w, b)


def _conv_transpose2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    x, w, _, stride, pads = cache
    return w.shape[:2] == (stride, stride) and not np.any(pads) and _maps(dy, x, w)


def _map(x: MaybeLazy, *options: Any, **more: Any) -> bool:
    return _maps(x)


def _relu(x: MaybeLazy) -> bool:
    return isinstance(x, Normed) or (isinstance(x, Convolved) and x.raw is None)


def _relu_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return isinstance(cache[0], Positive) and _maps(dy) and dy.dtype == cache[0].y.dtype


def _concat(arrays: Sequence[MaybeLazy]) -> bool:
    return fusing() and len(arrays) == 2 and _maps(*arrays)


def _concat_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return isinstance(dy, LazyConcat)


def _max_pool2d_backward(dy: MaybeLazy, cache: tuple) -> bool:
    winner, *_ = cache
    return winner.dtype == BYTE and _maps(dy) and _together(dy, winner)


def _batch_norm(
    x: MaybeLazy, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> bool:
    return _maps(x) and _parameters(x, gamma, beta, mean, var) and _together(x, gamma)


def _norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    x, gamma, mean, rstd, *_ = cache
    return _maps(dy, x) and _parameters(x, gamma, mean, rstd) and _together(dy, gamma)


def _shared_norm_backward(dy: MaybeLazy, cache: tuple, total: object) -> bool:
    return _norm_backward(dy, cache)


def _running_average(mean: Array, var: Array, *batch: Any, **options: Any) -> bool:
    return _in_place(mean, var) and _together(mean, *batch[:2])


def _group_norm(x: MaybeLazy, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> bool:
    return _batch_norm(x, gamma, beta) and x.shape[0] < 1 << 16  # a grid has no more blocks beside each other


def _group_norm_backward(dy: MaybeLazy, cache: tuple) -> bool:
    return _norm_backward(dy, cache) and dy.shape[0] < 1 << 16


def _labels(labels: Array, like: Array) -> bool:
    """Whether labels are integers of which none becomes another one as int32."""
    return (labels.dtype.kind == "i" or labels.dtype.name in ("uint8", "uint16")) and _together(like, labels)


def _losses(logits: Array, labels: Array, *options: Any, **more: Any) -> bool:
    return _maps(logits) and logits.dtype == FLOAT and _labels(labels, logits)


def _cross_entropy(
    logits: Array, labels: Array, weight: Array | None = None, class_weight: Any = None, ignore: int = -1
) -> bool:
    return _losses(logits, labels) and abs(ignore) < (1 << 31) - 1


def _cross_entropy_backward(dloss: float, cache: tuple) -> bool:
    p, labels, share = cache
    fits = _maps(p, share) and p.dtype == FLOAT and _whole(p, share)
    return fits and _labels(labels, p) and _together(p, share) and _one_in_memory(dloss, p)


def _soft_dice_backward(dloss: float, cache: tuple) -> bool:
    p, labels, seen, *per_class, channels = cache
    arrays = (seen, *per_class)
    fits = _maps(p, *arrays) and p.dtype == FLOAT and _whole(p, *arrays)
    return fits and 2 <= channels <= CLASSES and _labels(labels, p) and _one_in_memory(dloss, p)


def _whole(*arrays: Any) -> bool:
    """Whether arrays are contiguous; lazy maps give such."""
    return all(isinstance(a, LazyMap) or a.flags.c_contiguous for a in arrays)


def _one_in_memory(number: Any, like: Any) -> bool:
    """Whether this is a number, or an array with one number beside another array."""
    like = like.like if isinstance(like, OnGpu) else like
    return is_number(number) or (type(number) is type(like) and number.shape in ((), (1,)) and number.dtype == FLOAT)


def _in_place(*arrays: Any) -> bool:
    """Whether all are contiguous arrays of float32, as kernels change them."""
    return all(a.dtype == FLOAT and a.flags.c_contiguous for a in arrays) and _together(*arrays)


def _unscale(grads: Sequence[Array], factor: Any, broken: Array) -> bool:
    return _in_place(*grads, broken) and _one_in_memory(factor, broken)


def _clip(grads: Sequence[Array], max_norm: float) -> bool:
    return _in_place(*grads)


def _sgd_steps(p: Sequence[Array], g: Sequence[Array], velocity: Sequence[Array], lr: Any, *options: Any) -> bool:
    return _one_step(p, g, (velocity,), lr, 2)


def _adam_steps(
    p: Sequence[Array], g: Sequence[Array], m: Sequence[Array], s: Sequence[Array], steps: Any, lr: Any, *options: Any
) -> bool:
    return (steps is None) != is_number(lr) and _one_step(p, g, (m, s), lr, 4)


def _rmsprop_steps(
    p: Sequence[Array], g: Sequence[Array], s: Sequence[Array], velocity: Sequence[Array], lr: Any, *options: Any
) -> bool:
    return _one_step(p, g, (s, velocity), lr, 2)


def _one_step(p: Sequence[Array], g: Sequence[Array], memory: Sequence[Sequence[Array]], lr: Any, held: int) -> bool:
    """Whether all arrays are as the optimisers' kernels take them, and lr is a number or an array of `held` of them."""
    fits = _in_place(*p, *(a for slot in memory for a in slot)) and all(a.dtype == FLOAT for a in g)
    return fits and _together(p[0], *g) and (is_number(lr) or (_in_place(p[0], lr) and lr.shape == (held,)))


def _move_averages(averages: Sequence[Array], arrays: Sequence[Array], decay: float) -> bool:
    return _in_place(*averages, *arrays)


def _cast(arrays: Sequence[Array], halves: Sequence[Array]) -> bool:
    fits = all(h.dtype == halves[0].dtype and h.flags.c_contiguous for h in halves) and _stored(halves[0].dtype)
    return fits and _in_place(*arrays) and _together(arrays[0], *halves)


CUDA_KERNELS: dict[str, Callable[..., bool]] = {
    "conv2d": _conv2d,
    "conv2d_backward": _conv2d_backward,
    "conv_transpose2d": _conv_transpose2d,
    "conv_transpose2d_backward": _conv_transpose2d_backward,
    "max_pool2d": _map,
    "max_pool2d_backward": _max_pool2d_backward,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _norm_backward,
    "shared_batch_norm_backward": _shared_norm_backward,
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
    "soft_dice": _losses,
    "soft_dice_backward": _soft_dice_backward,
    "unscale": _unscale,
    "clip": _clip,
    "sgd_steps": _sgd_steps,
    "adam_steps": _adam_steps,
    "rmsprop_steps": _rmsprop_steps,
    "move_averages": _move_averages,
    "cast": _cast,
}
"""For each op with a kernel in ops.py: the rule that says for which arguments it runs."""
