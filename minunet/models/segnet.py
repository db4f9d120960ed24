"""SegNet (Badrinarayanan, Kendall and Cipolla, 2017, arXiv:1511.00561): remember where the maxima were, not the maps.

    level 0   encoder.0 -- pool ------------- winners -------------> unpool -- decoder.0 -> head
    level 1                  \\- encoder.1 -- pool -- winners --> unpool -- decoder.1 -/
    ...
    level 4                                     \\- ... -/

Both sides are VGG16's thirteen convolutions. What goes across is not a map, as in a U-Net, but which pixel of each 2x2 window
was the largest: a byte for each value in place of four (two bits would do). Going up, every value is put back where its
window's winner was, with zeros around it, and the convolutions fill in the rest.

To compare with `unet.py`: no skip is joined, so backward adds no gradients; the winners are numbers and have none. The pool
and the unpooling are each other's transposes: in backward, each does what the other does in forward. A map with an odd number
of rows has one more than its winners say. How many, the winners of the pool before it tell: they have the same size.

The output jumps where a winner changes. So half precision, which rounds, gives other gradients on the way down than float32
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import BatchNorm2d, Cache, Conv2d, MaxPoolWinners2d, MaxUnpool2d, Module, ReLU, Sequential, take
from ..ops.lazy import fusion_scope
from .network import Network
from .options import NetworkOptions

CONVOLUTIONS = (2, 2, 3, 3, 3)  # at each level, on either side
FACTORS = (1, 2, 4, 8, 8)  # of the first level's width


@dataclass(frozen=True)
class SegNetOptions(NetworkOptions):
    """The arguments of `SegNet`, which describes them."""

    name: ClassVar[str] = "segnet"

    base_width: int = setting(64, least=1)
    conv_bias: bool = True


class SegNet(Network):
    """SegNet, with VGG16 in both directions.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    seed : int
        Seed of the initial weights.
    base_width : int
        Channels of the first level; the next have 2, 4, 8 and 8 times as many.
    conv_bias : bool
        Whether convolutions have a bias, which the batch norms behind them cancel; the published network has.

    Examples
    --------
    >>> from minunet.models import outline
    >>> outline("segnet", in_channels=3).num_params()
    29444162
    """

    least = 32

    def __init__(
        self, in_channels: int, num_classes: int, seed: int = 0, base_width: int = 64, conv_bias: bool = True
    ) -> None:
        super().__init__()
        self.architecture = SegNetOptions(in_channels, num_classes, seed, base_width, conv_bias)
        rng = np.random.default_rng(seed)
        widths = [base_width * factor for factor in FACTORS]
        encoders: list[Module] = []
        decoders: list[Module] = []
        above = in_channels
        for level, (count, width) in enumerate(zip(CONVOLUTIONS, widths)):
            encoders.append(convolutions([above] + [width] * count, conv_bias, rng))
            if level:
                decoders.append(convolutions([width] * count + [above], conv_bias, rng))
            else:  # the head is the last of its convolutions
                decoders.append(convolutions([width] * count, conv_bias, rng))
            above = width
        self.encoder, self.pool = encoders, MaxPoolWinners2d(2)
        self.unpool, self.decoder = MaxUnpool2d(2), decoders
        self.head = Conv2d(base_width, num_classes, rng=rng)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes)."""
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        sizes: list[Array] = [x]  # of each level: the image, and then the winners

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        for encoder in self.encoder:
            x = run(encoder, x)
            x, winners = run(self.pool, x)
            sizes.append(winners)
        for decoder in reversed(self.decoder):
            x = run(self.unpool, (x, sizes.pop(), sizes[-1]))
            x = run(decoder, x)
        y = run(self.head, x)
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """From the gradient of the logits (N, H, W, num_classes) to that of the images; adds the parameters' to `grads`."""

        def back(m: Module, dy: Array) -> Any:
            return m.backward(dy, take(cache))

        dx = back(self.head, dy)
        for decoder in self.decoder:
            dx = back(decoder, dx)
            dx = back(self.unpool, dx)
        for encoder in reversed(self.encoder):
            dx = back(self.pool, dx)
            dx = back(encoder, dx)
        return dx


def convolutions(widths: list[int], bias: bool, rng: np.random.Generator) -> Sequential:
    """3x3 convolutions from each width to the next, each with batch norm and ReLU."""
    layers: dict[str, Module] = {}
    for n, (i, o) in enumerate(pairwise(widths), 1):
        layers |= {f"conv{n}": Conv2d(i, o, bias=bias, rng=rng), f"norm{n}": BatchNorm2d(o), f"relu{n}": ReLU()}
    return Sequential(**layers)
