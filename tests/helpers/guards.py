"""Guard zones around every array that a kernel gets, so that what it reads or writes outside of them shows.

    with guards.around_kernels():
        ...

Inside, every compiled CPU kernel, and every CUDA kernel in the emulator, works on copies of its arrays (inputs, outputs and
memory to work in, also those in tuples), which lie between zones of NaN (of bytes 255 for integers). After each call the zones
must be as they were, which is where writes show; a number that was read there makes the result NaN. A zone begins right behind
an array's last byte, so that a vector too many shows, too. For a map of the CUDA kernels the channels between its pixels, which
belong to another map, are a zone as well.

`pytest --guards` runs whole tests so, and with numba's check of indices in those kernels that index arrays: they are compiled
for one thread, since an error cannot leave a parallel loop, into a cache of their own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minunet.kernels.cuda import emulator

LEAST, MOST, LINE = 1 << 12, 1 << 20, 64
"""Bytes: a zone is as large as its array, within these limits; arrays begin on a cache line."""

SIGNALLING = {"float16": (0xFDFF, "u2"), "float32": (0xFFBFFFFF, "u4"), "float64": (0xFFF7FFFFFFFFFFFF, "u8")}
"""What zones are filled with: NaNs that become other NaNs in any arithmetic, so that even an added 0 shows."""

MODULES = (
    "activation",
    "combine",
    "concat",
    "depthwise",
    "direct",
    "direct_weights",
    "epilogues",
    "loss",
    "norm",
    "pool",
    "optim",
    "pointwise",
    "resample",
    "winograd",
)


class OutsideError(AssertionError):
    """A kernel wrote outside of its arrays."""


class Region:
    """Memory for a copy of an array between two zones, with the array's own strides."""

    def __init__(self, like: np.ndarray) -> None:
        self.low, high = np.lib.array_utils.byte_bounds(like)
        room = min(max(high - self.low, LEAST), MOST) // LINE * LINE
        pattern, kind = SIGNALLING.get(like.dtype.name, (255, "u1"))
        size = -(-(high - self.low) // 8) * 8 + 2 * room + LINE
        self.memory = np.full(size // np.dtype(kind).itemsize, pattern, kind).view(np.uint8)
        self.start = room + -(self.memory.ctypes.data + room) % LINE
        self.kept = self.memory.copy()
        self.arrays: list[tuple[np.ndarray, np.ndarray]] = []

    def copy_of(self, a: np.ndarray) -> np.ndarray:
        """A copy of an array that lies in this region's original."""
        view = self._lying_in(self.memory, a, a.dtype)
        view[...] = a
        self.arrays.append((a, view))
        return view

    def _lying_in(self, memory: np.ndarray, a: np.ndarray, dtype: Any) -> np.ndarray:
        return np.ndarray(a.shape, dtype, memory[self.start + a.ctypes.data - self.low :], strides=a.strides)

    def check(self, kernel: str) -> None:
        """Give the results back; OutsideError if any other byte has changed."""
        for a, view in self.arrays:
            raw = f"V{a.itemsize}"
            self._lying_in(self.kept, a, raw)[...] = view.view(raw)
            if a.tobytes() != view.tobytes():
                a[...] = view
        changed = np.flatnonzero(self.memory != self.kept)
        if changed.size:
            shape = self.arrays[0][0].shape
            where = f"from byte {changed[0] - self.start} on, outside of an array of shape {shape}"
            raise OutsideError(f"{kernel} wrote {changed.size} bytes {where}")


def run(kernel: str, start: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call start(*arguments) on guarded copies of all arrays among the arguments."""
    regions: dict[tuple[int, int], Region] = {}

    def guarded(a: Any) -> Any:
        if isinstance(a, tuple):
            parts = [guarded(part) for part in a]
            return type(a)(*parts) if hasattr(a, "_fields") else tuple(parts)
        if not isinstance(a, np.ndarray) or not a.size:
            return a
        key = np.lib.array_utils.byte_bounds(a)
        if key not in regions:  # the same array twice is one
            regions[key] = Region(a)
        return regions[key].copy_of(a)

    result = start(*guarded(arguments))
    for region in regions.values():
        region.check(kernel)
    return result


@contextlib.contextmanager
def around_kernels() -> Iterator[None]:
    """A ``with`` block in which the arrays of all kernels, on the CPU and in the emulator, have guard zones."""
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        yield


def install(patch: pytest.MonkeyPatch) -> None:
    """The same, until the patch is undone."""
    for name in MODULES:
        module = importlib.import_module(f"minunet.kernels.cpu.{name}")
        for attribute, value in list(vars(module).items()):
            if _is_kernel(value):
                patch.setattr(module, attribute, _around(value))

    def function(file: str, name: str, defines: tuple[str, ...], real: Any = emulator.function) -> Any:
        start = real(file, name, defines)

        def call(grid: Any, block: Any, arguments: tuple, shared: int = 0) -> None:
            run(f"{file}, {name}", lambda *guarded: start(grid, block, guarded, shared), arguments)

        return call

    patch.setattr(emulator, "function", function)


def _is_kernel(value: Any) -> bool:
    """Whether this is what `kernels.cpu.launch.kernel` returns."""
    code = getattr(value, "__code__", None)
    return hasattr(value, "__wrapped__") and code is not None and Path(code.co_filename).name == "launch.py"


def _around(kernel: Any) -> Callable[..., None]:
    @functools.wraps(kernel)
    def call(*arguments: Any) -> None:
        run(f"{kernel.__module__}.{kernel.__name__}", kernel, arguments)

    return call


# ---- pytest --guards -------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--guards", action="store_true", help="kernels with guard zones and checked indices: helpers/guards.py"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.guards:
        check_indices()
        install(pytest.MonkeyPatch())


def check_indices() -> None:
    """Compile all kernels with checked indices, for one thread; before they are imported."""
    import numba

    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache" / "minunet") / "checked"
    numba.config.CACHE_DIR, numba.config.BOUNDSCHECK = str(folder), 1
    njit = numba.njit
    numba.njit = lambda *args, parallel=False, **options: njit(*args, **options)
