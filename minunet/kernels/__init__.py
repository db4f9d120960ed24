"""The speed: fast twins of the plain ops, and the one place that chooses between them.

An op in :mod:`minunet.ops` is written plainly and decorated with :func:`accelerated`. When it is called, :func:`choose`
looks at its arguments and either names a kernel with the same signature and the same answer, or says None, and then the
op's own body runs. ``minunet.use("reference")`` makes it always say None. The plain body stays reachable as
``op.plain``; tests hold the two equal.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from . import rules
from .deferred import Deferred, Unpooled, all_finished, fused
from .rules import CPU_KERNELS

__all__ = ["CPU_KERNELS", "accelerated", "choose", "fused", "is_compiled", "rules", "set_threads", "use", "warm_up"]

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
    if name not in CPU_KERNELS or not args:
        return None
    module, fits = CPU_KERNELS[name]
    return getattr(_load(module), name) if fits(*args, **options) and _numba_compiles() else None


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
    x, wide = np.zeros((1, 4, 4, 2), dtype), np.zeros((1, 48, 48, 8), dtype)  # a direct convolution, and Winograd's
    steps: list[tuple[str, Callable[..., Any], tuple]] = [
        ("conv2d", _load("cpu_conv").conv2d, (x, np.zeros((3, 3, 2, 2), dtype), x[0, 0, 0])),
        ("conv2d", _load("cpu_conv").conv2d, (wide, np.zeros((3, 3, 8, 8), dtype), wide[0, 0, 0])),
        ("conv_transpose2d", _load("cpu_conv").conv_transpose2d, (x, np.zeros((2, 2, 2, 2), dtype), x[0, 0, 0])),
        ("max_pool2d", _load("cpu_pointwise").max_pool2d, (x,)),
        ("batch_norm", _load("cpu_pointwise").batch_norm, (x, x[0, 0, 0], x[0, 0, 0])),
        ("relu", _load("cpu_pointwise").relu, (x,)),
        ("softmax_cross_entropy", _load("cpu_loss").softmax_cross_entropy, (x, np.zeros((1, 4, 4), int))),
        ("soft_dice", _load("cpu_loss").soft_dice, (x, np.zeros((1, 4, 4), int))),
    ]
    total = 2 * len(steps) + 2
    for done, (name, forward, args) in enumerate(steps):
        for half, what in enumerate((name, name + "_backward")):
            if progress:
                progress(2 * done + half, total, what)
            if half == 0:
                y, cache, *_ = forward(*args)
            else:
                getattr(_load(CPU_KERNELS[name][0]), what)(y, cache)
    pointwise, clipped = _load("cpu_pointwise"), Deferred(x, relu=True)
    for dy in (x, Unpooled(*pointwise.max_pool2d(x))):  # what ReLUs do with gradients inside a network
        pointwise.mask(dy, clipped)
    for done, (name, memory) in enumerate((("sgd_step", (x,)), ("adam_step", (x, x, 1)))):
        if progress:
            progress(total - 2 + done, total, name)
        getattr(_load("cpu_optim"), name)(x, x, *memory, rate=0.1)
    if progress:
        progress(total, total, "")
    _load("launch").mark_compiled(np.dtype(dtype))
