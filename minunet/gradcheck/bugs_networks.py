"""Planted bugs in the blocks of U-Net's relatives: a map with several readers must get the sum of all their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import Array
from ..models.gates import BothExcitations, ChannelExcitation
from ..models.recurrent import Recurrent
from ..models.residual_unet import ResidualUnit
from ..nn import take
from .planting import planted


class _BranchOnly(ResidualUnit):
    def backward(self, dy: Array, cache: Any) -> Array:
        dy, _ = self.add.backward(dy, take(cache))
        take(cache)
        return self.branch.backward(dy, take(cache))


@planted(
    "residual unit", "what comes back by the shortcut is forgotten, the very path that residual units are built for"
)
def residual_without_the_shortcut() -> ResidualUnit:
    return _BranchOnly(2, 3, stride=2, rng=np.random.default_rng(1))


class _BothWays(ResidualUnit):
    def backward(self, dy: Array, cache: Any) -> Array:
        return 2 * super().backward(dy, cache)


@planted(
    "residual unit", "each of the two branches gets the sum of both gradients, so that dx is twice what it should be"
)
def residual_counted_twice() -> ResidualUnit:
    return _BothWays(2, 3, stride=2, rng=np.random.default_rng(1))


class _GatesOnly(ChannelExcitation):
    def backward(self, dy: Array, cache: Any) -> Array:
        dx, _ = self.gate.backward(dy, take(cache))
        return dx


@planted("scSE", "the gate's weights are taken for constants: they were computed from the same map")
def excitation_of_constant_weights() -> BothExcitations:
    block = BothExcitations(4, 2, np.random.default_rng(1))
    block.channel = _GatesOnly(4, 2, np.random.default_rng(1))
    return block


class _LastUse(Recurrent):
    def backward(self, dy: Array, cache: Any) -> Array:
        dh = dy
        for step in reversed(range(self.steps + 1)):
            for m in (self.relu, self.norm[0], self.conv):
                dh = m.backward(dh, take(cache))
            if step:
                _, dh = self.add.backward(dh, take(cache))
        return dh


@planted("recurrent layer", "only the first step's input gets a gradient: x went into every step")
def recurrent_reads_x_once() -> Recurrent:
    return _LastUse(2, 2, rng=np.random.default_rng(1))
