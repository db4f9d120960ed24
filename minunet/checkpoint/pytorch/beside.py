"""What training scripts save beside tensors: numbers of NumPy, options of argparse, paths, dates. Nothing of it is needed.

Such an object becomes a `Beside`, which holds nothing: what a pickle fills it with is thrown away. Only single numbers of NumPy
are read, as Python's, since mask values may be such. As in pickles.py the names only stand for what is here: nothing of theirs
is imported, made or called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Kind:
    """A type, or a function that makes an object, by its name; to call it gives a `Beside`."""

    name: str


@dataclass(frozen=True)
class Beside:
    """An object that is not looked at, and the name of its kind."""

    name: str


@dataclass
class NumberType:
    """A type of numbers of NumPy: "f8", and how their bytes are ordered."""

    code: str
    order: str = "<"

    def build(self, state: Any) -> None:
        """Take the order of bytes from what NumPy saves of a dtype."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|"):
            self.order = state[1]


def numpy_dtype(code: Any = None, *_: Any) -> NumberType | Beside:
    """numpy.dtype(code, align, copy)."""
    plain = isinstance(code, str) and re.fullmatch("b1|[iu][1248]|f[248]", code)
    return NumberType(code) if plain else Beside("numpy.dtype")


def numpy_scalar(dtype: Any = None, data: Any = None, *_: Any) -> Any:
    """numpy.core.multiarray.scalar(dtype, bytes): the number."""
    if isinstance(dtype, NumberType) and isinstance(data, bytes) and len(data) == int(dtype.code[1]):
        return np.frombuffer(data, dtype.order + dtype.code)[0].item()
    return Beside("numpy.generic")


def encode(text: Any = None, encoding: Any = None, *_: Any) -> bytes | Beside:
    """_codecs.encode(text, "latin1"), by which protocol 2 writes bytes."""
    if isinstance(text, str) and encoding == "latin1" and all(ord(c) < 256 for c in text):
        return text.encode("latin1")
    return Beside("bytes")


CALLABLE = (numpy_dtype, numpy_scalar, encode)
_KINDS = {
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
    "datetime": "datetime date time timedelta",
    "collections": "defaultdict Counter deque",
    "builtins": "set frozenset slice range complex bytes bytearray bool int float str list tuple dict",
    "numpy": "ndarray bool_ int32 int64 float32 float64",
    "numpy.core.multiarray": "_reconstruct",
    "torch": "device float16 bfloat16 float32 float64 half float double int8 int16 int32 int64 uint8 bool",
    "lightning_fabric.utilities.data": "AttributeDict",
    "lightning.fabric.utilities.data": "AttributeDict",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
}
_KINDS |= {"__builtin__": _KINDS["builtins"], "numpy._core.multiarray": _KINDS["numpy.core.multiarray"]}
NAMES: dict[tuple[str, str], Any] = {
    **{(module, name): Kind(f"{module}.{name}") for module, names in _KINDS.items() for name in names.split()},
    **{(f"numpy.{core}.multiarray", "scalar"): numpy_scalar for core in ("core", "_core")},
    ("numpy", "dtype"): numpy_dtype,
    ("_codecs", "encode"): encode,
}
