"""Kernels for NVIDIA GPUs, hand-written in CUDA C++, tested on the CPU.

*.cu            the kernels; each opens with its algorithm in plain loops, and its shapes
prim.cuh        the PTX instructions that they use, and the storage types; tiles.cuh: matrix products in shared memory
start.py        how a kernel is started, the same for CuPy arrays and (emulated) for NumPy arrays
launch.py       one function a kernel; launch_norm.py: those of norm.cu
twins.py        the ops' twins, made of these; rules.py says for which arguments
graph.py        a training step recorded as a CUDA graph, and replayed
build.py        from source to cubin with NVRTC, and the cache
emulator/       CUDA's execution model on the CPU, which the tests run all kernels in
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

from ..deferred import Pair

LEAST_CAPABILITY = 80
"""The kernels need tensor cores and asynchronous copies: compute capability 8.0, Ampere."""


def on_gpu(x: Any) -> bool:
    """Whether x is a CuPy array, or an unfinished map made of such, or a tuple or list with one in it."""
    if isinstance(x, (tuple, list)):
        return any(on_gpu(a) for a in x)
    if isinstance(x, Pair):
        return on_gpu(x.a)
    fused = sys.modules.get(f"{__name__}.fused")
    if fused is not None and isinstance(x, fused.OnGpu):
        return on_gpu(x.like)
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def usable() -> bool:
    """Whether CuPy's GPU runs the kernels: it needs NVRTC, and `LEAST_CAPABILITY`."""
    return "cupy" in sys.modules and _usable(sys.modules["cupy"])


@functools.cache
def _usable(cupy: Any) -> bool:
    if not hasattr(cupy, "RawModule") or importlib.import_module(".build", __name__).nvrtc_missing():
        return False
    return int(cupy.cuda.Device().compute_capability) >= LEAST_CAPABILITY


def choose(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The twin on the GPU of the op ``name`` for these arguments (CuPy arrays), or None for its plain body."""
    fits = importlib.import_module(".rules", __name__).CUDA_KERNELS.get(name)
    if fits is None or not fits(*args, **options):
        return None
    return getattr(importlib.import_module(".twins", __name__), name)  # type: ignore[no-any-return]
