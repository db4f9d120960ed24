"""Running the CUDA kernels on the CPU, to test them where there is no GPU.

emulator.h      CUDA's execution model for g++; its head says how, what it finds and what it cannot find
products.h      tensor cores and 16-bit numbers
primitives.h    what stands in for prim.cuh

A .cu file is compiled through them, once, into the cache folder, and its kernels are started on NumPy arrays through ctypes::

    kernel = function("loss.cu", "cross_entropy_sum", ())
    with conditions(schedule="down", eager=True):
        kernel((1,), (256,), (partial, result, np.int32(len(partial))), shared=256 * 8)

A kernel that is right gives the same answer under all `SCHEDULES`, with copies as early and as late as allowed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import build

SCHEDULES = ("up", "down", "shuffled", "warps up", "warps down")
"""Orders in which a block's threads run: by number, shuffled at every barrier, or warp by warp, each as far as it gets."""

SCALARS: dict[str, tuple[Any, Any]] = {
    "int": (np.int32, ctypes.c_int),
    "long long": (np.int64, ctypes.c_longlong),
    "float": (np.float32, ctypes.c_float),
}
FLAGS = ("-std=c++17", "-O2", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", "-w", "-shared", "-fPIC", "-DEMULATOR")

_lock = threading.Lock()  # an emulated GPU runs one kernel at a time
_schedule, _eager, _exact, _counting = 0, False, False, False


class Counts(NamedTuple):
    """What a start of a kernel has done: bytes that asynchronous copies fetched; products of tensor cores; bytes that they were
    given from shared memory, and in how many turns of its banks (128 bytes each, if none must wait for another); barriers."""

    copied: int
    multiplied: int
    read: int
    turns: int
    barriers: int


class EmulatorError(RuntimeError):
    """A kernel did something that would crash on a GPU, or is undefined there; the message says which thread did what."""


def missing() -> str | None:
    """Why kernels cannot be emulated here, or None if they can."""
    if compiler() is None:
        return "the CUDA emulator needs a C++ compiler: install g++, or name one in CXX"
    return None


def compiler() -> str | None:
    """The C++ compiler: that of CXX, or g++."""
    return shutil.which(os.environ.get("CXX", "g++"))


@contextlib.contextmanager
def conditions(
    schedule: str = "up", eager: bool = False, exact: bool = False, counting: bool = False
) -> Iterator[None]:
    """A ``with`` block in which kernels run under other conditions.

    Parameters
    ----------
    schedule : one of `SCHEDULES`
    eager : bool
        Whether asynchronous copies are done at once, or at the last moment that is allowed; wgmma does it the other way round.
    exact : bool
        Whether to leave out the rounding of float32 factors to TF32, so that a test can be strict.
    counting : bool
        Whether `counts` counts words that are read from shared memory one by one, too.
    """
    global _schedule, _eager, _exact, _counting
    before = _schedule, _eager, _exact, _counting
    _schedule, _eager, _exact, _counting = SCHEDULES.index(schedule), eager, exact, counting
    try:
        yield
    finally:
        _schedule, _eager, _exact, _counting = before


def function(file: str, name: str, defines: tuple[str, ...]) -> Callable[..., None]:
    """A kernel of a .cu file, compiled with some macros: a function of (grid, block, arguments, bytes of shared memory)."""
    parameters = build.signatures(file)[name]
    defines = (*defines, *["EXACT"] * _exact)
    start = getattr(
        _library(file, defines, build.sources_hash(file, *defines, *FLAGS, compiler() or "")), f"launch_{name}"
    )
    start.restype = ctypes.c_char_p
    types = [SCALARS[kind][1] if kind in SCALARS else ctypes.c_void_p for kind, _ in parameters]
    start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, *types]

    def call(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple, shared: int = 0) -> None:
        if len(arguments) != len(parameters):
            raise TypeError(f"{name} takes {len(parameters)} arguments, not {len(arguments)}")
        values = [_value(name, a, *p) for a, p in zip(arguments, parameters)]
        sizes = [(ctypes.c_uint * 3)(*size, *[1] * (3 - len(size))) for size in (grid, block)]
        with _lock:
            error = start(*sizes, shared, _schedule, _eager + 2 * _counting, *values)
        if error:
            raise EmulatorError(f"{file}, {name}, {error.decode()}")

    return call


def counts(file: str, defines: tuple[str, ...]) -> Counts:
    """Of the last start of a kernel of a .cu file."""
    defines = (*defines, *["EXACT"] * _exact)
    library = _library(file, defines, build.sources_hash(file, *defines, *FLAGS, compiler() or ""))
    found = (ctypes.c_longlong * len(Counts._fields))()
    library.counts(found)
    return Counts(*found)


def _value(name: str, argument: Any, kind: str, parameter: str) -> Any:
    """An argument for ctypes; TypeError unless it has exactly the kernel's type, since CuPy would pass a wrong one on."""
    if kind.endswith("*"):
        if argument is None:
            return None
        if not isinstance(argument, np.ndarray):
            raise TypeError(f"{name}: {parameter} must be an array or None, not {type(argument).__name__}")
        return argument.ctypes.data
    if kind == "Table":
        if type(argument) is not np.ndarray or argument.shape:
            raise TypeError(f"{name}: {parameter} must be a table")
        return argument.ctypes.data
    if type(argument) is not SCALARS[kind][0]:
        raise TypeError(f"{name}: {parameter} must be {SCALARS[kind][0].__name__}, not {type(argument).__name__}")
    return argument.item()


@functools.cache
def _library(file: str, defines: tuple[str, ...], key: str) -> ctypes.CDLL:
    """Compile a .cu file through emulator.h, unless the cache has it, and load it."""
    library = build.cache_folder() / f"{Path(file).stem}-{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            source, product = Path(folder, "source.cpp"), Path(folder, "library.so")
            source.write_text(_wrapped(file))
            command = [compiler() or "g++", *FLAGS, f"-I{build.FOLDER}", *(f"-D{d}" for d in defines)]
            done = subprocess.run([*command, "-o", product, source], capture_output=True, text=True)
            if done.returncode:
                raise EmulatorError(f"{file} does not compile:\n{done.stderr[:3000]}")
            os.replace(product, library)  # whole or not at all, also if two processes compile it
    return ctypes.CDLL(str(library))


def _wrapped(file: str) -> str:
    """The file, and for each of its kernels a function that launches it in the emulator."""
    lines = [f'#include "{build.FOLDER / file}"']
    for name, parameters in build.signatures(file).items():
        declared = ", ".join(f"{re.sub('[*]$|(?<=Table)$', ' *', kind)} {p}" for kind, p in parameters)
        names = ", ".join("*" * (kind == "Table") + p for kind, p in parameters)
        lines.append(
            f'extern "C" const char* launch_{name}(const unsigned* grid, const unsigned* block, size_t bytes_, int order_, '
            f"int early_, {declared}) {{ return emulator::launch(grid, block, bytes_, order_, early_, "
            f"[=] {{ {name}({names}); }}); }}"
        )
    lines.append('extern "C" void counts(long long* to) { memcpy(to, &emulator::counts, sizeof emulator::counts); }')
    return "\n".join(lines) + "\n"
