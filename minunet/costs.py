"""What a network costs: parameters, arithmetic and memory, layer by layer, without computing anything.

`summary` sends an array through the model's own forward that has a shape but no memory (all its strides are 0). Every leaf
module is stood in for by a rule that knows the output's shape, the arithmetic and what its cache keeps; so the wiring is the
model's, and there is no second description of it that could drift.

Memory, in bytes, for a given shape of images:

* inference: what is alive at the worst moment: the skips that wait, the layer's input, its output, and the weights;
* training: weights, gradients and the optimiser's memory; all that the caches keep; and what the worst backward step needs
  beside it: the gradient of its output, of its input, and of the skips that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from .models.blocks import Join
from .nn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    GroupNorm,
    LeakyReLU,
    MaxPool2d,
    Module,
    ReLU,
    UpsampleBilinear,
    UpsampleNearest,
)
from .ops.conv import output_size, resolve_padding

Shape = tuple[int, ...]
GIB = 2**30


@dataclass
class Row:
    """One layer as it runs.

    `sources` are the numbers of the rows whose outputs it takes (-1 is the image), `flops` the multiplications and additions
    of convolutions (all else is below 1 %), `kept` the bytes that its cache holds for the backward.
    """

    name: str
    kind: str
    sources: list[int]
    input: Shape
    output: Shape
    params: int
    flops: int
    kept: int


@dataclass
class Summary:
    """The layers in the order in which they run, with totals. Print it to see the table."""

    rows: list[Row] = field(default_factory=list)
    itemsize: int = 4
    weight_bytes: int = 0

    @property
    def params(self) -> int:
        """Learned values."""
        return sum(r.params for r in self.rows)

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward (a multiplication and an addition are two); a training step is three."""
        return sum(r.flops for r in self.rows)

    @property
    def kept(self) -> int:
        """Bytes kept for the backward."""
        return sum(r.kept for r in self.rows)

    @property
    def inference_peak(self) -> int:
        """Predicted bytes in use at the worst moment of inference."""
        return self.weight_bytes + self._worst_moment()

    def training_peak(self, optimizer_slots: int = 1) -> int:
        """Predicted bytes of a training step, with so many remembered arrays a parameter (SGD 1, Adam 2)."""
        return (2 + optimizer_slots) * self.weight_bytes + self.kept + self._worst_moment()

    def _worst_moment(self) -> int:
        """Most bytes of arrays alive at once, given that each lives until the last layer that takes it."""
        last_use: dict[int, int] = {}
        made: dict[int, int] = {}
        for i, row in enumerate(self.rows):
            for j in row.sources:
                last_use[j] = i
            made[i] = prod(row.output) * self.itemsize
        worst, alive = 0, {-1: prod(self.rows[0].input) * self.itemsize}
        for i in range(len(self.rows)):
            alive[i] = made[i]
            worst = max(worst, sum(alive.values()))
            alive = {j: n for j, n in alive.items() if last_use.get(j, -1) > i}
        return worst

    def __str__(self) -> str:
        line = "{:<24}{:<16}{:<22}{:>13}{:>12}{:>12}"
        head = line.format("layer", "kind", "output", "parameters", "MFLOP", "kept MiB")
        body = [
            line.format(
                r.name,
                r.kind,
                " x ".join(map(str, r.output)),
                f"{r.params:,}",
                f"{r.flops / 1e6:,.1f}",
                f"{r.kept / 2**20:,.2f}",
            )
            for r in self.rows
        ]
        totals = [
            f"parameters          {self.params:,}  ({self.weight_bytes / 2**20:.1f} MiB)",
            f"arithmetic          {self.flops / 1e9:,.2f} GFLOP forward, {3 * self.flops / 1e9:,.2f} GFLOP a training step",
            f"kept for backward   {self.kept / GIB:.3f} GiB",
            f"predicted peak      {self.inference_peak / GIB:.3f} GiB inference, {self.training_peak(1) / GIB:.3f} GiB "
            f"training with SGD and momentum, {self.training_peak(2) / GIB:.3f} GiB with Adam",
        ]
        return "\n".join([head, "-" * len(head), *body, "-" * len(head), *totals])


def summary(model: Module, shape: Shape) -> Summary:
    """Lay out what a model costs on images of a given shape.

    Parameters
    ----------
    model : Module
    shape : (N, H, W, C)

    Returns
    -------
    Summary
        Rows and totals; ``print(summary(...))`` shows the table.

    Examples
    --------
    >>> from minunet.models import UNet
    >>> s = summary(UNet(3, 2), (1, 256, 256, 3))
    >>> s.params, round(s.flops / 1e9, 1)
    (31037698, 96.3)
    """
    if len(shape) != 4:
        raise ValueError(f"shape must be (images, rows, columns, channels), not {shape}")
    dtype = next(iter(model.named_params().values())).dtype
    result = Summary(itemsize=dtype.itemsize, weight_bytes=sum(p.nbytes for p in model.named_params().values()))
    counted: set[str] = set()
    with _traced(model, result, counted):
        model.forward(_hollow(shape, dtype, -1))
    return result


