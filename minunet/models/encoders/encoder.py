"""What all encoders share: a chain of layers, of which some maps are features; and the residual unit that two are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...array import Array
from ...nn import Add, Cache, Module, take
from ...ops.lazy import fusion_scope
from ..blocks import add

Features = list[Array]


class Encoder(Module):
    """A classification network without its classifier: its layers run in the order in which they were added.

    Parameters
    ----------
    in_channels : int
        Channels of the images.

    Attributes
    ----------
    channels : list of int
        Channels of the six features, from full resolution to the deepest.
    taps : list of str
        The layers after which the features are taken: six, or five if the first feature is the image itself.
    frozen : bool
        Whether the encoder does not learn: then `forward` keeps nothing, and `backward` gives None.
    """

    frozen = False

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channels: list[int] = [in_channels]
        self.taps: list[str] = []

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Features, Cache]:
        """Images (N, H, W, in_channels) to six features, at strides 1, 2, 4, 8, 16 and 32 unless stages are dilated."""
        keep = keep and not self.frozen
        caches: list[Cache] = []
        features: Features = [] if self.has_full_resolution() else [x]
        for name, m in self.children.items():
            x, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            if name in self.taps:
                features.append(x)
        return features, caches if keep else None

    def backward(self, dfeatures: list[Array | None], cache: Cache) -> Any:
        """From the features' gradients, None for one that nothing reads, to the images' gradient."""
        if self.frozen:
            return None
        waiting = list(dfeatures)
        dx: Any = None
        for name, m in reversed(self.children.items()):
            if name in self.taps:
                dx = add(dx, waiting.pop())  # what the layers below hand back, and what the decoder does
            dx = m.backward(dx, take(cache))
        return dx if self.has_full_resolution() else add(dx, waiting.pop())

    def has_full_resolution(self) -> bool:
        """Whether the first feature is a map; else it is the image."""
        return len(self.taps) == len(self.channels)


class Residual(Module):
    """A residual unit: the body's result plus the shortcut's, and an activation (He et al. 2016, arXiv:1512.03385).

    Parameters
    ----------
    body : dict of Module
        The layers of the body by name, in order.
    downsample : Module, optional
        The shortcut; without it x itself is added.
    act : Module, optional
        The activation after the sum; MobileNetV2 has none.
    """

    def __init__(self, body: dict[str, Module], downsample: Module | None = None, act: Module | None = None) -> None:
        super().__init__()
        self.body = tuple(body.values())
        self.children.update(body)
        self.downsample, self.add, self.act = downsample, Add(), act

    @fusion_scope
    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        caches: list[Cache] = []

        def run(m: Module, x: Any) -> Any:
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        shortcut = run(self.downsample, x) if self.downsample else x
        for m in self.body:
            x = run(m, x)
        y = run(self.add, (x, shortcut))
        y = run(self.act, y) if self.act else y
        return y, caches if keep else None

    @fusion_scope
    def backward(self, dy: Array, cache: Cache) -> Array:
        def back(m: Module, dy: Any) -> Any:
            return m.backward(dy, take(cache))

        dy = back(self.act, dy) if self.act else dy
        dx, dshortcut = back(self.add, dy)
        for m in reversed(self.body):
            dx = back(m, dx)
        return dx + (back(self.downsample, dshortcut) if self.downsample else dshortcut)
