"""Losses of segmentation, from logits: cross-entropy, binary cross-entropy, soft Dice, focal.

All are pairs: ``loss, cache = f(logits, labels, ...)`` with a scalar loss, and ``dlogits = f_backward(dloss, cache)`` with a
scalar dloss. So it takes one line to scale a loss, and one to add two losses.

logits are (N, H, W, K) floats, labels (N, H, W) integers 0..K-1. A single channel means a sigmoid: z is the logit of class 1,
and the sigmoid is the softmax of (0, z).

The weight of a pixel is `weight` (N, H, W) times that of its class in `class_weight` (K,), and 0 if its label is `ignore`.
Losses are divided by the sum of the weights; if that is 0, loss and gradients are 0.

Softmax cross-entropy. L = -log p_t for the true class t. By d log p_t / d z_k = [k = t] - p_k,

    dz_k = p_k - [k = t]                           the difference between prediction and truth

Binary cross-entropy, t in {0, 1}: L = log(1 + e^z) - t z, dz = sigmoid(z) - t: the same difference.

Focal loss (Lin et al., arXiv:1708.02002): L = -(1 - p_t)^g log p_t, in which pixels that are already right count less. With
d p_t / d z_k = p_t ([k = t] - p_k),

    dz_k = ([k = t] - p_k) * (g p_t (1 - p_t)^(g-1) log p_t - (1 - p_t)^g)          g = 0 gives the cross-entropy

Soft Dice (Milletari et al., arXiv:1606.04797, with sums instead of squares): per class, over all pixels of the batch,
with I = sum p*t, U = sum p + sum t and a small s that keeps empty classes finite,

    L = 1 - mean over classes of D,   D = (2 I + s) / (U + s),        dD/dp = (2 t - D) / (U + s)

then through the softmax. With one channel only class 1 counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

from ..array import Array, get_array_module
from .activation import sigmoid, softmax, softmax_backward
from .dispatch import accelerated


@accelerated
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

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> logits, labels = np.zeros((1, 2, 2, 2)), np.array([[[0, 1], [1, -1]]])
    >>> loss, cache = ops.softmax_cross_entropy(logits, labels)
    >>> print(round(float(loss), 4))  # log 2: three pixels count, and each is undecided
    0.6931
    >>> ops.softmax_cross_entropy_backward(1.0, cache)[0, 1].round(3)  # of the ignored pixel: nothing
    array([[ 0.167, -0.167],
           [ 0.   ,  0.   ]])
    """
    xp = get_array_module(logits)
    if logits.shape[-1] < 2:
        raise ValueError("softmax_cross_entropy needs two channels or more; for one there is bce_with_logits")
    share = pixel_shares(logits, labels, weight, class_weight, ignore)
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - xp.log(xp.exp(shifted).sum(-1, keepdims=True))
    true = one_hot(labels, logits)
    loss = -(share * (log_p * true).sum(-1)).sum()
    return loss, (xp.exp(log_p), labels, share)


@accelerated
def softmax_cross_entropy_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `softmax_cross_entropy`: share * (p - true), times the scalar dloss."""
    p, labels, share = cache
    return dloss * share[..., None] * (p - one_hot(labels, p))


@accelerated
def bce_with_logits(
    logits: Array, labels: Array, weight: Array | None = None, class_weight: Array | None = None, ignore: int = -1
) -> tuple[Any, tuple]:
    """Binary cross-entropy of one logit a pixel, (N, H, W, 1), against labels 0 and 1; else as `softmax_cross_entropy`."""
    xp = get_array_module(logits)
    if logits.shape[-1] != 1:
        raise ValueError(
            f"bce_with_logits takes one channel, not {logits.shape[-1]}; for more use softmax_cross_entropy"
        )
    share = pixel_shares(logits, labels, weight, class_weight, ignore)
    z = logits[..., 0]
    true = (labels == 1).astype(z.dtype)
    loss = (share * (xp.maximum(z, 0) - z * true + xp.log1p(xp.exp(-xp.abs(z))))).sum()
    return loss, (z, true, share)


@accelerated
def bce_with_logits_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `bce_with_logits`: share * (sigmoid(z) - true), times the scalar dloss."""
    z, true, share = cache
    p, _ = sigmoid(z)
    return (dloss * share * (p - true))[..., None]


@accelerated
def focal(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Array | None = None,
    ignore: int = -1,
    gamma: float = 2.0,
) -> tuple[Any, tuple]:
    """Focal loss with exponent `gamma`; the rest as in `softmax_cross_entropy`, but one channel is allowed, too."""
    xp = get_array_module(logits)
    share = pixel_shares(logits, labels, weight, class_weight, ignore)
    p = class_probabilities(logits)
    true = one_hot(labels, p)
    p_true = xp.maximum((p * true).sum(-1), xp.finfo(p.dtype).tiny)
    loss = -(share * (1 - p_true) ** gamma * xp.log(p_true)).sum()
    return loss, (p, p_true, true, share, gamma, logits.shape[-1])


