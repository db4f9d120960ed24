"""The larger parts of a U-Net: the double convolution, the up-step and the joint of skips."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

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
from ..nn.description import Graph, Reads, Shape
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
    """The joint of skip connections: bring (skip, ..., up) to one size and concatenate them, the skips first.

    With "same" padding the map from below differs from the skips by at most a pixel, at the bottom and at the right: a pool
    drops an odd row, then `up` is padded with zeros; a strided convolution rounds up, then `up` is cropped. With "valid"
    padding the skips are larger by what the convolutions below have cut off, and are cropped to their middle. Without `keep`,
    only one layer may read the result: the convolution that follows.

    Parameters
    ----------
    up_first : bool
        Whether the channels of the map from below come first in the result.
    """

    def __init__(self, up_first: bool = False) -> None:
        super().__init__()
        self.up_first = up_first

    def forward(
        self, x: tuple[Array, ...], train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        *skips, up = x
        bring, margins = self.fit(skips[0].shape, up.shape)
        fits: Any
        if bring == "crop skips":
            cropped = [ops.crop(skip, margins) for skip in skips]
            skips, fits = [y for y, _ in cropped], [fit for _, fit in cropped]
        else:
            up, fits = (ops.crop if bring == "crop" else ops.pad)(up, margins)
        y, split = ops.concat([up, *skips] if self.up_first else [*skips, up])
        return (y, (bring, fits, split)) if keep else (single_use(y), None)

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, ...]:
        bring, fits, split = cache
        *dskips, dup = in_turn(ops.concat_backward(dy, split), -self.up_first)
        if bring == "crop skips":
            return (*(ops.crop_backward(dskip, fit) for dskip, fit in zip(dskips, fits)), dup)
        return (*dskips, (ops.crop_backward if bring == "crop" else ops.pad_backward)(dup, fits))

    def fit(self, skip: Shape, up: Shape) -> tuple[str, Margins]:
        """What brings the maps to one size, "pad" or "crop" of the map from below or "crop skips", and the margins."""
        lack = [s - u for s, u in zip(skip[1:3], up[1:3])]
        rows, columns = ((abs(n) // 2, abs(n) - abs(n) // 2) for n in lack)
        return "crop skips" if max(lack) > 1 else "crop" if min(lack) < 0 else "pad", (rows, columns)

    def describe(self, *inputs: Shape) -> Description:
        *skips, up = inputs
        bring, ((top, _), (left, _)) = self.fit(skips[0], up)
        shift = -1 if bring == "pad" else 1
        moved = (Window(first=shift * top, last=shift * top), Window(first=shift * left, last=shift * left))
        reads: list[Reads] = [moved] * len(skips) + [PIXEL] if bring == "crop skips" else [PIXEL] * len(skips) + [moved]

        def onnx(graph: Graph, *maps: str) -> str:
            *skips, up = maps
            sizes = [graph.node("Shape", name, start=2, end=4) for name in (skips[0], up)]
            lack = graph.node("Sub", *sizes)
            before = graph.node("Div", lack, graph.constant("two", [2]))  # rounded towards 0
            if bring == "crop skips":
                after, axes = graph.node("Add", before, sizes[1]), graph.constant("axes", [2, 3])
                skips = [graph.node("Slice", skip, before, after, axes) for skip in skips]
            else:  # ONNX pads by negative numbers, too
                after, none = graph.node("Sub", lack, before), graph.constant("none", [0, 0])
                up = graph.node("Pad", up, graph.node("Concat", none, before, none, after, axis=0))
            return graph.node("Concat", *([up, *skips] if self.up_first else [*skips, up]), axis=1)

        return Description(
            output=(*(up if bring == "crop skips" else skips[0])[:3], sum(shape[3] for shape in inputs)), reads=reads,
            fused="concat", words="concatenation", picture="join", onnx=onnx, unrecordable="",
        )  # fmt: skip


def in_turn(parts: Sequence[Any], places: int) -> list[Any]:
    """The parts with the first moved to the end if `places` is -1; as they are if it is 0."""
    return [*parts[-places:], *parts[:-places]]
