"""Weights that others have trained, for the encoder of a network: torchvision's files, read without PyTorch.

What was trained on three channels goes on with n of them as segmentation_models.pytorch has it: channel i takes the filters of
channel i mod 3, times 3 / n. For one channel they are summed: a grey image then gives what its three equal channels would. (For
that to hold where ImageNet's mean and standard deviation are taken off, which differ by channel, they are folded into the sum,
and into what follows the first convolution. Only at the image's border, where zeros stand for another mean, a little remains.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...models.encoders import ENCODERS, IMAGENET, Encoder, imagenet, make_encoder
from ...nn import Module, shapes_only
from ..official import OFFICIAL, check_name, official
from .layout import ParameterSpec
from .names import STANDARDISE, State, as_ours, entries_of, needed, open_tensors

SHOWN = 4  # keys that a message names
Report = Callable[[str], object]


def load_encoder(model: Module, weights: Path | str, report: Report | None = print) -> None:
    """Give the encoder of a network weights that were trained elsewhere; the rest of the network stays as it is.

    Parameters
    ----------
    model : Module
        A network with one of `minunet.models.encoders`: such as "encoder_unet" or "deeplab_v3plus". With the option
        ``standardise="imagenet"`` images in 0..1 become what torchvision's weights were trained on.
    weights : path or "imagenet"
        A file of torchvision's weights for this encoder, or of a network that has it as its encoder; of `torch.save` or
        safetensors. "imagenet" is torchvision's official file, which is downloaded (with the extra `fetch`), checked
        and kept.
    report : callable or None
        Called with lines of text: what was taken, what the file has beside it, and how channels were adapted.

    Raises
    ------
    UserError
        If the network has no such encoder; if the file is missing, damaged, or would run code; if it holds another encoder,
        lacks keys, which are named, or has tensors of other shapes.
    """
    name = getattr(model.architecture, "encoder", None)
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, Encoder) or name not in ENCODERS:
        known = "encoder_unet, encoder_unet_plus_plus or deeplab_v3plus"
        raise UserError(
            f"a network of the kind {model.architecture.name or 'yours'} has no encoder to load: take {known}"
        )
    path = official(name, quiet=report is None) if weights == OFFICIAL else Path(weights)
    check_name(path)
    arrays, notes = read_encoder(path, encoder, name)
    state = {key: a for key, a in encoder.state().items() if key not in arrays} | arrays
    if not all(np.isfinite(a).all() for a in arrays.values()):
        raise UserError(f"{path} holds weights that are not finite; use another file")
    encoder.load_state(state)
    for note in notes if report else ():
        report(note)  # type: ignore[misc]


def read_encoder(path: Path, encoder: Encoder, name: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of an encoder by its own paths, in its number of channels, and lines that say what was done."""
    entries = entries_of(encoder)
    with open_tensors(path) as (states, read):
        state, prefix = find(list(map(needed, states)), entries, path, name)
        channels = check_shapes(state, prefix, entries, path, name)
        own = encoder.state()
        arrays = {}
        for key, spec in entries.items():
            array = read(prefix + key, state[prefix + key])
            arrays[str(spec.path)] = as_ours(array, own[str(spec.path)])
    rest = sorted(key for key in state if not key.startswith(prefix) or key.removeprefix(prefix) not in entries)
    notes = [f"{path.name}: all {len(entries)} tensors of {name}, keys {prefix}{next(iter(entries))} and on"]
    if rest:
        notes[0] += f"; left out, as no part of it: {some(rest)}"
    return arrays, notes + adapt(arrays, encoder, channels)


