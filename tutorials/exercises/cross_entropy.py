"""Softmax cross-entropy, both ways

Lesson 04, about 60 minutes. NumPy may be imported, nothing else.

Write `softmax_cross_entropy` and its backward: the weighted mean, over the pixels, of -log p(true class), where p is
the softmax of a pixel's logits. Every pixel's weight is that of the map `weight` (1 without one) times its class's in
`class_weight`, and 0 where the label is `ignore`; divide by the weights' sum, or give 0 where that is 0. Logits may be
in the thousands: shift them before exp. The backward takes a scalar dloss. The given `pixel_shares` and `one_hot` will
help. You choose what the cache holds.

Grade it with:  python -m minunet.grade cross_entropy.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


def check_labels(logits: Array, labels: Array, ignore: int) -> None:
    """ValueError unless labels (N, H, W) fit logits (N, H, W, K) in shape and values."""
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels have shape {labels.shape}, logits {logits.shape}: the first three must agree")
    K = max(logits.shape[-1], 2)
    wrong = labels[(labels != ignore) & ((labels < 0) | (labels >= K))]
    if wrong.size:
        raise ValueError(f"label {int(wrong.ravel()[0])} is neither a class (0 to {K - 1}) nor ignore ({ignore})")


def pixel_shares(logits: Array, labels: Array, weight: Array | None, class_weight: Array | None, ignore: int) -> Array:
    """Every pixel's weight divided by the sum of all: (N, H, W), of the dtype of logits."""
    xp = np
    check_labels(logits, labels, ignore)
    share = pixel_weights(labels, weight, class_weight, ignore, logits.dtype)
    total = share.sum(dtype=xp.float64).astype(logits.dtype)
    return share / xp.where(total > 0, total, 1)


def pixel_weights(labels: Array, weight: Any, class_weight: Any, ignore: int, dtype: Any) -> Array:
    """Every pixel's weight, (N, H, W)."""
    xp = np
    found = (labels != ignore).astype(dtype)
    if weight is not None:
        found = found * xp.asarray(weight, dtype)
    if class_weight is not None:
        found = found * xp.asarray(class_weight, dtype)[xp.where(labels == ignore, 0, labels)]
    return found


def one_hot(labels: Array, p: Array) -> Array:
    """Labels (N, H, W) as zeros and ones, of the shape and dtype of p (N, H, W, K); all zeros where ignored."""
    xp = np
    return (labels[..., None] == xp.arange(p.shape[-1])).astype(p.dtype)


# ---- yours -----------------------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: Array, labels: Array, weight: Array | None = None, class_weight: Array | None = None, ignore: int = -1
) -> tuple[Any, tuple]:
    """Weighted mean over the pixels of -log p(true class).

    Parameters
    ----------
    logits : (N, H, W, K) float array, K >= 2
    labels : (N, H, W) integer array
        Classes 0..K-1, or `ignore`.
    weight : (N, H, W) float array, optional
        A weight for every pixel, such as the paper's weight map.
    class_weight : (K,) sequence of floats, optional
        A weight for every class.
    ignore : int
        Pixels with this label do not count.

    Returns
    -------
    loss : scalar of the dtype of logits
    cache : tuple for `softmax_cross_entropy_backward`

    Raises
    ------
    ValueError
        If the shapes disagree or a label is no class.
    """
    raise NotImplementedError


def softmax_cross_entropy_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `softmax_cross_entropy`: dloss times dL/dlogits."""
    raise NotImplementedError
