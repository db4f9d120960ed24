"""Reading checkpoints: ours, and those of PyTorch-UNet, which are read into the same form, with an empty "train"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import Preprocessing
from ..errors import UserError, shown
from ..models import OPTIONS, Ensemble, NetworkOptions, shipped
from ..nn import Module
from .build import check_described, model_of
from .file import FORMAT, OPTIMIZER, read_safetensors


class Checkpoint(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    architecture : NetworkOptions
    preprocessing : Preprocessing
    train : dict
        The state of the training, not checked yet, see `minunet.train.run_folder`; empty if there was no training by minunet.
    weights, optimizer : dict of arrays
        The network's parameters and running statistics by path, and the optimiser's arrays.
    """

    architecture: NetworkOptions
    preprocessing: Preprocessing
    train: dict[str, Any]
    weights: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray]


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a file: one of ours, or weights of PyTorch-UNet or segmentation_models.pytorch (its folders, too); a name that no
    file has is that of a network in `minunet.models.shipped`.

    Raises
    ------
    UserError
        If the file is missing, cut short, none of these, would run code, or describes no network.
    """
    from .pytorch.container import is_torch_file
    from .pytorch.load import read_torch

    path = shipped.located(path)
    if (path / "model.safetensors").is_file():  # a folder that `save_pretrained` wrote
        path = path / "model.safetensors"
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint; {shipped.hint(path)}a run keeps best.safetensors and last.safetensors in its folder"
        )
    meta, tensors = (None, {}) if is_torch_file(path) else read_safetensors(path)
    if meta is None:
        options, prepared, arrays = read_torch(path)
        file = Checkpoint(options, prepared, {}, arrays, {})
    else:
        architecture, preprocessing, train = parse_description(meta, path)
        weights = {name: a for name, a in tensors.items() if not name.startswith(OPTIMIZER)}
        optimizer = {name.removeprefix(OPTIMIZER): a for name, a in tensors.items() if name.startswith(OPTIMIZER)}
        file = Checkpoint(architecture, preprocessing, train, weights, optimizer)
    try:
        check_described(file.architecture, file.weights)
    except ValueError as e:
        raise UserError(f"{path}: its description of the network is damaged ({e}); use another copy of it") from None
    return file


def parse_description(text: str, path: Path | str) -> tuple[NetworkOptions, Preprocessing, dict[str, Any]]:
    """Network, preprocessing and training from the metadata's JSON; UserError, naming file and field, if it is damaged."""
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{path}: its description of the network is damaged ({e}); use another copy of it") from None
    try:
        check_format(meta)
        architecture = OPTIONS[meta["arch"]].from_json(meta["options"], "options")
        preprocessing = Preprocessing.from_json(meta["data"], "data")
    except UserError as e:
        raise UserError(f"{path}: its description of the network is damaged: {e}; use another copy of it") from None
    return architecture, preprocessing, meta["train"]


def check_format(meta: Any) -> None:
    """UserError if this is no description, if a later minunet wrote it, or if its network is unknown."""
    parts = ("format", "arch", "options", "data", "train")
    missing = [name for name in parts if not isinstance(meta, dict) or name not in meta]
    if missing:
        raise UserError(f"{', '.join(missing)} missing")
    if type(meta["format"]) is not int or meta["format"] < 1:
        raise UserError(f"format: {shown(meta['format'])} is no format")
    if meta["format"] > FORMAT:
        raise UserError(f"format {meta['format']}, this minunet reads up to {FORMAT}: update minunet")
    if not isinstance(meta["arch"], str) or meta["arch"] not in OPTIONS:
        raise UserError(f"arch: {shown(meta['arch'])} is unknown, this minunet has {', '.join(OPTIONS)}")
    if not isinstance(meta["train"], dict):
        raise UserError(f"train: {shown(meta['train'])} is no table of settings")


def load(path: Path | str, *more: Path | str) -> Module:
    """Load a trained network, or several as one, ready for `minunet.segment`.

    Parameters
    ----------
    path : path of a checkpoint
        best.safetensors or last.safetensors of a run, a checkpoint of PyTorch-UNet, or "nuclei", the network that comes with
        minunet.
    *more : paths of checkpoints
        Of networks whose probabilities are averaged with the first's, see `minunet.models.Ensemble`.

    Returns
    -------
    Module
        The network, with ``model.preprocessing``: the channels, normalisation and classes that it was trained with.

    Raises
    ------
    UserError
        If a file is missing, cut short, or no checkpoint, or the networks do not go together.
    """
    file = read_checkpoint(path)
    model = model_of(file.architecture, file.preprocessing, file.weights, path)
    return together({Path(path): model} | {Path(other): load(other) for other in more}) if more else model


def together(models: dict[Path, Module]) -> Ensemble:
    """Several networks as one; UserError, naming the file, if one was trained for other images or classes than the first."""
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
    ensemble.preprocessing = model.preprocessing
    return ensemble


def prepared_for(model: Module) -> dict[str, Any]:
    """What networks must have in common to be averaged: how images are prepared, and the target and classes."""
    p: Preprocessing = model.preprocessing
    return {
        "channels": p.channels, "normalise": p.normalise, "scale": p.scale, "target": p.target,
        "classes": p.classes.describe(),
    }  # fmt: skip