@accelerated
def focal_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `focal`, see above, times the scalar dloss."""
    p, p_true, true, share, gamma, K = cache
    xp = get_array_module(p)
    wrong = 1 - p_true
    # wrong^(gamma - 1) is infinite where wrong = 0 and gamma < 1, but its product with log(p_true) tends to 0
    slope = gamma * p_true * xp.maximum(wrong, xp.finfo(p.dtype).tiny) ** (gamma - 1) * xp.log(p_true) - wrong**gamma
    dz = (dloss * share * slope)[..., None] * (true - p)
    return dz if K > 1 else dz[..., 1:]


@accelerated
def soft_dice(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Array | None = None,
    ignore: int = -1,
    smooth: float = 1.0,
) -> tuple[Any, tuple]:
    """One minus the mean soft Dice of the classes; `smooth` is s above, the rest as in `softmax_cross_entropy`.

    `weight` weighs the pixels within the sums, `class_weight` the classes in their mean.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> labels = np.array([[[0, 1], [1, 1]]])
    >>> sure = 100.0 * (labels[..., None] == [0, 1])
    >>> print(round(float(ops.soft_dice(sure, labels)[0]), 4))
    0.0
    """
    check_labels(logits, labels, ignore)
    return dice_of_checked(logits, labels, weight, class_weight, ignore, smooth)


def dice_of_checked(
    logits: Array, labels: Array, weight: Array | None, class_weight: Array | None, ignore: int, smooth: float
) -> tuple[Any, tuple]:
    """`soft_dice` without the check of the labels."""
    p = class_probabilities(logits)
    seen = pixel_weights(labels, weight, None, ignore, p.dtype)
    true = one_hot(labels, p)
    pixels = (0, 1, 2)
    both, either = (seen[..., None] * p * true).sum(pixels), (seen[..., None] * (p + true)).sum(pixels)
    loss, shares, dice, union = mean_dice(both, either, logits.shape[-1], class_weight, smooth)
    return loss, (p, labels, seen, shares, dice, union, logits.shape[-1])


@accelerated
def soft_dice_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `soft_dice`: -dD/dp for every class, through the softmax, times the scalar dloss."""
    p, labels, seen, shares, dice, union, K = cache
    dp = -dloss * seen[..., None] * (2 * one_hot(labels, p) - dice) * (shares / union)
    dz = softmax_backward(dp, (p,))
    return dz if K > 1 else dz[..., 1:]


# ---- the pieces ------------------------------------------------------------------------------------------------------


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
    xp = get_array_module(logits)
    check_labels(logits, labels, ignore)
    share = pixel_weights(labels, weight, class_weight, ignore, logits.dtype)
    total = share.sum(dtype=xp.float64).astype(logits.dtype)
    return share / xp.where(total > 0, total, 1)


def pixel_weights(labels: Array, weight: Any, class_weight: Any, ignore: int, dtype: Any) -> Array:
    """Every pixel's weight, (N, H, W)."""
    xp = get_array_module(labels)
    found = (labels != ignore).astype(dtype)
    if weight is not None:
        found = found * xp.asarray(weight, dtype)
    if class_weight is not None:
        found = found * xp.asarray(class_weight, dtype)[xp.where(labels == ignore, 0, labels)]
    return found


def one_hot(labels: Array, p: Array) -> Array:
    """Labels (N, H, W) as zeros and ones, of the shape and dtype of p (N, H, W, K); all zeros where ignored."""
    xp = get_array_module(p)
    return (labels[..., None] == xp.arange(p.shape[-1])).astype(p.dtype)


def mean_dice(both: Array, either: Array, K: int, class_weight: Any, smooth: float) -> tuple[Any, Array, Array, Array]:
    """The loss, the classes' shares in the mean, D, and U + s, from I and U of every class."""
    xp = get_array_module(both)
    shares = xp.ones_like(both) if class_weight is None else xp.asarray(class_weight, both.dtype)
    if K == 1:
        shares = shares * xp.arange(2, dtype=both.dtype)  # 0 and 1
    shares = shares / shares.sum()
    union = either + smooth
    dice = (2 * both + smooth) / union
    return 1 - (shares * dice).sum(), shares, dice, union


def class_probabilities(logits: Array) -> Array:
    """Softmax of the logits; one channel z becomes the two classes' (1 - sigmoid(z), sigmoid(z)).

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> ops.class_probabilities(np.zeros((1, 1, 1, 1))).tolist()
    [[[[0.5, 0.5]]]]
    """
    if logits.shape[-1] > 1:
        return softmax(logits)[0]
    xp = get_array_module(logits)
    return softmax(xp.concatenate([xp.zeros_like(logits), logits], axis=-1))[0]


# ---- by name ---------------------------------------------------------------------------------------------------------

LOSSES: dict[str, list[tuple[Any, Any]]] = {
    "ce": [(softmax_cross_entropy, softmax_cross_entropy_backward)],
    "bce": [(bce_with_logits, bce_with_logits_backward)],
    "dice": [(soft_dice, soft_dice_backward)],
    "focal": [(focal, focal_backward)],
}
LOSSES["ce+dice"] = LOSSES["ce"] + LOSSES["dice"]


def named_loss(name: str, channels: int) -> tuple[Any, Any]:
    """The pair (forward, backward) of a loss, by name.

    Parameters
    ----------
    name : {"ce", "bce", "dice", "focal", "ce+dice"}
        Cross-entropy, binary cross-entropy, soft Dice, focal loss, or the sum of cross-entropy and soft Dice.
    channels : int
        The network's output channels; with one the cross-entropy is the binary one.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> forward, backward = ops.named_loss("ce+dice", channels=2)
    >>> loss, cache = forward(np.zeros((1, 4, 4, 2)), np.zeros((1, 4, 4), int))
    >>> backward(1.0, cache).shape
    (1, 4, 4, 2)
    """
    return added([LOSSES["bce"][0] if p == LOSSES["ce"][0] and channels == 1 else p for p in LOSSES[name]])


def added(pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """The pair (forward, backward) of the sum of losses."""

    def forward(logits: Array, labels: Array, **options: Any) -> tuple[Any, tuple]:
        results = [f(logits, labels, **options) for f, _ in pairs]
        return reduce(add, [loss for loss, _ in results]), tuple(cache for _, cache in results)

    def backward(dloss: float, cache: tuple) -> Array:
        return reduce(add, [b(dloss, c) for (_, b), c in zip(pairs, cache)])

    return forward, backward
