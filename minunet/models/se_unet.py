"""The U-Net with squeeze and excitation (Hu, Shen and Sun, 2018, arXiv:1709.01507).

    level 0   encoder.0, excite ------------------- skip ------------------> decoder.0, excite -> head
    level 1      \\- pool -> encoder.1, excite ----- skip -----> decoder.1, excite -- up -/
    ...
    level D                  \\- pool -> bottom, excite -- up -/

What is new, compared with `unet.py`: behind every block each channel is multiplied by a number from 0 to 1, which two small
layers make of the means of all channels over the image (`ChannelExcitation` in gates.py). So every pixel depends on the whole
image, and what counts can be raised everywhere at once. `scse_unet.py` weighs pixels as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Cache, Conv2d, ConvTranspose2d, MaxPool2d, Module, Sequential, take
from ..ops.lazy import fusion_scope
from .blocks import Join, double_conv
from .gates import ChannelExcitation
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class SEUNetOptions(NetworkOptions):
    """The arguments of `SEUNet`, which describes them."""

    name = "se_unet"

    base_width: int = setting(64, least=1)
    depth: int = setting(4, least=1, most=16)
    reduction: int = setting(16, least=1)


class SEUNet(Network):
    """A U-Net whose blocks end with an excitation of their channels.

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
    reduction : int
        The excitation's middle is so many times narrower than the map, and at least 1.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import build
    >>> build("se_unet", in_channels=1, base_width=4, depth=2)(np.zeros((1, 21, 34, 1), np.float32)).shape
    (1, 21, 34, 2)
    """

    options: type[SEUNetOptions] = SEUNetOptions
    excitation: Any = ChannelExcitation

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, depth: int = 4, reduction: int = 16, seed: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = self.options(in_channels, num_classes, seed, base_width, depth, reduction)
        rng = np.random.default_rng(seed)
        self.depth, self.least = depth, 2**depth

        def block(i: int, o: int) -> Sequential:
            layers = double_conv(i, o, o, rng=rng).children
            return Sequential(**layers, excite=self.excitation(o, reduction, rng))

        w = [base_width * 2**level for level in range(depth + 1)]
        blocks = [block(i, o) for i, o in pairwise([in_channels, *w])]
        self.encoder, self.bottom = blocks[:-1], blocks[-1]
        self.up = [ConvTranspose2d(below, o, rng=rng) for o, below in pairwise(w)]
        self.decoder = [block(2 * o, o) for o in w[:-1]]
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
            x = run(self.up[level], x)
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
            dskips.append(dskip)
            dx = back(self.up[level], dx)
        dx = back(self.bottom, dx)
        for level in reversed(range(self.depth)):
            dx = back(self.pool, dx)
            dx += dskips.pop()
            dx = back(self.encoder[level], dx)
        return dx
