"""Activations and dropout as layers."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops
from ..array import Array
from ..ops.activation import LARGEST
from .description import PIXEL, Description, Graph, Shape
from .init import constant
from .module import Apply, Cache, Module


class ReLU(Apply):
    """`ops.relu`."""

    def __init__(self) -> None:
        super().__init__(ops.relu, ops.relu_backward)

    def describe(self, x: Shape) -> Description:
        return Description(
            output=x, reads=PIXEL, keeps_bytes=prod(x), fused="act", words="ReLU", picture="act",
            onnx=lambda graph, x: graph.node("Relu", x), unrecordable="",
        )  # fmt: skip


class ReLU6(Apply):
    """`ops.relu6`."""

    def __init__(self) -> None:
        super().__init__(ops.relu6, ops.relu6_backward)

    def describe(self, x: Shape) -> Description:
        return Description(
            output=x, reads=PIXEL, reads_fused=True, keeps_bytes=prod(x), words="ReLU6", picture="act", unrecordable="",
            onnx=lambda graph, x: graph.node("Clip", x, graph.constant("least", 0.0), graph.constant("most", 6.0)),
        )  # fmt: skip


class Sigmoid(Apply):
    """`ops.sigmoid`."""

    def __init__(self) -> None:
        super().__init__(ops.sigmoid, ops.sigmoid_backward)

    def describe(self, x: Shape) -> Description:
        return Description(
            output=x, reads=PIXEL, keeps_output=True, words="sigmoid", picture="act",
            onnx=lambda graph, x: graph.node("Sigmoid", x), unrecordable="",
        )  # fmt: skip


class Tanh(Apply):
    """`ops.tanh`."""

    def __init__(self) -> None:
        super().__init__(ops.tanh, ops.tanh_backward)

    def describe(self, x: Shape) -> Description:
        return Description(
            output=x, reads=PIXEL, keeps_output=True, words="tanh", picture="act",
            onnx=lambda graph, x: graph.node("Tanh", x), unrecordable="",
        )  # fmt: skip


class ScaledExp(Module):
    """`ops.scaled_exp` with a learned scale, which starts at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.params["scale"] = constant(1, 1)

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.scaled_exp(x, self.params["scale"])
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dscale = ops.scaled_exp_backward(dy, cache)
        self.accumulate(scale=dscale)
        return dx

    def describe(self, x: Shape) -> Description:
        def onnx(graph: Graph, x: str) -> str:
            exponent = graph.node("Mul", x, graph.constant("scale", self.params["scale"]))
            return graph.node("Exp", graph.node("Min", exponent, graph.constant("largest", LARGEST)))

        return Description(
            output=x, reads=PIXEL, keeps_input=True, keeps_output=True, work=(prod(x), prod(x)), words="exponential",
            picture="act", onnx=onnx, unrecordable="",
        )  # fmt: skip


class LeakyReLU(Apply):
    """`ops.leaky_relu`."""

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__(ops.leaky_relu, ops.leaky_relu_backward, slope=slope)

    def describe(self, x: Shape) -> Description:
        return Description(
            output=x, reads=PIXEL, keeps_bytes=prod(x), words="leaky ReLU", picture="act",
            onnx=lambda graph, x: graph.node("LeakyRelu", x, alpha=self.options["slope"]), unrecordable="",
        )  # fmt: skip


class Dropout(Module):
    """`ops.dropout` while training, nothing at inference."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        if not train or not self.rate:
            return x, () if keep else None
        if rng is None:
            raise ValueError(
                "dropout needs a random generator in training: forward(x, rng=np.random.default_rng(seed))"
            )
        y, cache = ops.dropout(x, self.rate, rng)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        return ops.dropout_backward(dy, cache) if cache else dy

    def describe(self, x: Shape) -> Description:
        return Description(
            output=x, reads=PIXEL, keeps_bytes=prod(x) if self.rate else 0, words="", picture="act",
            onnx=lambda graph, x: x, unrecordable="draws on the host" if self.rate else "",
        )  # fmt: skip
