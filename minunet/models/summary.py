"""What a network costs: parameters, arithmetic and memory, layer by layer, without computing anything.

`summary` sends an array through the model's own forward that has a shape but no memory (all its strides are 0). Every leaf
module is stood in for by a rule that knows the output's shape, the arithmetic and what its cache keeps; so the wiring is the
model's, and there is no second description of it that could drift.

Memory, in bytes, for a given shape of images. What counts is which arrays exist: with the kernels only the raw outputs of
convolutions are stored, a batch norm and a ReLU after one, and a concatenation, stand for arrays that are never made
(kernels/cpu/lazy_maps.py). So every output is traced to what it is stored in.

* inference: what is alive at the worst moment: the skips that wait, the layer's input, its output, and the weights;
* training: weights, gradients and the optimiser's memory, and the worst moment of the backward: what the caches of the layers
  still to come keep, the gradient of a layer's output, of its input, and of the skips that wait.

A caller holds what it has handed to a block of layers until the block is done. The plain ops (`fused=False`, or with
``minunet.use("reference")``) store every output, and a convolution works with padded copies and one tap's window and product.
For a GPU that is an upper bound: its kernels keep less, but their memory has not been measured.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ..nn import (
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
from ..ops.conv import output_size, resolve_padding
from ..ops.dispatch import are_fast
from .blocks import Join

Shape = tuple[int, ...]
GIB = 2**30


@dataclass
class Row:
    """One layer as it runs.

    `flops` are the multiplications and additions of convolutions (all else is below 1 %), `kept` the bytes that its cache
    holds for the backward and no earlier one does; `takes` and `makes` are the numbers of the stored arrays of its input and
    output, `keeps` of those in its cache, and `extra` the bytes kept beside them: a pool's winners, a mask.
    """

    name: str
    kind: str
    input: Shape
    output: Shape
    params: int
    flops: int
    kept: int
    takes: list[int]
    makes: list[int]
    keeps: list[int]
    extra: int
    work: tuple[int, int] = (0, 0)  # bytes that only the layer's own forward, or its backward, needs


@dataclass
class Summary:
    """The layers in the order in which they run, with totals. Print it to see the table."""

    rows: list[Row] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)  # bytes of every stored array, the image first
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
        last: dict[int, int] = {}
        for i, row in enumerate(self.rows):
            first, end = self._block(i)
            joined = i > 0 and self.rows[i - 1].kind == "Join" and len(self.rows[i - 1].makes) > 1  # goes when read
            for n in row.takes:
                last[n] = i if joined or any(n in r.makes for r in self.rows[first:i]) else end
        alive, worst = {0}, 0
        for i, row in enumerate(self.rows):
            alive.update(row.makes)
            worst = max(worst, self._bytes(alive) + row.work[0])
            alive = {n for n in alive if last.get(n, -1) > i or n in row.makes}
        return self.weight_bytes + worst

    def training_peak(self, optimizer_slots: int = 1) -> int:
        """Predicted bytes of a training step, with so many remembered arrays a parameter (SGD 1, Adam 2)."""
        gradients, worst = set(self.rows[-1].makes), 0
        for i in reversed(range(len(self.rows))):
            row, (_, end) = self.rows[i], self._block(i)
            if set(row.makes) <= set(row.takes):
                continue  # a norm or a ReLU that is done on the way
            kept = {n for r in self.rows[: i + 1] for n in r.keeps}
            kept |= {n for r in self.rows[i:] if r.kind == "BatchNorm2d" for n in r.takes if n in row.makes}
            held = set(self.rows[end].makes) - gradients  # what the caller has handed to the block
            fresh = self._bytes(row.takes)
            extra = sum(r.extra for r in self.rows[: i + 1])
            alive = self._bytes(kept) + self._bytes(gradients) + self._bytes(held)
            worst = max(worst, alive + extra + fresh + row.work[1])
            gradients = gradients - set(row.makes) | set(row.takes)
        return (2 + optimizer_slots) * self.weight_bytes + worst

    def store(self, size: int) -> int:
        """Note an array of so many numbers; returns its number."""
        self.stored.append(size * self.itemsize)
        return len(self.stored) - 1

    def _bytes(self, numbers: Iterable[int]) -> int:
        return sum(self.stored[n] for n in numbers)

    def _block(self, i: int) -> tuple[int, int]:
        """The first and the last row of the block that row i belongs to, such as "decoder.0"; itself if it is alone."""
        block = self.rows[i].name.rpartition(".")[0]
        first = end = i
        while block and first and self.rows[first - 1].name.rpartition(".")[0] == block:
            first -= 1
        while block and end + 1 < len(self.rows) and self.rows[end + 1].name.rpartition(".")[0] == block:
            end += 1
        return first, end

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


def summary(model: Module, shape: Shape, fused: bool | None = None) -> Summary:
    """Lay out what a model costs on images of a given shape.

    Parameters
    ----------
    model : Module
    shape : (N, H, W, C)
    fused : bool, optional
        Predict the memory of the kernels, or that of the plain ops; by default what `minunet.use` has chosen for the CPU.

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
    result.store(prod(shape))
    counted: set[str] = set()
    fused = are_fast() if fused is None else fused
    with stand_ins(model, RULES, lambda name, m: _stand_in(name, m, result, counted, fused)):
        model.forward(_hollow(shape, dtype, [0]))
    return result


