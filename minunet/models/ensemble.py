"""Several networks as one: they make different mistakes, so the mean of their probabilities makes fewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..array import Array, get_array_module
from ..nn import Cache, Module
from ..ops import class_probabilities


class Ensemble(Module):
    """A network for prediction whose probabilities are the means of its members'.

    It gives log((p_1 + ... + p_n) / n). The softmax of these logits is the mean itself, since the members' probabilities p_i
    sum to 1. So everything that predicts works with an ensemble: tiles, flips and rotations, objects. There is no backward.

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
        self.members = list(members)

    def forward(
        self, x: Array, train: bool = False, rng: np.random.Generator | None = None, keep: bool = False
    ) -> tuple[Array, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes), at least two."""
        if train or keep:
            raise ValueError("an ensemble only predicts: train its members")
        xp = get_array_module(x)
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
