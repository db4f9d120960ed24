"""A U-Net whose way down is a classification network: VGG, ResNet or MobileNetV2 (`encoders/`).

    image ------- encoder ------ 1 (VGG only, see full_resolution_skip) ------> decoder.0 -> head
                     \\----------- 2 --------------- skip ------> decoder.1 -- up -/
                     ...
                       \\-------- 16 --------------- skip ---> decoder.4 -- up -/
                          \\----- 32 ---- center (VGG only) ---- up -/

What it buys is an encoder that others have trained on a million photographs, and that is known to be good. What it costs: the
first map of a ResNet has half the image's resolution, so the last step up has no skip, and thin borders suffer.

To compare with `unet.py`: the five stages of the encoder run at once; the up-step repeats pixels, has no filters, and comes
first in the concatenation; a decoder halves the channels; the head looks at 3x3 pixels.

It is the decoder of segmentation_models.pytorch (version 0.6), with which it agrees for images of any size where the encoder is
a ResNet or MobileNetV2, and with a VGG where sides are multiples of 32. (Else VGG's pools drop a row, and a row of zeros takes
its place, as in the U-Net. There the map is stretched, so that results would depend on the size of a tile.) That package drops
VGG's map of full resolution. With `full_resolution_skip` it is a skip, too, as in TernausNet (arXiv:1801.05746).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import UserError, setting
from ..nn import Cache, Conv2d, Module, Sequential, UpsampleNearest, take
from ..ops.lazy import fusion_scope
from .blocks import Fit, Join, double_conv
from .encoders import ENCODERS, VGG, make_encoder
from .gates import BothExcitations
from .network import Network
from .options import NetworkOptions

LEVELS = 5
REDUCTION = 16  # of the excitations' middle


@dataclass(frozen=True)
class EncoderUNetOptions(NetworkOptions):
    """The arguments of `EncoderUNet`, which describes them."""

    name: ClassVar[str] = "encoder_unet"

    encoder: str = setting("resnet34", choices=ENCODERS)
    encoder_width: float = setting(1.0, above=0, most=8)
    decoder_width: int = setting(16, least=1)
    full_resolution_skip: bool = False
    attention: str | None = setting(None, choices=("scse", None))
    standardise: str | None = setting(None, choices=("imagenet", None))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.full_resolution_skip and not self.encoder.startswith("vgg"):
            raise UserError(
                f"full_resolution_skip: the first map of {self.encoder} has half the image's resolution; choose a VGG, or "
                "leave the option out"
            )


class EncoderUNet(Network):
    """A U-Net with a classification network as its encoder.

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
        Channels of the last decoder; doubled at every level below it.
    full_resolution_skip : bool
        Whether VGG's map at the image's resolution is a skip.
    attention : "scse", optional
        Excitations of channels and pixels in every decoder, of the concatenated map and of the result (`gates.py`).
    standardise : "imagenet", optional
        Whether ImageNet's mean and standard deviation are taken off first, see `make_encoder`.

    Examples
    --------
    >>> from minunet.models import outline
    >>> outline("encoder_unet", in_channels=3, encoder="resnet34").num_params()
    24436514
    """

    least = 2**LEVELS

    def __init__(
        self, in_channels: int, num_classes: int, seed: int = 0, encoder: str = "resnet34", encoder_width: float = 1.0,
        decoder_width: int = 16, full_resolution_skip: bool = False, attention: str | None = None,
        standardise: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = EncoderUNetOptions(
            in_channels,
            num_classes,
            seed,
            encoder,
            encoder_width,
            decoder_width,
            full_resolution_skip,
            attention,
            standardise,
        )
        rng = np.random.default_rng(seed)
        self.encoder = make_encoder(encoder, in_channels, encoder_width, rng=rng, standardise=standardise)
        skips = self.encoder.channels[:-1]
        self.first_skip = 0 if full_resolution_skip else 1
        below = self.encoder.channels[-1]
        self.center = double_conv(below, below, below, rng=rng) if isinstance(self.encoder, VGG) else None
        self.up, self.join, self.fit = UpsampleNearest(2), Join(up_first=True), Fit()
        decoders: list[Module] = []
        for level in reversed(range(LEVELS)):
            out = decoder_width * 2**level
            decoders.insert(0, decoder_block(below, skips[level] * (level >= self.first_skip), out, attention, rng))
            below = out
        self.decoder = decoders
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

        *skips, x = run(self.encoder, x)[self.first_skip :]
        x = run(self.center, x) if self.center else x
        for level in reversed(range(LEVELS)):
            x = run(self.up, x)
            if level >= self.first_skip:
                x = run(self.join, (skips.pop(), x))
            else:
                x = run(self.fit, (x, image))
            x = run(self.decoder[level], x)
        y = run(self.head, x)
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """From the gradient of the logits (N, H, W, num_classes) to that of the images; adds the parameters' to `grads`."""
        dskips: list[Array | None] = []

        def back(m: Module, dy: Any) -> Any:
            return m.backward(dy, take(cache))

        dx = back(self.head, dy)
        for level in range(LEVELS):
            dx = back(self.decoder[level], dx)
            if level >= self.first_skip:
                dskip, dx = back(self.join, dx)
            else:
                dskip, dx = None, back(self.fit, dx)
            dskips.append(dskip)
            dx = back(self.up, dx)
        dx = back(self.center, dx) if self.center else dx
        return back(self.encoder, [*dskips, dx])


def decoder_block(
    below: int, skips: int, out: int, attention: str | None = None, rng: np.random.Generator | None = None
) -> Sequential:  # fmt: skip
    """Two convolutions of a map joined with skips, if wanted with excitations of what is joined and of the result."""
    block = double_conv(below + skips, out, out, rng=rng)
    if attention:
        before = {"attention1": BothExcitations(below + skips, REDUCTION, rng)} if skips else {}
        block = Sequential(**before, **block.children, attention2=BothExcitations(out, REDUCTION, rng))
    return block
