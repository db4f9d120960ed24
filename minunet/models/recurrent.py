"""Recurrent convolutional layers, and the residual block of the R2U-Net that is made of them (see r2_unet.py)."""

from __future__ import annotations

import numpy as np

from ..array import Array
from ..nn import Add, BatchNorm2d, Cache, Conv2d, Module, ReLU, Sequential, take
from ..ops.lazy import fusion_scope

Rng = np.random.Generator | None


class RecurrentBlock(Module):
    """x + r2(r1(x)), where x is the input brought to the block's width, and r1 and r2 are recurrent; no activation follows."""

    def __init__(
        self, in_channels: int, out_channels: int, steps: int, separate: bool = False, step_norms: bool = False,
        rng: Rng = None,
    ) -> None:  # fmt: skip
        super().__init__()
        Layer = SeparateRecurrent if separate else Recurrent
        self.project = Conv2d(in_channels, out_channels, 1, rng=rng)
        self.branch = Sequential(**{f"recurrent{n}": Layer(out_channels, steps, step_norms, rng) for n in (1, 2)})
        self.add = Add()

    @fusion_scope
    def forward(self, x: Array, train: bool = True, rng: Rng = None, keep: bool = True) -> tuple[Array, Cache]:
        x, project = self.project.forward(x, train, rng, keep)
        y, branch = self.branch.forward(x, train, rng, keep)
        y, added = self.add.forward((y, x), train, rng, keep)
        return y, [project, branch, added] if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        dy, dx = self.add.backward(dy, take(cache))
        dx = dx + self.branch.backward(dy, take(cache))
        return self.project.backward(dx, take(cache))


class Recurrent(Module):
    """h = f(x), then `steps` times h = f(x + h): the same convolution in every step."""

    def __init__(self, channels: int, steps: int, step_norms: bool = False, rng: Rng = None) -> None:
        super().__init__()
        self.steps, self.conv = steps, Conv2d(channels, channels, rng=rng)
        self.norm = [BatchNorm2d(channels) for _ in range(steps + 1 if step_norms else 1)]
        self.relu, self.add = ReLU(), Add()

    @fusion_scope
    def forward(self, x: Array, train: bool = True, rng: Rng = None, keep: bool = True) -> tuple[Array, Cache]:
        caches: list[Cache] = []
        h = x
        for step in range(self.steps + 1):
            if step:
                h, cache = self.add.forward((x, h), train, rng, keep)
                caches.append(cache)
            for m in (self.conv, self.norm[step % len(self.norm)], self.relu):
                h, cache = m.forward(h, train, rng, keep)
                caches.append(cache)
        return h, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dh = None, dy
        for step in reversed(range(self.steps + 1)):
            for m in (self.relu, self.norm[step % len(self.norm)], self.conv):
                dh = m.backward(dh, take(cache))
            if step:
                dinput, dh = self.add.backward(dh, take(cache))
                dx = dinput if dx is None else dx + dinput
        return dh if dx is None else dx + dh


class SeparateRecurrent(Module):
    """a = wf * x + b once, h = g(a), then `steps` times h = g(a + wr * h), where g is norm and ReLU."""

    def __init__(self, channels: int, steps: int, step_norms: bool = False, rng: Rng = None) -> None:
        super().__init__()
        self.steps = steps
        self.feed, self.recur = (Conv2d(channels, channels, bias=bias, rng=rng) for bias in (True, False))
        self.norm = [BatchNorm2d(channels) for _ in range(steps + 1 if step_norms else 1)]
        self.relu, self.add = ReLU(), Add()

    @fusion_scope
    def forward(self, x: Array, train: bool = True, rng: Rng = None, keep: bool = True) -> tuple[Array, Cache]:
        a, cache = self.feed.forward(x, train, rng, keep)
        caches, h = [cache], a
        for step in range(self.steps + 1):
            if step:
                h, cache = self.recur.forward(h, train, rng, keep)
                caches.append(cache)
                h, cache = self.add.forward((a, h), train, rng, keep)
                caches.append(cache)
            for m in (self.norm[step % len(self.norm)], self.relu):
                h, cache = m.forward(h, train, rng, keep)
                caches.append(cache)
        return h, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        da, dh = None, dy
        for step in reversed(range(self.steps + 1)):
            for m in (self.relu, self.norm[step % len(self.norm)]):
                dh = m.backward(dh, take(cache))
            if step:
                dfeed, dh = self.add.backward(dh, take(cache))
                da = dfeed if da is None else da + dfeed
                dh = self.recur.backward(dh, take(cache))
        da = dh if da is None else da + dh
        return self.feed.backward(da, take(cache))
