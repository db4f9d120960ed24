"""The same for what only runs in training: losses, and the optimisers' updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..array import Array
from .shapes import counts, is_number, of

Arrays = Sequence[Array]

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


# ---- all parameters at once: lists of arrays, of which those in the same places have one shape ------------------------------


@of
def unscale(grads: Arrays, factor: Any, broken: Array) -> bool:
    """broken (1,)."""
    return _rows(grads) and broken.shape == (1,)


@of
def clip(grads: Arrays, max_norm: float) -> bool:
    return _rows(grads) and is_number(max_norm) and max_norm > 0


@of
def sgd_steps(p: Arrays, g: Arrays, velocity: Arrays, lr: Any, *options: Any) -> bool:
    return _rows(p, g, velocity) and sgd_step(p[0], g[0], velocity[0], lr, *options)


@of
def adam_steps(p: Arrays, g: Arrays, m: Arrays, s: Arrays, steps: int | None, lr: Any, *options: Any) -> bool:
    return _rows(p, g, m, s) and adam_step(p[0], g[0], m[0], s[0], steps, lr, *options)


@of
def rmsprop_steps(p: Arrays, g: Arrays, s: Arrays, velocity: Arrays, lr: Any, *options: Any) -> bool:
    return _rows(p, g, s, velocity) and rmsprop_step(p[0], g[0], s[0], velocity[0], lr, *options)


@of
def move_averages(averages: Arrays, arrays: Arrays, decay: float) -> bool:
    return _rows(averages, arrays) and is_number(decay)


@of
def cast(arrays: Arrays, halves: Arrays) -> bool:
    return _rows(arrays, halves)


def _rows(*columns: Arrays) -> bool:
    """Whether lists are of one length, and arrays in the same places of one shape, not empty and of fewer than 2^31 numbers."""
    if not columns[0] or any(len(column) != len(columns[0]) for column in columns):
        return False
    return all(0 < row[0].size < 1 << 31 and all(a.shape == row[0].shape for a in row) for row in zip(*columns))
