"""StarDist's network (Schmidt et al. 2018, arXiv:1806.03535, the default in 2-D): a small U-Net that thinks once more.

    (grid 2:  two convolutions and a pool before all else)
    level 0   encoder.0 ------- skip -------> decoder.0 -> features -> head (-> repeat)
    level 1      \\- pool -> encoder.1 - skip -> decoder.1 -- up -/
    ...
    level D                  \\- pool -> bottom -- up -/

What is new, compared with `unet.py`: the decoder's widths, and one more convolution, `features`, before the head. A decoder's
second convolution, and the bottom's, gives as few channels as the level above has, so that nothing need be learned to bring the
map up: it is repeated. As the head gives many numbers at every pixel (33 for polygons of 32 rays), it reads 128 features. There
is no norm. With a grid of 2 all of this runs on a map of half the size, in a third of the time, and every output is repeated.

In the authors' program what comes from below stands before the skip in a joint; here, as in our other networks, behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..array import Array
from ..errors import UserError, setting
from ..nn import Cache, Conv2d, MaxPool2d, Module, UpsampleNearest, take
from ..ops.lazy import fusion_scope
from .blocks import Join, conv_norm_relu, double_conv
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class StarDistOptions(NetworkOptions):
    """The arguments of `StarDist`, which describes them."""

    name = "stardist"

    base_width: int = setting(32, least=1)
    depth: int = setting(3, least=1, most=16)
    features: int = setting(128, least=1)
    grid: int = setting(1, least=1, most=8)
    norm: str | None = setting(None, choices=("batch", "group", None))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grid & (self.grid - 1):
            raise UserError(f"grid: {self.grid} is no power of 2: 1, 2, 4 and 8 are")


class StarDist(Network):
    """StarDist's network.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output: 1 and the number of rays for polygons.
    base_width : int
        Channels of the first level; doubled at every level.
    depth : int
        How often maps are halved, beside the grid.
    features : int
        Channels that the head reads.
    grid : {1, 2, 4, 8}
        Pixels of the image, in rows and columns, for one that the network computes; sides must be multiples of it.
    norm : {"batch", "group", None}
        The norm between convolution and ReLU; the paper has none.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.models import build
    >>> build("stardist", in_channels=1, num_classes=33).num_params()
    1406689
    >>> build("stardist", in_channels=1, num_classes=33, base_width=4, grid=2)(np.zeros((1, 22, 34, 1), np.float32)).shape
    (1, 22, 34, 33)
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 32, depth: int = 3, features: int = 128, grid: int = 1,
        norm: str | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = StarDistOptions(in_channels, num_classes, seed, base_width, depth, features, grid, norm)
        rng = np.random.default_rng(seed)
        self.depth, self.least, self.multiple = depth, grid * 2**depth, grid
        block: dict[str, Any] = {"norm": norm, "bias": norm is None, "rng": rng}
        w = [base_width * 2**level for level in range(depth)]
        halvings = grid.bit_length() - 1
        self.before = [double_conv(base_width if n else in_channels, w[0], w[0], **block) for n in range(halvings)]
        ins = [base_width if halvings else in_channels, *w]
        self.encoder = [double_conv(i, o, o, **block) for i, o in zip(ins, w)]
        self.pool, self.up, self.join = MaxPool2d(2), UpsampleNearest(), Join()
        self.bottom = double_conv(w[-1], 2 * w[-1], w[-1], **block)
        self.decoder = [double_conv(2 * o, o, w[max(level - 1, 0)], **block) for level, o in enumerate(w)]
        self.features = conv_norm_relu(w[0], features, norm=None, bias=True, rng=rng)
        self.head = Conv2d(features, num_classes, size=1, rng=rng)

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

        for block in self.before:
            x = run(block, x)
            x = run(self.pool, x)
        for level in range(self.depth):
            x = run(self.encoder[level], x)
            skips.append(x)
            x = run(self.pool, x)
        x = run(self.bottom, x)
        for level in reversed(range(self.depth)):
            x = run(self.up, x)
            x = run(self.join, (skips.pop(), x))
            x = run(self.decoder[level], x)
        x = run(self.features, x)
        y = run(self.head, x)
        for _ in self.before:
            y = run(self.up, y)
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """From the gradient of the logits (N, H, W, num_classes) to that of the images; adds the parameters' to `grads`."""
        dskips: list[Array] = []

        def back(m: Module, dy: Array) -> Any:
            return m.backward(dy, take(cache))

        for _ in self.before:
            dy = back(self.up, dy)
        dx = back(self.head, dy)
        dx = back(self.features, dx)
        for level in range(self.depth):
            dx = back(self.decoder[level], dx)
            dskip, dx = back(self.join, dx)
            dskips.append(dskip)
            dx = back(self.up, dx)
        dx = back(self.bottom, dx)
        for level in reversed(range(self.depth)):
            dx = back(self.pool, dx)
            dx += dskips.pop()
            dx = back(self.encoder[level], dx)
        for block in reversed(self.before):
            dx = back(self.pool, dx)
            dx = back(block, dx)
        return dx
