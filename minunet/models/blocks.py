"""The larger parts of a U-Net: the double convolution, the up-step and the joint of a skip."""

from __future__ import annotations

from math import gcd

import numpy as np

from .. import ops
from ..array import Array
from ..nn import (
    PIXEL,
    BatchNorm2d,
    Cache,
    Conv2d,
    ConvTranspose2d,
    Description,
    Dropout,
    GroupNorm,
    Module,
    ReLU,
    Sequential,
    UpsampleBilinear,
    UpsampleNearest,
    Window,
)
from ..nn.description import Graph, Shape
from ..ops.lazy import single_use
from ..ops.shape import Margins


def double_conv(
    in_channels: int, mid_channels: int, out_channels: int, norm: str | None = "batch", bias: bool = False,
    padding: str = "same", dropout: float = 0.0, rng: np.random.Generator | None = None,
) -> Sequential:  # fmt: skip
    """3x3 convolution, norm (if any) and ReLU, and all three once more; then dropout (if any)."""
    layers: dict[str, Module] = {}
    for n, (i, o) in enumerate([(in_channels, mid_channels), (mid_channels, out_channels)], 1):
        layers[f"conv{n}"] = Conv2d(i, o, bias=bias, padding=padding, rng=rng)
        if norm == "batch":
            layers[f"norm{n}"] = BatchNorm2d(o)
        elif norm == "group":
            layers[f"norm{n}"] = GroupNorm(o, groups=gcd(o, max(1, o // 16)))  # about 16 channels a group
        layers[f"relu{n}"] = ReLU()
    if dropout:
        layers["dropout"] = Dropout(dropout)
    return Sequential(**layers)


def up_step(
    kind: str, in_channels: int, out_channels: int | None = None, rng: np.random.Generator | None = None
) -> tuple[Module, int]:
    """A module that doubles rows and columns, and how many channels it gives.

    "transpose" gives out_channels, or half of what it takes; "bilinear" and "nearest" give as many as they take.
    """
    if kind == "transpose":
        out_channels = out_channels or in_channels // 2
        return ConvTranspose2d(in_channels, out_channels, rng=rng), out_channels
    return {"bilinear": UpsampleBilinear, "nearest": UpsampleNearest}[kind](), in_channels


class Join(Module):
    """The joint of a skip connection: bring (skip, up) to one size and concatenate them, the skip first.

    With "same" padding the map from below is at most a pixel smaller than the skip (a pool drops an odd row), and is padded
    with zeros. With "valid" the skip is larger by what the convolutions below have cut off, and is cropped to its middle.
    Without `keep`, only one layer may read the result: the convolution that follows.
    """

    def forward(
        self, x: tuple[Array, Array], train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        skip, up = x
        pads, margins = self.fit(skip.shape, up.shape)
        if pads:
            up, fit = ops.pad(up, margins)
        else:
            skip, fit = ops.crop(skip, margins)
        y, split = ops.concat([skip, up])
        return (y, (pads, fit, split)) if keep else (single_use(y), None)

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Array]:
        pads, fit, split = cache
        dskip, dup = ops.concat_backward(dy, split)
        if pads:
            return dskip, ops.pad_backward(dup, fit)
        return ops.crop_backward(dskip, fit), dup

    def fit(self, skip: Shape, up: Shape) -> tuple[bool, Margins]:
        """Whether the map from below is padded (else the skip is cropped), and the margins in pixels."""
        lack = [s - u for s, u in zip(skip[1:3], up[1:3])]
        rows, columns = ((n // 2, n - n // 2) for n in lack)
        return max(lack) <= 1, (rows, columns)

    def describe(self, skip: Shape, up: Shape) -> Description:
        pads, ((top, _), (left, _)) = self.fit(skip, up)
        shift = -1 if pads else 1
        moved = (Window(first=shift * top, last=shift * top), Window(first=shift * left, last=shift * left))

        def onnx(graph: Graph, skip: str, up: str) -> str:
            sizes = [graph.node("Shape", name, start=2, end=4) for name in (skip, up)]
            lack = graph.node("Sub", *sizes)
            before = graph.node("Div", lack, graph.constant("two", [2]))
            if pads:
                after, none = graph.node("Sub", lack, before), graph.constant("none", [0, 0])
                up = graph.node("Pad", up, graph.node("Concat", none, before, none, after, axis=0))
            else:
                after, axes = graph.node("Add", before, sizes[1]), graph.constant("axes", [2, 3])
                skip = graph.node("Slice", skip, before, after, axes)
            return graph.node("Concat", skip, up, axis=1)

        return Description(
            output=(*(skip if pads else up)[:3], skip[3] + up[3]), reads=[PIXEL, moved] if pads else [moved, PIXEL],
            fused="concat", words="concatenation", picture="join", onnx=onnx, unrecordable="",
        )  # fmt: skip
