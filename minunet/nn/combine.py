"""Sums of maps and gates as layers; they take a tuple of maps."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops
from ..array import Array
from .description import PIXEL, Description, Graph, Shape, Window
from .module import Cache, Module


class Add(Module):
    """`ops.add`: (a, b, ...) to their sum. The backward gives the same array for each, which nobody may write into."""

    def forward(
        self, x: tuple[Array, ...], train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.add(x)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, ...]:
        return ops.add_backward(dy, cache)

    def describe(self, x: Shape, *others: Shape) -> Description:
        if any(other != x for other in others):
            raise ValueError(f"a sum needs maps of one shape, not {x} and {', '.join(map(str, others))}")

        def onnx(graph: Graph, x: str, *others: str) -> str:
            for other in others:
                x = graph.node("Add", x, other)
            return x

        pair = (
            len(others) == 1
        )  # has a kernel, which hands on a raw map as a convolution does: a ReLU behind it is not stored
        return Description(
            output=x, reads=PIXEL, fused="conv" if pair else None, reads_fused=pair, words="sum", onnx=onnx, unrecordable="",
        )  # fmt: skip


class Gate(Module):
    """`ops.gate`: (x, a) to x * a, where a has a number for each channel, pixel or value; the backward gives (dx, da)."""

    def forward(
        self, x: tuple[Array, Array], train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.gate(*x)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, Array]:
        return ops.gate_backward(dy, cache)

    def describe(self, x: Shape, a: Shape) -> Description:
        rows, columns = (Window(down=int(a[axis] == x[axis])) for axis in (1, 2))  # a single row is what all rows read
        return Description(
            output=x, reads=[PIXEL, (rows, columns)], keeps_input=True, work=(0, prod(x)), words="gate",
            onnx=lambda graph, x, a: graph.node("Mul", x, a), unrecordable="",
        )  # fmt: skip
