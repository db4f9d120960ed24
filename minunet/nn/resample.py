"""Up-sampling as layers."""

from __future__ import annotations

from .. import ops
from .description import Description, Graph, Shape, Window
from .module import Apply


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
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners" if corners else "half_pixel"}
        return Description(
            output=(x[0], scale * x[1], scale * x[2], x[3]),
            reads=(bilinear_window(x[1], scale, corners), bilinear_window(x[2], scale, corners)),
            depends_on_size=corners and scale > 1, words="bilinear up-sampling", picture="up",
            onnx=lambda graph, x: resize(graph, x, scale, **how), unrecordable="",
        )  # fmt: skip


def bilinear_window(n: int, scale: int, align_corners: bool) -> Window:
    """Output row i lies at place p of the input (`ops/resample.py`), and reads the rows less than 1 away from p."""
    if align_corners:  # p = i * (n - 1) / (scale*n - 1)
        apart = max(scale * n - 1, 1)
        return Window(down=n - 1, up=apart, first=1 - apart, last=apart - 1)
    return Window(down=2, up=2 * scale, first=2 - 3 * scale, last=scale)  # p = (2i + 1 - scale) / (2*scale)


def resize(graph: Graph, x: str, scale: int, **how: str) -> str:
    """Add ONNX's node for up-sampling of any kind."""
    return graph.node("Resize", x, "", graph.constant("scales", [1.0, 1.0, scale, scale]), **how)
