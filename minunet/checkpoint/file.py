"""Checkpoints: one safetensors file with weights, optimiser and everything that `predict` must know.

Keys are the parameters' dotted paths ("encoder.0.conv1.w"); what the optimiser remembers is under "optimizer.". The
metadata has one entry, "minunet", a JSON object:

    {"format": 1, "arch": "unet", "options": {...},             how to build the model
     "data": {"channels", "normalise", "scale", "classes",      what training did to images and masks,
              "target"},                                        and what the network says of them, see targets.py
     "train": {...}}                                            the flags, the place in the run, its history
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..array import to_numpy
from ..atomic import write_atomically
from ..errors import UserError
from ..nn import Module

FORMAT = 1


OPTIMIZER = "optimizer."


def save_checkpoint(
    path: Path | str,
    model: Module,
    data: dict[str, Any],
    train: dict[str, Any],
    optimizer: dict[str, Any] | None = None,
) -> None:
    """Write model (made by `build_model` or `load`), its data description, the run's state and the optimiser's arrays."""
    from safetensors.numpy import save

    tensors = {**model.state(), **{OPTIMIZER + name: a for name, a in (optimizer or {}).items()}}
    meta = {"format": FORMAT, **model.origin, "data": data, "train": train}
    arrays = {name: np.ascontiguousarray(to_numpy(a)) for name, a in tensors.items()}
    write_atomically(path, save(arrays, {"minunet": json.dumps(meta)}))


def read_safetensors(path: Path | str) -> tuple[Any, dict[str, np.ndarray]]:
    """The metadata's entry "minunet", None if there is none, and all arrays; UserError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as f:
            meta = (f.metadata() or {}).get("minunet")
            return meta, {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise UserError(f"{path} is not a readable checkpoint: {e}. Was it cut short? Use another copy of it") from e
