"""DeepLab v3+ (Chen, Zhu, Papandreou, Schroff and Adam, 2018, arXiv:1802.02611): look far without making the map small.

    image -- encoder -- stride 4 ---------------------- low: 1x1 ------- join -- fuse: 3x3 -- head: 1x1 -- x4 bilinear
                \\-- stride 16 -- atrous pyramid -- project: 1x1 -- x4 -/

A U-Net halves the map until a 3x3 filter sees far, and then needs skips to find the details again. Here the last stages of
the encoder keep the size of the map (stride 16 or 8 in place of 32), and their filters are *dilated*: they read pixels that
lie apart. The pyramid (ASPP) then looks at five scales at once: a 1x1 convolution, three 3x3 convolutions with growing
dilation, and the mean of the whole map. One skip, from stride 4, sharpens the borders.

To compare with `unet.py`: the pyramid's branches all read `high`, so that backward sums their five gradients; `high` and
`low` come from the same encoder, so that it gets two gradients. Interpolation has no filters.

Two things to know. Where the dilation is as large as the map, only a filter's middle tap lies in it: at stride 16 an image of
256 pixels has a map of 16, and rate 18 is a 1x1 convolution there. And the mean of the map is one value a channel, of which a
training batch of one image leaves its norm nothing to standardise: the norm then uses its running statistics. Nor does that
branch learn from such a batch, since what it adds is constant, and the next norm takes constants away. Train with two images
or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..array import Array
from ..errors import UserError, setting
from ..nn import (
    BatchNorm2d,
    Cache,
    Concat,
    Conv2d,
    DepthwiseConv2d,
    Dropout,
    GlobalAvgPool2d,
    Module,
    ReLU,
    Resize,
    Sequential,
    take,
)
from ..ops.lazy import fusion_scope
from .blocks import Join
from .encoders import ENCODERS, make_encoder
from .encoders.vgg import scaled
from .network import Network
from .options import NetworkOptions

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}
LOW = 48  # channels of the skip


@dataclass(frozen=True)
class DeepLabV3PlusOptions(NetworkOptions):
    """The arguments of `DeepLabV3Plus`, which describes them."""

    name: ClassVar[str] = "deeplab_v3plus"

    encoder: str = setting("resnet50", choices=tuple(e for e in ENCODERS if not e.startswith("vgg")))
    encoder_width: float = setting(1.0, above=0, most=8)
    width: int = setting(256, least=1)
    output_stride: int = setting(16, least=8, most=16)
    separable: bool = False
    dropout: float = setting(0.1, least=0, most=0.95)
    layout: str = setting("plain", choices=("plain", "smp"))
    standardise: str | None = setting(None, choices=("imagenet", None))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_stride not in RATES:
            raise UserError(f"output_stride: {self.output_stride} is neither 16 nor 8")


class DeepLabV3Plus(Network):
    """DeepLab v3+ with a ResNet or MobileNetV2.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    seed : int
        Seed of the initial weights.
    encoder : {"resnet50", "resnet34", "resnet18", "mobilenet_v2"}
    encoder_width : float
        The encoder's widths are multiplied by this, and rounded; so are the 48 channels of the skip.
    width : int
        Channels of every branch of the pyramid and of all that follows.
    output_stride : {16, 8}
        Pixels of the image from one pixel of the pyramid's map to the next; 8 is three times the work.
    separable : bool
        Whether the pyramid's 3x3 convolutions, and the last one, are a depthwise convolution and a 1x1: a ninth of the work.
    dropout : float
        Dropout rate after the pyramid.
    layout : {"plain", "smp"}
        "plain": one 3x3 convolution in the decoder, as most PyTorch versions have it. "smp": as segmentation_models.pytorch
        has it: a separable convolution after the pyramid and another one in the decoder, rates of 12, 24 and 36 at any stride,
        aligned corners, (up, skip) in this order, and a first unit of a dilated stage that is dilated, too.
    standardise : "imagenet", optional
        Whether ImageNet's mean and standard deviation are taken off first, see `make_encoder`.

    Examples
    --------
    >>> from minunet.models import outline
    >>> outline("deeplab_v3plus", in_channels=3).num_params()
    39756962
    """

    least = 32

    def __init__(
        self, in_channels: int, num_classes: int, seed: int = 0, encoder: str = "resnet50", encoder_width: float = 1.0,
        width: int = 256, output_stride: int = 16, separable: bool = False, dropout: float = 0.1, layout: str = "plain",
        standardise: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.architecture = DeepLabV3PlusOptions(
            in_channels, num_classes, seed, encoder, encoder_width, width, output_stride, separable, dropout, layout,
            standardise,
        )  # fmt: skip
        rng, smp = np.random.default_rng(seed), layout == "smp"
        self.encoder = make_encoder(encoder, in_channels, encoder_width, output_stride, smp, rng, standardise)
        _, _, low, _, _, high = self.encoder.channels
        skip = scaled(LOW, encoder_width)
        rates = RATES[8 if smp else output_stride]
        dilated = [conv_norm_relu(high, width, 3, rate, separable, rng) for rate in rates]
        self.branches = [conv_norm_relu(high, width, 1, rng=rng), *dilated]
        self.mean = Sequential(
            pool=GlobalAvgPool2d(), conv=Conv2d(high, width, 1, bias=False, rng=rng),
            norm=BatchNorm2d(width, single_value="running"), relu=ReLU(),
        )  # fmt: skip
        self.concat = Concat()
        self.project = Sequential(**conv_norm_relu(5 * width, width, 1, rng=rng).children, dropout=Dropout(dropout))
        self.low = conv_norm_relu(low, skip, 1, rng=rng)
        self.after = conv_norm_relu(width, width, 3, 1, True, rng) if smp else None
        self.resize, self.join = Resize(align_corners=smp), Join(up_first=smp)
        self.fuse = conv_norm_relu(skip + width, width, 3, 1, separable or smp, rng)
        self.head = Conv2d(width, num_classes, size=1, rng=rng)

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

        _, _, low, _, _, high = run(self.encoder, x)
        scales = [run(branch, high) for branch in self.branches]
        mean = run(self.mean, high)
        scales.append(run(self.resize, (mean, high)))
        x = run(self.concat, tuple(scales))
        x = run(self.project, x)
        x = run(self.after, x) if self.after else x
        low = run(self.low, low)
        x = run(self.resize, (x, low))
        x = run(self.join, (low, x))
        x = run(self.fuse, x)
        x = run(self.head, x)
        y = run(self.resize, (x, image))
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        """From the gradient of the logits (N, H, W, num_classes) to that of the images; adds the parameters' to `grads`."""

        def back(m: Module, dy: Any) -> Any:
            return m.backward(dy, take(cache))

        dx = back(self.resize, dy)
        dx = back(self.head, dx)
        dx = back(self.fuse, dx)
        dlow, dx = back(self.join, dx)
        dx = back(self.resize, dx)
        dlow = back(self.low, dlow)
        dx = back(self.after, dx) if self.after else dx
        dx = back(self.project, dx)
        *dscales, dmean = back(self.concat, dx)
        dmean = back(self.resize, dmean)
        dhigh = back(self.mean, dmean)
        for branch in reversed(self.branches):
            dhigh = dhigh + back(branch, dscales.pop())
        return back(self.encoder, [None, None, dlow, None, None, dhigh])


def conv_norm_relu(
    channels: int, out: int, size: int, dilation: int = 1, separable: bool = False, rng: np.random.Generator | None = None
) -> Sequential:  # fmt: skip
    """A convolution, batch norm and ReLU; a separable one is a depthwise convolution and a 1x1, with nothing between them."""
    layers: dict[str, Module] = {}
    if separable:
        layers["depthwise"] = DepthwiseConv2d(channels, size, dilation=dilation, bias=False, rng=rng)
        size = 1
    layers["conv"] = Conv2d(channels, out, size, dilation=1 if separable else dilation, bias=False, rng=rng)
    return Sequential(**layers, norm=BatchNorm2d(out), relu=ReLU())
