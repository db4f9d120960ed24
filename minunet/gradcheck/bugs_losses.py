"""Planted bugs of the losses, and of the network that connects all: see bugs.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..array import Array
from ..models import UNet
from ..nn import take
from ..ops.loss import one_hot
from .planting import planted

# ---- losses ----------------------------------------------------------------------------------------------------------


@planted("softmax_cross_entropy", "a sum where the loss is a mean: not divided by the sum of the weights")
def cross_entropy_sum_instead_of_mean(dloss: float, cache: tuple) -> Array:
    p, labels, share = cache
    return ops.softmax_cross_entropy_backward(dloss, cache) / share[share > 0].min()


@planted("softmax_cross_entropy", "ignored pixels still push")
def cross_entropy_ignores_nothing(dloss: float, cache: tuple) -> Array:
    p, labels, share = cache
    return ops.softmax_cross_entropy_backward(dloss, (p, labels, np.where(share > 0, share, share.max())))


@planted("softmax_cross_entropy", "dloss is left out: a scaled loss gives the gradient of the unscaled one")
def cross_entropy_without_dloss(dloss: float, cache: tuple) -> Array:
    return ops.softmax_cross_entropy_backward(1.0, cache)


@planted("soft_dice", "the quotient rule's second term is missing: p stands in the denominator too")
def dice_without_quotient_rule(dloss: float, cache: tuple) -> Array:
    p, labels, seen, counts, dice, union, _ = cache
    dp = -dloss * seen[..., None] * 2 * one_hot(labels, p) * (counts / union)
    return ops.softmax_backward(dp, (p,))


@planted("focal", "the discount (1 - p)^g is treated as a constant")
def focal_constant_discount(dloss: float, cache: tuple) -> Array:
    p, p_true, true, share, gamma, K = cache
    return (dloss * share * -((1 - p_true) ** gamma))[..., None] * (true - p)


@planted("star_loss", "distances outside of objects get the slope of those inside, where p = 0 should silence them")
def stars_count_everywhere(dloss: float, cache: tuple) -> Array:
    logits, target, seen, total, inside, distances, _ = cache
    dlogits = ops.star_loss_backward(dloss, cache)
    off = np.sign(logits[..., 1:] - target[..., 1:])
    dlogits[..., 1:] = dloss * distances / inside / off.shape[-1] * seen[..., None] * off
    return dlogits


@planted("star_loss", "distances are divided by the number of pixels, where they count by the sum of the probabilities")
def stars_divided_by_pixels(dloss: float, cache: tuple) -> Array:
    logits, target, seen, total, inside, distances, outside = cache
    return ops.star_loss_backward(dloss, (logits, target, seen, total, total, distances, outside))


@planted(
    "star_loss",
    "the gradient of the probability is that of the squared error: the sigmoid's slope p (1 - p) is in it twice",
)
def stars_with_the_sigmoid_twice(dloss: float, cache: tuple) -> Array:
    dlogits, (p, _) = ops.star_loss_backward(dloss, cache), ops.sigmoid(cache[0][..., 0])
    dlogits[..., 0] *= p * (1 - p)
    return dlogits


# ---- the network -----------------------------------------------------------------------------------------------------


class _ForgottenSkip(UNet):
    """`UNet.backward` without the line that adds the skip's gradient."""

    def backward(self, dy: Array, cache: Any) -> Array:
        dx = self.head.backward(dy, take(cache))
        for level in range(self.depth):
            dx = self.decoder[level].backward(dx, take(cache))
            _, dx = self.join.backward(dx, take(cache))
            dx = self.up[level].backward(dx, take(cache))
        dx = self.bottom.backward(dx, take(cache))
        for level in reversed(range(self.depth)):
            dx = self.pool.backward(dx, take(cache))
            dx = self.encoder[level].backward(dx, take(cache))
        return dx


@planted("UNet", "the skip's gradient is forgotten: what forward used twice must get the sum of both gradients")
def unet_forgotten_skip() -> UNet:
    return _ForgottenSkip(2, 3, base_width=2, depth=2, seed=1)


class _SwappedSkip(UNet):
    """`UNet.backward` that takes the up-path's half of the gradient for the skip's."""

    def backward(self, dy: Array, cache: Any) -> Array:
        join = self.join.backward
        self.join.backward = lambda dy, cache: join(dy, cache)[::-1]  # type: ignore[method-assign]
        return super().backward(dy, cache)


@planted("UNet at inference", "the joint hands the skip what belongs to the way up, and the other way round")
def unet_swapped_skip() -> UNet:
    return _SwappedSkip(2, 3, base_width=2, depth=1, seed=1)
