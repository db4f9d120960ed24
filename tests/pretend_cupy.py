"""A stand-in for CuPy, so that what runs on a GPU can be tested without one: NumPy behind CuPy's manners.

It computes with NumPy, but its arrays are a type of their own that, like CuPy's,

* never become NumPy arrays unasked (only by ``.get()``) and never mix with them in arithmetic;
* come out of reductions as arrays of no dimension, not as scalars;
* are copied on streams that run late: what is copied on one arrives when the stream is waited for, not before, and memory
  that nothing was written to is full of NaN.

What it does not show: speed, rounding, the order in which a GPU adds, and functions that NumPy has and CuPy lacks; the names
that were asked for are kept in `used`, and a test looks for them in CuPy where that is installed.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

used: set[str] = set()
METHODS = {
    *(
        "sum",
        "mean",
        "max",
        "min",
        "std",
        "var",
        "argmax",
        "argmin",
        "any",
        "all",
        "prod",
        "cumsum",
        "dot",
        "trace",
        "clip",
    ),
    *("reshape", "ravel", "flatten", "transpose", "swapaxes", "squeeze", "diagonal", "view", "astype", "copy", "fill"),
    *("take", "repeat", "sort", "argsort", "round", "nonzero"),
}
ATTRIBUTES = {"shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"}


class ndarray(NDArrayOperatorsMixin):
    """An array on the pretended GPU."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = np.asarray(values)

    def get(self) -> np.ndarray:
        """A copy on the host."""
        return self._values.copy()

    def set(self, host: np.ndarray, stream: Stream | None = None) -> None:
        """Copy from the host, on a stream when that is waited for."""
        assert isinstance(host, np.ndarray) and host.shape == self.shape and host.dtype == self.dtype
        (stream or _now).do(lambda: np.copyto(self._values, host))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        return _run(ufunc, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return __getattr__(func.__name__)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            return getattr(self._values, name)
        if name in METHODS:
            return lambda *args, **kwargs: _run(getattr(self._values, name), args, kwargs)
        raise AttributeError(f"a CuPy array has no {name!r}, or this stand-in does not know it")

    @property
    def T(self) -> ndarray:
        return ndarray(self._values.T)

    def __getitem__(self, index: Any) -> ndarray:
        return ndarray(self._values[_own(index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        self._values[_own(index)] = _own(value)

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        return (ndarray(v) for v in self._values)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __float__(self) -> float:
        return float(self._values)

    def __int__(self) -> int:
        return int(self._values)

    def __index__(self) -> int:
        return self._values.__index__()

    def item(self) -> Any:
        return self._values.item()

    def tolist(self) -> Any:
        return self._values.tolist()

    def __repr__(self) -> str:
        return f"pretended {self._values!r}"


def _run(function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Call NumPy with what is behind the arrays, and wrap what it returns."""
    with np.errstate(all="ignore"):  # a GPU does not warn
        return _wrapped(function(*_own(args), **_own(kwargs)))


def _own(a: Any) -> Any:
    """What is behind arguments; a TypeError for NumPy arrays, as from CuPy."""
    if isinstance(a, ndarray):
        return a._values
    if isinstance(a, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(a, (tuple, list)):
        return type(a)(_own(v) for v in a)
    if isinstance(a, dict):
        return {name: _own(v) for name, v in a.items()}
    return a


def _wrapped(result: Any) -> Any:
    if isinstance(result, (np.ndarray, np.generic)):
        return ndarray(np.asarray(result))
    if isinstance(result, (tuple, list)):
        return type(result)(_wrapped(v) for v in result)
    return result


def asarray(a: Any, dtype: Any = None) -> ndarray:
    """Onto the GPU, the one way there is."""
    used.add("asarray")
    if isinstance(a, ndarray):
        return a if dtype is None else ndarray(a._values.astype(dtype, copy=False))
    return ndarray(np.array(_own(a) if isinstance(a, list) else a, dtype))


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return ndarray(np.ascontiguousarray(asarray(a, dtype)._values))


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Memory that is full of what nobody wants."""
    used.add("empty")
    a = np.empty(shape, dtype)
    a.fill(np.nan if a.dtype.kind == "f" else 113)
    return ndarray(a)


def empty_like(a: ndarray, dtype: Any = None) -> ndarray:
    return empty(a.shape, dtype or a.dtype)


def __getattr__(name: str) -> Any:
    """Everything else that NumPy has."""
    if name.startswith("__"):
        raise AttributeError(name)
    found = getattr(np, name)
    used.add(name)
    if isinstance(found, type) or not callable(found):
        return found
    return lambda *args, **kwargs: _run(found, args, kwargs)


# ---- devices, streams, pinned memory ---------------------------------------------------------------------------------


class Stream:
    """A queue of copies, done when it is waited for; `late=False` does them at once."""

    def __init__(self, non_blocking: bool = True, late: bool = True) -> None:
        self.late, self.waiting = late, []

    def do(self, work: Any) -> None:
        self.waiting.append(work)
        if not self.late:
            self.synchronize()

    def synchronize(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()

    def record(self) -> Event:
        return Event(self)

    def wait_event(self, event: Event) -> None:
        event.synchronize()


class Event:
    """The work that was on a stream when it was recorded."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def synchronize(self) -> None:
        self.stream.synchronize()


class OutOfMemoryError(MemoryError):
    pass


_now = Stream(late=False)
cuda = SimpleNamespace(
    Stream=Stream,
    get_current_stream=lambda: _now,
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=SimpleNamespace(
        getDeviceCount=lambda: 1,
        driverGetVersion=lambda: 13000,
        getDeviceProperties=lambda n: {"name": b"Pretended GPU", "totalGlobalMem": 8 << 30},
        memGetInfo=lambda: (6 << 30, 8 << 30),
    ),
    device=SimpleNamespace(get_cublas_handle=lambda: 1),
)
cupyx = SimpleNamespace(empty_pinned=lambda shape, dtype: np.full(shape, 113, dtype))
nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))


def install(monkeypatch: Any) -> Any:
    """Let ``import cupy`` find the stand-in until the test is over."""
    here = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "cupy", here)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.nvrtc", nvrtc)
    return here
