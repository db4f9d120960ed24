"""Pools as layers."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from .. import ops
from ..ops.conv import output_size
from .description import ALL, Description, Shape, Window
from .module import Apply


class MaxPool2d(Apply):
    """`ops.max_pool2d`."""

    def __init__(self, size: int = 2, stride: int | None = None) -> None:
        super().__init__(ops.max_pool2d, ops.max_pool2d_backward, size=size, stride=stride)

    def describe(self, x: Shape) -> Description:
        pool = describe_pool("MaxPool", "max-pool", x, **self.options)
        return replace(pool, keeps_bytes=prod(pool.outputs[0]))  # the winners, a byte each


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


def describe_pool(operator: str, words: str, x: Shape, size: int, stride: int | None) -> Description:
    """The description of a layer that makes one number of every size x size window; `operator` is ONNX's name for it."""
    step = stride or size
    OH, OW = output_size((x[1], x[2]), (size, size), ((0, 0), (0, 0)), step)
    return Description(
        output=(x[0], OH, OW, x[3]), reads=Window(down=step, last=size - 1), words=words, picture="pool",
        onnx=lambda graph, x: graph.node(operator, x, kernel_shape=[size, size], strides=[step, step]), unrecordable="",
    )  # fmt: skip
