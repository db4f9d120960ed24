"""Which keys of PyTorch a network's parameters have, where its layers are named as they are there; and a file's tensors by key.

Filters `w` are called `weight` there, a norm's `gamma`, `beta`, `mean` and `var` `weight`, `bias`, `running_mean` and
`running_var`; their axes are (out, in, H, W), and a depthwise convolution's (channels, 1, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...array import Array
from ...errors import UserError
from ...nn import Module
from ..file import read_safetensors
from .container import TorchFile, is_torch_file, open_torch
from .layout import COUNTER, NORM, ParameterSpec
from .pickles import Refused, Tensor

KEYS = {ours: theirs for theirs, ours in NORM.items()} | {"w": "weight", "b": "bias"}
STANDARDISE = "standardise"
MAX_DEPTH = 4  # of dictionaries in a file
FOUND = 100  # dictionaries that are looked at
State = Mapping[str, Any]
Read = Callable[[str, Any], np.ndarray]


def entries_of(model: Module, place: Callable[[str], str] = str) -> dict[str, ParameterSpec]:
    """Every key with the shape of its tensor and our path; `place` takes the path of a layer to its name there.

    What is taken off images has no key: in PyTorch that is no layer.
    """
    entries = {}
    for path, array in model.state().items():
        layer, _, name = path.rpartition(".")
        if layer.rpartition(".")[2] == STANDARDISE:
            continue
        shape = tuple(array.shape)
        if len(shape) > 2:  # filters: (H, W, in, out), or (H, W, channels) of a depthwise convolution
            shape = (shape[-1], shape[2] if len(shape) == 4 else 1, *shape[:2])
        entries[f"{place(layer)}.{KEYS[name]}"] = ParameterSpec(shape, path)
    return entries


@contextmanager
def open_tensors(path: Path | str) -> Iterator[tuple[list[State], Read]]:
    """The dictionaries of tensors in a file of `torch.save` or safetensors, and how to read a tensor by its key and itself.

    UserError if the file cannot be read, or if `Refused` is raised while it is open.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file of weights")
    if is_torch_file(path):
        with open_torch(path) as file:
            yield dictionaries(file.content), lambda key, tensor: read_floats(file, key, tensor)
        return
    try:
        yield [read_safetensors(path)[1]], lambda key, array: array
    except Refused as e:
        raise UserError(f"{path} is refused: {e}") from None


def read_floats(file: TorchFile, key: str, tensor: Tensor) -> np.ndarray:
    """A parameter's values; Refused if they are not of a floating-point type."""
    if "float" not in tensor.storage.dtype.name:
        raise Refused(
            f"{key} is of type {tensor.storage.dtype.name}, parameters are float32 (or float16, 64, bfloat16)"
        )
    return file.read(tensor)


def as_ours(array: np.ndarray, ours: Array) -> np.ndarray:
    """A tensor as float32 with the axes that our parameter has."""
    array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    array = array[:, :, 0] if ours.ndim == 3 else array
    with np.errstate(over="ignore"):  # of float64; whether weights are finite is checked later
        return np.ascontiguousarray(array, np.float32)


def dictionaries(content: Any) -> list[State]:
    """The tensors of each dictionary that has some, the outermost first."""
    found: list[State] = []
    waiting = [(content, 0)]
    for inside, depth in waiting:
        if isinstance(inside, dict) and depth < MAX_DEPTH and len(waiting) < FOUND:
            tensors = {key: t for key, t in inside.items() if isinstance(key, str) and isinstance(t, Tensor)}
            found += [tensors] if tensors else []
            waiting += [(value, depth + 1) for value in inside.values() if isinstance(value, dict)]
    return found


def needed(state: State) -> dict[str, Any]:
    """A state without the counters of batch norms, which nothing here needs."""
    return {key: t for key, t in state.items() if not key.endswith(COUNTER)}
