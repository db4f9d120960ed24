"""The lazy feature maps that the CPU's kernels pass to each other inside a network, to save passes over memory.

Without them, the output of a convolution is read or written four more times before the next convolution reads it: batch norm
sums it up, then shifts and scales it, ReLU clips it, a concatenation copies it. Memory is slower than arithmetic. So inside a
network a kernel may return, in place of an array, one of the objects here (or of `ops/lazy.py`). It stands for the array that
the plain op would return, and the next kernel does the remaining work while it reads:

    forward                                               backward
    conv2d       LazyAffine(raw, its moments)             conv2d_backward      Gradient(dy, already masked, its sums)
    batch_norm   LazyAffine(raw * scale + shift)          relu_backward        the same
    relu         LazyAffine(the same, clipped)            batch_norm_backward  NormGradient(a * dy + b * raw + c)
    concat       LazyConcat(a, b)                         concat_backward      a, b
                                                          max_pool2d_backward  Unpooled(dy, winner) + the skip's gradient

Only raw outputs of convolutions are ever stored.

Two traps. First, padding is zero *after* norm and ReLU; norm and ReLU of padded zeros would give relu(shift). Second, a
`Gradient` that has been masked equals dy only where the ReLU let x pass. So only that ReLU's backward may read it, where
masking it again changes nothing. A sum of masked gradients is masked, too.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ...ops.lazy import LazyMap, composites, fusing

F = TypeVar("F", bound=Callable[[Any], np.ndarray])

_computing: list[Callable[[Any], np.ndarray]] = []


def computes_affine(kernel: F) -> F:
    """Register the kernel that computes a `LazyAffine` or a `NormGradient`; it is in epilogues.py, which imports this file."""
    _computing.append(kernel)
    return kernel


class LazyAffine(LazyMap):
    """raw * scale + shift, then clipped at 0 if `relu`; without a table just raw.

    Parameters
    ----------
    raw : (N, H, W, C) array
        The output of a convolution.
    table : (3, C) array, optional
        Scale, shift, and the mean that a batch norm has subtracted: the backward sums dy * (raw - mean).
    relu : bool
    moments : ((C,), (C,)) arrays, optional
        Mean and biased variance of raw's channels, if the kernel that computed raw also computed them.
    """

    def __init__(
        self, raw: np.ndarray, table: np.ndarray | None = None, relu: bool = False, moments: Any = None
    ) -> None:
        self.raw, self.table, self.relu, self.moments = raw, table, relu, moments
        self.shape, self.dtype = raw.shape, raw.dtype
        self.within = tuple(composites())

    def may_be_masked(self) -> bool:
        """Whether this is the result of a ReLU whose backward will run, too: the outermost running scope ran its forward."""
        return self.relu and fusing() and any(c is composites()[0] for c in self.within)

    def array(self) -> np.ndarray:
        return self.raw if self.table is None and not self.relu else _computing[0](self)


class ReluMask(LazyMap):
    """Where a ReLU's result x is positive: the plain ReLU stores this as booleans, here it is computed from raw again."""

    def __init__(self, x: LazyAffine) -> None:
        self.x, self.shape, self.dtype = x, x.shape, np.dtype(bool)

    def array(self) -> np.ndarray:
        return self.x.array() > 0


class Gradient(LazyMap):
    """The gradient dy of a map, with its sums over pixels.

    Parameters
    ----------
    dy : (N, H, W, C) array
    sums : ((C,), (C,)) float64 arrays
        The sum of dy, and that of dy * (raw - mean) if dy is masked (else None).
    masked_by : LazyAffine, optional
        The result of the ReLU by which dy has been masked already, if so. Only a weak reference is kept: the caches that need
        the map keep it alive.
    """

    def __init__(self, dy: np.ndarray, sums: Any, masked_by: LazyAffine | None = None) -> None:
        self.dy: Any = dy  # None once it has been released
        self.sums = sums
        self._masked_by = None if masked_by is None else weakref.ref(masked_by)
        self._raw = None if masked_by is None else weakref.ref(masked_by.raw)
        self.shape, self.dtype = dy.shape, dy.dtype

    def array(self) -> np.ndarray:
        if self.dy is None:
            raise RuntimeError("a gradient marked for a single use is read again after its release")
        return self.dy

    def release(self) -> None:
        """Drop the array if it is for a single use; called by the kernel that has read it, or hands it on."""
        if self.once:
            self.dy = None

    def is_masked_by(self, x: LazyAffine) -> bool:
        """Whether dy is masked by the ReLU that gave x."""
        return self._masked_by is not None and self._masked_by() is x

    def has_sums_for(self, raw: np.ndarray) -> bool:
        """Whether the sums are those that the backward of the norm of raw needs."""
        return self._raw is not None and self._raw() is raw


class NormGradient(LazyMap):
    """a * dy + b * raw + c, with a table (3, C) of a, b, c: the gradient that a batch norm passes on."""

    def __init__(self, dy: np.ndarray, raw: np.ndarray, table: np.ndarray) -> None:
        self.dy, self.raw, self.table = dy, raw, table
        self.shape, self.dtype = dy.shape, dy.dtype

    def array(self) -> np.ndarray:
        return _computing[0](self)
