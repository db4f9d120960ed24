"""Classification networks as encoders: their maps at strides 1, 2, 4, 8, 16 and 32, for the decoder of another network.

Layers and parameters have torchvision's names (a filter `w` is its `weight`, a norm's `gamma`, `beta`, `mean` and `var` are its
`weight`, `bias`, `running_mean` and `running_var`), so that files of weights are read name by name.

encoder.py        what they share: a chain of layers, of which some maps are features; the residual unit
vgg.py            VGG11 and VGG16
resnet.py         ResNet18, 34 and 50
mobilenet_v2.py   MobileNetV2
"""

from __future__ import annotations

import numpy as np

from .encoder import Encoder
from .mobilenet_v2 import MobileNetV2
from .resnet import ResNet
from .vgg import VGG

ENCODERS = ("vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50", "mobilenet_v2")


def make_encoder(
    name: str, in_channels: int, width: float = 1.0, output_stride: int = 32, dilate_first: bool = False,
    rng: np.random.Generator | None = None,
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
    """
    if name.startswith("vgg"):
        return VGG(in_channels, int(name[3:5]), name.endswith("_bn"), width, rng)
    if name.startswith("resnet"):
        return ResNet(in_channels, int(name[6:]), width, output_stride, dilate_first, rng)
    return MobileNetV2(in_channels, width, output_stride, dilate_first, rng)


__all__ = ["ENCODERS", "VGG", "Encoder", "MobileNetV2", "ResNet", "make_encoder"]
