"""Reading checkpoints: ours, and PyTorch-UNet's, which look the same from here on but have nothing under "train"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..data import ClassMap
from ..errors import UserError
from ..models import Ensemble
from ..nn import Module
from .build import model_of
from .file import FORMAT, OPTIMIZER, read_safetensors


def read_checkpoint(path: Path | str) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return metadata, weights and the optimiser's arrays of a file: one of ours, or one of PyTorch-UNet's weights.

    Raises
    ------
    UserError
        If the file is missing, cut short, neither minunet's nor PyTorch-UNet's, or would run code.
    """
    from .pytorch.container import is_torch_file
    from .pytorch.load import read_torch

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; a run keeps best.safetensors and last.safetensors in its folder")
    if is_torch_file(path):
        return *read_torch(path), {}
    meta, tensors = read_safetensors(path)
    if meta is None:
        return *read_torch(path), {}
    try:
        meta = json.loads(meta)
        if meta["format"] > FORMAT:
            raise UserError(f"{path} has format {meta['format']}, this minunet reads up to {FORMAT}: update minunet")
        meta = {key: meta[key] for key in ("arch", "options", "data", "train")}
        later = {"target": meta["data"].get("target", "classes"), "tta": meta["data"].get("tta", 1)}
        if later["tta"] not in range(1, 9):
            raise ValueError(f"tta {later['tta']!r}")
        meta["data"] = {key: meta["data"][key] for key in ("channels", "normalise", "scale", "classes")}
        meta["data"] |= later
        ClassMap.from_json(meta["data"]["classes"])
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise UserError(f"{path}: its description of the network is damaged ({e!r}); use another copy of it") from e
    weights = {name: a for name, a in tensors.items() if not name.startswith(OPTIMIZER)}
    optimizer = {name.removeprefix(OPTIMIZER): a for name, a in tensors.items() if name.startswith(OPTIMIZER)}
    return meta, weights, optimizer


def load(path: Path | str, *more: Path | str) -> Module:
    """Load a trained network, or several as one, ready for `minunet.segment`.

    Parameters
    ----------
    path : path of a checkpoint
        best.safetensors or last.safetensors of a run, or a checkpoint of PyTorch-UNet.
    *more : paths of checkpoints
        Of networks whose probabilities are averaged with the first's, see `minunet.models.Ensemble`.

    Returns
    -------
    Module
        With ``model.data``: the channels, normalisation and classes that it was trained with.

    Raises
    ------
    UserError
        If a file is missing, cut short, or no checkpoint, or the networks do not go together.
    """
    meta, weights, _ = read_checkpoint(path)
    model = model_of(meta, weights, path)
    return together({Path(path): model} | {Path(other): load(other) for other in more}) if more else model


def together(models: dict[Path, Module]) -> Ensemble:
    """Networks as one; UserError, naming the file, if one was trained for other images or classes than the first."""
    (first, model), *others = models.items()
    for path, other in others:
        for (what, ours), theirs in zip(prepared_for(model).items(), prepared_for(other).values()):
            if ours != theirs:
                raise UserError(
                    f"{path} was trained with {what} {theirs}, {first} with {ours}: they cannot be averaged"
                )
    try:
        ensemble = Ensemble(list(models.values()))
    except ValueError as e:
        raise UserError(f"{' and '.join(map(str, models))} cannot be averaged: {e}") from e
    ensemble.data = model.data
    return ensemble


def prepared_for(model: Module) -> dict[str, Any]:
    """What networks must have in common to be averaged: how images are prepared for them, and what they say of a pixel."""
    found = {key: model.data.get(key) for key in ("channels", "normalise", "scale", "target")}
    return {**found, "classes": ClassMap.from_json(model.data["classes"]).describe()}
