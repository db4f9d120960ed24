"""Kernels for NVIDIA GPUs, hand-written in CUDA C++, tested on the CPU.

rules.py        which kernel runs for which op and arguments
ops.py          the kernel of each op, as a function with the op's signature; uses launch.py; ops_loss.py: of losses
launch.py       one function for each CUDA kernel; launch_conv.py: for convolutions; launch_norm.py: for those of norm*.cu;
                launch_many.py: on many arrays at once
*.cu            the CUDA kernels; the head of each states its algorithm in plain loops, and its shapes
prim.cuh        the PTX instructions that they use, and the storage types; tiles.cuh: matrix products in shared memory;
                epilogue.cuh: what follows a convolution's sums; tables.cuh: many arrays in one start;
                sums.cuh: sums over a block, and over all; pixel_loss.cuh: the losses of a pixel
start.py        starting a kernel, on CuPy arrays (the GPU) or on NumPy arrays (the emulator)
lazy_maps.py    the lazy feature maps that these kernels return inside a network; lazy_losses.py: its last one, and losses
build.py        from source to machine code (cubin) with NVRTC, and the cache
emulator/       CUDA's execution model on the CPU; the tests run all kernels in it
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

from ...ops.lazy import LazyConcat, LazyMap
from ..shapes import takes

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
    return isinstance(x, LazyMap) and isinstance(vars(x).get("like"), ndarray)  # maps of lazy_maps.py have `like`


def owns(args: tuple[Any, ...]) -> bool:
    """Whether an op has an array on the GPU among its arguments."""
    return "cupy" in sys.modules and on_gpu(args)


def find_kernel(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The kernel for the op ``name`` on these arguments (CuPy arrays), or None for its plain body."""
    return kernel_for(name, *args, **options) if compiles() else None


def kernel_for(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The same, even if there is no GPU to run it on."""
    rules, ops = _rules_and_ops()
    fits = rules.get(name)
    return getattr(ops, name) if fits is not None and takes(name, fits, args, options) else None


@functools.cache
def _rules_and_ops() -> tuple[dict[str, Callable[..., bool]], Any]:
    """Imported at their first use."""
    return importlib.import_module(".rules", __name__).CUDA_KERNELS, importlib.import_module(".ops", __name__)


def compiles() -> bool:
    """Whether the kernels can run on CuPy's current GPU, see `hindrance`."""
    cupy = sys.modules.get("cupy")
    return cupy is not None and hindrance(cupy, cupy.cuda.runtime.getDevice()) is None


@functools.cache
def hindrance(cupy: Any, device: int) -> str | None:
    """Why the kernels cannot run on a GPU, given CuPy and the GPU's number; None if they can.

    It must have `LEAST_CAPABILITY`, and the kernel that every network needs must compile for it, and load. That is tried once
    for each GPU, and compiled once for each user, as the result is kept on disk. A warning says what nobody would expect.
    """
    capability = int(cupy.cuda.Device(device).compute_capability)
    if capability < LEAST_CAPABILITY:
        return f"compute capability {capability / 10}; minunet's kernels need {LEAST_CAPABILITY / 10}"
    try:
        start, launch_conv = (importlib.import_module(f".{name}", __name__) for name in ("start", "launch_conv"))
        start.load("conv_patch.cu", "conv_patch", (), launch_conv.PATCH_SHARED[launch_conv.BN, False], device)
    except (
        RuntimeError,
        OSError,
        ImportError,
    ) as e:  # the compiler's log, CuPy's errors, a cache that cannot be written
        reason = f"minunet's kernels do not run: {' '.join(str(e).split())[:300]}"
        warnings.warn(f"{reason}; on this GPU the slower plain ops run in their place", stacklevel=2)
        return reason
    return None
