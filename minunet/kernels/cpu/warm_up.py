"""Compiling the kernels of a usual training run ahead of it, and finding out whether this machine has compiled them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.registry import cpu_target

from ...ops.lazy import fusion_scope
from . import compiles, kernel_of
from .launch import SOURCES, _kernels


def is_compiled(dtype: Any = np.float32) -> bool:
    """Whether numba's cache on this machine holds the compiled CPU kernels of a usual training run, for a dtype."""
    return not compiles() or bool(stamp_path(np.dtype(dtype)).exists())


def warm_up(dtype: Any = np.float32, progress: Callable[[int, int, str], None] | None = None) -> None:
    """Compile the CPU kernels of a usual training run for a dtype, or load them from numba's cache.

    Every other kernel, and these if `warm_up` is not called, compiles at its first call, once on each machine.

    Parameters
    ----------
    dtype : float32 or float64
    progress : callable, optional
        Called with (ops done, ops in all, next op's name) before each op, and once at the end.
    """
    if not compiles():
        return
    steps, elsewhere = _steps(dtype), None
    if not is_compiled(dtype) and (os.cpu_count() or 1) > 1:  # numba compiles on one core: another process takes a part
        elsewhere = _compile_elsewhere(dtype)
        steps.sort(key=lambda step: step[2])
    for done, (name, run, apart) in enumerate(steps):
        if progress:
            progress(done, len(steps), name)
        if apart and elsewhere:
            elsewhere.wait()  # what it has compiled is loaded now; if it failed, it is compiled here
        run()
    if progress:
        progress(len(steps), len(steps), "")
    mark_compiled(np.dtype(dtype))


def _compile_elsewhere(dtype: Any) -> subprocess.Popen[bytes]:
    """Start a process that compiles what is marked for it into numba's cache."""
    code = f"from minunet.kernels.cpu import warm_up; warm_up._run_apart({np.dtype(dtype).name!r})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _run_apart(dtype: Any) -> None:
    for _, run, apart in _steps(dtype):
        if apart == 1:
            run()


def _steps(dtype: Any) -> list[tuple[str, Callable[[], Any], int]]:
    """The steps of `warm_up`: name, function, and where it runs: 0 here, 1 in the other process, 2 here at the end."""
    x, wide = np.zeros((1, 4, 4, 2), dtype), np.zeros((1, 48, 48, 16), dtype)  # a direct convolution, and Winograd's
    labels, filters = np.zeros((1, 4, 4), int), [np.zeros((n, n, 2, 2), dtype) for n in (3, 2)]
    pairs: list[tuple[str, tuple, int]] = [
        ("conv2d", (wide, np.zeros((3, 3, 16, 16), dtype), wide[0, 0, 0]), 0),
        ("softmax_cross_entropy", (x, labels), 0),
        ("soft_dice", (x, labels), 0),
        ("conv2d", (x, filters[0], x[0, 0, 0]), 1),
        ("conv_transpose2d", (x, filters[1], x[0, 0, 0]), 1),
        ("max_pool2d", (x,), 1),
        ("batch_norm", (x, x[0, 0, 0], x[0, 0, 0]), 1),
        ("relu", (x,), 1),
    ]
    steps: list[tuple[str, Callable[[], Any], int]] = [
        (name, functools.partial(_pair, name, *args), apart) for name, args, apart in pairs
    ]
    for name, memory in (("sgd_step", (x,)), ("adam_step", (x, x, 1))):
        steps.append((name, functools.partial(kernel_of(name), x, x, *memory, lr=0.1), 0))
    return [*steps, ("fused ops", functools.partial(_fused_pairs, x, filters[0]), 2)]


def _pair(name: str, *args: Any) -> None:
    """Run an op's kernel, and that of its backward."""
    y, cache, *_ = kernel_of(name)(*args)
    kernel_of(name + "_backward")(y, cache)


@fusion_scope
def _fused_pairs(x: Any, w: Any) -> None:
    """Run the kernels that only run between ops inside a network."""
    y, _ = kernel_of("conv2d")(x, w)
    y, _, _ = kernel_of("batch_norm")(y, x[0, 0, 0], x[0, 0, 0])
    y, relu_cache = kernel_of("relu")(y)
    pooled, pool_cache = kernel_of("max_pool2d")(y)
    dy = kernel_of("max_pool2d_backward")(pooled, pool_cache) + y.array()
    dy = kernel_of("relu_backward")(dy, relu_cache)
    _, conv_cache = kernel_of("conv2d")(y, w)
    kernel_of("conv2d_backward")(dy, conv_cache)


def stamp_path(dtype: np.dtype) -> Path:
    """The path of an empty file, beside the cached code, that says that all kernels of this dtype are in numba's cache."""
    kernel_of("conv2d")  # loading its module fills the list of kernels
    key = repr((SOURCES, numba.__version__, cpu_target.target_context.codegen().magic_tuple(), str(dtype)))
    folder = getattr(_kernels[0]._cache, "cache_path", None) or "no cache"
    return Path(folder) / f"compiled-{hashlib.sha256(key.encode()).hexdigest()[:16]}.stamp"


def mark_compiled(dtype: np.dtype) -> None:
    """Write that file, if the folder can be written to."""
    with contextlib.suppress(OSError):
        stamp_path(dtype).touch()
