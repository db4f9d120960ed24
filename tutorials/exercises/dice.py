"""The gradient of soft Dice

Lesson 04, about 60 minutes. Do cross_entropy first. NumPy may be imported, nothing else.

Write `soft_dice_backward`. Per class, over all pixels of the batch, with t = 1 for the true class and 0 else,

    I = sum p*t,   U = sum p + sum t,   D = (2 I + s) / (U + s),       L = 1 - mean over the classes of D

where p is the softmax of the logits, and ignored pixels are left out of all sums. p stands in the numerator and in the
denominator. Derive dL/dp, then go through the softmax, for which lesson 04 has the backward. The cache holds p (N, H,
W, K), the labels, seen (N, H, W) (1, or 0 where ignored), shares (K,) (each class's share in the mean, 1/K), dice = D
(K,), union = U + s (K,), and K.

Grade it with:  python -m minunet.grade dice.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


def one_hot(labels: Array, p: Array) -> Array:
    """Labels (N, H, W) as zeros and ones, of the shape and dtype of p (N, H, W, K); all zeros where ignored."""
    xp = np
    return (labels[..., None] == xp.arange(p.shape[-1])).astype(p.dtype)


# ---- yours -----------------------------------------------------------------------------------------------------------


def soft_dice_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `soft_dice`: dloss times dL/dlogits, (N, H, W, K)."""
    p, labels, seen, shares, dice, union, K = cache
    raise NotImplementedError