# ---- tracing ---------------------------------------------------------------------------------------------------------


class _Hollow(np.ndarray):
    """An array with a shape but no memory, that knows which row made it."""

    source: int = -1


def _hollow(shape: Shape, dtype: Any, source: int) -> _Hollow:
    a = np.broadcast_to(np.zeros((), dtype), shape).view(_Hollow)
    a.source = source
    return a


@contextmanager
def _traced(model: Module, result: Summary, counted: set[str]) -> Iterator[None]:
    """Stand in for the forward of every leaf."""
    leaves = [(name, m) for name, m in model.modules() if type(m) in RULES]
    for name, m in leaves:
        m.forward = _stand_in(name, m, result, counted)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for _, m in leaves:
            del m.forward


def _stand_in(name: str, m: Module, result: Summary, counted: set[str]) -> Callable[..., Any]:
    def forward(x: Any, *mode: Any, **named: Any) -> tuple[Any, None]:
        inputs = x if isinstance(x, tuple) else (x,)
        output, flops, kept = RULES[type(m)](m, result.itemsize, *(a.shape for a in inputs))
        params = 0 if name in counted else sum(p.size for p in m.params.values())
        counted.add(name)
        sources = [a.source for a in inputs]
        result.rows.append(Row(name, type(m).__name__, sources, inputs[0].shape, output, params, flops, kept))
        return _hollow(output, inputs[0].dtype, len(result.rows) - 1), None

    return forward


# ---- the rules: bytes an item and shapes in; shape out, operations, and bytes kept for the backward ------------------

Cost = tuple[Shape, int, int]


def _conv(m: Conv2d, item: int, x: Shape) -> Cost:
    N, H, W, C = x
    KH, KW, Cg, K = m.params["w"].shape
    if Cg * m.options["groups"] != C:
        raise ValueError(f"a convolution takes {Cg * m.options['groups']} channels and would get {C}")
    stride, dilation = m.options["stride"], m.options["dilation"]
    pads = resolve_padding(m.options["padding"], (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    return (N, OH, OW, K), 2 * N * OH * OW * K * KH * KW * Cg, prod(x) * item


def _conv_transpose(m: ConvTranspose2d, item: int, x: Shape) -> Cost:
    N, H, W, C = x
    KH, KW, _, K = m.params["w"].shape
    s = m.options["stride"]
    (top, bottom), (left, right) = resolve_padding(m.options["padding"], (H, W), (KH, KW), s, 1)
    y = (N, (H - 1) * s + KH - top - bottom, (W - 1) * s + KW - left - right, K)
    return y, 2 * N * H * W * C * KH * KW * K, prod(x) * item


def _pool(m: MaxPool2d | AvgPool2d, item: int, x: Shape) -> Cost:
    size = m.options["size"]
    OH, OW = output_size((x[1], x[2]), (size, size), ((0, 0), (0, 0)), m.options["stride"] or size)
    y = (x[0], OH, OW, x[3])
    return y, 0, prod(y) if isinstance(m, MaxPool2d) else 0  # the winners, a byte each


def _upsample(m: UpsampleBilinear | UpsampleNearest, item: int, x: Shape) -> Cost:
    s = m.options["scale"]
    return (x[0], x[1] * s, x[2] * s, x[3]), 0, 0


def _join(m: Join, item: int, skip: Shape, up: Shape) -> Cost:
    larger = skip if max(s - u for s, u in zip(skip[1:3], up[1:3])) <= 1 else up
    return (*larger[:3], skip[3] + up[3]), 0, 0


def _keeps_x(m: Module, item: int, x: Shape) -> Cost:
    return x, 0, prod(x) * item


def _keeps_mask(m: Module, item: int, x: Shape) -> Cost:
    return x, 0, prod(x)


RULES: dict[type[Module], Callable[..., Cost]] = {
    Conv2d: _conv,
    ConvTranspose2d: _conv_transpose,
    MaxPool2d: _pool,
    AvgPool2d: _pool,
    UpsampleBilinear: _upsample,
    UpsampleNearest: _upsample,
    Join: _join,
    BatchNorm2d: _keeps_x,
    GroupNorm: _keeps_x,
    ReLU: _keeps_mask,
    LeakyReLU: _keeps_mask,
    Dropout: _keeps_mask,
}