# ---- tracing ---------------------------------------------------------------------------------------------------------


class _Hollow(np.ndarray):
    """An array with a shape but no memory, that knows where its values would be stored, and whether they are raw there."""

    stored: list[int]
    raw: bool = False


def _hollow(shape: Shape, dtype: Any, stored: list[int], raw: bool = False) -> _Hollow:
    a = np.broadcast_to(np.zeros((), dtype), shape).view(_Hollow)
    a.stored, a.raw = stored, raw
    return a


@contextmanager
def stand_ins(
    model: Module, kinds: Container[type[Module]], make: Callable[[str, Any], Callable[..., Any]]
) -> Iterator[None]:
    """For a while, every module of these kinds has the forward that `make` gives for its path and itself."""
    replaced = [(name, m) for name, m in model.modules() if type(m) in kinds]
    for name, m in replaced:
        m.forward = make(name, m)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for _, m in replaced:
            del m.forward


def _stand_in(name: str, m: Module, result: Summary, counted: set[str], fused: bool) -> Callable[..., Any]:
    def forward(x: Any, *mode: Any, **named: Any) -> tuple[Any, None]:
        inputs = x if isinstance(x, tuple) else (x,)
        output, flops, extra = RULES[type(m)](m, *(a.shape for a in inputs))
        params = 0 if name in counted else sum(p.size for p in m.params.values())
        counted.add(name)
        takes = [n for a in inputs for n in a.stored]
        makes, keeps = takes, takes if isinstance(m, KEEPS_INPUT) else []
        if not fused:
            makes = [result.store(prod(output))]
        elif isinstance(m, Join):
            makes = _joined(result, *inputs)
        elif isinstance(m, BatchNorm2d) or (isinstance(m, ReLU) and inputs[0].raw):
            extra, keeps = 0, takes  # the ReLU's mask can be read off it again
        else:
            makes = [result.store(prod(output))]
        already = {n for r in result.rows for n in r.keeps}
        kept = extra + sum(result.stored[n] for n in set(keeps) - already)
        work = (0, 0) if fused else _plain_work(m, inputs[0].shape, output, result.itemsize)
        kind = type(m).__name__
        result.rows.append(
            Row(name, kind, inputs[0].shape, output, params, flops, kept, takes, makes, keeps, extra, work)
        )
        return _hollow(output, inputs[0].dtype, makes, raw=isinstance(m, (Conv2d, BatchNorm2d))), None

    return forward


