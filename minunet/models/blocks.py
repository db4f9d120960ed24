"""The larger parts of a U-Net: the double convolution, the up-step and the joint of skips."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from .. import ops
from ..array import Array
from ..nn import (
    NOTHING,
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
        single = conv_norm_relu(i, o, norm, bias, padding, rng)
        layers.update({f"{name}{n}": m for name, m in single.children.items()})
    if dropout:
        layers["dropout"] = Dropout(dropout)
    return Sequential(**layers)


def conv_norm_relu(
    in_channels: int, out_channels: int, norm: str | None = "batch", bias: bool = False, padding: str = "same",
    rng: np.random.Generator | None = None,
) -> Sequential:  # fmt: skip
    """3x3 convolution, norm (if any) and ReLU."""
    layers: dict[str, Module] = {"conv": Conv2d(in_channels, out_channels, bias=bias, padding=padding, rng=rng)}
    if norm == "batch":
        layers["norm"] = BatchNorm2d(out_channels)
    elif norm == "group":
        layers["norm"] = GroupNorm(out_channels, groups=gcd(out_channels, max(1, out_channels // 16)))  # some 16 each
    return Sequential(**layers, relu=ReLU())


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


def up_conv(in_channels: int, out_channels: int, rng: np.random.Generator | None = None) -> Sequential:
    """Nearest up-sampling, and a 3x3 convolution (with a bias, as it is usual here), norm and ReLU."""
    conv = Conv2d(in_channels, out_channels, rng=rng)
    return Sequential(nearest=UpsampleNearest(), conv=conv, norm=BatchNorm2d(out_channels), relu=ReLU())


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
        first, *others = ops.concat_backward(dy, split)
        *dskips, dup = [*others, first] if self.up_first else [first, *others]
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
            fused="concat" if len(inputs) == 2 else None, reads_fused=True, words="concatenation", picture="join", onnx=onnx,
            unrecordable="",
        )  # fmt: skip


class Fit(Module):
    """(x, image) to x with as many rows and columns as the image: padded with zeros, or cropped, at the bottom and the right.

    A map that was halved and doubled lacks a pixel where a pool dropped one, or has one too many where a strided convolution
    rounded up.
    """

    def forward(
        self, x: tuple[Array, Array], train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        small, image = x
        rows, columns = (m - n for n, m in zip(small.shape[1:3], image.shape[1:3]))
        small, cut = ops.crop(small, ((0, max(-rows, 0)), (0, max(-columns, 0))))
        y, filled = ops.pad(small, ((0, max(rows, 0)), (0, max(columns, 0))))
        return y, (cut, filled) if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        """The gradient of x alone: of the image only the size was read."""
        cut, filled = cache
        return ops.crop_backward(ops.pad_backward(dy, filled), cut)

    def describe(self, x: Shape, image: Shape) -> Description:
        def onnx(graph: Graph, x: str, image: str) -> str:
            lack = graph.node("Sub", *(graph.node("Shape", name, start=2, end=4) for name in (image, x)))
            none = graph.constant("none", [0, 0, 0, 0, 0, 0])  # ONNX crops by negative numbers
            return graph.node("Pad", x, graph.node("Concat", none, lack, axis=0))

        return Description(
            output=(x[0], *image[1:3], x[3]), reads=[PIXEL, NOTHING], view=x[1] >= image[1] and x[2] >= image[2], words="",
            picture="up", onnx=onnx, unrecordable="",
        )  # fmt: skip


def add(dx: Array | None, more: Array | None) -> Any:
    """The sum of two gradients of one map, in place of the first; None stands for zeros."""
    if dx is None or more is None:
        return more if dx is None else dx
    dx += more
    return dx
