"""From a .cu file to machine code: signatures, the cache on disk, and NVRTC, which needs no GPU.

A kernel's file is compiled once for each set of macros (`defines`) and each architecture. CuPy's own compiler asks a device for
the architecture and has no name for sm_90a, so the code is compiled here and loaded as a cubin. For a GPU that is newer than
NVRTC it is compiled to PTX, which the driver translates.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import write_atomically
from ...errors import extra

FOLDER = Path(__file__).parent
"""Where the .cu files lie; tests that plant bugs point it at copies."""

ARCHITECTURES = ("sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120a")
"""The architectures that the tests compile for, if the installed NVRTC knows them."""

_SIGNATURE = re.compile(r'extern "C" __global__ void __launch_bounds__\([^)]*\)\s*(\w+)\(([^)]*)\)', re.S)


@dataclass
class Usage:
    """What the assembler reports on one kernel: registers of a thread, bytes of stack frame and of spills, and, if it made
    wgmma instructions wait for each other, why."""

    name: str
    registers: int
    stack: int
    spills: int
    serialized: str = ""


def kernel_files() -> list[str]:
    """The names of all .cu files."""
    return sorted(p.name for p in FOLDER.glob("*.cu"))


@functools.cache
def signatures(file: str) -> dict[str, list[tuple[str, str]]]:
    """For each kernel of a file its parameters, as (type, name); a pointer's type ends in "*"."""
    kernels = {}
    for name, text in _SIGNATURE.findall((FOLDER / file).read_text()):
        words = [p.replace("__restrict__", " ").replace("*", "* ").split() for p in text.split(",")]
        kernels[name] = [(" ".join(w[:-1]).replace(" *", "*"), w[-1]) for w in words]
    return kernels


@functools.cache
def scalar_types(file: str) -> dict[str, list[type | None]]:
    """For each kernel of a file the NumPy types of its arguments, None for arrays and tables; CuPy passes floats as double."""
    types: dict[str, type | None] = {"int": np.int32, "long long": np.int64, "float": np.float32, "Table": None}
    return {
        name: [None if kind.endswith("*") else types[kind] for kind, _ in parameters]
        for name, parameters in signatures(file).items()
    }


def variants(file: str, arch: str) -> list[tuple[str, ...]]:
    """All sets of macros with which launch.py compiles a file for an architecture."""
    stored = [(), ("F16",), ("BF16",)]
    products, small = [(), ("WIDE",), ("FLAT",)], arch in ("sm_89", "sm_120a")  # with 100 KB of shared memory
    patches = [(), *[("WIDE",)] * (not small), *[("WARPGROUPS",), ("WIDE", "WARPGROUPS")] * (arch == "sm_90a")]
    convs = [("TWO_STAGES",), ("FLAT", "TWO_STAGES")] if small else [*patches, ("FLAT",)]
    more = {file: [*m, *(("GRADIENT", *x) for x in m)] for file, m in (("conv.cu", convs), ("conv_patch.cu", patches))}
    more["conv_weights.cu"] = products
    more["conv_patch_weights.cu"] = [(), *[("WARPGROUPS",)] * (arch == "sm_90a")]
    if file in ("loss.cu", "norm_merge.cu", "optim.cu"):
        return [()]
    return [(*s, *m) for s in stored for m in more.get(file, [()])]


@functools.cache
def sources_hash(file: str, *more: str) -> str:
    """A name for what a file compiles to: a hash of it, of all headers and of `more`."""
    headers = sorted(FOLDER.glob("*.cuh")) + sorted((FOLDER / "emulator").glob("*.h"))
    parts = [p.read_bytes() for p in [FOLDER / file, *headers]] + [m.encode() for m in more]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