def find(states: list[State], entries: dict[str, ParameterSpec], path: Path, name: str) -> tuple[State, str]:
    """The state that holds these keys, and the prefix that they have in it; UserError, naming what it lacks, if none does."""
    first = next(iter(entries))
    best: tuple[int, State, str] = -1, {}, ""
    for state in (named for given in states for named in (given, with_new_names(given))):
        for prefix in sorted({key.removesuffix(first) for key in state if key.endswith(f".{first}")} | {""}, key=len):
            hits = sum(prefix + key in state for key in entries)
            if hits > best[0]:
                best = hits, state, prefix
    hits, state, prefix = best
    held = identify({key: tuple(t.shape) for key, t in state.items()}, prefix)
    if held not in (name, None):
        raise UserError(
            f"{path} holds the weights of {held}, not of {name}: give it with --encoder {held}, or another file"
        )
    missing = [key for key in entries if prefix + key not in state]
    if missing:
        raise UserError(
            f"{path} lacks {len(missing)} of the {len(entries)} tensors of {name}: {some(missing)}; it has "
            f"{some(list(state)) or 'no tensors by name'}. Give a file of {name}"
        )
    return state, prefix


def identify(shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> str | None:
    """Which encoder's weights these are, by keys with a prefix: the one with the most keys of those that are there whole."""
    found: dict[int, str] = {}
    for name in ENCODERS:
        with shapes_only():
            keys = entries_of(make_encoder(name, 3))
        if all(len(shapes.get(prefix + key, (0,) * 9)) == len(spec.shape) for key, spec in keys.items()):
            found[len(keys)] = name
    return found[max(found)] if found else None


def check_shapes(state: State, prefix: str, entries: dict[str, ParameterSpec], path: Path, name: str) -> int:
    """The channels of the images that the file's weights are for; UserError if a tensor has another shape than ours."""
    channels = 0
    for key, spec in entries.items():
        shape, expected = tuple(state[prefix + key].shape), spec.shape
        if not channels and len(shape) == 4:
            channels = int(shape[1])
            expected = (expected[0], channels, *expected[2:])
            if channels not in (3, spec.shape[1]):
                raise UserError(
                    f"{path}: {prefix}{key} is for {channels} channels, not for 3 or {spec.shape[1]}; use another file"
                )
        if shape != expected:
            raise UserError(
                f"{path}: {prefix}{key} has the shape {shape}, that of {name} is {expected}; give a file of {name}"
            )
    return channels


def with_new_names(state: State) -> State:
    """A state under the names that torchvision gives MobileNetV2, from those of its first version in PyTorch.

    There a unit's convolutions, norms and activations are numbered through; here each convolution has a number with its own.
    """

    def renamed(found: re.Match[str]) -> str:
        units, number = found[1], int(found[2])
        short = f"{units}.6.weight" not in state  # the first unit does not widen
        last = 3 if short else 6
        return f"{units}.{number // 3}.{number % 3}." if number < last else f"{units}.{last // 3 + number - last}."

    return {re.sub(r"^(.*features\.\d+\.conv)\.(\d+)\.(?=[a-z])", renamed, key): t for key, t in state.items()}


def adapt(arrays: dict[str, np.ndarray], encoder: Encoder, channels: int) -> list[str]:
    """Make filters for three channels those of the encoder's channels, in place; a line that says how."""
    n = encoder.in_channels
    if n == channels:
        return []
    first = next(path for path, a in arrays.items() if a.ndim == 4)
    w = arrays[first]
    if n > 1:
        arrays[first] = np.ascontiguousarray(w[:, :, np.arange(n) % 3]) * np.float32(3 / n)
        return [
            f"its first convolution goes from 3 channels to {n}: channel i takes the filters of channel i mod 3, times 3/{n}"
        ]
    if STANDARDISE in encoder.children:
        (mean,), (std,) = imagenet(1)
        means, stds = (np.array(values, np.float32) for values in IMAGENET)
        shift = (w.sum((0, 1)) * ((mean - means) / stds)[:, None]).sum(0)
        w = w * (np.float32(std) / stds)[:, None]
        bias = first.removesuffix("w") + "b"
        follows = bias if bias in arrays else next(path for path in arrays if path.endswith(".mean"))
        arrays[follows] = arrays[follows] + (shift if follows == bias else -shift)
    arrays[first] = w.sum(2, keepdims=True)
    return [
        "its first convolution goes from 3 channels to 1: the sum of the three, as for a grey image in three equal channels"
    ]


def some(keys: list[str]) -> str:
    """The first keys, and how many more there are."""
    told = ", ".join(ascii(key)[1:-1][:60] for key in keys[:SHOWN])
    return told + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
