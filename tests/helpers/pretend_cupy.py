"""A stand-in for CuPy, so that what runs on a GPU can be tested without one: NumPy behind CuPy's manners.

It computes with NumPy, but its arrays are a type of their own that, like CuPy's,

* never become NumPy arrays unasked (only by ``.get()``) and never mix with them in arithmetic;
* come out of reductions as arrays of no dimension, not as scalars;
* live on streams that run late, in memory that is used again, and can be captured in graphs, see pretend_gpu.py; memory that
  nothing was written to is full of NaN.

Its own arithmetic is NumPy's, with results of the dtypes that CuPy gives (cupy_loops.py); `install(kernels=True)` also runs
the CUDA kernels on its arrays, in the emulator.

What it does not show: speed, rounding, the order in which a GPU adds, and functions that NumPy has and CuPy lacks; the names
that were asked for are kept in `used`, and a test looks for them in CuPy where that is installed.
"""

from __future__ import annotations

import functools
import operator
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from helpers import cupy_loops, pretend_gpu
from helpers.pretend_gpu import Stream, current, upload, wait
from numpy.lib.mixins import NDArrayOperatorsMixin

from minunet.kernels import cuda as cuda_kernels
from minunet.kernels.cuda import build, start

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
IN_PLACE = {"fill", "sort"}
WAITING = {"nonzero", "argwhere", "flatnonzero", "unique"}  # the host waits, to know the result's shape
ATTRIBUTES = {"shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"}


class ndarray(NDArrayOperatorsMixin):
    """An array on the pretended GPU."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = np.asarray(values)

    def get(self) -> np.ndarray:
        """A copy on the host."""
        wait("get")
        return self._values.copy()

    def set(self, host: np.ndarray, stream: Stream | None = None) -> None:
        """Copy from the host, on a stream when that is waited for."""
        assert isinstance(host, np.ndarray) and host.shape == self.shape and host.dtype == self.dtype
        (stream or current()).do(np.copyto, self._values, host)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self._values.ctypes.data)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        for a in inputs:  # no other library's object is asked to compute in its place, as NumPy would
            if (
                not isinstance(a, (ndarray, np.ndarray))
                and not np.isscalar(a)
                and not hasattr(a, "__cupy_get_ndarray__")
            ):
                raise TypeError(f"Unsupported type {type(a)}")
        return _run(ufunc, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return __getattr__(func.__name__)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in ATTRIBUTES:
            return getattr(self._values, name)
        if name in METHODS:
            return lambda *args, **kwargs: _method(name, (self, *args), kwargs)
        raise AttributeError(f"a CuPy array has no {name!r}, or this stand-in does not know it")

    @property
    def T(self) -> ndarray:
        return ndarray(self._values.T)

    def __getitem__(self, index: Any) -> ndarray:
        if any(a.dtype.kind == "b" for a in _arrays(_own(index))):
            wait("boolean index")
        return _run(lambda values, i: values[i], (self, index), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        current().do(operator.setitem, self._values, _own(index), _own(value))

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Any:
        return (ndarray(v) for v in self._values)

    def __bool__(self) -> bool:
        return bool(self._read("bool"))

    def __float__(self) -> float:
        return float(self._read("float"))

    def __int__(self) -> int:
        return int(self._read("int"))

    def __index__(self) -> int:
        return self._read("index").__index__()

    def item(self) -> Any:
        return self._read("item").item()

    def tolist(self) -> Any:
        return self._read("tolist").tolist()

    def _read(self, what: str) -> np.ndarray:
        wait(what)
        return self._values

    def __repr__(self) -> str:
        return f"pretended {self._values!r}"


def _run(function: Any, args: tuple, kwargs: dict[str, Any], in_place: bool = False, name: str = "") -> Any:
    """Let the current stream call NumPy with what is behind the arrays; wrap what comes of it, of the dtype that CuPy gives."""
    args, kwargs, stream = _own(args), _own(kwargs), current()
    function = _typed(function, name or getattr(function, "__name__", ""), args, kwargs)
    if in_place or kwargs.get("out") is not None:
        stream.do(_call, function, args, kwargs)
        out = kwargs.get("out")
        return _wrapped(out[0] if isinstance(out, tuple) and len(out) == 1 else out)
    result = _call(function, args, kwargs)  # on a late stream of numbers that are not there yet, for the shape
    found, new = _moved(result, _arrays((args, kwargs)))
    if new and stream.late:
        stream.do(_call_into, _arrays(found), function, args, kwargs)
    elif new:
        _copy(_arrays(found), result)
    return _wrapped(found)


def _typed(function: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The function with results of the dtype that CuPy's loops give, see cupy_loops.py."""
    assert not isinstance(function, np.ufunc) or name == "matmul" or name in cupy_loops.LOOPS, (
        f"add {name} to cupy_loops.py"
    )
    dtype = cupy_loops.result(name, args) if kwargs.get("dtype") is None else None
    if dtype is None:
        return function
    out = kwargs.get("out")
    for a in () if out is None else out if isinstance(out, tuple) else (out,):
        if not np.can_cast(dtype, a.dtype, "same_kind"):
            raise TypeError(f"CuPy's {name} cannot cast {dtype} to {a.dtype}")
    return function if out is not None else lambda *a, **k: np.asarray(function(*a, **k)).astype(dtype, copy=False)


