"""Checkpoints: one safetensors file with weights, optimiser and everything that `predict` must know.

Keys are the parameters' dotted paths ("encoder.0.conv1.w"); what the optimiser remembers is under "optimizer.". The
metadata has one entry, "minunet", a JSON object:

    {"format": 1, "arch": "unet", "options": {...},             how to build the model
     "data": {"channels", "normalise", "scale", "classes",      what training did to images and masks,
              "target"},                                        and what the network says of them, see targets.py
     "train": {...}}                                            the flags, the place in the run, its history

Checkpoints of PyTorch-UNet are read too (pytorch/), and look the same from here on, without anything under "train".

A file is written beside its name and then moved over it: whoever looks finds the old one or the new one, never half of one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .array import to_numpy
from .data import ClassMap
from .errors import UserError
from .models import ARCHITECTURES, Ensemble, build
from .models.unet import count_filters
from .nn import Module

FORMAT = 1
OPTIMIZER = "optimizer."


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all; UserError if that fails (no space, no permission), the old file kept."""
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    except OSError as e:
        kept = f"; the earlier {path.name} is untouched" if path.exists() else ""
        raise UserError(
            f"cannot write {path}: {e.strerror or e}{kept}. Free some space or choose another folder"
        ) from e
    finally:
        beside.unlink(missing_ok=True)


def save_checkpoint(
    path: Path | str,
    model: Module,
    data: dict[str, Any],
    train: dict[str, Any],
    optimizer: dict[str, Any] | None = None,
) -> None:
    """Write model (made by `build_model` or `load`), its data description, the run's state and the optimiser's arrays."""
    tensors = {**model.state(), **{OPTIMIZER + name: a for name, a in (optimizer or {}).items()}}
    meta = {"format": FORMAT, **model.origin, "data": data, "train": train}
    arrays = {name: np.ascontiguousarray(to_numpy(a)) for name, a in tensors.items()}
    write_atomically(path, save(arrays, {"minunet": json.dumps(meta)}))


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


def read_safetensors(path: Path | str) -> tuple[Any, dict[str, np.ndarray]]:
    """The metadata's entry "minunet", None if there is none, and all arrays; UserError if it is damaged."""
    try:
        with safe_open(path, framework="np") as f:
            meta = (f.metadata() or {}).get("minunet")
            return meta, {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise UserError(f"{path} is not a readable checkpoint: {e}. Was it cut short? Use another copy of it") from e


def build_model(arch: str, options: dict[str, Any]) -> Module:
    """Make a network that remembers how it was made."""
    model = build(arch, **options)
    model.origin = {"arch": arch, "options": options}
    return model


def check_described(options: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
    """ValueError if a network with these options would be larger than its weights: before memory is taken for it."""
    described, held = count_filters(**options), sum(a.size for a in weights.values())
    if described > held:
        raise ValueError(f"{described:,} weights are described, the file holds {held:,}")


def check_arch(path: Path | str, arch: str, *known: str) -> None:
    """UserError if a checkpoint holds another architecture than those."""
    if arch not in known:
        raise UserError(f"{path} holds a network of the kind {arch!r}, not {' or '.join(known)}; see --arch")


def load_weights(model: Module, weights: dict[str, np.ndarray], path: Path | str) -> None:
    """Copy weights into a model; UserError, naming the first parameter that does not fit, if they are another network's."""
    try:
        model.load_state(weights)
    except ValueError as e:
        origin = model.origin
        raise UserError(
            f"{path} holds the weights of another network than {origin['arch']} with {origin['options']}: {e}. "
            "To train on from it, give the --base-width, --depth and so on that it was trained with"
        ) from e
    if not all(np.isfinite(a).all() for a in weights.values()):
        raise UserError(
            f"{path} holds weights that are not finite: that training went wrong; use an earlier checkpoint"
        )


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


def model_of(meta: dict[str, Any], weights: dict[str, np.ndarray], path: Path | str) -> Module:
    """The network that a file of that path holds, ready for `minunet.segment`."""
    check_arch(path, meta["arch"], *ARCHITECTURES)
    try:
        check_described(meta["options"], weights)
        model = build_model(meta["arch"], meta["options"])
    except (TypeError, ValueError, IndexError, OverflowError) as e:
        raise UserError(f"{path}: its description of the network is damaged ({e}); use another copy of it") from e
    model.data = meta["data"]
    load_weights(model, weights, path)
    return model
