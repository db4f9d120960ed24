"""Lazy feature maps on the GPU: how convolution, norm, ReLU, concatenation and pool share passes over memory.

As on the CPU (`kernels/cpu/lazy_maps.py`), a kernel may return one of these objects inside a network in place of an array, and
the next kernel does the remaining work. Kernels on the GPU cannot apply a norm while they read (copies to shared memory are
asynchronous), so they fuse it where they write:

    forward                                                  backward
    conv2d       Convolved: not started yet                  conv2d_backward      a LazyConcat, if it read one; of an
                                                                                  image OfImage: not started yet
    batch_norm   Normed(raw, statistics): starts it, with    relu_backward        Passed(dy, by)
                 moments in its epilogue; given statistics   batch_norm_backward  masks, sums and applies in two passes
                 become the epilogue's scale and bias
    group_norm   Normed; starts it likewise, if its tiles    group_norm_backward  the same
                 of pixels end where images do
    relu         sets a flag of either                       max_pool2d_backward  Unpooled(dy) + the skip's gradient
    concat       LazyConcat(a, b): never made, read as two sources

Between convolutions only raw maps are stored. A Normed is computed when it is read, and again in the backward for the weights'
gradient, which costs a pass and saves the memory of a map. A batch's statistics wait, too, for the running ones to move with
them in one start. An op that has no kernel for such an object gets its array.
"""

from __future__ import annotations

import functools
import weakref
from typing import Any

import numpy as np

from ...array import Array, get_array_module
from ...ops.lazy import LazyConcat, LazyMap, materialize
from . import launch, launch_conv, launch_norm
from .start import Moments, as_map


class OnGpu(LazyMap):
    """Base: a lazy map that CUDA kernels compute; `like` is one of the arrays that it is made of."""

    like: Array

    def _is(self, like: Array, shape: tuple[int, ...]) -> None:
        self.like, self.shape, self.dtype = like, shape, like.dtype

    def array(self) -> Any:
        raise NotImplementedError

    def new(self) -> Array:
        """An uninitialised array of this map's shape."""
        return get_array_module(self.like).empty(self.shape, self.dtype)


class Convolved(OnGpu):
    """A convolution that has not started, so that the norm or ReLU that follows can be fused into it. `start` runs it.

    Parameters
    ----------
    x : map, (N, H, W, C), or LazyConcat
    w : (side, side, C, K) array
    bias : (K,) float32 array or None
    shape : the result's
    pad : int
    """

    def __init__(self, x: Any, w: Any, bias: Array | None, shape: tuple[int, ...], pad: int) -> None:
        self._is(w, shape)
        self.x, self.w, self.bias, self.pad = x, w, bias, pad
        self.relu = False
        self.scale: Array | None = None
        self.raw: Any = None  # the result, once it has been started

    def start(self, moments: bool = False) -> Any:
        """Run it, once, and drop its inputs. Returns the moments of tiles if asked for."""
        self.raw, side = self.new(), len(self.w)
        found = launch_conv.conv(
            sources(self.x), taps(self.w), [self.raw], side=side, pad=self.pad, scale=self.scale, bias=self.bias,
            relu=self.relu, moments=moments,
        )  # fmt: skip
        if isinstance(self.x, LazyConcat):
            self.x.release()
        self.x = self.w = self.bias = None
        return found

    def array(self) -> Array:
        if self.raw is None:
            self.start()
        return self.raw

    def takes_norm(self) -> bool:
        """Whether a norm can still be fused into it: it has not started, and has no norm or ReLU yet."""
        return self.raw is None and self.scale is None and not self.relu

    def then(self, scale: Array, shift: Array) -> Convolved:
        """Another convolution that has not started: this one without its bias, times scale, plus shift, (C,) float32."""
        found = Convolved(self.x, self.w, shift, self.shape, self.pad)
        found.scale = scale
        return found

    def clipped(self) -> Convolved:
        """The ReLU of this."""
        found = Convolved(self.x, self.w, self.bias, self.shape, self.pad)
        found.scale, found.relu = self.scale, True
        return found


