"""Batch norm over the patches of all ranks.

The statistics of a batch are those of all its pixels. Each rank knows the mean m_r and the variance v_r of its own n_r pixels;
sums over the ranks of n_r, n_r m_r and n_r (v_r + m_r^2), in float64, give those of all:

    n = sum n_r        mean = sum n_r m_r / n        var = sum n_r (v_r + m_r^2) / n  -  mean^2

The backward needs two sums over all pixels, see ops/norm.py. These belong into dx only: as gradients of gamma and beta a rank
hands on its own share, as these are added up like all gradients.

Without synchronisation every rank normalises its own patches, and the running statistics become the mean of the ranks' after
each step: another network than with one process, which depends on how many ranks there are.

A rank without a patch (the last batch of an epoch may have fewer patches than there are ranks) computes on an empty batch: its
sums are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...array import Array, get_array_module
from ...errors import UserError
from ...nn import BatchNorm2d
from ...nn.description import Description, Shape
from ...nn.module import Cache
from .world import World


class SharedBatchNorm2d(BatchNorm2d):
    """A `BatchNorm2d` whose batch is that of all ranks; `become` makes one of it and back."""

    world: World

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        if not train or self.frozen:
            return super().forward(x, train, rng, keep)
        gamma, beta, C = self.params["gamma"], self.params["beta"], x.shape[-1]
        n, mean, var = x.size // C, 0 * self.buffers["mean"], 0 * self.buffers["var"]
        if n:
            _, (x, *_), (mean, var) = ops.batch_norm(x, gamma, beta, eps=self.eps)  # its map is never made in a network
        M, mean, var = merged(self.world, n, mean, var)
        if M == 1:
            return self._single_value(x, rng, keep)
        y, cache, _ = ops.batch_norm(x, gamma, beta, mean.astype(gamma.dtype), var.astype(gamma.dtype), self.eps)
        ops.running_average(self.buffers["mean"], self.buffers["var"], mean, var, M, self.momentum)
        return y, (*cache[:-1], True) if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        if not cache[-1]:
            return super().backward(dy, cache)
        dx, dgamma, dbeta = ops.shared_batch_norm_backward(dy, cache, total=self.world.totals)
        self.accumulate(gamma=dgamma, beta=dbeta)
        return dx

    def describe(self, x: Shape) -> Description:
        return super().describe(x)

    def _single_value(self, x: Array, rng: Any, keep: bool) -> tuple[Array, Cache]:
        """A single value a channel on all ranks together: as for a process by itself."""
        if self.single_value == "refuse":
            raise UserError(
                "batch norm gets one value a channel here, of a single image of 1 x 1 pixels on all ranks together, and cannot "
                "learn from it: use --batch-size 2 or more, or a larger --crop"
            )
        return super().forward(x, False, rng, keep)


class OwnBatchNorm2d(BatchNorm2d):
    """A `BatchNorm2d` that normalises the patches of its own rank, and lets an empty batch pass."""

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        return super().forward(x, train and x.shape[0] > 0, rng, keep)

    def describe(self, x: Shape) -> Description:
        return super().describe(x)


def merged(world: World, n: int, mean: Array, var: Array) -> tuple[int, Array, Array]:
    """Pixels, mean and biased variance of all ranks' batch, from those of this rank's part; the latter two in float64."""
    mean, var = mean.astype(np.float64), var.astype(np.float64)
    M, first, second = world.totals(n, n * mean, n * (var + mean**2))
    mean = first / M
    return int(M), mean, get_array_module(mean).maximum(second / M - mean**2, 0)
