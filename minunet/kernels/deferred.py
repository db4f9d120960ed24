"""Maps that are not finished: what the kernels hand each other inside a network, so that fewer passes go over memory.

A convolution's output is read and written four times before the next convolution sees it: batch norm sums it up, shifts
and scales it, ReLU clips it, a concatenation copies it. Memory is slower than arithmetic, so inside a network a kernel
may return, in place of an array, one of the objects here. It stands for the array that the plain op would return, and the
next kernel does the rest while it reads:

    forward                                            backward
    conv2d       Deferred(raw, its moments)            conv2d_backward      Gradient(dy, already masked, its sums)
    batch_norm   Deferred(raw, scale, shift)           relu_backward        the same
    relu         Deferred(raw, scale, shift, relu)     batch_norm_backward  NormGradient(a * dy + b * raw + c)
    concat       Pair(a, b)                            concat_backward      a, b
                                                       max_pool2d_backward  Unpooled(dy, winner) + the skip's gradient

Only raw outputs of convolutions are ever stored. What the value of such an object is, `array` says; whatever has no kernel
for it gets that array (`finished`, and every NumPy function does so by itself). Hence layers and networks know nothing of
this. It happens between the entry to and the exit from the outermost `fused` method (those of UNet and Sequential), which
returns arrays; ``minunet.use("reference")`` ends it.

Two traps. Padding is zero *after* norm and ReLU; clipping padded zeros would give relu(shift). And a `Gradient` that has
been masked stands for dy only where the ReLU lets dy pass: it must reach that ReLU's backward, where masking again changes
nothing, and sums of such gradients stay such.
"""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections.abc import Callable
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


def fused(method: F) -> F:
    """A composite's forward or backward, inside which layers may hand each other unfinished maps.

    What leaves the outermost one is finished; caches are not, they wait for the backward.
    """

    @functools.wraps(method)
    def run(*args: Any, **options: Any) -> Any:
        if not fusing():
            train = args[2] if len(args) > 2 else options.get("train", True)  # of forward(self, x, train, rng, keep)
            _scope.train = method.__name__ != "forward" or bool(train)
        composites().append(args[0] if args else method)
        try:
            result = method(*args, **options)
        finally:
            composites().pop()
        if fusing():
            return result
        return tuple(finished(r) for r in result) if isinstance(result, tuple) else finished(result)

    return run  # type: ignore[return-value]


def finished(x: Any) -> Any:
    """The array that x stands for, if it is an unfinished map; else x."""
    return x.array() if isinstance(x, Unfinished) else x


def all_finished(values: Any) -> Any:
    """Finish what is unfinished among arguments, in tuples (caches) and lists too."""
    if isinstance(values, (tuple, list)):
        return type(values)([all_finished(v) for v in values])
    return finished(values)


def _named(options: dict[str, Any]) -> dict[str, Any]:
    return {name: all_finished(value) for name, value in options.items()}


class Unfinished(NDArrayOperatorsMixin):
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
        if any(isinstance(o, Unfinished) for o in options.get("out", ())):
            del options["out"]  # x += y makes a new array here
        return getattr(ufunc, method)(*all_finished(inputs), **_named(options))

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return function(*all_finished(args), **_named(options))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.array(), name)

    def __getitem__(self, key: Any) -> Any:
        return self.array()[key]

    def __len__(self) -> int:
        return self.shape[0]


class Deferred(Unfinished):
    """raw * scale + shift, then clipped at 0 if `relu`; without scale just raw.

    Parameters
    ----------
    raw : (N, H, W, C) array
        What a convolution gave.
    scale, shift : (C,) arrays, optional
    relu : bool
    moments : ((C,), (C,)) arrays, optional
        Mean and biased variance of raw's channels, if the kernel that made it knows them.
    mean : (C,) array, optional
        The mean that a batch norm has taken off: gradients are summed up relative to it.
    """

    def __init__(
        self, raw: np.ndarray, scale: Any = None, shift: Any = None, relu: bool = False, moments: Any = None,
        mean: Any = None,
    ) -> None:  # fmt: skip
        self.raw, self.scale, self.shift, self.relu, self.moments, self.mean = raw, scale, shift, relu, moments, mean
        self.shape, self.dtype = raw.shape, raw.dtype
        self.within = tuple(composites())

    def may_be_masked(self) -> bool:
        """Whether this came from a ReLU whose backward will run too: it ran inside the outermost of what runs now."""
        return self.relu and fusing() and any(c is composites()[0] for c in self.within)

    def array(self) -> np.ndarray:
        return self.raw if self.scale is None and not self.relu else _finish(self)


