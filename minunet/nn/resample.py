"""Up-sampling, and resizing to the size of another map, as layers."""

from __future__ import annotations

from math import gcd

import numpy as np

from .. import ops
from ..array import Array
from .description import NOTHING, Description, Graph, Shape, Window
from .module import Apply, Cache, Module


class UpsampleNearest(Apply):
    """`ops.upsample_nearest`."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__(ops.upsample_nearest, ops.upsample_nearest_backward, scale=scale)

    def describe(self, x: Shape) -> Description:
        scale = self.options["scale"]
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return Description(
            output=(x[0], scale * x[1], scale * x[2], x[3]), reads=Window(up=scale, first=1 - scale),
            words="nearest up-sampling", picture="up", onnx=lambda graph, x: resize(graph, x, scale, **how), unrecordable="",
        )  # fmt: skip


class UpsampleBilinear(Apply):
    """`ops.upsample_bilinear`."""

    def __init__(self, scale: int = 2, align_corners: bool = True) -> None:
        super().__init__(
            ops.upsample_bilinear, ops.upsample_bilinear_backward, scale=scale, align_corners=align_corners
        )

    def describe(self, x: Shape) -> Description:
        scale, corners = self.options["scale"], self.options["align_corners"]
        rows, columns = (resize_window(n, scale * n, "bilinear", corners) for n in x[1:3])
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
        return Description(
            output=(x[0], scale * x[1], scale * x[2], x[3]),
            reads=(rows, columns),
            depends_on_size=corners and scale > 1, words="bilinear up-sampling", picture="up",
            onnx=lambda graph, x: resize(graph, x, scale, **how), unrecordable="",
        )  # fmt: skip


class Resize(Module):
    """`ops.resize_bilinear` or `ops.resize_nearest`: (x, like) to a map of the size of `like`; the backward gives dx alone.

    Parameters
    ----------
    mode : {"bilinear", "nearest"}
    align_corners : bool
        For "bilinear", see `ops/resample.py`.
    """

    def __init__(self, mode: str = "bilinear", align_corners: bool = False) -> None:
        super().__init__()
        if mode not in ("bilinear", "nearest"):
            raise ValueError(f'mode must be "bilinear" or "nearest", not {mode!r}')
        self.mode, self.align_corners = mode, align_corners

    def forward(
        self, x: tuple[Array, Array], train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        values, like = x
        if self.mode == "nearest":
            y, cache = ops.resize_nearest(values, like.shape[1:3])
        else:
            y, cache = ops.resize_bilinear(values, like.shape[1:3], self.align_corners)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        return (ops.resize_nearest_backward if self.mode == "nearest" else ops.resize_bilinear_backward)(dy, cache)

    def describe(self, x: Shape, like: Shape) -> Description:
        sides = list(zip(x[1:3], like[1:3]))
        rows, columns = (resize_window(n, m, self.mode, self.align_corners) for n, m in sides)
        whole = all(m % n == 0 or n % m == 0 for n, m in sides)  # else each size has a grid of its own
        aligned = self.mode == "bilinear" and self.align_corners and any(1 < n != m for n, m in sides)
        return Description(
            output=(x[0], *like[1:3], x[3]), reads=[(rows, columns), NOTHING], depends_on_size=aligned or not whole,
            words=f"{self.mode} resizing", picture="up", onnx=self._onnx, unrecordable="",
        )  # fmt: skip

    def _onnx(self, graph: Graph, x: str, like: str) -> str:
        ends = graph.node("Shape", x, end=2), graph.node("Shape", like, start=2)
        if self.mode == "bilinear":
            how = "align_corners" if self.align_corners else "half_pixel"
            size = graph.node("Concat", *ends, axis=0)
            return graph.node("Resize", x, "", "", size, mode="linear", coordinate_transformation_mode=how)
        zero, one = graph.constant("zero", 0), graph.constant("one", 1)
        for axis in (2, 3):  # ONNX's own "nearest" rounds in float32: floor(r * n / m) in whole numbers is a gather
            n, m = (graph.node("Squeeze", graph.node("Shape", name, start=axis, end=axis + 1)) for name in (x, like))
            rows = graph.node("Div", graph.node("Mul", graph.node("Range", zero, m, one), n), m)
            x = graph.node("Gather", x, rows, axis=axis)
        return x


def resize_window(n: int, m: int, mode: str, align_corners: bool) -> Window:
    """Of n rows, those that each of m output rows reads (`ops/resample.py`)."""
    if mode == "nearest":
        return Window(down=n, up=m, first=1 - m, last=0)
    if (
        align_corners
    ):  # output row i lies at place p = i * (n - 1) / (m - 1), and reads the rows less than 1 away from p
        apart = max(m - 1, 1)
        return Window(down=n - 1, up=apart, first=1 - apart, last=apart - 1)
    n, m = n // gcd(n, m), m // gcd(n, m)  # p = (2 n i + n - m) / (2 m)
    return Window(down=2 * n, up=2 * m, first=n - 3 * m + 1, last=n + m - 1)


def resize(graph: Graph, x: str, scale: int, **how: str) -> str:
    """Add ONNX's node for up-sampling of any kind."""
    return graph.node("Resize", x, "", graph.constant("scales", [1.0, 1.0, scale, scale]), **how)
