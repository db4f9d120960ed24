"""What a network costs: parameters, arithmetic and memory, layer by layer, without computing anything.

`summary` adds up the descriptions of the layers (`nn/description.py`) in the order in which the model's own forward calls them
(`models/trace.py`).

Memory, in bytes, is predicted for a given shape of images. It depends on which arrays exist. With the kernels, only the raw
outputs of convolutions are stored; a batch norm, a ReLU after one, and a concatenation stand for arrays that are never made
(kernels/cpu/lazy_maps.py). So for every output we keep track of the arrays that hold it.

* inference: what exists at the worst moment: the skips that wait, the layer's input and output, and the weights;
* training: weights and the optimiser's state, and the worst moment of the backward: the caches of the layers still to come, the
  gradients of a layer's output and input and of the skips that wait, and those of the parameters so far (`zero_grad` comes
  before the forward, so that maps may have their memory);
* both: what the kernels work in (SCRATCH).

A caller holds the array that it passed to a block of layers until the block is done, unless it hands it over (`single_use`).
The plain ops (`fused=False`, or with ``minunet.use("reference")``) store every output, and a convolution needs padded copies
and one tap's window and product.
For a GPU that is an upper bound: its kernels store less, but their memory has not been measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from ..nn import Module
from ..nn.description import Shape
from ..ops.dispatch import are_fast
from .trace import Map, Step, follow

GIB = 2**30
SCRATCH = 8 << 20
"""Bytes that the CPU's kernels work in, whatever the size of the images (kernels/cpu/memory.py): with two threads 8 MiB for a
detector on a ResNet18, and 11 for a ResNet34, were measured. It is a tenth of what a small network takes in all."""


@dataclass
class Row:
    """One layer as it runs.

    `flops` are the multiplications and additions of convolutions (all else is below 1 %), `kept` the bytes in its cache that
    no earlier cache holds. Stored arrays are numbered: `takes` and `makes` are the numbers of those that hold input and output,
    `keeps` of those in the cache. `extra` are further bytes in the cache: a pool's winners, a mask. `fused` is the layer's part
    where kernels fuse layers, see `nn.Description`.
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
    fused: str | None = None
    work: tuple[int, int] = (0, 0)  # bytes that only the layer's own forward, or its backward, needs
    computed: tuple[int, ...] = ()  # arrays of inputs that kernels had left to be computed by their readers


@dataclass
class Summary:
    """The layers in the order in which they run, with totals. Print it to see the table."""

    rows: list[Row] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)  # bytes of every stored array, the image first
    itemsize: int = 4
    weight_bytes: int = 0
    scratch: int = 0  # bytes that kernels work in
    hands_over: bool = False  # whether the backward's callers hold no gradient that they have passed to a block

    @property
    def params(self) -> int:
        """Learned values, also of heads that only run in training."""
        return self.weight_bytes // self.itemsize

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward (multiplications and additions); a training step has three times as many."""
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
            joined = i > 0 and self.rows[i - 1].fused == "concat" and len(self.rows[i - 1].makes) > 1  # goes when read
            for n in (*row.takes, *row.computed):
                last[n] = i if joined or any(n in r.makes for r in self.rows[first:i]) else end
        alive, worst = {0}, 0
        for i, row in enumerate(self.rows):
            alive.update(row.makes, row.computed)
            worst = max(worst, self._bytes(alive) + row.work[0])
            alive = {n for n in alive if last.get(n, -1) > i or n in row.makes}
        return self.weight_bytes + self.scratch + worst

    def training_peak(self, optimizer_slots: int = 1) -> int:
        """Predicted bytes of a training step; the optimiser stores `optimizer_slots` arrays a parameter (SGD 1, Adam 2)."""
        gradients, worst, learned = set(self.rows[-1].makes), 0, 0
        for i in reversed(range(len(self.rows))):
            row, (_, end) = self.rows[i], self._block(i)
            learned += row.params * self.itemsize  # of these the gradients exist from here on
            if set(row.makes) <= set(row.takes):
                continue  # a norm or a ReLU that is done on the way
            kept = {n for r in self.rows[: i + 1] for n in r.keeps}
            kept |= {n for r in self.rows[i:] if r.fused == "norm" for n in r.takes if n in row.makes}
            held = set() if self.hands_over else set(self.rows[end].makes) - gradients
            fresh = self._bytes(row.takes)
            extra = sum(r.extra for r in self.rows[: i + 1])
            alive = self._bytes(kept) + self._bytes(gradients) + self._bytes(held)
            worst = max(worst, alive + extra + fresh + learned + row.work[1])
            gradients = gradients - set(row.makes) | set(row.takes)
        return (1 + optimizer_slots) * self.weight_bytes + self.scratch + worst

    def store(self, size: int, itemsize: int = 0) -> int:
        """Enter a stored array with so many elements, numbers of the maps' dtype unless told; returns the array's number."""
        self.stored.append(size * (itemsize or self.itemsize))
        return len(self.stored) - 1

    def _bytes(self, numbers: Iterable[int]) -> int:
        return sum(self.stored[n] for n in numbers)

    def _block(self, i: int) -> tuple[int, int]:
        """The first and the last row of the block that row i belongs to, such as "decoder.0"; i twice if there is none."""
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
    """Predict what a model costs on images of a given shape.

    Parameters
    ----------
    model : Module
    shape : (N, H, W, C)
    fused : bool, optional
        Whether to predict the memory of the kernels or of the plain ops; by default, of those that `minunet.use` has chosen.

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
    params = model.named_params()
    dtype = next((p.dtype for p in params.values()), np.dtype(np.float32))
    fused = are_fast() if fused is None else fused
    result = Summary(
        itemsize=dtype.itemsize, weight_bytes=sum(p.nbytes for p in params.values()), scratch=SCRATCH * fused
    )
    result.hands_over = fused and getattr(model, "hands_over", False)
    trace = follow(model, shape, dtype)
    stored = {trace.image: [result.store(prod(shape))]}  # the arrays that hold each map
    raw: set[Map] = set()  # maps that a convolution or a norm gives, if kernels fuse layers
    lazy: dict[Map, list[int]] = {}  # maps without an array of their own, and that array if a reader needed one
    counted: set[Module] = set()
    for step in trace.steps:
        result.rows.append(row(result, step, stored, raw, lazy, fused))
        if step.layer in counted:
            result.rows[-1].params = 0
        counted.add(step.layer)
    return result


