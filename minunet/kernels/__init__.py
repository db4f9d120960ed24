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
    if name not in CPU_KERNELS or not args or not _on_cpu(_subject(*args)):
        return None
    module, fits = CPU_KERNELS[name]
    return getattr(_load(module), name) if fits(*args, **options) else None


def _subject(x: Any, *others: Any) -> Any:
    """The array that an op works on: its first argument, or where that is a loss's number, the first in the cache."""
    return others[0][0] if np.isscalar(x) and others and isinstance(others[0], tuple) else x


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
    return size <= 16 and x.size >= SMALLEST


def _batch_norm(x, gamma, beta, mean=None, var=None, eps=1e-5) -> bool:
    return _on_cpu(x, gamma, beta, mean, var) and x.size > 0


def _batch_norm_backward(dy, cache) -> bool:
    return _on_cpu(dy, *cache[:4]) and dy.size > 0


def _large(x, *cache, **options) -> bool:
    return x.size >= SMALLEST


def _leaky_relu(x, slope=0.01) -> bool:
    return np.result_type(slope, x) == x.dtype and x.size >= SMALLEST


def _leaky_relu_backward(dy, cache) -> bool:
    return _leaky_relu(dy, cache[1])


def _softmax(x) -> bool:
    return x.ndim > 1 and x.size >= SMALLEST


def _softmax_backward(dy, cache) -> bool:
    return _on_cpu(dy, *cache) and _softmax(dy)


def _group_norm(x, gamma, beta, groups, eps=1e-5) -> bool:
    return _on_cpu(x, gamma, beta) and x.shape[3] % groups == 0 and x.size >= SMALLEST


def _group_norm_backward(dy, cache) -> bool:
    return _on_cpu(dy, *cache) and dy.size >= SMALLEST


def _upsample_nearest_backward(dy, cache) -> bool:
    return dy.shape[1] % cache[0] == dy.shape[2] % cache[0] == 0 and dy.size >= SMALLEST


def _pixel_loss(logits, labels, weight=None, class_weight=None, ignore=-1, smooth=1.0) -> bool:
    fits = type(labels) is np.ndarray and labels.dtype.kind in "iu" and labels.shape == logits.shape[:-1]
    fits = fits and (weight is None or np.shape(weight) == labels.shape)
    fits = fits and (class_weight is None or np.shape(class_weight) == logits.shape[-1:])
    return fits and logits.shape[-1] >= 2 and logits.size >= SMALLEST


def _pixel_loss_backward(dloss, cache) -> bool:
    p, labels, share, *_ = cache
    same = np.result_type(dloss, p) == p.dtype  # float32 times a float64 scalar of NumPy's is float64
    return same and type(labels) is np.ndarray and _on_cpu(p, share) and p.size >= SMALLEST


def _step(p, g, *rest, **options) -> bool:
    arrays = [a for a in rest if isinstance(a, np.ndarray)]
    whole = all(a.flags.c_contiguous and a.flags.writeable and a.shape == p.shape for a in (p, *arrays))
    return whole and _on_cpu(p, g, *arrays) and g.shape == p.shape and p.size >= SMALLEST


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
    "upsample_nearest": ("cpu_resample", _large),
    "upsample_nearest_backward": ("cpu_resample", _upsample_nearest_backward),
    "upsample_bilinear": ("cpu_resample", _large),
    "upsample_bilinear_backward": ("cpu_resample", _large),
    "avg_pool2d": ("cpu_resample", _large),
    "avg_pool2d_backward": ("cpu_resample", _large),
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
def _load(module: str) -> Any:
    """Import a module of kernels at its first use: importing minunet does not load numba."""
    return importlib.import_module(f".{module}", __name__)


# ---- compiling ahead -------------------------------------------------------------------------------------------------


def is_compiled(dtype: Any = np.float32) -> bool:
    """Whether all CPU kernels for a dtype lie compiled in numba's cache on this machine."""
    return bool(_load("launch").stamp_path(np.dtype(dtype)).exists())


def warm_up(dtype: Any = np.float32, progress: Callable[[int, int, str], None] | None = None) -> None:
    """Compile all CPU kernels for a dtype, or load them from numba's cache.

    Without this each kernel compiles at its first call, once a machine.

    Parameters
    ----------
    dtype : float32 or float64
    progress : callable, optional
        Called with (ops done, ops in all, next op's name) before each op, and once at the end.
    """
    x, wide = np.zeros((1, 4, 4, 2), dtype), np.zeros((1, 48, 48, 8), dtype)  # a direct convolution, and Winograd's
    steps: list[tuple[str, Callable[..., Any], tuple]] = [
        ("conv2d", _load("cpu_conv").conv2d, (x, np.zeros((3, 3, 2, 2), dtype), x[0, 0, 0])),
        ("conv2d", _load("cpu_conv").conv2d, (wide, np.zeros((3, 3, 8, 8), dtype), wide[0, 0, 0])),
        ("conv_transpose2d", _load("cpu_conv").conv_transpose2d, (x, np.zeros((2, 2, 2, 2), dtype), x[0, 0, 0])),
        ("max_pool2d", _load("cpu_pointwise").max_pool2d, (x,)),
        ("batch_norm", _load("cpu_pointwise").batch_norm, (x, x[0, 0, 0], x[0, 0, 0])),
        ("relu", _load("cpu_pointwise").relu, (x,)),
    ]
    for done, (name, forward, args) in enumerate(steps):
        for half, what in enumerate((name, name + "_backward")):
            if progress:
                progress(2 * done + half, 2 * len(steps), what)
            if half == 0:
                y, cache, *_ = forward(*args)
            else:
                getattr(_load(CPU_KERNELS[name][0]), what)(y, cache)
    if progress:
        progress(2 * len(steps), 2 * len(steps), "")
    _load("launch").mark_compiled(np.dtype(dtype))
