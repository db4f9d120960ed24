"""The networks, by the name that ``--arch`` takes.

unet.py       the U-Net, forward and backward
blocks.py     what it is made of beside plain layers: double convolution, up-step, joint of a skip
ensemble.py   several networks as one
trace.py      which layers run, on which maps, without computing anything
summary.py    what a network costs: parameters, arithmetic, memory
receptive_field.py   how far it looks
"""

from __future__ import annotations

from typing import Any

from ..nn import Module
from .ensemble import Ensemble
from .unet import UNet

ARCHITECTURES: dict[str, type[Module]] = {"unet": UNet}


def build(arch: str, **options: Any) -> Module:
    """Make a network by its name: ``build("unet", in_channels=3, num_classes=2)``."""
    return ARCHITECTURES[arch](**options)


__all__ = ["ARCHITECTURES", "Ensemble", "UNet", "build"]
