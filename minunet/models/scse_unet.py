"""The U-Net with spatial and channel excitation (Roy, Navab and Wachinger, 2018, arXiv:1803.02579, eq. 1-4).

What is new, compared with `se_unet.py`: behind every block the map is weighed twice, each channel by what the means of all
tell and each pixel by what its channels tell, and both results are added (`BothExcitations` in gates.py). A map has four
readers there: two gates, and the two ways to their weights; its gradient is the sum of what comes back from all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import setting
from .gates import BothExcitations
from .se_unet import SEUNet, SEUNetOptions


@dataclass(frozen=True)
class ScSEUNetOptions(SEUNetOptions):
    """The arguments of `ScSEUNet`, which describes them."""

    name = "scse_unet"

    reduction: int = setting(2, least=1)


class ScSEUNet(SEUNet):
    """A U-Net whose blocks end with excitations of channels and of pixels; forward and backward are those of `SEUNet`.

    Parameters
    ----------
    in_channels : int
        Channels of the image.
    num_classes : int
        Channels of the output; 1 means a sigmoid, more a softmax.
    base_width : int
        Channels of the first level; doubled at every level.
    depth : int
        Number of poolings.
    reduction : int
        The channels' excitation has a middle so many times narrower than the map, and at least 1; the paper's is 2.
    seed : int
        Seed of the initial weights.

    Examples
    --------
    >>> from minunet.models import build
    >>> build("scse_unet", in_channels=3).num_params()
    32789963
    """

    options = ScSEUNetOptions
    excitation = BothExcitations

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, depth: int = 4, reduction: int = 2, seed: int = 0
    ) -> None:  # fmt: skip
        super().__init__(in_channels, num_classes, base_width, depth, reduction, seed)
