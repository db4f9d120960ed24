"""Lazy feature maps: what kernels may hand each other inside a network in place of arrays.

A map is lazy if it stands for an array that nobody has computed yet. Kernels return lazy maps inside a network, so that
norm, ReLU and concatenation fuse into the neighbouring convolutions (`kernels/cpu/lazy_maps.py`, `kernels/cuda/lazy_maps.py`);
whoever has no kernel for one gets the array (`materialize`, and every NumPy function does so by itself). Hence layers and
networks need not know of it.

Fusion is on inside the outermost method that is decorated with `fusion_scope` (forward and backward of UNet and
Sequential); its results are materialized. ``minunet.use("reference")`` switches it off.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

F = TypeVar("F", bound=Callable[..., Any])


_scope = threading.local()


def fusing() -> bool:
    """Whether a `fused` method is running in this thread: only then may a kernel return an unfinished map."""
    return bool(composites())


def composites() -> list[Any]:
    """The objects whose `fused` methods are running in this thread, the outermost first."""
    if not hasattr(_scope, "running"):
        _scope.running = []
    return _scope.running  # type: ignore[no-any-return]


def training() -> bool:
    """Whether the outermost `fused` method was called with train=True: only then does a batch norm ask for a map's moments."""
    return getattr(_scope, "train", True)


def fusion_scope(method: F) -> F:
    """A composite's forward or backward, inside which layers may hand each other lazy maps.

    What leaves the outermost one is materialized; caches are not, they wait for the backward.
    """
    parameters = signature(method).parameters
    place = list(parameters).index("train") if "train" in parameters else None
    default = parameters["train"].default if place is not None else True

    @functools.wraps(method)
    def run(*args: Any, **options: Any) -> Any:
        if not fusing():
            by_place = args[place] if place is not None and place < len(args) else default
            _scope.train = method.__name__ != "forward" or bool(options.get("train", by_place))
        composites().append(args[0] if args else method)
        try:
            result = method(*args, **options)
        finally:
            composites().pop()
        if fusing():
            return result
        return tuple(materialize(r) for r in result) if isinstance(result, tuple) else materialize(result)

    return run  # type: ignore[return-value]


def materialize(x: Any) -> Any:
    """The array that x stands for, if it is an unfinished map; else x."""
    return x.array() if isinstance(x, LazyMap) else x


def materialize_all(values: Any) -> Any:
    """Finish what is unfinished among arguments, in tuples (caches) and lists too."""
    if isinstance(values, (tuple, list)):
        return type(values)([materialize_all(v) for v in values])
    return materialize(values)


def _named(options: dict[str, Any]) -> dict[str, Any]:
    return {name: materialize_all(value) for name, value in options.items()}


class LazyMap(NDArrayOperatorsMixin):
    """Base: something with a shape and a dtype that turns into an array when NumPy or anybody else looks into it."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def array(self) -> np.ndarray:
        """The values, as a new array or as one that must not be written to."""
        raise NotImplementedError

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
        return getattr(ufunc, method)(*materialize_all(inputs), **_named(options))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return function(*materialize_all(args), **_named(options))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.array(), name)

    def __getitem__(self, key: Any) -> Any:
        return self.array()[key]

    def __len__(self) -> int:
        return self.shape[0]


class LazyConcat(LazyMap):
    """Two maps side by side, a's channels first: a concatenation that is never made; `once` is what `read_once` sets."""

    once = False

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b
        self.shape, self.dtype = (*a.shape[:3], a.shape[3] + b.shape[3]), a.dtype

    def release(self) -> None:
        """A convolution has read it."""
        if self.once:
            self.a = self.b = None

    def halves(self) -> tuple[Any, Any]:
        """Both maps; RuntimeError if they have been let go."""
        if self.a is None:
            raise RuntimeError("a concatenation that was to be read once is read again after it has been let go")
        return self.a, self.b

    def array(self) -> np.ndarray:
        return np.concatenate([materialize(half) for half in self.halves()], axis=-1)


def single_use(x: Any) -> Any:
    """x, of which the caller says that one convolution will read it and nobody else, if it is a Pair.

    The variables of all callers hold what they hand down, a U-Net's largest maps through the whole of its last block. They
    can be let go as soon as they have been read.
    """
    if isinstance(x, LazyConcat):
        x.once = True
    return x


def concat(arrays: Any) -> tuple[LazyConcat, tuple[int, ...]]:
    """Twin of `ops.concat`, for two maps."""
    a, b = arrays
    return LazyConcat(a, b), (a.shape[-1], b.shape[-1])


def concat_backward(dy: LazyConcat, cache: tuple[int, ...]) -> tuple[Any, Any]:
    """Twin of `ops.concat_backward`."""
    return dy.a, dy.b
