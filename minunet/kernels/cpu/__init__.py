"""Kernels for NumPy arrays, compiled by numba on this machine for this machine.

conv.py            convolutions: which algorithm for which shape
direct.py          sums of shifted products; direct_weights.py: their gradient by the filters
winograd.py        fewer multiplications for 3x3; winograd_transforms.py
norm.py, pointwise.py, activation.py, resample.py, loss.py, optim.py: the other ops
lazy_maps.py       the lazy feature maps that these kernels return inside a network
epilogues.py       how kernels read lazy maps and write results
simd.py            explicit vector instructions (AVX2, AVX-512, Neon); simd_gemm.py: small matrix products; simd_transform.py
rules.py           which kernel stands in for which op, and for which arguments
launch.py          compiling and starting; memory.py: arrays from recycled memory; warm_up.py: compiling ahead
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from .rules import CPU_KERNELS


def owns(args: tuple[Any, ...]) -> bool:
    """Whether an op's arguments are the CPU's: all that no other backend owns."""
    return True


def find_kernel(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The kernel for the op ``name`` on these arguments, or None for its plain body."""
    if name not in CPU_KERNELS:
        return None
    if not CPU_KERNELS[name].fits(*args, **options) or not compiles() or not load("launch").usable:
        return None
    return kernel_of(name)


def kernel_of(name: str) -> Callable[..., Any]:
    """The kernel for an op, whatever its arguments."""
    return getattr(load(CPU_KERNELS[name].module), name)  # type: ignore[no-any-return]


@functools.cache
def compiles() -> bool:
    """False if NUMBA_DISABLE_JIT is set: explicit vectors cannot be interpreted, so the plain ops do all the work."""
    return not importlib.import_module("numba").config.DISABLE_JIT


@functools.cache
def load(module: str) -> Any:
    """Import a module of kernels at its first use: importing minunet does not load numba."""
    return importlib.import_module(module if "." in module else f"{__name__}.{module}")