def _joined(result: Summary, skip: _Hollow, up: _Hollow) -> list[int]:
    """A joint of maps of one size makes nothing; else the lower one is padded, or the skip finished and cropped."""
    if skip.shape[1:3] == up.shape[1:3]:
        return skip.stored + up.stored
    if max(s - u for s, u in zip(skip.shape[1:3], up.shape[1:3])) <= 1:
        return [*skip.stored, result.store(prod(skip.shape[:3]) * up.shape[3])]
    return [result.store(skip.size), *up.stored]


def _plain_work(m: Module, x: Shape, y: Shape, itemsize: int) -> tuple[int, int]:
    """Bytes that a plain op works with beside its input and output: in the forward, and in the backward."""
    taken, made = prod(x) * itemsize, prod(y) * itemsize
    if isinstance(m, Conv2d):
        padded = 0 if m.params["w"].shape[0] == 1 else taken
        return 2 * padded + made, padded + taken  # the padded image, a window and its product, one of them at a time
    if isinstance(m, (BatchNorm2d, GroupNorm)):
        return made, 2 * made
    return 0, 0


KEEPS_INPUT = (Conv2d, ConvTranspose2d, BatchNorm2d, GroupNorm)

# ---- the rules: shapes in; shape out, operations, and bytes kept beside input and output ------------------------------

Cost = tuple[Shape, int, int]


def _conv(m: Conv2d, x: Shape) -> Cost:
    N, H, W, C = x
    KH, KW, Cg, K = m.params["w"].shape
    if Cg * m.options["groups"] != C:
        raise ValueError(f"a convolution takes {Cg * m.options['groups']} channels and would get {C}")
    stride, dilation = m.options["stride"], m.options["dilation"]
    pads = resolve_padding(m.options["padding"], (H, W), (KH, KW), stride, dilation)
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    return (N, OH, OW, K), 2 * N * OH * OW * K * KH * KW * Cg, 0


def _conv_transpose(m: ConvTranspose2d, x: Shape) -> Cost:
    N, H, W, C = x
    KH, KW, _, K = m.params["w"].shape
    s = m.options["stride"]
    (top, bottom), (left, right) = resolve_padding(m.options["padding"], (H, W), (KH, KW), s, 1)
    y = (N, (H - 1) * s + KH - top - bottom, (W - 1) * s + KW - left - right, K)
    return y, 2 * N * H * W * C * KH * KW * K, 0


def _pool(m: MaxPool2d | AvgPool2d, x: Shape) -> Cost:
    size = m.options["size"]
    OH, OW = output_size((x[1], x[2]), (size, size), ((0, 0), (0, 0)), m.options["stride"] or size)
    y = (x[0], OH, OW, x[3])
    return y, 0, prod(y) if isinstance(m, MaxPool2d) else 0  # the winners, a byte each


def _upsample(m: UpsampleBilinear | UpsampleNearest, x: Shape) -> Cost:
    s = m.options["scale"]
    return (x[0], x[1] * s, x[2] * s, x[3]), 0, 0


def _join(m: Join, skip: Shape, up: Shape) -> Cost:
    larger = skip if max(s - u for s, u in zip(skip[1:3], up[1:3])) <= 1 else up
    return (*larger[:3], skip[3] + up[3]), 0, 0


def _same(m: Module, x: Shape) -> Cost:
    return x, 0, 0


def _keeps_mask(m: Module, x: Shape) -> Cost:
    return x, 0, prod(x)


RULES: dict[type[Module], Callable[..., Cost]] = {
    Conv2d: _conv,
    ConvTranspose2d: _conv_transpose,
    MaxPool2d: _pool,
    AvgPool2d: _pool,
    UpsampleBilinear: _upsample,
    UpsampleNearest: _upsample,
    Join: _join,
    BatchNorm2d: _same,
    GroupNorm: _same,
    ReLU: _keeps_mask,
    LeakyReLU: _keeps_mask,
    Dropout: _keeps_mask,
}
