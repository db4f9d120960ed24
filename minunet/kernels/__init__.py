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
        twin = choose(plain.__name__, *args, **kwargs) if _mode == "fast" else None
        return (twin or plain)(*args, **kwargs)

    op.plain = plain  # type: ignore[attr-defined]
    return op  # type: ignore[return-value]


# ---- who runs what ---------------------------------------------------------------------------------------------------

SMALLEST = 1 << 14
"""Numbers from which on pools and activations are worth a kernel: to start one takes 20 microseconds, as long as NumPy
takes to go over so many."""


def choose(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """Return the kernel for the op ``name`` on these arguments, or None for its plain body."""
    if name not in CPU_KERNELS or not args:
        return None
    module, fits = CPU_KERNELS[name]
    return getattr(_load(module), name) if fits(*args, **options) and _numba_compiles() else None


def _on_cpu(x: Any, *others: Any) -> bool:
    """Whether all these are NumPy arrays (or None) of one dtype, float32 or float64."""
    return (
        type(x) is np.ndarray
        and x.dtype in (np.float32, np.float64)
        and all(o is None or (isinstance(o, np.ndarray) and o.dtype == x.dtype) for o in others)
    )


def _conv2d(x, w, b=None, stride=1, padding="same", dilation=1, groups=1) -> bool:
    return _on_cpu(x, w, b) and w.size > 0 and w.shape[2] * groups == x.shape[3] and w.shape[3] % groups == 0


def _conv2d_backward(dy, cache) -> bool:
    x, w, _, stride, *_ = cache
    return _on_cpu(dy, x, w) and w.size > 0 and stride == 1


def _conv_transpose2d(x, w, b=None, stride=2, padding=0) -> bool:
    apart = w.shape[:2] == (stride, stride) and padding == 0  # the stamps do not overlap
    return _on_cpu(x, w, b) and w.size > 0 and x.shape[3] == w.shape[2] and apart


def _conv_transpose2d_backward(dy, cache) -> bool:
    x, w, *_ = cache
    return _on_cpu(dy, x, w) and w.size > 0


def _max_pool2d(x, size=2, stride=None) -> bool:
    return size <= 16 and _large(x)


def _batch_norm(x, gamma, beta, mean=None, var=None, eps=1e-5) -> bool:
    return _on_cpu(x, gamma, beta, mean, var) and x.size > 0


def _batch_norm_backward(dy, cache) -> bool:
    return _on_cpu(dy, *cache[:4]) and dy.size > 0


def _large(x, *cache) -> bool:
    return _on_cpu(x) and x.size >= SMALLEST


def _large_arrays(x, *others) -> bool:
    """Whether all these are NumPy arrays of one dtype, float32 or float64, and the first one is large."""
    return all(type(a) is np.ndarray for a in (x, *others)) and _on_cpu(x, *others) and x.size >= SMALLEST


def _leaky_relu(x, slope=0.01) -> bool:
    return _large_arrays(x) and np.result_type(slope, x) == x.dtype


def _leaky_relu_backward(dy, cache) -> bool:
    return _leaky_relu(dy, cache[1])


def _softmax(x) -> bool:
    return _large_arrays(x) and x.ndim > 1


def _softmax_backward(dy, cache) -> bool:
    return _large_arrays(dy, *cache) and dy.ndim > 1


def _group_norm(x, gamma, beta, groups, eps=1e-5) -> bool:
    return _large_arrays(x, gamma, beta) and x.shape[3] % groups == 0


def _group_norm_backward(dy, cache) -> bool:
    return _large_arrays(dy, *cache)


def _window(x, *options, **more) -> bool:
    return _large_arrays(x)


def _window_backward(dy, cache) -> bool:
    return _large_arrays(dy)


def _upsample_nearest_backward(dy, cache) -> bool:
    return _large_arrays(dy) and dy.shape[1] % cache[0] == dy.shape[2] % cache[0] == 0


def _pixel_loss(logits, labels, weight=None, class_weight=None, ignore=-1, smooth=1.0) -> bool:
    fits = _large_arrays(logits) and type(labels) is np.ndarray and labels.dtype.kind in "iu"
    fits = fits and labels.shape == logits.shape[:-1] and logits.shape[-1] >= 2
    fits = fits and (weight is None or np.shape(weight) == labels.shape)
    return fits and (class_weight is None or np.shape(class_weight) == logits.shape[-1:])


def _pixel_loss_backward(dloss, cache) -> bool:
    p, labels, share, *_ = cache
    same = _large_arrays(p, share) and np.result_type(dloss, p) == p.dtype  # a float64 scalar of NumPy's widens float32
    return same and type(labels) is np.ndarray


def _step(p, g, *rest, **options) -> bool:
    memory = [a for a in rest if isinstance(a, np.ndarray)]
    whole = _large_arrays(p, g, *memory) and g.shape == p.shape
    return whole and all(a.flags.c_contiguous and a.flags.writeable and a.shape == p.shape for a in (p, *memory))


CPU_KERNELS: dict[str, tuple[str, Callable[..., bool]]] = {
    "conv2d": ("cpu_conv", _conv2d),
    "conv2d_backward": ("cpu_conv", _conv2d_backward),
    "conv_transpose2d": ("cpu_conv", _conv_transpose2d),
    "conv_transpose2d_backward": ("cpu_conv", _conv_transpose2d_backward),
    "max_pool2d": ("cpu_pointwise", _max_pool2d),
    "max_pool2d_backward": ("cpu_pointwise", _large),
    "batch_norm": ("cpu_pointwise", _batch_norm),
    "batch_norm_backward": ("cpu_pointwise", _batch_norm_backward),
    "relu": ("cpu_pointwise", _large),
    "relu_backward": ("cpu_pointwise", _large),
    "leaky_relu": ("cpu_activation", _leaky_relu),
    "leaky_relu_backward": ("cpu_activation", _leaky_relu_backward),
    "softmax": ("cpu_activation", _softmax),
    "softmax_backward": ("cpu_activation", _softmax_backward),
    "group_norm": ("cpu_norm", _group_norm),
    "group_norm_backward": ("cpu_norm", _group_norm_backward),
    "upsample_nearest": ("cpu_resample", _window),
    "upsample_nearest_backward": ("cpu_resample", _upsample_nearest_backward),
    "upsample_bilinear": ("cpu_resample", _window),
    "upsample_bilinear_backward": ("cpu_resample", _window_backward),
    "avg_pool2d": ("cpu_resample", _window),
    "avg_pool2d_backward": ("cpu_resample", _window_backward),
    "softmax_cross_entropy": ("cpu_loss", _pixel_loss),
    "softmax_cross_entropy_backward": ("cpu_loss", _pixel_loss_backward),
    "soft_dice": ("cpu_loss", _pixel_loss),
    "soft_dice_backward": ("cpu_loss", _pixel_loss_backward),
    "sgd_step": ("cpu_optim", _step),
    "adam_step": ("cpu_optim", _step),
    "rmsprop_step": ("cpu_optim", _step),
}
"""For each op with kernels for NumPy arrays: their module, and the rule for which arguments they are."""


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
    for done, (name, memory) in enumerate((("sgd_step", (x,)), ("adam_step", (x, x, 1)))):
        if progress:
            progress(total - 2 + done, total, name)
        getattr(_load("cpu_optim"), name)(x, x, *memory, rate=0.1)
    if progress:
        progress(total, total, "")
    _load("launch").mark_compiled(np.dtype(dtype))
