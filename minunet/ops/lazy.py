"""Lazy feature maps, which kernels may pass to each other inside a network in place of arrays.

A lazy map stands for an array that has not been computed yet. Kernels return lazy maps inside a network, so that norm, ReLU and
concatenation fuse into the neighbouring convolutions (`kernels/cpu/lazy_maps.py`, `kernels/cuda/lazy_maps.py`). An op that has
no kernel for a lazy map gets the array (`materialize`), and so does every NumPy function. So layers and networks need not know
of lazy maps.

Fusion is on inside methods that are decorated with `fusion_scope` (forward and backward of UNet and Sequential); what the
outermost of them returns is materialized. ``minunet.use("reference")`` switches fusion off.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
from collections.abc import Callable, Sequence
from inspect import Parameter, signature
from typing import Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..array import Array

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class _Scope(threading.local):
    """The state of this thread: the objects whose fusion scopes are running, and whether they train."""

    def __init__(self) -> None:
        self.running: list[Any] = []
        self.train = True


_scope = _Scope()


def fusing() -> bool:
    """Whether a fusion scope is running in this thread: only then may a kernel return a lazy map."""
    return bool(_scope.running)


def composites() -> list[Any]:
    """The objects whose fusion scopes are running in this thread, the outermost first."""
    return _scope.running


def training() -> bool:
    """Whether the outermost fusion scope was called with train=True: only then does a batch norm ask for a map's moments."""
    return _scope.train


def fusion_scope(method: F) -> F:
    """Decorate a composite's forward or backward: inside it, layers may pass lazy maps to each other.

    The results of the outermost scope are materialized; caches are not, they wait for the backward. Whether a forward trains is
    read from its argument `train`, at any place of the signature; a forward without that argument counts as training.
    """
    parameters = signature(method).parameters
    train = parameters.get("train")
    default = True if train is None else train.default
    by_place = train is not None and train.kind is Parameter.POSITIONAL_OR_KEYWORD
    place = list(parameters).index("train") if by_place else sys.maxsize

    def trains(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
        return method.__name__ != "forward" or bool(args[place] if place < len(args) else options.get("train", default))

    @functools.wraps(method)
    def run(*args: Any, **options: Any) -> Any:
        if not fusing():
            _scope.train = trains(args, options)
        _scope.running.append(args[0] if args else method)
        try:
            result = method(*args, **options)
        finally:
            _scope.running.pop()
        if fusing():
            return result
        if isinstance(result, tuple):  # the first may be a list of heads, the second is a cache
            return (materialize_all(result[0]), *map(materialize, result[1:]))
        return materialize(result)

    return run  # type: ignore[return-value]


@overload
def materialize(x: MaybeLazy) -> Array: ...
@overload
def materialize(x: T) -> T: ...
def materialize(x: Any) -> Any:
    """The array that x stands for, if it is a lazy map; else x."""
    return x.array() if isinstance(x, LazyMap) else x


def materialize_all(values: Any) -> Any:
    """Materialize the lazy maps among arguments, in tuples (caches) and lists too."""
    if isinstance(values, (tuple, list)):
        return type(values)([materialize_all(v) for v in values])
    return materialize(values)


def materialize_named(options: dict[str, Any]) -> dict[str, Any]:
    """The same for named arguments."""
    return {name: materialize_all(value) for name, value in options.items()}


def any_lazy(values: Any) -> bool:
    """Whether there is a lazy map among arguments, in tuples (caches) and lists too."""
    for v in values:  # noqa: SIM110 (faster than any(...), and every call of an op comes through here)
        if isinstance(v, LazyMap) or (isinstance(v, (tuple, list)) and any_lazy(v)):
            return True
    return False


IMAGE_CHANNELS = 4
"""A map with at most so many channels counts as a network's input, whose gradient is computed only if something reads it."""


class LazyMap(NDArrayOperatorsMixin):
    """Base of all lazy maps: a shape and a dtype, and an array that is computed when something reads the values."""

    shape: tuple[Any, ...]
    dtype: np.dtype[Any]
    once = False  # set by `single_use`

    def array(self) -> np.ndarray:
        """The values, as a new array or as one that must not be written to."""
        raise NotImplementedError

    def release(self) -> None:
        """Drop the arrays if this map is for a single use; called by the kernel that has read them. Some have none to drop."""

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array(), dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(o, LazyMap) for o in options.get("out", ())):
            del options["out"]  # x += y makes a new array here
        return getattr(ufunc, method)(*materialize_all(inputs), **materialize_named(options))

    def __cupy_get_ndarray__(self) -> Any:
        """What CuPy's functions and operators take in its place: `array += lazy` asks the array, and not the map."""
        return self.array()

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return function(*materialize_all(args), **materialize_named(options))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.array(), name)

    def __getitem__(self, key: Any) -> Any:
        return self.array()[key]

    def __len__(self) -> int:
        return self.shape[0]


class LazyConcat(LazyMap):
    """Two maps side by side, a's channels first: a concatenation without an array of its own."""

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b
        self.shape, self.dtype = (*a.shape[:3], a.shape[3] + b.shape[3]), a.dtype

    def release(self) -> None:
        """Drop both maps if they are for a single use; called by the convolution that has read them."""
        if self.once:
            self.a = self.b = None

    def halves(self) -> tuple[Any, Any]:
        """Both maps; RuntimeError if they have been released."""
        if self.a is None:
            raise RuntimeError("a concatenation marked for a single use is read again after its release")
        return self.a, self.b

    def array(self) -> np.ndarray:
        return np.concatenate([materialize(half) for half in self.halves()], axis=-1)


def single_use(x: Any) -> Any:
    """Mark x, if it is a lazy map, so that it drops its arrays once a kernel has read them, if the kernel knows how; returns x.

    The caller promises that nothing else will read x. Without it, the variables of all callers keep the arrays alive while a
    block of layers runs: a U-Net's largest maps during its last block, and their gradients on the way back.
    """
    if isinstance(x, LazyMap):
        x.once = True
    return x


MaybeLazy: TypeAlias = Array | LazyMap
"""What kernels take: an array or a lazy map."""


def concat(arrays: Sequence[MaybeLazy]) -> tuple[LazyConcat, tuple[int, ...]]:
    """The kernel of `ops.concat`, for two maps."""
    a, b = arrays
    return LazyConcat(a, b), (a.shape[-1], b.shape[-1])


def concat_backward(dy: LazyConcat, cache: tuple[int, ...]) -> tuple[MaybeLazy, MaybeLazy]:
    """The kernel of `ops.concat_backward`."""
    return dy.a, dy.b
