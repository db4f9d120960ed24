"""The head of a network, its losses and their gradient as lazy maps: they share two starts, one forwards and one backwards.

    forward                                                  backward
    conv2d       Logits: a head that has not started         ...cross_entropy_backward   LossGradient: not computed
    cross-entropy or soft Dice of Logits: start the head     soft_dice_backward          another one; their sum is a third
                 and both losses                             conv2d_backward             computes it where it needs it

Whoever else reads logits starts the head alone. What losses keep for their plain backward, probabilities and weights of pixels,
is computed only if it is read: the kernels compute it again from the logits, labels and weights. These are kept, not copied: in
a scope they must not change in place before the backward.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...array import Array, get_array_module
from ...ops.activation import softmax
from ...ops.lazy import materialize
from ...ops.loss import pixel_weights, soft_dice_backward, softmax_cross_entropy_backward
from . import launch
from .lazy_maps import OnGpu
from .start import as_map, contiguous


class Logits(OnGpu):
    """A convolution of one tap to a few channels that has not started, so that losses can start with it.

    Parameters
    ----------
    x : map, (N, H, W, C), or lazy map
    w : (C, K) array
    bias : (K,) float32 array or None
    shape : the result's
    """

    def __init__(self, x: Any, w: Any, bias: Array | None, shape: tuple[int, ...]) -> None:
        self._is(w, shape)
        self.x, self.w, self.bias = x, w, bias  # until it has been started
        self.z: Any = None  # the result in float32, once it has been started
        self.losses: Losses | None = None

    def start(self, run: Callable[..., Any] = launch.head, *more: Any) -> Any:
        """Run it, once, and drop its inputs."""
        self.z = get_array_module(self.like).empty(self.shape, np.float32)
        found = run(as_map(materialize(self.x)), self.w, self.bias, self.z, *more)
        self.x = self.w = self.bias = None
        return found

    def array(self) -> Array:
        if self.z is None:
            self.start()
        if self.z.dtype != self.dtype:
            self.z = self.z.astype(self.dtype)
        return self.z

    def astype(self, dtype: Any, **options: Any) -> Any:
        """As an array's. To float32, as mixed precision takes logits, is no work: it is what the kernel writes."""
        if self.z is not None or dtype != np.float32:
            return self.array().astype(dtype, **options)
        found = copy.copy(self)
        found.dtype = np.dtype(np.float32)
        return found

    def losses_for(
        self, labels: Array, weight: Any, class_weight: Any, ignore: int, smooth: float | None = None
    ) -> Losses | None:
        """Both losses of these arguments, of which cross-entropy has no `smooth`; None if the head has started without them."""
        if self.z is None and self.dtype == np.float32:
            self.losses = Losses(self, labels, weight, class_weight, ignore, 1.0 if smooth is None else smooth)
        found = self.losses
        return found if found and found.are_of(labels, weight, class_weight, ignore, smooth) else None


class Losses:
    """Cross-entropy and soft Dice of the same logits, labels and weights, started with the head.

    Attributes
    ----------
    z : (N, H, W, K) float32 array
        The logits.
    cross_entropy, dice : float32 arrays without axes
    of_class : (3, K) float32 array
        Of each class its share in soft Dice, its Dice, and the union.
    """

    def __init__(
        self, logits: Logits, labels: Array, weight: Any, class_weight: Any, ignore: int, smooth: float
    ) -> None:
        self.arguments = (labels, weight, class_weight, ignore)
        self.smooth = smooth
        weight, class_weight = as_floats(logits.like, weight, class_weight)
        self.truth = launch.Truth(_classes(labels), weight, class_weight, ignore)
        self.result, self.of_class = logits.start(launch.head_loss, self.truth, smooth)
        self.z, self.cross_entropy, self.dice = logits.z, self.result[0], self.result[3]

    def are_of(self, labels: Array, weight: Any, class_weight: Any, ignore: int, smooth: float | None) -> bool:
        """Whether these are the losses of these very arrays."""
        same = all(a is b for a, b in zip(self.arguments, (labels, weight, class_weight)))
        return same and ignore == self.arguments[3] and smooth in (None, self.smooth)

    def probabilities(self) -> OfLosses:
        """(N, H, W, K)"""
        return OfLosses(self, self.z.shape, lambda: softmax(self.z)[0])

    def seen(self) -> OfLosses:
        """How much each pixel counts for soft Dice, (N, H, W)."""
        labels, weight, _, ignore = self.truth
        return OfLosses(self, labels.shape, lambda: pixel_weights(labels, weight, None, ignore, self.z.dtype))

    def share(self) -> OfLosses:
        """How much each pixel counts for cross-entropy, (N, H, W); they add up to 1."""
        return OfLosses(
            self, self.truth.labels.shape, lambda: pixel_weights(*self.truth, self.z.dtype) / self.result[1]
        )


