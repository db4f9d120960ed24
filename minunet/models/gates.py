"""What multiplies maps by weights of its own: attention gates of skips, and squeeze-and-excitation.

In all of them a map x is read more than once: it is weighed, and the weights are computed from it. So its gradient is the sum
of what comes back from every reader.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import Array
from ..nn import Add, BatchNorm2d, Cache, Conv2d, Gate, GlobalAvgPool2d, Module, ReLU, Resize, Sequential, Sigmoid, take
from ..ops.lazy import fusion_scope, materialize

Rng = np.random.Generator | None


class GridGate(Module):
    """The attention gate of Oktay et al. (2018, arXiv:1804.03999, eq. 1-2): (skip, signal) to the skip, weighed by pixels.

        a = sigmoid(psi(ReLU(theta(skip) + phi(signal))))       one number for each pixel of the signal
        y = norm(w(skip * a))                                   a is resized to the skip

    The signal is the decoder's map below: coarser, and it has seen more of the image. theta is a 2x2 convolution of stride 2,
    so that both meet on the signal's grid.

    Parameters
    ----------
    skip, signal, width : int
        Channels of both maps, and of what is made of them.
    """

    def __init__(self, skip: int, signal: int, width: int, rng: Rng = None) -> None:
        super().__init__()
        self.theta = Conv2d(skip, width, 2, stride=2, padding=0, bias=False, rng=rng)
        self.phi = Conv2d(signal, width, 1, rng=rng)
        self.add = Add()
        self.score = Sequential(relu=ReLU(), psi=Conv2d(width, 1, 1, rng=rng), sigmoid=Sigmoid())
        self.resize, self.gate = Resize(), Gate()
        self.out = Sequential(w=Conv2d(skip, skip, 1, rng=rng), norm=BatchNorm2d(skip))

    @fusion_scope
    def forward(
        self, x: tuple[Array, Array], train: bool = True, rng: Rng = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        skip, signal = materialize(x[0]), x[1]  # computed once for both readers
        run, caches = runner(train, rng, keep)
        theta = run(self.theta, skip)
        phi = run(self.phi, signal)
        a = run(self.score, run(self.add, (theta, phi)))
        a = run(self.resize, (a, skip))
        y = run(self.gate, (skip, a))
        y = run(self.out, y)
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Array]:
        def back(m: Module, dy: Array) -> Any:
            return m.backward(dy, take(cache))

        dy = back(self.out, dy)
        dskip, da = back(self.gate, dy)
        da = back(self.resize, da)
        dtheta, dphi = back(self.add, back(self.score, da))
        dsignal = back(self.phi, dphi)
        dskip = dskip + back(self.theta, dtheta)
        return dskip, dsignal


class UpsampledGate(Module):
    """The attention gate of the widespread implementation: as `GridGate`, but the signal has the skip's size already.

    a = sigmoid(norm(psi(ReLU(norm(theta(skip)) + norm(phi(signal))))))
    y = skip * a
    """

    def __init__(self, skip: int, signal: int, width: int, rng: Rng = None) -> None:
        super().__init__()
        self.theta = Sequential(conv=Conv2d(skip, width, 1, rng=rng), norm=BatchNorm2d(width))
        self.phi = Sequential(conv=Conv2d(signal, width, 1, rng=rng), norm=BatchNorm2d(width))
        self.add = Add()
        self.score = Sequential(relu=ReLU(), psi=Conv2d(width, 1, 1, rng=rng), norm=BatchNorm2d(1), sigmoid=Sigmoid())
        self.gate = Gate()

    @fusion_scope
    def forward(
        self, x: tuple[Array, Array], train: bool = True, rng: Rng = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        skip, signal = materialize(x[0]), x[1]  # computed once for both readers
        run, caches = runner(train, rng, keep)
        theta = run(self.theta, skip)
        phi = run(self.phi, signal)
        a = run(self.score, run(self.add, (theta, phi)))
        y = run(self.gate, (skip, a))
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Array]:
        def back(m: Module, dy: Array) -> Any:
            return m.backward(dy, take(cache))

        dskip, da = back(self.gate, dy)
        dtheta, dphi = back(self.add, back(self.score, da))
        dsignal = back(self.phi, dphi)
        dskip = dskip + back(self.theta, dtheta)
        return dskip, dsignal


class ChannelExcitation(Module):
    """Squeeze and excitation (Hu et al., 2018, arXiv:1709.01507): every channel is weighed by what the means of all tell.

    y = x * s,  s = sigmoid(conv2(ReLU(conv1(mean of x)))),  with widths C, C / reduction (at least 1), C
    """

    def __init__(self, channels: int, reduction: int, rng: Rng = None) -> None:
        super().__init__()
        narrow = max(1, channels // reduction)
        self.squeeze, self.gate = GlobalAvgPool2d(), Gate()
        self.excite = Sequential(
            conv1=Conv2d(channels, narrow, 1, rng=rng),
            relu=ReLU(),
            conv2=Conv2d(narrow, channels, 1, rng=rng),
            sigmoid=Sigmoid(),
        )

    @fusion_scope
    def forward(self, x: Array, train: bool = True, rng: Rng = None, keep: bool = True) -> tuple[Array, Cache]:
        run, caches = runner(train, rng, keep)
        x = materialize(x)  # computed once for both readers
        s = run(self.excite, run(self.squeeze, x))
        y = run(self.gate, (x, s))
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, ds = self.gate.backward(dy, take(cache))
        ds = self.excite.backward(ds, take(cache))
        return dx + self.squeeze.backward(ds, take(cache))


class SpatialExcitation(Module):
    """Every pixel is weighed by what its channels tell (Roy et al., 2018, arXiv:1803.02579): y = x * sigmoid(conv(x))."""

    def __init__(self, channels: int, rng: Rng = None) -> None:
        super().__init__()
        self.excite, self.gate = Sequential(conv=Conv2d(channels, 1, 1, rng=rng), sigmoid=Sigmoid()), Gate()

    @fusion_scope
    def forward(self, x: Array, train: bool = True, rng: Rng = None, keep: bool = True) -> tuple[Array, Cache]:
        run, caches = runner(train, rng, keep)
        x = materialize(x)
        q = run(self.excite, x)
        y = run(self.gate, (x, q))
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dq = self.gate.backward(dy, take(cache))
        return dx + self.excite.backward(dq, take(cache))


class BothExcitations(Module):
    """The sum of both, "scSE" (Roy et al., 2018, arXiv:1803.02579, eq. 1-4)."""

    def __init__(self, channels: int, reduction: int, rng: Rng = None) -> None:
        super().__init__()
        self.channel, self.spatial = ChannelExcitation(channels, reduction, rng), SpatialExcitation(channels, rng)
        self.add = Add()

    @fusion_scope
    def forward(self, x: Array, train: bool = True, rng: Rng = None, keep: bool = True) -> tuple[Array, Cache]:
        run, caches = runner(train, rng, keep)
        x = materialize(x)  # computed once for all four readers
        y = run(self.add, (run(self.channel, x), run(self.spatial, x)))
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        dchannel, dspatial = self.add.backward(dy, take(cache))
        dx = self.spatial.backward(dspatial, take(cache))
        return dx + self.channel.backward(dchannel, take(cache))


def runner(train: bool, rng: Rng, keep: bool) -> tuple[Any, list[Cache]]:
    """A function that runs a layer, and the list to which it appends the layer's cache."""
    caches: list[Cache] = []

    def run(m: Module, x: Any) -> Any:
        y, cache = m.forward(x, train, rng, keep)
        caches.append(cache)
        return y

    return run, caches
