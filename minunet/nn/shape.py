"""Concatenation as a layer."""

from __future__ import annotations

import numpy as np

from .. import ops
from ..array import Array
from .description import PIXEL, Description, Graph, Shape
from .module import Cache, Module


class Concat(Module):
    """`ops.concat`: any number of maps of one size, a tuple, to one with all of their channels in this order."""

    def forward(
        self, x: tuple[Array, ...], train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.concat(x)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> tuple[Array, ...]:
        return ops.concat_backward(dy, cache)

    def describe(self, *maps: Shape) -> Description:
        if any(m[:3] != maps[0][:3] for m in maps):
            raise ValueError(f"a concatenation needs maps of one size, not {', '.join(map(str, maps))}")

        def onnx(graph: Graph, *maps: str) -> str:
            return graph.node("Concat", *maps, axis=1)

        return Description(
            output=(*maps[0][:3], sum(m[3] for m in maps)), reads=PIXEL, fused="concat" if len(maps) == 2 else None,
            reads_fused=True, words="concatenation", onnx=onnx, unrecordable="",
        )  # fmt: skip
