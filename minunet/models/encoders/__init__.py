"""Classification networks as encoders: their maps at strides 1, 2, 4, 8, 16 and 32, for the decoder of another network.

Layers and parameters have torchvision's names (a filter `w` is its `weight`, a norm's `gamma`, `beta`, `mean` and `var` are its
`weight`, `bias`, `running_mean` and `running_var`), so that files of weights are read name by name.

encoder.py        what they share: a chain of layers, of which some maps are features; the residual unit
vgg.py            VGG11 and VGG16
resnet.py         ResNet18, 34 and 50
mobilenet_v2.py   MobileNetV2
"""

from __future__ import annotations

from itertools import cycle, islice

import numpy as np

from ...nn import Standardise
from .encoder import Encoder
from .mobilenet_v2 import MobileNetV2
from .resnet import ResNet
from .vgg import VGG

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of red, green and blue in 0..1
ENCODERS = ("vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "mobilenet_v2")


def make_encoder(
    name: str, in_channels: int, width: float = 1.0, output_stride: int = 32, dilate_first: bool = False,
    rng: np.random.Generator | None = None, standardise: str | None = None,
) -> Encoder:  # fmt: skip
    """An encoder by its name in torchvision.

    Parameters
    ----------
    name : str
        One of `ENCODERS`.
    in_channels : int
        Channels of the images.
    width : float
        All widths are multiplied by this, and rounded; 1 for the published network.
    output_stride : {32, 16, 8}
        Stride of the deepest feature; a VGG has 32.
    dilate_first : bool
        Whether the first unit of a stage that keeps its size is dilated as its others are, see `ResNet`.
    rng : numpy.random.Generator, optional
        Draws the initial weights.
    standardise : "imagenet", optional
        Whether the first layer takes off the mean of ImageNet's images, and divides by their standard deviation, as
        torchvision's weights need it. It is a layer, and no part of how images are prepared, so that augmentation sees images
        in 0..1, and zeros that pad the first convolution stand for the mean.
    """
    encoder: Encoder
    if name.startswith("vgg"):
        encoder = VGG(in_channels, int(name[3:5]), name.endswith("_bn"), width, rng)
    elif name.startswith("resnet"):
        encoder = ResNet(in_channels, int(name[6:]), width, output_stride, dilate_first, rng)
    else:
        encoder = MobileNetV2(in_channels, width, output_stride, dilate_first, rng)
    if standardise:
        encoder.children = {"standardise": Standardise(*imagenet(in_channels)), **encoder.children}
    return encoder


def imagenet(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation for so many channels: red, green, blue, red, ...; for grey the means of the three."""
    if channels == 1:
        return (sum(IMAGENET[0]) / 3,), (sum(IMAGENET[1]) / 3,)
    mean, std = (tuple(islice(cycle(values), channels)) for values in IMAGENET)
    return mean, std


__all__ = ["ENCODERS", "IMAGENET", "VGG", "Encoder", "MobileNetV2", "ResNet", "imagenet", "make_encoder"]