class Mask(Unfinished):
    """Where a ReLU let x, its result, pass: what the plain ReLU keeps as booleans can be read off raw again."""

    def __init__(self, x: Deferred) -> None:
        self.x, self.shape, self.dtype = x, x.shape, np.dtype(bool)

    def array(self) -> np.ndarray:
        return self.x.array() > 0


class Pair(Unfinished):
    """Two maps side by side, a's channels first: a concatenation that is never made; `once` is what `read_once` sets."""

    once = False

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b
        self.shape, self.dtype = (*a.shape[:3], a.shape[3] + b.shape[3]), a.dtype

    def let_go(self) -> None:
        """A convolution has read it."""
        if self.once:
            self.a = self.b = None

    def halves(self) -> tuple[Any, Any]:
        """Both maps; RuntimeError if they have been let go."""
        if self.a is None:
            raise RuntimeError("a concatenation that was to be read once is read again after it has been let go")
        return self.a, self.b

    def array(self) -> np.ndarray:
        return np.concatenate([finished(half) for half in self.halves()], axis=-1)


class Gradient(Unfinished):
    """The gradient dy of a map, with its sums over pixels.

    Parameters
    ----------
    dy : (N, H, W, C) array
    sums : ((C,), (C,)) float64 arrays
        Of dy, and of dy * (raw - mean) for the map it was masked by (else None).
    masked_by : Deferred, optional
        The map, given by a ReLU, whose gradient this is, if it has been masked already. It is not kept alive: the caches
        that need it do that.
    """

    def __init__(self, dy: np.ndarray, sums: Any, masked_by: Deferred | None = None) -> None:
        self.dy, self.sums = dy, sums
        self._masked_by = None if masked_by is None else weakref.ref(masked_by)
        self._raw = None if masked_by is None else weakref.ref(masked_by.raw)
        self.shape, self.dtype = dy.shape, dy.dtype

    def array(self) -> np.ndarray:
        return self.dy

    def is_masked_by(self, x: Deferred) -> bool:
        """Whether the ReLU that gave x has done its part."""
        return self._masked_by is not None and self._masked_by() is x

    def has_sums_for(self, raw: np.ndarray) -> bool:
        """Whether the sums are those that the backward of the norm of raw needs."""
        return self._raw is not None and self._raw() is raw


class NormGradient(Unfinished):
    """a * dy + b * raw + c, with (C,) arrays a, b, c: the gradient that a batch norm passes on."""

    def __init__(self, dy: np.ndarray, raw: np.ndarray, a: Any, b: Any, c: Any) -> None:
        self.dy, self.raw, self.a, self.b, self.c = dy, raw, a, b, c
        self.shape, self.dtype = dy.shape, dy.dtype

    def array(self) -> np.ndarray:
        return _finish(self)


class Unpooled(Unfinished):
    """The gradient before a max-pool, dy at each window's winner, plus that which came over the skip connection."""

    def __init__(self, dy: np.ndarray, cache: tuple, plus: Any = None) -> None:
        self.dy, self.cache, self.plus = dy, cache, plus
        self.shape, self.dtype = cache[1], dy.dtype

    def array(self) -> np.ndarray:
        from .cpu_pointwise import unpool

        return unpool(self.dy, self.cache, finished(self.plus))

    def __add__(self, other: Any) -> Any:
        if self.plus is None and getattr(other, "shape", None) == self.shape and other.dtype == self.dtype:
            return Unpooled(self.dy, self.cache, other)
        return self.array() + finished(other)

    __iadd__ = __radd__ = __add__


def read_once(x: Any) -> Any:
    """x, of which the caller says that one convolution will read it and nobody else, if it is a Pair.

    The variables of all callers hold what they hand down, a U-Net's largest maps through the whole of its last block. They
    can be let go as soon as they have been read.
    """
    if isinstance(x, Pair):
        x.once = True
    return x


def _finish(x: Unfinished) -> np.ndarray:
    from .cpu_maps import finish

    return finish(x)


# ---- twins of the ops that only arrange ------------------------------------------------------------------------------


def concat(arrays: Any) -> tuple[Pair, tuple[int, ...]]:
    """Twin of `ops.concat`, for two maps."""
    a, b = arrays
    return Pair(a, b), (a.shape[-1], b.shape[-1])


def concat_backward(dy: Pair, cache: tuple[int, ...]) -> tuple[Any, Any]:
    """Twin of `ops.concat_backward`."""
    return dy.a, dy.b
