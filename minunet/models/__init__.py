"""The networks, by the name that ``--arch`` takes."""

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