def _call(function: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    with np.errstate(all="ignore"):  # a GPU does not warn
        return function(*args, **kwargs)


def _call_into(to: list[np.ndarray], function: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    _copy(to, _call(function, args, kwargs))


def _copy(to: list[np.ndarray], result: Any) -> None:
    for a, b in zip(to, _arrays(result), strict=True):
        np.copyto(a, b)


def _method(name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    if name in WAITING:
        wait(name)
    return _run(lambda values, *a, **k: getattr(values, name)(*a, **k), args, kwargs, name in IN_PLACE, name)


def _arrays(values: Any) -> list[np.ndarray]:
    """All arrays, and NumPy's scalars as such, in what a function takes or gives."""
    if isinstance(values, dict):
        values = tuple(values.values())
    if isinstance(values, (tuple, list)):
        return [a for v in values for a in _arrays(v)]
    return [np.asarray(values)] if isinstance(values, (np.ndarray, np.generic)) else []


def _moved(result: Any, mine: list[np.ndarray]) -> tuple[Any, bool]:
    """The result with its arrays in the GPU's memory, still empty, but for views of `mine`; and whether any is new."""
    if isinstance(result, (tuple, list)):
        parts = [_moved(r, mine) for r in result]
        return type(result)(p for p, _ in parts), any(c for _, c in parts)
    if not isinstance(result, (np.ndarray, np.generic)) or any(np.may_share_memory(result, a) for a in mine):
        return result, False
    return pretend_gpu.allocate(result.shape, result.dtype), True


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
    return a.__cupy_get_ndarray__()._values if hasattr(a, "__cupy_get_ndarray__") else a


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
        return a if dtype is None else _method("astype", (a, dtype), {"copy": False})
    host = np.array(_own(a) if isinstance(a, list) else a, dtype)
    upload(host.shape)
    found = ndarray(pretend_gpu.allocate(host.shape, host.dtype))
    current().do(np.copyto, found._values, host)
    return found


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    return _run(np.ascontiguousarray, (asarray(a, dtype),), {})


def empty(shape: Any, dtype: Any = float) -> ndarray:
    """Memory that is full of what nobody wants."""
    used.add("empty")
    a = pretend_gpu.allocate(shape, dtype)
    current().do(np.ndarray.fill, a, np.nan if a.dtype.kind == "f" else 113)
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

    def call(*args: Any, **kwargs: Any) -> Any:
        if name in WAITING or (name == "where" and len(args) == 1):
            wait(name)
        return _run(found, args, kwargs, name == "copyto")

    return call


# ---- devices, streams, pinned memory ---------------------------------------------------------------------------------


class OutOfMemoryError(MemoryError):
    pass


cuda = SimpleNamespace(
    Stream=Stream,
    get_current_stream=current,
    MemoryPool=pretend_gpu.MemoryPool,
    using_allocator=pretend_gpu.using_allocator,
    Device=lambda *number: pretend_gpu.device,
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=SimpleNamespace(
        getDeviceCount=lambda: 1,
        getDevice=lambda: pretend_gpu.NUMBER,
        driverGetVersion=lambda: 13000,
        runtimeGetVersion=lambda: 13000,
        getDeviceProperties=lambda n: {"name": b"Pretended GPU", "totalGlobalMem": 8 << 30, "major": 8, "minor": 1},
        memGetInfo=lambda: (6 << 30, 8 << 30),
    ),
    device=SimpleNamespace(get_cublas_handle=lambda: 1),
)
RawModule = pretend_gpu.RawModule
cupyx = SimpleNamespace(empty_pinned=lambda shape, dtype: np.full(shape, 113, dtype))
nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))


def get_default_memory_pool() -> pretend_gpu.MemoryPool:
    return pretend_gpu.default_pool


def install(monkeypatch: Any, kernels: bool = False) -> Any:
    """Let ``import cupy`` find the stand-in until the test is over; with `kernels` the CUDA kernels run on its arrays."""
    here = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "cupy", here)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.nvrtc", nvrtc)
    monkeypatch.setattr(build, "cached_cubin", pretend_gpu.pretended_cubin)
    for module, kept in ((cuda_kernels, "hindrance"), (start, "load")):  # of other GPUs
        monkeypatch.setattr(module, kept, functools.cache(getattr(module, kept).__wrapped__))
    if not kernels:
        monkeypatch.setattr(cuda_kernels, "compiles", lambda: False)
    pretend_gpu.waits.clear()
    pretend_gpu.uploads.clear()
    return here
