"""The attention U-Net (Oktay et al., 2018, arXiv:1804.03999).

    level 0   encoder.0 ------------------- skip ------------------> decoder.0 -> head
    level 1      \\- pool -> encoder.1 - skip -> gate.0 -> decoder.1 -- up -/
    ...                                            /
    level D                  \\- pool ->  bottom  -- up -/

What is new, compared with `unet.py`: a skip passes a gate, which multiplies each of its pixels by a number from 0 to 1. That
number is made of the skip and of the decoder's map below, which has seen more of the image: it says *where* to look. So the map
below has two readers, the gate and the up-step, and its gradient is the sum of theirs.

There are two forms. `gates="grid"` is the paper's (of its CT network, without the side outputs): levels 1 and deeper have
gates, which work on the grid of the map below. `gates="upsampled"` is the widespread implementation (LeeJunHyun's): the gates,
at all levels, get the map after its up-step, have norms, and half the width; up-steps are nearest up-sampling and a
convolution, and convolutions have biases. It takes images whose sides are multiples of 2^depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Cache, Conv2d, ConvTranspose2d, MaxPool2d, Module, take
from ..ops.lazy import fusion_scope
from .blocks import Join, double_conv, up_conv
from .gates import GridGate, UpsampledGate
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class AttentionUNetOptions(NetworkOptions):
    """The arguments of `AttentionUNet`, which describes them."""

    name = "attention_unet"

    base_width: int = setting(64, least=1)
    depth: int = setting(4, least=1, most=16)
    gates: str = setting("grid", choices=("grid", "upsampled"))
    reduction: int | None = setting(None, least=1)


class AttentionUNet(Network):
    """A U-Net whose skips are gated.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first level; doubled at every level.
    depth : int
        Number of poolings.
    gates : {"grid", "upsampled"}
        The paper's gates, or those of the widespread implementation, see the head of this module.
    reduction : int, optional
        Gates are so many times narrower than the skip: by default 1 for "grid", 2 for "upsampled".
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import build
    >>> build("attention_unet", in_channels=1, base_width=4, depth=2)(np.zeros((1, 21, 34, 1), np.float32)).shape
    (1, 21, 34, 2)
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, depth: int = 4, gates: str = "grid",
        reduction: int | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = AttentionUNetOptions(in_channels, num_classes, seed, base_width, depth, gates, reduction)
        rng = np.random.default_rng(seed)
        self.depth, self.least, self.grid = depth, 2**depth, gates == "grid"
        self.multiple = 1 if self.grid else 2**depth
        w = [base_width * 2**level for level in range(depth + 1)]
        bias = not self.grid
        blocks = [double_conv(i, o, o, bias=bias, rng=rng) for i, o in pairwise([in_channels, *w])]
        self.encoder, self.bottom = blocks[:-1], blocks[-1]
        self.up: list[Any]
        self.gate: list[Any]
        if self.grid:  # level 0 has no gate
            self.up = [ConvTranspose2d(below, o, rng=rng) for o, below in pairwise(w)]
            self.gate = [GridGate(o, below, max(1, o // (reduction or 1)), rng) for o, below in pairwise(w[1:])]
        else:
            self.up = [up_conv(below, o, rng) for o, below in pairwise(w)]
            self.gate = [UpsampledGate(o, o, max(1, o // (reduction or 2)), rng) for o in w[:-1]]
        self.decoder = [double_conv(2 * o, o, o, bias=bias, rng=rng) for o in w[:-1]]
        self.pool, self.join = MaxPool2d(2), Join()
        self.head = Conv2d(w[0], num_classes, size=1, rng=rng)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes)."""
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        skips: list[Array] = []

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        for level in range(self.depth):
            x = run(self.encoder[level], x)
            skips.append(x)
            x = run(self.pool, x)
        x = run(self.bottom, x)
        for level in reversed(range(self.depth)):
            if self.grid and level:
                skips[-1] = run(self.gate[level - 1], (skips[-1], x))
            x = run(self.up[level], x)
            if not self.grid:
                skips[-1] = run(self.gate[level], (skips[-1], x))
            x = run(self.join, (skips.pop(), x))
            x = run(self.decoder[level], x)
        y = run(self.head, x)
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """From the gradient of the logits (N, H, W, num_classes) to that of the images; adds the parameters' to `grads`."""
        dskips: list[Array] = []

        def back(m: Module, dy: Array) -> Any:
            return m.backward(dy, take(cache))

        dx = back(self.head, dy)
        for level in range(self.depth):
            dx = back(self.decoder[level], dx)
            dskip, dx = back(self.join, dx)
            if not self.grid:
                dskip, dsignal = back(self.gate[level], dskip)
                dx = dx + dsignal
            dx = back(self.up[level], dx)
            if self.grid and level:
                dskip, dsignal = back(self.gate[level - 1], dskip)
                dx = dx + dsignal
            dskips.append(dskip)
        dx = back(self.bottom, dx)
        for level in reversed(range(self.depth)):
            dx = back(self.pool, dx)
            dx += dskips.pop()
            dx = back(self.encoder[level], dx)
        return dx
