"""Kernels for NVIDIA GPUs, hand-written in CUDA C++, tested on the CPU.

*.cu            the kernels; each opens with its algorithm in plain loops, and its shapes
prim.cuh        the PTX instructions that they use, and the storage types; tiles.cuh: matrix products in shared memory
start.py        how a kernel is started, the same for CuPy arrays and (emulated) for NumPy arrays
launch.py       one function a kernel; launch_norm.py: those of norm.cu
ops.py          the ops' kernels, made of these; rules.py says for which arguments
lazy_maps.py    the lazy feature maps that they return inside a network
build.py        from source to cubin with NVRTC, and the cache
emulator/       CUDA's execution model on the CPU, which the tests run all kernels in
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

from ...ops.lazy import LazyConcat, LazyMap

LEAST_CAPABILITY = 80
"""The kernels need tensor cores and asynchronous copies: compute capability 8.0, Ampere."""


def on_gpu(x: Any) -> bool:
    """Whether x is a CuPy array, or a lazy map made of such, or a tuple or list with one in it."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and _made_of(x, cupy.ndarray)


def _made_of(x: Any, ndarray: type) -> bool:
    if isinstance(x, ndarray):
        return True
    if isinstance(x, (tuple, list)):
        return any(_made_of(a, ndarray) for a in x)
    if isinstance(x, LazyConcat):
        return _made_of(x.a, ndarray)
    return isinstance(x, LazyMap) and isinstance(vars(x).get("like"), ndarray)  # as those of lazy_maps.py have it


def owns(args: tuple[Any, ...]) -> bool:
    """Whether an op has an array on the GPU among its arguments."""
    return "cupy" in sys.modules and on_gpu(args)


def find_kernel(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The kernel for the op ``name`` on these arguments (CuPy arrays), or None for its plain body."""
    return kernel_for(name, *args, **options) if compiles() else None


def kernel_for(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The same, whether or not there is a GPU that runs it."""
    rules, ops = _rules_and_ops()
    fits = rules.get(name)
    return getattr(ops, name) if fits is not None and fits(*args, **options) else None


@functools.cache
def _rules_and_ops() -> tuple[dict[str, Callable[..., bool]], Any]:
    """Imported at their first use."""
    return importlib.import_module(".rules", __name__).CUDA_KERNELS, importlib.import_module(".ops", __name__)


def compiles() -> bool:
    """Whether CuPy's GPU runs the kernels: it needs NVRTC, and `LEAST_CAPABILITY`."""
    return "cupy" in sys.modules and _compiles(sys.modules["cupy"])


@functools.cache
def _compiles(cupy: Any) -> bool:
    if not hasattr(cupy, "RawModule") or importlib.import_module(".build", __name__).nvrtc_missing():
        return False
    return int(cupy.cuda.Device().compute_capability) >= LEAST_CAPABILITY
