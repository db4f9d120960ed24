"""ResNet without its classifier (He, Zhang, Ren and Sun, 2016, arXiv:1512.03385), with torchvision's names.

    stem     7x7/2 convolution, norm, ReLU                        stride 2
    layer1   3x3/2 max-pool, then residual units                  stride 4
    layer2   ... layer4: the first unit of each halves the map    strides 8, 16, 32

A unit's body is two 3x3 convolutions (ResNet18, 34), or the bottleneck of 1x1, 3x3 and 1x1, which gives four times as many
channels (ResNet50). As in torchvision it is the bottleneck's 3x3 that has the stride (the paper: the first 1x1).

With an output stride of 16 or 8 the last stages keep the size of the map: their strides become 1, and their 3x3 convolutions
are dilated instead, so that they read pixels as far apart as before. The first unit keeps the dilation of the stage before: it
reads the map that was not thinned out yet (torchvision's `replace_stride_with_dilation`). segmentation_models.pytorch dilates
it, too: the same weights then give another function.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...nn import BatchNorm2d, Conv2d, MaxPool2d, Module, ReLU, Sequential
from .encoder import Encoder, Residual
from .vgg import scaled

UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # in each stage
WIDTHS = (64, 128, 256, 512)


class ResNet(Encoder):
    """Features: the image, the stem's map before the max-pool, and the maps of the four stages.

    Parameters
    ----------
    in_channels : int
    depth : {18, 34, 50}
        Layers with filters in the published network, of which the classifier is one.
    width : float
        All widths are multiplied by this, and rounded.
    output_stride : {32, 16, 8}
        Stride of the last feature.
    dilate_first : bool
        Whether the first unit of a stage that keeps its size is dilated as its others are.
    """

    def __init__(
        self, in_channels: int, depth: int = 34, width: float = 1.0, output_stride: int = 32, dilate_first: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels)
        stem, bottleneck = scaled(WIDTHS[0], width), depth >= 50
        self.conv1 = Conv2d(in_channels, stem, 7, stride=2, padding=3, bias=False, rng=rng)
        self.bn1, self.relu = BatchNorm2d(stem), ReLU()
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        self.channels.append(stem)
        channels, reached, dilation = stem, 4, 1
        for stage, (units, mid) in enumerate(zip(UNITS[depth], WIDTHS), 1):
            mid, first = scaled(mid, width), dilation
            halves = stage > 1 and reached < output_stride
            dilation *= 1 if stage == 1 or halves else 2
            first = dilation if dilate_first else first
            reached *= 2 if halves else 1
            blocks: dict[str, Module] = {}
            for n in range(units):
                stride, spread = (2 if halves else 1, first) if n == 0 else (1, dilation)
                blocks[str(n)] = unit(channels, mid, stride, spread, bottleneck, rng)
                channels = 4 * mid if bottleneck else mid
            setattr(self, f"layer{stage}", Sequential(**blocks))
            self.channels.append(channels)
        self.taps = ["relu", "layer1", "layer2", "layer3", "layer4"]


def unit(
    channels: int, mid: int, stride: int, dilation: int, bottleneck: bool, rng: np.random.Generator | None
) -> Residual:
    """A residual unit: two 3x3 convolutions of `mid` channels, or a bottleneck that gives four times as many."""
    out = 4 * mid if bottleneck else mid
    three: dict[str, Any] = {"size": 3, "padding": dilation, "dilation": dilation, "stride": stride}
    if bottleneck:
        convs = [(channels, mid, {"size": 1}), (mid, mid, three), (mid, out, {"size": 1})]
    else:
        convs = [(channels, mid, three), (mid, mid, three | {"stride": 1})]
    body: dict[str, Module] = {}
    for n, (i, o, options) in enumerate(convs, 1):
        body |= {f"conv{n}": Conv2d(i, o, bias=False, rng=rng, **options), f"bn{n}": BatchNorm2d(o)}
        if n < len(convs):
            body[f"relu{n}"] = ReLU()
    downsample = None
    if stride > 1 or channels != out:
        shortcut = Conv2d(channels, out, 1, stride=stride, bias=False, rng=rng)
        downsample = Sequential(**{"0": shortcut, "1": BatchNorm2d(out)})
    return Residual(body, downsample, ReLU())
