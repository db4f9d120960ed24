"""Losses of a batch that is divided among ranks: each rank has a part, and the loss is that of all pixels together.

Means (cross-entropy, binary cross-entropy, focal loss) are divided by the sum of the pixels' weights. With the rank's own loss
L_r = S_r / W_r, where W_r is the sum of its weights,

    L = sum S_r / sum W_r        so its gradient is that of L_r, times W_r / sum W_r

A mean of the ranks' losses would be another loss wherever they have unequally many pixels that count. Soft Dice is a ratio of
sums, so the sums of I and U go over all ranks before the ratio is taken (ops/loss.py); a mean of the ranks' Dice would be
another loss, too. Star-convex polygons have two denominators, of all pixels and of those within objects (ops/stars.py): the
distances' factor takes in the ratio of the two.

Every function here returns the loss of the whole batch, the same on all ranks, and gradients whose sum over the ranks is the
batch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...array import Array
from ...ops import named_loss, star_loss, star_loss_backward
from ...ops.loss import added, mean_dice, pixel_weights
from ...ops.stars import at_least_one
from .world import World

SMOOTH = 1.0  # of soft Dice, as ops/loss.py has it
Pair = tuple[Callable[..., tuple[Any, Any]], Callable[[Any, Any], Any]]


def loss_of(world: World, name: str, channels: int, polygons: bool = False) -> Pair:
    """The pair (forward, backward) of `ops.named_loss`, or of `ops.star_loss`, for a batch divided among a world's ranks."""
    if world.size == 1:
        return (star_loss, star_loss_backward) if polygons else named_loss(name, channels)
    return shared_stars(world) if polygons else shared_loss(world, name, channels)


def shared_loss(world: World, name: str, channels: int) -> Pair:
    """The pair of `ops.named_loss`."""
    return added(
        [shared_dice(world, channels) if n == "dice" else shared_mean(world, n, channels) for n in name.split("+")]
    )


def shared_mean(world: World, name: str, channels: int) -> Pair:
    """The pair of a loss that is a weighted mean over pixels."""
    own, own_backward = named_loss(name, channels)

    def forward(logits: Array, labels: Array, weight: Any = None, class_weight: Any = None) -> tuple[Any, Any]:
        loss, cache = own(logits, labels, weight=weight, class_weight=class_weight)
        W = weight_of(labels, weight, class_weight)
        all_W, S = world.totals(W, loss * W)
        all_W = at_least_one(all_W)
        return S / all_W, ((W / all_W).astype(logits.dtype), cache)

    return forward, lambda dloss, cache: own_backward(dloss * cache[0], cache[1])


def weight_of(labels: Array, weight: Array | None, class_weight: Any) -> Any:
    """The sum of the weights of the pixels that count, in float64; see ops/loss.py."""
    return pixel_weights(labels, weight, class_weight, -1, np.float64).sum()


def shared_dice(world: World, channels: int) -> Pair:
    """The pair of soft Dice."""
    own, own_backward = named_loss("dice", channels)

    def forward(logits: Array, labels: Array, weight: Any = None, class_weight: Any = None) -> tuple[Any, Any]:
        _, ((p, kept, seen, _, dice, union, K),) = own(logits, labels, weight=weight, class_weight=class_weight)
        dice, union = dice.astype(np.float64), union.astype(np.float64)
        both, either = world.totals((dice * union - SMOOTH) / 2, union - SMOOTH)
        loss, *ratios = mean_dice(both, either, K, class_weight, SMOOTH)
        return loss, ((p, kept, seen, *(r.astype(p.dtype) for r in ratios), K),)

    return forward, own_backward


def shared_stars(world: World) -> Pair:
    """The pair of `ops.star_loss`."""

    def forward(logits: Array, target: Array, weight: Any = None) -> tuple[Any, Any]:
        p = target[..., 0].astype(np.float64)
        seen = (p >= 0) if weight is None else (p >= 0) * weight
        own = [at_least_one(seen.sum(dtype=np.float64)), at_least_one((seen * p).sum(dtype=np.float64))]
        W, S = (at_least_one(a) for a in world.totals(seen.sum(dtype=np.float64), (seen * p).sum(dtype=np.float64)))
        factor = own[0] / W
        loss, cache = star_loss(logits, target, weight, distances=(own[1] / S / factor).astype(logits.dtype))
        return world.totals(loss * factor)[0], (factor.astype(logits.dtype), cache)

    return forward, lambda dloss, cache: star_loss_backward(dloss * cache[0], cache[1])
