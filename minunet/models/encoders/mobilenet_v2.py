"""MobileNetV2 without its classifier (Sandler et al., 2018, arXiv:1801.04381), with torchvision's names.

A unit, the inverted residual, widens its map by 1x1 convolutions, filters each channel by itself (a depthwise 3x3), and narrows
it again. The narrow map has no activation, which would lose too much of what few channels hold; the input is added where it
has the same shape.
"""

from __future__ import annotations

import numpy as np

from ...nn import BatchNorm2d, Conv2d, DepthwiseConv2d, Module, ReLU6, Sequential
from .encoder import Encoder, Residual
from .vgg import scaled

STEM, LAST = 32, 1280
UNITS = (  # how many times wider inside, channels, how many in a row, stride of the first
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip


class MobileNetV2(Encoder):
    """Features: the image, and the last map of each resolution.

    Parameters
    ----------
    in_channels : int
    width : float
        All widths are multiplied by this, and rounded. (torchvision's `width_mult` rounds to multiples of 8, and leaves the
        last layer as it is.)
    output_stride : {32, 16, 8}
        Stride of the last feature: beyond it, strides become dilations as in `ResNet`.
    dilate_first : bool
        As in `ResNet`.
    """

    def __init__(
        self, in_channels: int, width: float = 1.0, output_stride: int = 32, dilate_first: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels)
        stem = scaled(STEM, width)
        features: list[Module] = [conv_norm_act(in_channels, stem, 3, 2, rng)]
        channels, reached, dilation = stem, 2, 1
        for wider, out, repeats, stride in UNITS:
            out = scaled(out, width)
            for n in range(repeats):
                halves, spread = stride > 1 and n == 0, dilation
                if halves:
                    self.taps.append(f"features.{len(features) - 1}")
                    self.channels.append(channels)
                    if reached < output_stride:
                        reached *= 2
                    else:
                        halves, dilation = False, 2 * dilation
                        spread = dilation if dilate_first else spread
                features.append(unit(channels, out, wider, 2 if halves else 1, spread, rng))
                channels = out
        last = scaled(LAST, width)
        self.taps.append(f"features.{len(features)}")
        self.channels.append(last)
        self.features = [*features, conv_norm_act(channels, last, 1, 1, rng)]


def unit(channels: int, out: int, wider: int, stride: int, dilation: int, rng: np.random.Generator | None) -> Module:
    """An inverted residual."""
    inside = channels * wider
    layers: list[Module] = [conv_norm_act(channels, inside, 1, 1, rng)] if wider > 1 else []
    filters = DepthwiseConv2d(inside, stride=stride, padding=dilation, dilation=dilation, bias=False, rng=rng)
    layers += [
        Sequential(**{"0": filters, "1": BatchNorm2d(inside), "2": ReLU6()}),
        Conv2d(inside, out, 1, bias=False, rng=rng),
        BatchNorm2d(out),
    ]
    body = {f"conv.{n}": m for n, m in enumerate(layers)}
    return Residual(body) if stride == 1 and channels == out else Sequential(**body)


def conv_norm_act(channels: int, out: int, size: int, stride: int, rng: np.random.Generator | None) -> Sequential:
    """A convolution, batch norm and ReLU6."""
    conv = Conv2d(channels, out, size, stride=stride, padding=size // 2, bias=False, rng=rng)
    return Sequential(**{"0": conv, "1": BatchNorm2d(out), "2": ReLU6()})
