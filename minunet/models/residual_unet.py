"""The residual U-Net (Zhang, Liu and Wang, 2017, arXiv:1711.10684, table 1).

    level 0   encoder.0 ------------------- skip ------------------> decoder.0 -> head
    level 1      \\- encoder.1 (stride 2) --- skip -----> decoder.1 -- up -/
    ...
    level D                  \\- bottom (stride 2) -- up -/

What is new, compared with `unet.py`: every block is a residual unit, which learns what to add to its input, y = x + f(x). The
gradient reaches x by a path without any layer, dx = dy + f's, so that deep networks train as easily as shallow ones. Norm and
ReLU stand before each convolution (He et al., arXiv:1603.05027), the first unit's only before its second. There is no pool: the
first convolution of a unit on the way down takes every other pixel.

Where width or size change, the paper does not say how x is brought to f's shape. Here it is a 1x1 convolution, without norm or
bias; the units of other implementations have a norm there. As in the paper, the head reads the last sum without norm and ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Add, BatchNorm2d, Cache, Conv2d, Module, ReLU, Sequential, UpsampleNearest, take
from ..ops.lazy import fusion_scope
from .blocks import Join
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class ResidualUNetOptions(NetworkOptions):
    """The arguments of `ResidualUNet`, which describes them."""

    name = "residual_unet"

    base_width: int = setting(64, least=1)
    depth: int = setting(3, least=1, most=16)


class ResidualUNet(Network):
    """A U-Net of residual units.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first level; doubled at every level.
    depth : int
        How often maps are halved; the paper's is 3.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import build
    >>> build("residual_unet", in_channels=1, base_width=4)(np.zeros((1, 21, 34, 1), np.float32)).shape
    (1, 21, 34, 2)
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, depth: int = 3, seed: int = 0
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = ResidualUNetOptions(in_channels, num_classes, seed, base_width, depth)
        rng = np.random.default_rng(seed)
        self.depth, self.least = depth, 2**depth
        w = [base_width * 2**level for level in range(depth + 1)]
        units = [ResidualUnit(in_channels, w[0], first=True, rng=rng)]
        units += [ResidualUnit(i, o, stride=2, rng=rng) for i, o in pairwise(w)]
        self.encoder, self.bottom = units[:-1], units[-1]
        self.up, self.join = UpsampleNearest(), Join()
        self.decoder = [ResidualUnit(i + o, o, rng=rng) for o, i in pairwise(w)]
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
        x = run(self.bottom, x)
        for level in reversed(range(self.depth)):
            x = run(self.up, x)
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
            dx = back(self.up, dx)
        dx = back(self.bottom, dx)
        for level in reversed(range(self.depth)):
            dx += dskips.pop()
            dx = back(self.encoder[level], dx)
        return dx


class ResidualUnit(Module):
    """Norm, ReLU and 3x3 convolution, twice, added to the unit's input; the `first` has neither norm nor ReLU at its head."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, first: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        before: dict[str, Module] = {} if first else {"norm1": BatchNorm2d(in_channels), "relu1": ReLU()}
        self.branch = Sequential(
            **before,
            conv1=Conv2d(in_channels, out_channels, stride=stride, padding=1, bias=False, rng=rng),
            norm2=BatchNorm2d(out_channels),
            relu2=ReLU(),
            conv2=Conv2d(out_channels, out_channels, bias=False, rng=rng),
        )
        self.shortcut: Module | None = None
        if stride > 1 or in_channels != out_channels:
            self.shortcut = Conv2d(in_channels, out_channels, 1, stride=stride, padding=0, bias=False, rng=rng)
        self.add = Add()

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        """Map (N, H, W, in_channels) to (N, H / stride, W / stride, out_channels), sizes rounded up."""
        y, branch = self.branch.forward(x, train, rng, keep)
        x, shortcut = self.shortcut.forward(x, train, rng, keep) if self.shortcut else (x, None)
        y, added = self.add.forward((y, x), train, rng, keep)
        return y, [branch, shortcut, added] if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """The sum of what comes back by the shortcut and through the branch."""
        dy, dx = self.add.backward(dy, take(cache))
        shortcut = take(cache)
        dx = self.shortcut.backward(dx, shortcut) if self.shortcut else dx
        return dx + self.branch.backward(dy, take(cache))