class OfLosses(OnGpu):
    """What a loss keeps for its plain backward."""

    def __init__(self, losses: Losses, shape: tuple[int, ...], compute: Callable[[], Array]) -> None:
        self._is(losses.z, shape)
        self.losses, self.compute = losses, compute

    def array(self) -> Array:
        return self.compute()


class LossGradient(OnGpu):
    """The gradient of logits: `now` times the sum of cross-entropy's and soft Dice's, each times its factor.

    Parameters
    ----------
    losses : Losses
    dloss : float, or array of one float32 number
    factors : (float, float)
    of_class : three (K,) arrays
        Of each class its share, its Dice and its union, for soft Dice.
    """

    def __init__(
        self, losses: Losses, dloss: float | Array, factors: tuple[float, float], of_class: Sequence[Array]
    ) -> None:
        self._is(losses.z, losses.z.shape)
        self.losses, self.of_class = losses, of_class
        self.now, number = launch.in_memory(dloss, losses.z)
        self.factors = (factors[0] * number, factors[1] * number) if self.now is None else factors

    def back(self, x: Array, w: Array, dx: Array) -> tuple[Array, Array]:
        """The gradients of the head that made the logits from a map x with filters w (C, K): fills dx, returns dw and db."""
        of = self.losses
        return launch.head_loss_back(x, of.z, of.truth, of.result, self.of_class, self.now, self.factors, w, dx)

    def array(self) -> Array:
        of, (ce, dice) = self.losses, self.factors
        now: Any = 1.0 if self.now is None else self.now
        p, labels, parts = of.probabilities().array(), of.truth.labels, []
        if ce:
            parts.append(softmax_cross_entropy_backward(now * ce, (p, labels, of.share().array())))
        if dice or not ce:
            cache = (p, labels, of.seen().array(), *self.of_class, self.shape[-1])
            parts.append(soft_dice_backward(now * dice, cache))
        return sum(parts[1:], parts[0]).astype(self.dtype, copy=False)

    def astype(self, dtype: Any, **options: Any) -> Any:
        """As an array's, but not computed: rounding to half precision may be left out."""
        found = copy.copy(self)
        found.dtype = np.dtype(dtype)
        return found

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, LossGradient) or other.losses is not self.losses or other.now is not self.now:
            return self.array() + materialize(other)
        with_dice = [g for g in (self, other) if g.factors[1]]
        if len(with_dice) == 2 and any(a is not b for a, b in zip(self.of_class, other.of_class)):
            return self.array() + other.array()
        found = copy.copy(with_dice[0] if with_dice else self)
        found.factors = (self.factors[0] + other.factors[0], self.factors[1] + other.factors[1])
        return found

    def __mul__(self, number: Any) -> Any:
        if np.size(number) != 1 or (self.now is not None and isinstance(number, type(self.now))):
            return self.array() * materialize(number)
        now, factor = launch.in_memory(number, self.losses.z)
        found = copy.copy(self)
        if now is None:
            found.factors = (self.factors[0] * factor, self.factors[1] * factor)
        else:
            found.now = now
        return found


def as_floats(like: Array, *arrays: Any) -> list[Any]:
    """Weights, which may be lists of numbers, as the kernels take them; None stays None."""
    return [None if a is None else contiguous(get_array_module(like).asarray(a, np.float32)) for a in arrays]


def _classes(labels: Array) -> Array:
    """Labels as `head_loss` takes them: contiguous integers of 32 or 64 bits."""
    return contiguous(labels if labels.dtype.itemsize >= 4 else labels.astype(np.int32))
