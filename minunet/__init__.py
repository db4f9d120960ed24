"""minunet: a U-Net from scratch, to learn from and to use.

    model = minunet.load("best.safetensors")
    mask = minunet.segment(model, image)            # (H, W) class numbers

    minunet.summary(minunet.models.UNet(3, 2), (1, 256, 256, 3))
    with minunet.use("reference"): ...              # plain ops only, no kernels

Importing minunet is light: what is named here is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import gradcheck, metrics, models, nn, ops
    from .checkpoint import load
    from .costs import summary
    from .device import gpu_status
    from .errors import UserError
    from .inference import segment
    from .kernels import use
    from .models import UNet
    from .objects import label_objects, segment_objects
    from .pytorch import load_torch, save_torch

__version__ = "0.1.0"

_HOME = {
    "UNet": "models",
    "UserError": "errors",
    "gpu_status": "device",
    "label_objects": "objects",
    "load": "checkpoint",
    "load_torch": "pytorch",
    "save_torch": "pytorch",
    "segment": "inference",
    "segment_objects": "objects",
    "summary": "costs",
    "use": "kernels",
}
_MODULES = ("gradcheck", "metrics", "models", "nn", "ops")

__all__ = [
    "UNet", "UserError", "gpu_status", "gradcheck", "label_objects", "load", "load_torch", "metrics", "models", "nn", "ops",
    "save_torch", "segment", "segment_objects", "summary", "use",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'minunet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
