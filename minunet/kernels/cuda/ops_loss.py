"""The losses on the GPU; compare ops.py. Those of a head that has not started start with it, see lazy_losses.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...array import Array, get_array_module
from ...ops.lazy import fusing, materialize
from ...ops.loss import dice_of_checked
from . import launch
from .lazy_losses import Logits, LossGradient, OfLosses, as_floats
from .start import contiguous, floats


def softmax_cross_entropy(
    logits: Any, labels: Array, weight: Array | None = None, class_weight: Array | None = None, ignore: int = -1
) -> tuple[Any, tuple]:
    """The kernel of `ops.softmax_cross_entropy`; the loss is an array without axes, so that the host need not wait for it.

    The labels are not checked on the host, either: if one is no class, the loss is NaN. `ops.loss.check_labels` then says why.
    """
    if isinstance(logits, Logits) and (found := logits.losses_for(labels, weight, class_weight, ignore)):
        return found.cross_entropy, (found.probabilities(), labels, found.share())
    weight, class_weight = as_floats(labels, weight, class_weight)
    labels = _classes(labels)
    p, share, result = launch.cross_entropy(_plain(logits), labels, weight, class_weight, ignore)
    share /= result[1]
    return result[0], (p, labels, share)


def softmax_cross_entropy_backward(dloss: float, cache: tuple) -> Any:
    """The kernel of `ops.softmax_cross_entropy_backward`."""
    p, labels, share = cache
    if isinstance(share, OfLosses) and fusing():
        return LossGradient(share.losses, dloss, (1.0, 0.0), share.losses.of_class)
    p, share = materialize(p), materialize(share)
    dz = get_array_module(p).empty(p.shape, p.dtype)
    launch.cross_entropy_back(p, _classes(labels), share, None, dloss, dz)
    return dz


def soft_dice(
    logits: Any, labels: Array, weight: Array | None = None, class_weight: Array | None = None, ignore: int = -1,
    smooth: float = 1.0,
) -> tuple[Any, tuple]:  # fmt: skip
    """The kernel of `ops.soft_dice` for 2 to CLASSES classes; wrong labels make the loss NaN, as in `softmax_cross_entropy`."""
    K = logits.shape[-1]
    if not 2 <= K <= launch.CLASSES:
        loss, cache = dice_of_checked(materialize(logits), labels, weight, class_weight, ignore, smooth)
        wrong = (labels != ignore) & ((labels < 0) | (labels >= max(K, 2)))
        return get_array_module(labels).where(wrong.any(), loss.dtype.type(np.nan), loss), cache
    if isinstance(logits, Logits) and (found := logits.losses_for(labels, weight, class_weight, ignore, smooth)):
        return found.dice, (found.probabilities(), labels, found.seen(), *found.of_class, K)
    weight, class_weight = as_floats(labels, weight, class_weight)
    labels = _classes(labels)
    p, seen, result, per_class = launch.soft_dice(_plain(logits), labels, weight, class_weight, ignore, smooth)
    return result[0], (p, labels, seen, *per_class, K)


def soft_dice_backward(dloss: float, cache: tuple) -> Any:
    """The kernel of `ops.soft_dice_backward`."""
    p, labels, seen, *per_class, _ = cache
    if isinstance(seen, OfLosses) and fusing():
        return LossGradient(seen.losses, dloss, (0.0, 1.0), per_class)
    p, seen = materialize(p), materialize(seen)
    dz = get_array_module(p).empty(p.shape, p.dtype)
    launch.soft_dice_back(p, _classes(labels), seen, per_class, dloss, dz)
    return dz


def _plain(logits: Any) -> Array:
    """Logits as loss.cu takes them."""
    return contiguous(floats(materialize(logits)))


def _classes(labels: Array) -> Array:
    """Labels as loss.cu takes them: contiguous int32; a number that is too large for that stays one that is no class."""
    if labels.dtype.itemsize > 4:
        labels = get_array_module(labels).clip(labels, -(1 << 31), (1 << 31) - 1)
    return contiguous(labels.astype(np.int32, copy=False))
