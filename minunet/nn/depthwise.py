"""Depthwise convolution as a layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..array import Array
from ..ops.conv import Padding
from .conv import Slide
from .description import Description, Graph, Shape
from .init import constant, he_normal
from .module import Cache, Module


class DepthwiseConv2d(Module):
    """`ops.depthwise_conv2d` with filters w (size, size, channels) and bias b (channels,).

    Filters start as those of `Conv2d`, with fan_in = size*size; biases at 0. A 1x1 `Conv2d` behind it makes a separable
    convolution.
    """

    def __init__(
        self, channels: int, size: int = 3, *, stride: int = 1, padding: Padding = "same", dilation: int = 1,
        bias: bool = True, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        self.fan_in = size * size
        self.params["w"] = he_normal((size, size, channels), rng)
        if bias:
            self.params["b"] = constant(0, channels)

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.depthwise_conv2d(x, self.params["w"], self.params.get("b"), **self.options)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dw, db = ops.depthwise_conv2d_backward(dy, cache)
        self.accumulate(w=dw, b=db)
        return dx

    def describe(self, x: Shape) -> Description:
        (N, _, _, C), (KH, KW, Cw) = x, self.params["w"].shape
        if Cw != C:
            raise ValueError(f"a depthwise convolution takes {Cw} channels and would get {C}")
        slide = Slide(x, (KH, KW), **self.options)
        OH, OW = slide.size
        room = N * slide.padded[0] * slide.padded[1] * C

        def onnx(graph: Graph, x: str) -> str:
            w = graph.constant("w", self.params["w"].transpose(2, 0, 1)[:, None])  # (C, 1, KH, KW)
            b = [graph.constant("b", self.params["b"])] if "b" in self.params else []
            return graph.node("Conv", x, w, *b, group=C, **slide.onnx)

        return Description(
            output=(N, OH, OW, C), reads=slide.reads, flops=2 * N * OH * OW * C * KH * KW,
            depends_on_size=slide.depends_on_size, keeps_input=True, fused="conv", reads_fused=True,
            words=f"{KH}x{KW} depthwise convolution", picture="conv", onnx=onnx, unrecordable="",
            work=(room + N * OH * OW * C, 2 * room + N * OH * OW * C),
        )  # fmt: skip
