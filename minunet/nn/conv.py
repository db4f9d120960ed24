"""Convolution and transposed convolution as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..array import Array
from ..ops.conv import Padding, output_size, resolve_padding
from .description import Description, Graph, Shape, Window
from .init import constant, he_normal
from .module import Cache, Module


class Conv2d(Module):
    """`ops.conv2d` with filters w (size, size, in/groups, out) and bias b (out,).

    Filters start as He et al. (arXiv:1502.01852) and the U-Net paper have it: normal with a standard deviation of
    sqrt(2 / fan_in), fan_in = size*size*in/groups; biases at 0.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int = 3, *, stride: int = 1, padding: Padding = "same",
        dilation: int = 1, groups: int = 1, bias: bool = True, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.fan_in = size * size * in_channels // groups
        self.params["w"] = he_normal((size, size, in_channels // groups, out_channels), rng)
        if bias:
            self.params["b"] = constant(0, out_channels)

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.conv2d(x, self.params["w"], self.params.get("b"), **self.options)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dw, db = ops.conv2d_backward(dy, cache)
        self.accumulate(w=dw, b=db)
        return dx

    def describe(self, x: Shape) -> Description:
        (N, H, W, C), (KH, KW, Cg, K) = x, self.params["w"].shape
        stride, padding, dilation, groups = self.options.values()
        if Cg * groups != C:
            raise ValueError(f"a convolution takes {Cg * groups} channels and would get {C}")
        slide = Slide(x, (KH, KW), stride, padding, dilation)
        OH, OW = slide.size
        numbers, room = N * H * W * C, N * slide.padded[0] * slide.padded[1] * C * (slide.padded != (H, W))
        seen = N * OH * OW * C * ((KH, KW, stride) != (1, 1, 1))  # by one tap

        def onnx(graph: Graph, x: str) -> str:
            return graph.node("Conv", x, *weights(graph, self, (3, 2, 0, 1)), group=groups, **slide.onnx)

        return Description(
            output=(N, OH, OW, K), reads=slide.reads, flops=2 * N * OH * OW * K * KH * KW * Cg,
            depends_on_size=slide.depends_on_size, keeps_input=True, fused="conv", reads_fused=True,
            words=f"{KH}x{KW} convolution", picture="conv", onnx=onnx, unrecordable="",
            work=(room + seen + N * OH * OW * K, max(room - numbers, 0) + room + seen),  # padded, a window, its product
        )  # fmt: skip


class Slide:
    """What a filter that slides over a map says of itself, whatever it does with what it sees.

    Attributes
    ----------
    size : (int, int)
        The output's rows and columns.
    padded : (int, int)
        The input's, with the padding: far more than without, where a filter is dilated.
    reads : (Window, Window)
    depends_on_size : bool
        Whether the padding at the top or left depends on the size of the map.
    onnx : dict
        The attributes of ONNX's node: strides, dilations, and padding.
    """

    def __init__(self, x: Shape, kernel: tuple[int, int], stride: int, padding: Padding, dilation: int) -> None:
        H, W = x[1:3]
        pads = resolve_padding(padding, (H, W), kernel, stride, dilation)
        self.size = output_size((H, W), kernel, pads, stride, dilation)
        self.padded = H + sum(pads[0]), W + sum(pads[1])
        rows, columns = (
            Window(down=stride, first=-before, last=dilation * (k - 1) - before) for (before, _), k in zip(pads, kernel)
        )
        self.reads = rows, columns
        where = [resolve_padding(padding, (H + n, W + n), kernel, stride, dilation) for n in range(stride)]
        self.depends_on_size = len({(rows[0], columns[0]) for rows, columns in where}) > 1
        (top, bottom), (left, right) = pads
        by_size = padding == "same" and stride > 1  # so that ONNX pads maps of other sizes as we do
        how = {"auto_pad": "SAME_UPPER"} if by_size else {"pads": [top, left, bottom, right]}
        self.onnx: dict[str, Any] = {"strides": [stride, stride], "dilations": [dilation, dilation], **how}


class ConvTranspose2d(Module):
    """`ops.conv_transpose2d` with w (size, size, in, out) and b (out,); by default the paper's 2x2 up-convolution.

    `output_padding` gives so many rows and columns more at the far ends, at most as many as the padding cuts off: a 3x3 filter
    with a stride of 2, padding 1 and output padding 1 doubles the map.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int = 2, *, stride: int = 2, padding: Padding = 0,
        output_padding: int = 0, bias: bool = True, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if output_padding:
            if not isinstance(padding, int) or not 0 < output_padding <= padding:
                raise ValueError(
                    f"output_padding {output_padding} needs a padding of at least as much, not {padding!r}"
                )
            padding = ((padding, padding - output_padding),) * 2
        self.options: dict[str, Any] = {"stride": stride, "padding": padding}
        self.fan_in = in_channels  # at stride = size, every output comes from one input pixel
        self.params["w"] = he_normal((size, size, in_channels, out_channels), rng, self.fan_in)
        if bias:
            self.params["b"] = constant(0, out_channels)

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.conv_transpose2d(x, self.params["w"], self.params.get("b"), **self.options)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dw, db = ops.conv_transpose2d_backward(dy, cache)
        self.accumulate(w=dw, b=db)
        return dx

    def describe(self, x: Shape) -> Description:
        (N, H, W, C), (KH, KW, Cw, K) = x, self.params["w"].shape
        if Cw != C:
            raise ValueError(f"a transposed convolution takes {Cw} channels and would get {C}")
        stride = self.options["stride"]
        pads = resolve_padding(self.options["padding"], (H, W), (KH, KW), stride, 1)
        (top, bottom), (left, right) = pads
        rows, columns = (  # input row i stamps the output rows from i*stride - before to i*stride - before + K - 1
            Window(up=stride, first=before - k + 1, last=before) for (before, _), k in zip(pads, (KH, KW))
        )

        def onnx(graph: Graph, x: str) -> str:
            return graph.node("ConvTranspose", x, *weights(graph, self, (2, 3, 0, 1)), strides=[stride, stride],
                              pads=[top, left, bottom, right])  # fmt: skip

        return Description(
            output=(N, (H - 1) * stride + KH - top - bottom, (W - 1) * stride + KW - left - right, K),
            reads=(rows, columns), flops=2 * N * H * W * C * KH * KW * K, keeps_input=True, reads_fused=True,
            words="transposed convolution", picture="up", onnx=onnx, unrecordable="",
        )  # fmt: skip


def weights(graph: Graph, m: Module, order: tuple[int, ...]) -> list[Any]:
    """Filters and bias (if any) as constants of an ONNX graph, the filters' axes in ONNX's order."""
    return [graph.constant(name, p.transpose(order) if name == "w" else p) for name, p in m.params.items()]