class Normed(OnGpu):
    """(raw - mean) * rstd * gamma + beta, clipped at 0 if `relu`; computed anew unless its array is still alive."""

    def __init__(
        self, raw: Array, mean: Array, rstd: Array, gamma: Array, beta: Array, relu: bool = False,
        merge: Merge | None = None,
    ) -> None:  # fmt: skip
        self._is(raw, raw.shape)
        self.raw, self.statistics, self.relu, self.merge = raw, (mean, rstd, gamma, beta), relu, merge
        self._held: Any = lambda: None

    def array(self) -> Array:
        y = self._held()
        if y is None:
            if self.merge:
                self.merge.run()
                self.merge = None
            y = self.new()
            launch_norm.norm(as_map(self.raw), *self.statistics, y, self.relu)
            self._held = weakref.ref(y)
        return y

    def clipped(self) -> Normed:
        """The ReLU of this."""
        return Normed(self.raw, *self.statistics, relu=True, merge=self.merge)


class Merge:
    """Sums of tiles that have not been merged yet to a batch's mean, variance and 1 / sqrt(variance + eps), `values` (3, C).

    The running statistics usually move next, and do so in the same start.
    """

    def __init__(self, tiles: Moments, eps: float) -> None:
        self.values = get_array_module(tiles.partial).empty((3, tiles.partial.shape[2]), np.float32)
        self._start: Any = functools.partial(launch_norm.merge_moments, tiles, eps, self.values)

    def run(self, **running: Any) -> bool:
        """Start it, with what `merge_moments` takes besides; False if it has been started."""
        start, self._start = self._start, None
        if start:
            start(**running)
        return bool(start)


class Statistic(OnGpu):
    """A batch's mean or variance, a row of what a `Merge` gives."""

    def __init__(self, merge: Merge, row: int) -> None:
        self.merge, self.row = merge, merge.values[row]
        self._is(self.row, self.row.shape)

    def array(self) -> Array:
        self.merge.run()
        return self.row


class Positive(OnGpu):
    """Where a ReLU's result y is positive; the plain ReLU stores this as booleans."""

    def __init__(self, y: Any) -> None:
        self.y, self.like, self.shape, self.dtype = y, y.like, y.shape, np.dtype(bool)

    def array(self) -> Array:
        return self.y.array() > 0


class Passed(OnGpu):
    """dy where the ReLU that gave `y` let it pass, else 0."""

    def __init__(self, dy: Array, y: Normed | Convolved) -> None:
        self._is(dy, dy.shape)
        self.dy, self.y = dy, y

    @functools.cached_property
    def masked(self) -> Array:
        dx = self.new()
        launch_norm.relu(as_map(self.y.array()), as_map(self.dy), dx)
        return dx

    def array(self) -> Array:
        return self.masked


class Unpooled(OnGpu):
    """The gradient of a max-pool's input, to which the gradient from the skip connection can be added."""

    def __init__(self, dy: Array, cache: tuple) -> None:
        self._is(dy, cache[1])
        self.dy, self.cache = dy, cache

    def array(self, plus: Array | None = None) -> Array:
        winner, _, size, stride = self.cache
        dx = self.new()
        launch.max_pool_back(as_map(self.dy), winner, dx, size, stride, plus)
        return dx

    def __add__(self, other: Any) -> Any:
        other = materialize(other)
        fits = getattr(other, "shape", None) == self.shape and other.dtype == self.dtype
        return self.array(as_map(other)) if fits else self.array() + other

    __iadd__ = __radd__ = __add__


class OfImage(OnGpu):
    """The gradient of a convolution's input with few channels, such as an image. It is computed only if it is read, which
    training does not do."""

    def __init__(self, dy: Array, w: Array, shape: tuple[int, ...], pad: int) -> None:
        self._is(w, shape)
        self.dy, self.w, self.pad = dy, w, pad

    @functools.cached_property
    def dx(self) -> Array:
        return data_gradient(self.dy, self.w, [self.new()], self.pad)[0]

    def array(self) -> Array:
        return self.dx


def data_gradient(dy: Array, w: Array, dxs: list[Array], pad: int) -> list[Array]:
    """The gradients of a convolution's one or two sources, written into dxs."""
    side = len(w)
    launch_conv.conv([dy], taps(w), dxs, side=side, pad=side - 1 - pad, flip=True, gradient=True)
    return dxs


def sources(x: Any) -> list[Array]:
    """The one or two maps that a convolution reads x from."""
    halves = x.halves() if isinstance(x, LazyConcat) else (x,)
    if any(isinstance(h, LazyConcat) for h in halves):
        halves = (materialize(x),)  # a concatenation of more than two
    return [as_map(materialize(h)) for h in halves]


def taps(w: Array) -> Array:
    """Filters (KH, KW, C, K) as (taps, C, K)."""
    whole = w if w.flags.c_contiguous else get_array_module(w).ascontiguousarray(w)
    return whole.reshape(-1, *w.shape[2:])
