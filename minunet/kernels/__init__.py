"""The speed: fast twins of the plain ops, and the one place that chooses between them.

An op in :mod:`minunet.ops` is written plainly and decorated with :func:`accelerated`. When it is called, :func:`choose`
looks at its arguments and either names a kernel with the same signature and the same answer, or says None, and then the
op's own body runs. ``minunet.use("reference")`` makes it always say None. The plain body stays reachable as
``op.plain``; tests hold the two equal.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from . import rules
from .deferred import all_finished, fused, read_once
from .rules import CPU_KERNELS

__all__ = [
    "CPU_KERNELS",
    "accelerated",
    "are_chosen",
    "are_fast",
    "choose",
    "fused",
    "is_compiled",
    "read_once",
    "rules",
    "set_threads",
    "use",
    "warm_up",
]

F = TypeVar("F", bound=Callable[..., Any])

MODES = ("fast", "reference")
_mode = "fast"


class use:
    """Choose between the kernels and the plain ops, for good or for a ``with`` block.

    Parameters
    ----------
    mode : {"fast", "reference"}
        "fast" (the default at start) runs a kernel wherever there is one; "reference" runs the plain ops only.

    Examples
    --------
    >>> import minunet
    >>> with minunet.use("reference"):
    ...     pass  # every op here runs its plain body
    """

    def __init__(self, mode: str) -> None:
        global _mode
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, not {mode!r}")
        self._before, _mode = _mode, mode

    def __enter__(self) -> use:
        return self

    def __exit__(self, *exc: object) -> None:
        global _mode
        _mode = self._before


def are_chosen() -> bool:
    """Whether kernels are to stand in for the plain ops where they can: `use`'s mode is "fast"."""
    return _mode == "fast"


def are_fast() -> bool:
    """Whether kernels stand in for the plain ops on the CPU."""
    return are_chosen() and _numba_compiles()


def accelerated(plain: F) -> F:
    """Let a fast twin stand in for a plain op whenever :func:`choose` knows one."""

    @functools.wraps(plain)
    def op(*args: Any, **kwargs: Any) -> Any:
        if _mode == "fast" and (twin := choose(plain.__name__, *args, **kwargs)):
            return twin(*args, **kwargs)
        args, kwargs = all_finished(args), {name: all_finished(value) for name, value in kwargs.items()}
        twin = choose(plain.__name__, *args, **kwargs) if _mode == "fast" else None
        return (twin or plain)(*args, **kwargs)

    op.plain = plain  # type: ignore[attr-defined]
    return op  # type: ignore[return-value]


def choose(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """Return the kernel for the op ``name`` on these arguments, or None for its plain body."""
    if not args:
        return None
    if "cupy" in sys.modules and (cuda := _load("cuda")).on_gpu(args):
        return cuda.choose(name, *args, **options) if cuda.usable() else None  # type: ignore[no-any-return]
    if name not in CPU_KERNELS:
        return None
    module, fits = CPU_KERNELS[name]
    if not fits(*args, **options) or not _numba_compiles() or not _load("launch").usable:
        return None
    return getattr(_load(module), name)  # type: ignore[no-any-return]


@functools.cache
def _numba_compiles() -> bool:
    """False if NUMBA_DISABLE_JIT is set: explicit vectors cannot be interpreted, so the plain ops do all the work."""
    return not importlib.import_module("numba").config.DISABLE_JIT


@functools.cache
def _load(module: str) -> Any:
    """Import a module of kernels at its first use: importing minunet does not load numba."""
    return importlib.import_module(f".{module}", __name__)


# ---- threads ---------------------------------------------------------------------------------------------------------


def set_threads(n: int) -> int:
    """Compute on n threads from now on, whichever Python thread calls: the kernels, and NumPy's matrix products.

    Without this, the usual variables of the environment hold: NUMBA_NUM_THREADS for the kernels, OPENBLAS_NUM_THREADS or
    OMP_NUM_THREADS for NumPy; and if they are not set, all cores are used.

    Parameters
    ----------
    n : int
        At least 1.

    Returns
    -------
    int
        How many they are: n, but at most as many as there are cores, or as NUMBA_NUM_THREADS says.

    Raises
    ------
    ValueError
        If n is less than 1.
    """
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, not {n}")
    used: int = _load("launch").set_threads(n)
    importlib.import_module("threadpoolctl").threadpool_limits(used)
    return used


# ---- compiling ahead -------------------------------------------------------------------------------------------------


def is_compiled(dtype: Any = np.float32) -> bool:
    """Whether the CPU kernels of a usual training run lie compiled, for a dtype, in numba's cache on this machine."""
    return not _numba_compiles() or bool(_load("launch").stamp_path(np.dtype(dtype)).exists())


def warm_up(dtype: Any = np.float32, progress: Callable[[int, int, str], None] | None = None) -> None:
    """Compile the CPU kernels of a usual training run for a dtype, or load them from numba's cache.

    Without this, and all others in any case, each kernel compiles at its first call, once a machine.

    Parameters
    ----------
    dtype : float32 or float64
    progress : callable, optional
        Called with (ops done, ops in all, next op's name) before each op, and once at the end.
    """
    if not _numba_compiles():
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
    _load("launch").mark_compiled(np.dtype(dtype))


def _compile_elsewhere(dtype: Any) -> subprocess.Popen[bytes]:
    """Start a process that compiles what is marked for it into numba's cache."""
    code = f"from minunet import kernels; [run() for _, run, apart in kernels._steps({np.dtype(dtype).name!r}) if apart == 1]"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _steps(dtype: Any) -> list[tuple[str, Callable[[], Any], int]]:
    """What `warm_up` does: names, functions, and 0 for here, 1 for the other process, 2 for at the end."""
    x, wide = np.zeros((1, 4, 4, 2), dtype), np.zeros((1, 48, 48, 8), dtype)  # a direct convolution, and Winograd's
    labels, filters = np.zeros((1, 4, 4), int), [np.zeros((n, n, 2, 2), dtype) for n in (3, 2)]
    pairs: list[tuple[str, tuple, int]] = [
        ("conv2d", (wide, np.zeros((3, 3, 8, 8), dtype), wide[0, 0, 0]), 0),
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
        steps.append((name, functools.partial(_twin(name), x, x, *memory, rate=0.1), 0))
    return [*steps, ("fused ops", functools.partial(_fused_pairs, x, filters[0]), 2)]


def _twin(name: str) -> Callable[..., Any]:
    return getattr(_load(CPU_KERNELS[name][0]), name)  # type: ignore[no-any-return]


def _pair(name: str, *args: Any) -> None:
    """Run an op's kernel, and that of its backward."""
    y, cache, *_ = _twin(name)(*args)
    _twin(name + "_backward")(y, cache)


@fused
def _fused_pairs(x: Any, w: Any) -> None:
    """Run what only happens between ops inside a network."""
    y, _ = _twin("conv2d")(x, w)
    y, _, _ = _twin("batch_norm")(y, x[0, 0, 0], x[0, 0, 0])
    y, relu_cache = _twin("relu")(y)
    pooled, pool_cache = _twin("max_pool2d")(y)
    dy = _twin("max_pool2d_backward")(pooled, pool_cache) + y.array()
    dy = _twin("relu_backward")(dy, relu_cache)
    _, conv_cache = _twin("conv2d")(y, w)
    _twin("conv2d_backward")(dy, conv_cache)
