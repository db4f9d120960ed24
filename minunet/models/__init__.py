"""The networks, by the name that ``--arch`` takes.

unet.py       the U-Net, forward and backward; options.py: what it is built from, as checkpoints keep it
blocks.py     what it is made of beside plain layers: double convolution, up-step, joint of a skip
ensemble.py   several networks as one
trace.py      which layers run, on which maps, without computing anything
summary.py    what a network costs: parameters, arithmetic, memory
receptive_field.py   how far it looks
"""

from __future__ import annotations

from dataclasses import asdict

from ..nn import Module
from .ensemble import Ensemble
from .options import OPTIONS, NetworkOptions, UNetOptions
from .unet import UNet

ARCHITECTURES: dict[str, type[Module]] = {"unet": UNet}


def build(options: NetworkOptions) -> Module:
    """Make the network that options describe; it remembers them as its `architecture`."""
    return ARCHITECTURES[options.name](**asdict(options))


__all__ = ["ARCHITECTURES", "OPTIONS", "Ensemble", "NetworkOptions", "UNet", "UNetOptions", "build"]
