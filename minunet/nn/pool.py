"""Pools as layers."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from .. import ops
from ..array import Array
from ..ops.conv import output_size
from ..ops.pool import pool_margins
from .description import ALL, NOTHING, Description, Graph, Shape, Window
from .module import Apply, Cache, Module


class MaxPool2d(Apply):
    """`ops.max_pool2d`; with padding, or with windows beyond the map's end, `ops.max_pool2d_padded`."""

    def __init__(self, size: int = 2, stride: int | None = None, padding: int = 0, ceil_mode: bool = False) -> None:
        if padding or ceil_mode:
            options: dict[str, Any] = {"padding": padding, "ceil_mode": ceil_mode}
            super().__init__(
                ops.max_pool2d_padded, ops.max_pool2d_padded_backward, size=size, stride=stride or size, **options
            )
        else:
            super().__init__(ops.max_pool2d, ops.max_pool2d_backward, size=size, stride=stride)

    def describe(self, x: Shape) -> Description:
        pool = describe_pool("MaxPool", "max-pool", x, **self.options)
        return replace(pool, reads_fused=True, keeps_bytes=prod(pool.outputs[0]))  # the winners, a byte each


class MaxPoolWinners2d(Module):
    """`ops.max_pool2d` that also gives its winners, for `MaxUnpool2d`: a map to (y, winner), both of one shape.

    The backward takes the gradient of y alone.
    """

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.size = size

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[tuple[Array, Array], Cache]:
        y, cache = ops.max_pool2d(x, self.size)
        return (y, cache[0]), cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        return ops.max_pool2d_backward(dy, cache)

    def describe(self, x: Shape) -> Description:
        pool = describe_pool("MaxPool", "max-pool", x, self.size, None)
        (y,) = pool.outputs

        def onnx(graph: Graph, x: str) -> list[str]:
            how = {"kernel_shape": [self.size] * 2, "strides": [self.size] * 2}
            return graph.several(2, "MaxPool", x, **how)

        return replace(pool, output=[y, y], reads_fused=True, numbers=1, keeps_output=(False, True), onnx=onnx)


class MaxUnpool2d(Module):
    """`ops.max_unpool2d`: (x, winner, like) to a map of the size of `like`, the one that was pooled; gives dx alone back."""

    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.size = size

    def forward(
        self,
        x: tuple[Array, Array, Array],
        train: bool = True,
        rng: np.random.Generator | None = None,
        keep: bool = True,
    ) -> tuple[Array, Cache]:
        values, winner, like = x
        y, cache = ops.max_unpool2d(values, winner, like.shape[1:3], self.size)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        return ops.max_unpool2d_backward(dy, cache)

    def describe(self, x: Shape, winner: Shape, like: Shape) -> Description:
        def onnx(graph: Graph, x: str, winner: str, like: str) -> str:
            ends = graph.node("Shape", x, end=2), graph.node("Shape", like, start=2)
            how = {"kernel_shape": [self.size] * 2, "strides": [self.size] * 2}
            return graph.node("MaxUnpool", x, winner, graph.node("Concat", *ends, axis=0), **how)

        spread = Window(up=self.size, first=1 - self.size)
        return Description(
            output=(*x[:1], *like[1:3], x[3]), reads=[spread, spread, NOTHING], keeps_input=(False, True, False),
            words="unpooling", picture="up", onnx=onnx, unrecordable="",
        )  # fmt: skip


class AvgPool2d(Apply):
    """`ops.avg_pool2d`."""

    def __init__(self, size: int = 2, stride: int | None = None) -> None:
        super().__init__(ops.avg_pool2d, ops.avg_pool2d_backward, size=size, stride=stride)

    def describe(self, x: Shape) -> Description:
        return describe_pool("AveragePool", "average pool", x, **self.options)


class GlobalAvgPool2d(Apply):
    """`ops.global_avg_pool2d`: a map to one pixel, its mean."""

    def __init__(self) -> None:
        super().__init__(ops.global_avg_pool2d, ops.global_avg_pool2d_backward)

    def describe(self, x: Shape) -> Description:
        return Description(
            output=(x[0], 1, 1, x[3]), reads=ALL, words="global mean", picture="pool",
            onnx=lambda graph, x: graph.node("GlobalAveragePool", x), unrecordable="",
        )  # fmt: skip


def describe_pool(
    operator: str, words: str, x: Shape, size: int, stride: int | None, padding: int = 0, ceil_mode: bool = False
) -> Description:
    """The description of a layer that makes one number of every size x size window; `operator` is ONNX's name for it."""
    step = stride or size
    margins = pool_margins(x, size, step, padding, ceil_mode) if padding or ceil_mode else ((0, 0), (0, 0))
    OH, OW = output_size((x[1], x[2]), (size, size), margins, step)
    how = {"kernel_shape": [size, size], "strides": [step, step], "pads": [padding] * 4, "ceil_mode": int(ceil_mode)}
    return Description(
        output=(x[0], OH, OW, x[3]), reads=Window(down=step, first=-padding, last=size - 1 - padding), words=words,
        picture="pool", onnx=lambda graph, x: graph.node(operator, x, **how), unrecordable="",
    )  # fmt: skip
