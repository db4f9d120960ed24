"""Several networks as one: they make different mistakes, so the mean of their probabilities makes fewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..array import Array, get_array_module
from ..nn import Cache, Module
from ..ops import class_probabilities, sigmoid


class Ensemble(Module):
    """A network for prediction whose probabilities, or whose polygons' distances, are the means of its members'.

    It gives log((p_1 + ... + p_n) / n). The softmax of these logits is the mean itself, since the members' probabilities p_i
    sum to 1. Of networks of polygons (`preprocessing.rays`) it gives the logit of the mean probability, and the means of the
    distances, in the first member's unit. So everything that predicts works with an ensemble: tiles, flips and rotations,
    objects. There is no backward.

    Parameters
    ----------
    members : sequence of Module
        Networks for the same images and classes, of any width. Their depths may differ unless convolutions are unpadded.

    Raises
    ------
    ValueError
        If there are none, or the sizes of their outputs differ.
    """

    def __init__(self, members: Sequence[Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs networks")
        if len({m.fit_size(4096) for m in members}) > 1:
            raise ValueError("networks with unpadded convolutions go together only if all are, and of the same depth")
        if any(getattr(m, "finds_objects", False) for m in members):
            raise ValueError("networks that find objects one by one cannot be averaged: predict with one of them")
        self.members = list(members)
        rays = [getattr(getattr(m, "preprocessing", None), "rays", None) for m in members]
        if len({r and r.count for r in rays}) > 1:
            raise ValueError("networks of polygons go together only if all are, with as many rays")
        self.units = [r.unit for r in rays if r]

    def forward(
        self, x: Array, train: bool = False, rng: np.random.Generator | None = None, keep: bool = False
    ) -> tuple[Array, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes), at least two."""
        if train or keep:
            raise ValueError("an ensemble only predicts: train its members")
        xp = get_array_module(x)
        if self.units:
            outputs = [m(x) for m in self.members]
            p: Any = sum(sigmoid(y[..., :1])[0] for y in outputs) / len(outputs)
            tiny = xp.finfo(p.dtype).tiny
            logit = xp.log(xp.maximum(p, tiny)) - xp.log(xp.maximum(1 - p, tiny))
            factors = [unit / self.units[0] / len(outputs) for unit in self.units]
            return xp.concatenate([logit, sum(y[..., 1:] * f for y, f in zip(outputs, factors))], axis=-1), None
        total: Any = sum(class_probabilities(m(x)) for m in self.members)
        p = total / len(self.members)
        return xp.log(xp.maximum(p, xp.finfo(p.dtype).tiny)), None

    def check_size(self, H: int, W: int) -> None:
        """ValueError, saying which sizes fit, if images of H x W pixels do not."""
        for m in self.members:
            m.check_size(H, W)

    def fit_size(self, n: int) -> int:
        """The smallest number of rows or columns, at least n, that fits and whose output has at least n."""
        return max(m.fit_size(n) for m in self.members)

    def output_size(self, n: int) -> int:
        """Rows or columns of the output, for n that fit."""
        return self.members[0].output_size(n)
