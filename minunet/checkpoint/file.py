"""What a checkpoint stores: one safetensors file with the weights, the optimiser's state and everything that `predict` needs.

The arrays' keys are the dotted paths of the parameters ("encoder.0.conv1.w"); keys that begin with "optimizer." belong to the
optimiser. The metadata has one entry, "minunet", a JSON object:

    {"format": 1, "arch": "unet", "options": {...},   how to build the network, see models/options.py
     "data": {...},                                   how images and masks were prepared, see data/preprocess.py
     "train": {...}}                                  the state of the training, see train/run_folder.py; {} if there was none

Each part is read into a dataclass that checks its values. Weights may be float16; a network computes in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..array import to_numpy
from ..atomic import write_atomically
from ..data import Preprocessing
from ..errors import UserError
from ..nn import Module

FORMAT = 1


OPTIMIZER = "optimizer."


def save_checkpoint(
    path: Path | str,
    model: Module,
    train: dict[str, Any] | None = None,
    optimizer: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a checkpoint of a model that has `architecture` and `preprocessing`; `train` and `optimizer` are for resuming.

    With `half` filters are rounded to float16, which has 11 bits: the file is half as large. Vectors, which are few, stay as
    they are; running variances may be beyond float16.

    UserError for a network of a class of the caller's own, or if `half` has no number for a weight.
    """
    from safetensors.numpy import save

    if not model.architecture.name:
        raise UserError(
            f"{path}: a network of a class of your own cannot be built again from a file; keep model.state()"
        )

    tensors = {**model.state(), **{OPTIMIZER + name: a for name, a in (optimizer or {}).items()}}
    meta = {"format": FORMAT, **description(model), "train": train or {}}
    arrays = {name: np.ascontiguousarray(to_numpy(a)) for name, a in tensors.items()}
    if half:
        arrays = {name: halved(a) if a.ndim > 1 else a for name, a in arrays.items()}
        lost = [name for name, a in arrays.items() if not np.isfinite(a).all()]
        if lost:
            raise UserError(f"{path}: {lost[0]} is beyond the largest number of half precision: write it in full")
    write_atomically(path, save(arrays, {"minunet": json.dumps(meta)}))


def halved(a: np.ndarray) -> np.ndarray:
    """An array as float16; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return a.astype(np.float16)


def restate(path: Path | str, preprocessing: Preprocessing) -> None:
    """Write a checkpoint again with another preprocessing; everything else stays."""
    from safetensors.numpy import save

    text, arrays = read_safetensors(path)
    meta = {**json.loads(text), "data": preprocessing.to_json()}
    write_atomically(path, save(arrays, {"minunet": json.dumps(meta)}))


def description(model: Module) -> dict[str, Any]:
    """The entries of the metadata that describe a network: "arch", "options" and "data"."""
    architecture, preprocessing = model.architecture, model.preprocessing
    return {"arch": architecture.name, "options": architecture.to_json(), "data": preprocessing.to_json()}


NUMPY_KINDS = ("F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "BOOL")


def read_safetensors(path: Path | str) -> tuple[Any, dict[str, np.ndarray]]:
    """The metadata's entry "minunet" (None if there is none) and all arrays; UserError if the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as f:
            meta = (f.metadata() or {}).get("minunet")
            kinds = {name: f.get_slice(name).get_dtype() for name in f.keys()}  # noqa: SIM118
            unknown = [name for name, kind in kinds.items() if kind not in NUMPY_KINDS and kind != "BF16"]
            if unknown:
                raise UserError(
                    f"{path}: {unknown[0]} is of type {kinds[unknown[0]]}, which is not read; save it as float32"
                )
            plain = {name: f.get_tensor(name) for name, kind in kinds.items() if kind != "BF16"}
        return meta, plain | _bfloat16(path, [name for name, kind in kinds.items() if kind == "BF16"])
    except (SafetensorError, OSError, ValueError, TypeError) as e:
        raise UserError(f"{path} is not a readable checkpoint: {e}. Was it cut short? Use another copy of it") from e


def _bfloat16(path: Path | str, names: list[str]) -> dict[str, np.ndarray]:
    """Arrays of bfloat16, the upper half of a float32, as float32; NumPy has no such type. The file's header is sound."""
    found: dict[str, np.ndarray] = {}
    if not names:
        return found
    with open(path, "rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(size))
        for name in names:
            start, end = header[name]["data_offsets"]
            f.seek(8 + size + start)
            halves = np.frombuffer(f.read(end - start), "<u2").astype(np.uint32)
            found[name] = (halves << 16).view(np.float32).reshape(header[name]["shape"])
    return found
