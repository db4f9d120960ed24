"""VGG without its classifier (Simonyan and Zisserman, 2015, arXiv:1409.1556): 3x3 convolutions, and a pool after each stage.

The layers are numbered as in torchvision's `vgg11_bn().features`. Every convolution has a bias, also before a batch norm.
"""

from __future__ import annotations

import numpy as np

from ...nn import BatchNorm2d, Conv2d, MaxPool2d, Module, ReLU
from .encoder import Encoder

STAGES = {11: (1, 1, 2, 2, 2), 16: (2, 2, 3, 3, 3)}  # convolutions in each stage
WIDTHS = (64, 128, 256, 512, 512)


class VGG(Encoder):
    """Features: the maps before each of the five pools, and the one after the last.

    Parameters
    ----------
    in_channels : int
    depth : {11, 16}
        Layers with filters in the published network, which has three more after these.
    norm : bool
        Whether a batch norm follows each convolution.
    width : float
        All widths are multiplied by this, and rounded.
    """

    def __init__(
        self, in_channels: int, depth: int = 16, norm: bool = True, width: float = 1.0,
        rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels)
        widths = [scaled(w, width) for w in WIDTHS]
        features: list[Module] = []
        channels = in_channels
        for number, out in zip(STAGES[depth], widths):
            for _ in range(number):
                features.append(Conv2d(channels, out, rng=rng))
                features += [BatchNorm2d(out), ReLU()] if norm else [ReLU()]
                channels = out
            self.taps.append(f"features.{len(features) - 1}")
            features.append(MaxPool2d(2))
        self.taps.append(f"features.{len(features) - 1}")
        self.features = features
        self.channels = [*widths, widths[-1]]


def scaled(channels: int, width: float) -> int:
    """A number of channels times `width`, rounded, at least 1."""
    return max(1, round(channels * width))
