"""Kernels for NumPy arrays, compiled by numba on this machine for this machine.

rules.py           which kernel runs for which op and arguments
conv.py            convolutions: which algorithm for which shape
direct.py          direct convolution; direct_weights.py: its gradient for the filters; direct_pieces.py: strides, dilations;
                   direct_copies.py: what is copied
depthwise.py       depthwise convolution
winograd.py        Winograd's algorithm for 3x3 filters; winograd_transforms.py: its transforms, with the matrices in
                   winograd_matrices.py; dilated.py: with a dilation
norm.py, pointwise.py, activation.py, combine.py, concat.py, pool.py, resample.py, loss.py, optim.py: the other ops
pool_pairs.py      a 2x2 max-pool with the ReLU before it, forwards and backwards
stars.py           star-convex polygons: their loss, rays, suppression and drawing
lazy_maps.py       the lazy feature maps that these kernels return inside a network
epilogues.py       how kernels read lazy maps and write results
simd.py            explicit vector instructions (AVX2, AVX-512, Neon)
simd_gemm.py       small matrix products with them; simd_depthwise.py: depthwise convolution's blocks;
                   simd_transform.py: Winograd's transforms; simd_pool.py: 2x2 pools; simd_softmax.py: softmax
launch.py          compiling and starting kernels; memory.py: recycled memory for arrays; warm_up.py: compiling ahead
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from ..shapes import takes
from .rules import CPU_KERNELS


def owns(args: tuple[Any, ...]) -> bool:
    """True: the CPU takes all arrays that no other backend owns."""
    return True


def find_kernel(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The kernel for the op ``name`` on these arguments, or None for its plain body."""
    rule = CPU_KERNELS.get(name)
    if rule is None or not takes(name, rule.fits, args, options) or not compiles() or not load("launch").usable:
        return None
    return kernel_of(name)


def kernel_of(name: str) -> Callable[..., Any]:
    """The kernel for an op, whatever its arguments."""
    return getattr(load(CPU_KERNELS[name].module), name)  # type: ignore[no-any-return]


@functools.cache
def compiles() -> bool:
    """False where there is no numba, as in a browser, and if NUMBA_DISABLE_JIT is set: then the plain ops run.

    (Python cannot interpret the kernels' vector instructions.)
    """
    try:
        return not importlib.import_module("numba").config.DISABLE_JIT
    except ModuleNotFoundError:
        return False


@functools.cache
def load(module: str) -> Any:
    """Import a module of kernels at its first use: importing minunet does not load numba."""
    return importlib.import_module(module if "." in module else f"{__name__}.{module}")