@contextlib.contextmanager
def sources(files: Mapping[str, str]) -> Iterator[None]:
    """A ``with`` block in which these texts replace the .cu files of the same names, or are added: {"NAME.cu": text}.

    Use it for a kernel outside of the package or, in the emulator, for one with a planted mistake. (On a GPU a kernel that has
    run is not loaded again.)
    """
    global FOLDER
    home = FOLDER
    with tempfile.TemporaryDirectory() as folder:
        FOLDER = Path(folder, "cuda")
        shutil.copytree(home, FOLDER, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        for name, text in files.items():
            (FOLDER / name).write_text(text)
        for known in (signatures, scalar_types, sources_hash):
            known.cache_clear()
        try:
            yield
        finally:
            FOLDER = home
            for known in (signatures, scalar_types, sources_hash):
                known.cache_clear()


def cache_folder() -> Path:
    """Where compiled kernels are kept: MINUNET_CACHE, or the user's cache folder."""
    if "MINUNET_CACHE" in os.environ:
        folder = Path(os.environ["MINUNET_CACHE"])
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", Path.home())) / "minunet"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "minunet"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def nvrtc_missing() -> str | None:
    """Why nothing can be compiled for a GPU, or None if it can."""
    try:
        _nvrtc().getVersion()
    except Exception as e:  # ImportError, or CuPy's own error if the library does not load
        reason = " ".join(str(e).split())[:160]
        what = f"the run-time compiler NVRTC is missing or does not load ({reason})"
        return f"{what}: {extra('cuda13')} (or [cuda12]) brings it"
    return None


def _nvrtc() -> Any:
    return importlib.import_module("cupy_backends.cuda.libs.nvrtc")


@functools.cache
def known_architectures() -> tuple[str, ...]:
    """Those of `ARCHITECTURES` that the installed NVRTC compiles for."""
    known = {f"sm_{n}" for n in _nvrtc().getSupportedArchs()}
    return tuple(a for a in ARCHITECTURES if a.rstrip("a") in known)


def architecture(capability: int) -> str:
    """The architecture for a GPU of a compute capability such as 90: "sm_90a", with the instructions that only this one has.

    If NVRTC does not know the GPU: the newest architecture that it knows, such as "compute_90", as PTX for the driver.
    """
    known = [int(n) for n in _nvrtc().getSupportedArchs()]
    if capability in known:
        return f"sm_{capability}" + "a" * (capability >= 90)
    return f"compute_{max((n for n in known if n < capability), default=capability)}"


def compile_cubin(file: str, defines: tuple[str, ...], arch: str) -> tuple[bytes, list[Usage]]:
    """Compile a .cu file for an architecture such as "sm_90a", or to PTX for one such as "compute_90".

    Returns
    -------
    cubin : bytes
        Or the PTX.
    usage : list of Usage, one for each kernel
        Empty for PTX.

    Raises
    ------
    RuntimeError
        With the compiler's log, if the source does not compile.
    """
    nvrtc = _nvrtc()
    program = nvrtc.createProgram((FOLDER / file).read_text(), file, [], [])
    options = [f"-arch={arch}", "-std=c++17", f"-I{FOLDER}", *(f"-D{d}" for d in defines)]
    is_ptx = arch.startswith("compute")
    try:
        with ThreadPoolExecutor(1) as own:  # NVRTC 12.0 leaves the thread that it ran in with ASCII as its encoding
            own.submit(nvrtc.compileProgram, program, options if is_ptx else [*options, "--ptxas-options=-v"]).result()
        if is_ptx:
            ptx = nvrtc.getPTX(program)
            return ptx if isinstance(ptx, bytes) else ptx.encode(), []
        return nvrtc.getCUBIN(program) + b"\0", _usage(nvrtc.getProgramLog(program))  # the binding drops the last byte
    except nvrtc.NVRTCError as e:
        raise RuntimeError(f"{' '.join((file, *defines))} for {arch}:\n{nvrtc.getProgramLog(program)}") from e
    finally:
        nvrtc.destroyProgram(program)


def _usage(log: str) -> list[Usage]:
    pattern = (
        r"'(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers"
    )
    kernels = re.findall("Compiling entry function " + pattern, log, re.S)
    waits = {
        name: line for line in log.splitlines() if "wgmma" in line for name in re.findall(r"function '(\w+)'", line)
    }
    return [
        Usage(name, int(regs), int(stack), int(stores) + int(loads), waits.get(name, ""))
        for name, stack, stores, loads, regs in kernels
    ]


def cached_cubin(file: str, defines: tuple[str, ...], capability: int) -> Path:
    """The path of a file's cubin (or PTX) for a GPU of a compute capability such as 90, compiled into the cache if need be."""
    arch = architecture(capability)
    version = ".".join(map(str, _nvrtc().getVersion()))
    path = cache_folder() / f"{Path(file).stem}-{sources_hash(file, *defines, arch, version)}.cubin"
    if not path.exists():
        cubin, _ = compile_cubin(file, defines, arch)
        write_atomically(path, cubin)
    return path
