"""UNet++ with a classification network as its encoder, as segmentation_models.pytorch (version 0.6) has it.

    image --- encoder --- X(1,0) --- X(1,1) --- X(1,2) --- X(1,3) --- X(1,4) -- up -- X(0,5) -- head
                          X(2,0) --- X(2,1) --- X(2,2) --- X(2,3)
                          X(3,0) --- X(3,1) --- X(3,2)             a node takes all nodes before it in its row, and from below
                          X(4,0) --- X(4,1)                        the up-step of X(i+1, j-1)
                          X(5,0)

To compare with `unet_plus_plus.py`: the column X(i,0) comes from the encoder at once, the up-step repeats pixels, and there is
no row at the image's resolution, which a ResNet does not have; one node and one head stand there. So it cannot be cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import setting
from ..nn import Cache, Conv2d, Module, UpsampleNearest, take
from ..ops.lazy import fusion_scope
from .blocks import Fit, Join, add
from .encoder_unet import LEVELS, decoder_block
from .encoders import ENCODERS, make_encoder
from .network import Network
from .options import NetworkOptions


@dataclass(frozen=True)
class EncoderUNetPlusPlusOptions(NetworkOptions):
    """The arguments of `EncoderUNetPlusPlus`, which describes them."""

    name: ClassVar[str] = "encoder_unet_plus_plus"

    encoder: str = setting("resnet34", choices=ENCODERS)
    encoder_width: float = setting(1.0, above=0, most=8)
    decoder_width: int = setting(16, least=1)
    attention: str | None = setting(None, choices=("scse", None))
    standardise: str | None = setting(None, choices=("imagenet", None))


class EncoderUNetPlusPlus(Network):
    """A UNet++ with a classification network as its encoder.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    seed : int
        Seed of the initial weights.
    encoder : str
        "vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50" or "mobilenet_v2".
    encoder_width : float
        The encoder's widths are multiplied by this, and rounded.
    decoder_width : int
        Channels of X(0,5); doubled at every level below it. All other nodes are as wide as the encoder at their level.
    attention : "scse", optional
        Excitations of channels and pixels in every node, of the concatenated map and of the result (`gates.py`).
    standardise : "imagenet", optional
        Whether ImageNet's mean and standard deviation are taken off first, see `make_encoder`.

    Examples
    --------
    >>> from minunet.models import outline
    >>> outline("encoder_unet_plus_plus", in_channels=3, encoder="resnet34").num_params()
    26078754
    """

    least = 2**LEVELS

    def __init__(
        self, in_channels: int, num_classes: int, seed: int = 0, encoder: str = "resnet34", encoder_width: float = 1.0,
        decoder_width: int = 16, attention: str | None = None, standardise: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = EncoderUNetPlusPlusOptions(
            in_channels, num_classes, seed, encoder, encoder_width, decoder_width, attention, standardise
        )
        rng = np.random.default_rng(seed)
        self.encoder = make_encoder(encoder, in_channels, encoder_width, rng=rng, standardise=standardise)
        self.up, self.join, self.fit = UpsampleNearest(2), Join(up_first=True), Fit()
        widths = self.encoder.channels
        self.node: dict[tuple[int, int], Module] = {}
        for d in range(2, LEVELS + 1):
            below = widths[d]
            for i in reversed(range(0 if d == LEVELS else 1, d)):
                out = decoder_width * 2**i if d == LEVELS else widths[i]
                skips = (d - i) * widths[i] * (i > 0)
                self.node[i, d - i] = decoder_block(below, skips, out, attention, rng)
                below = out
        self.children.update({f"node.{i}.{j}": m for (i, j), m in self.node.items()})
        self.head = Conv2d(below, num_classes, size=3, rng=rng)

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        """Images (N, H, W, in_channels) to logits (N, H, W, num_classes)."""
        self.check_size(*x.shape[1:3])
        caches: list[Cache] = []
        image = x

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        rows = [[feature] for feature in run(self.encoder, x)]  # rows[i][j] is X(i, j)
        for d in range(2, LEVELS + 1):
            x = rows[d][0]
            for i in reversed(range(1, d)):
                x = run(self.up, x)
                x = run(self.join, (*reversed(rows[i]), x))
                x = run(self.node[i, d - i], x)
                rows[i].append(x)
        x = run(self.up, x)
        x = run(self.fit, (x, image))
        x = run(self.node[0, LEVELS], x)
        y = run(self.head, x)
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """From the gradient of the logits (N, H, W, num_classes) to that of the images; adds the parameters' to `grads`."""
        drows: list[dict[int, Array]] = [{} for _ in range(LEVELS + 1)]  # what the readers of X(i, j) hand back, summed

        def back(m: Module, dy: Any) -> Any:
            return m.backward(dy, take(cache))

        dx = back(self.head, dy)
        dx = back(self.node[0, LEVELS], dx)
        dx = back(self.fit, dx)
        dx = back(self.up, dx)
        for d in reversed(range(2, LEVELS + 1)):
            for i in range(1, d):
                dx = add(dx, drows[i].pop(d - i, None))
                dx = back(self.node[i, d - i], dx)
                *dskips, dx = back(self.join, dx)
                for j, dskip in enumerate(reversed(dskips)):
                    drows[i][j] = add(dskip, drows[i].get(j))
                dx = back(self.up, dx)
            drows[d][0] = add(dx, drows[d].get(0))
            dx = None  # X(1, j) is read by its own row alone, but for the last
        return back(self.encoder, [drow.get(0) for drow in drows])
