"""Checkpoints: one safetensors file with weights, optimiser and everything that `predict` must know.

Keys are the parameters' dotted paths ("encoder.0.conv1.w"); what the optimiser remembers is under "optimizer.". The
metadata has one entry, "minunet", a JSON object:

    {"format": 1, "arch": "unet", "options": {...},   how to build the network, see models/options.py
     "data": {...},                                   what training did to images and masks, see data/preprocess.py
     "train": {...}}                                  where a training stands, see train/run_folder.py; {} of other networks

Every one of these is a dataclass that checks its values when it is read.
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
    train: dict[str, Any] | None = None,
    optimizer: dict[str, Any] | None = None,
) -> None:
    """Write a model that has `architecture` and `preprocessing`, the training's state, and the optimiser's arrays."""
    from safetensors.numpy import save

    tensors = {**model.state(), **{OPTIMIZER + name: a for name, a in (optimizer or {}).items()}}
    meta = {"format": FORMAT, **description(model), "train": train or {}}
    arrays = {name: np.ascontiguousarray(to_numpy(a)) for name, a in tensors.items()}
    write_atomically(path, save(arrays, {"minunet": json.dumps(meta)}))


def description(model: Module) -> dict[str, Any]:
    """What a file says of a network, but for its training: "arch", "options" and "data"."""
    architecture, preprocessing = model.architecture, model.preprocessing
    return {"arch": architecture.name, "options": architecture.to_json(), "data": preprocessing.to_json()}


def read_safetensors(path: Path | str) -> tuple[Any, dict[str, np.ndarray]]:
    """The metadata's entry "minunet", None if there is none, and all arrays; UserError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as f:
            meta = (f.metadata() or {}).get("minunet")
            return meta, {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise UserError(f"{path} is not a readable checkpoint: {e}. Was it cut short? Use another copy of it") from e