def row(
    result: Summary, step: Step, stored: dict[Map, list[int]], raw: set[Map], lazy: dict[Map, list[int]], fused: bool
) -> Row:
    """Make the next row of a summary from one call of a layer, and enter its outputs into `stored`, `raw` and `lazy`."""
    d, inputs, outputs = step.description, step.inputs, step.outputs
    part = d.fused if fused else None
    passing = part == "norm" or (part == "act" and inputs[0] in raw)  # computed while the next layer reads
    read = {x: stored[x] for x in inputs}
    if not (d.reads_fused or part == "concat" or (part == "act" and passing)):
        for x in inputs:
            if x in lazy:
                lazy[x] = read[x] = lazy[x] or [result.store(x.size)]
    computed = tuple(n for x, arrays in read.items() if arrays != stored[x] for n in arrays)
    for n, y in enumerate(outputs):
        if passing or d.view:
            stored[y] = read[inputs[0]]
        elif part == "concat":
            stored[y] = [n for x in inputs for n in brought_to_size(result, x, y, stored[x])]
        else:
            stored[y] = [result.store(y.size, int(n >= len(outputs) - d.numbers))]
    if part in ("conv", "norm"):
        raw.update(outputs)
    if passing or part == "concat":
        lazy.update((y, []) for y in outputs)
    takes, makes = ([n for m in maps for n in stored[m]] for maps in (inputs, outputs))
    kept_maps = inputs if passing else d.kept(inputs, outputs)
    keeps = [n for m in kept_maps for n in read.get(m, stored[m])]
    extra = 0 if passing else d.keeps_bytes  # a ReLU's mask can be read off its input again
    already = {n for r in result.rows for n in r.keeps}
    kept = extra + sum(result.stored[n] for n in set(keeps) - already)
    params = sum(p.size for p in step.layer.named_params().values())
    work = (0, 0) if fused else (d.work[0] * result.itemsize, d.work[1] * result.itemsize)
    return Row(step.path, type(step.layer).__name__, inputs[0].shape, outputs[0].shape, params, d.flops, kept, takes, makes,
               keeps, extra, d.fused, work, computed)  # fmt: skip


def brought_to_size(result: Summary, x: Map, y: Map, stored: list[int]) -> list[int]:
    """The arrays that hold map x within the concatenation y: its own, or a new one if it is padded or cropped first."""
    if x.shape[1:3] == y.shape[1:3]:
        return stored
    return [result.store(max(x.size, prod(y.shape[:3]) * x.shape[3]))]
