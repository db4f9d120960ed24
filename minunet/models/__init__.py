"""The networks, by the name that ``--arch`` takes.

unet.py       the U-Net, forward and backward; options.py: the options to build it from, as checkpoints store them
blocks.py     its larger parts: double convolution, up-step, joint of a skip
ensemble.py   several networks as one
trace.py      which layers run, on which maps, without computing anything
summary.py    what a network costs: parameters, arithmetic, memory
receptive_field.py   how far a network looks
"""

from __future__ import annotations

from dataclasses import asdict

from ..nn import Module
from .ensemble import Ensemble
from .options import OPTIONS, NetworkOptions, UNetOptions
from .unet import UNet

ARCHITECTURES: dict[str, type[Module]] = {"unet": UNet}


def build(options: NetworkOptions) -> Module:
    """Build a network from its options, which it keeps as `architecture`."""
    return ARCHITECTURES[options.name](**asdict(options))


__all__ = ["ARCHITECTURES", "OPTIONS", "Ensemble", "NetworkOptions", "UNet", "UNetOptions", "build"]
