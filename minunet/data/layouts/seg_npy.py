"""Cellpose's _seg.npy: a dictionary that NumPy pickled. It is read without running it.

A pickle may call any function. Here the few names that arrays need stand for functions of this file, and any other is refused.
"""

from __future__ import annotations

import io
import pickle
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...errors import UserError

SIGNATURE = b"\x93NUMPY"
MOST = 1 << 31  # bytes


class _Type:
    """numpy.dtype as a pickle describes it: a text such as "u2", and the byte order of its state."""

    def __init__(self, text: Any = "O", *_: Any) -> None:
        self.text = str(text)
        self.order: Literal["<", ">", "|", "="] = "|"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    @property
    def dtype(self) -> np.dtype | None:
        """The type of numbers; None for anything else."""
        found = None if "O" in self.text or "V" in self.text else np.dtype(self.text)
        return found.newbyteorder(self.order) if found is not None and found.kind in "biufSU" else None


class _Array:
    """numpy.ndarray as a pickle describes it: shape, type, order and bytes, or a list of objects."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray | None:
        """The numbers; None if it is an array of objects or does not hold what it claims."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            return None
        _, shape, kind, by_columns, data = self.state
        if (
            not isinstance(kind, _Type)
            or kind.dtype is None
            or not isinstance(data, bytes)
            or not isinstance(shape, tuple)
        ):
            return None
        if not all(isinstance(n, int) and n >= 0 for n in shape) or prod(shape) * kind.dtype.itemsize != len(data):
            return None
        return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if by_columns else "C")


def _scalar(kind: Any = None, data: Any = b"") -> Any:
    """numpy.core.multiarray.scalar."""
    return data


def _encode(text: Any = "", *_: Any) -> bytes:
    """_codecs.encode, with which old protocols store bytes."""
    return text.encode("latin1") if isinstance(text, str) else b""


NAMES: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
}
for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    NAMES |= {(module, "_reconstruct"): _Array, (module, "scalar"): _scalar}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """One of this file's functions; an error for any other name."""
        if (module, name) in NAMES:
            return NAMES[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which was not run")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to other files")


def read_seg(path: Path) -> np.ndarray:
    """The object numbers (H, W) or (slices, H, W) in a _seg.npy.

    Raises
    ------
    UserError
        If it is damaged, is no file of Cellpose, or would run code.
    """
    try:
        if path.stat().st_size > MOST:
            raise ValueError("it is too large")
        content = _load(path.read_bytes())
        masks = content.get("masks") if isinstance(content, dict) else None
        found = masks.array() if isinstance(masks, _Array) else None
    except Exception as e:  # on mangled bytes nearly anything
        raise UserError(
            f"{path}: cannot be read as Cellpose's ({' '.join(str(e).split())[:100]}); save it again"
        ) from None
    if found is None or found.ndim not in (2, 3) or found.dtype.kind not in "biu" or not found.size:
        raise UserError(f"{path}: holds no array of masks, as Cellpose's _seg.npy has; save it again")
    return found


def _load(data: bytes) -> Any:
    """The object in a .npy file."""
    if not data.startswith(SIGNATURE):
        raise ValueError("no file of NumPy")
    size, start = (2, 10) if data[6] == 1 else (4, 12)
    start += int.from_bytes(data[8 : 8 + size], "little")
    outer = _Reader(io.BytesIO(data[start:])).load()  # an array without dimensions, of one object
    if (
        isinstance(outer, _Array)
        and isinstance(outer.state, tuple)
        and isinstance(outer.state[-1], list)
        and outer.state[-1]
    ):
        return outer.state[-1][0]
    return outer
