"""Whether a layer is as it describes itself: `check_description` runs it and looks."""

import copy

import numpy as np
import pytest

from minunet.models.receptive_field import pixels_read
from minunet.nn import Conv2d, Module
from minunet.nn.description import as_many


def check_description(layer, *shapes, whole_numbers=()):
    """Hold what a layer says of itself, for inputs of these shapes, against what it does in float64.

    The inputs numbered in `whole_numbers` hold 0 to 3, as a pool's winners do.

    That is the output's shape, how far it looks, whether its result depends on the size of the map and on the batch, what its
    cache keeps, and what it is in ONNX.
    """
    in_float32 = copy.deepcopy(layer)
    layer.convert(lambda a: a.astype(np.float64) if a.dtype.kind == "f" else a)
    rng = np.random.default_rng(0)
    said, xs = layer.describe(*shapes), [rng.standard_normal(shape) for shape in shapes]
    for i in whole_numbers:
        xs[i] = np.floor(4 * rng.random(shapes[i]))

    def run(maps, train=False):
        y, cache = layer.forward(tuple(maps) if len(maps) > 1 else maps[0], train, np.random.default_rng(0))
        return list(y) if isinstance(y, tuple) else [y], cache

    ys = run(xs)[0]
    assert [y.shape for y in ys] == [tuple(shape) for shape in said.outputs], "output"
    check_reads(said, run, xs, ys)
    check_size(said, run, xs, ys)
    assert not said.view or np.shares_memory(ys[0], xs[0]), "view"
    check_kept(said, layer, *run(xs, train=True), xs)
    if "draws" not in said.unrecordable:
        apart = [run([x[i : i + 1] for x in xs], train=True)[0] for i in range(len(xs[0]))]
        alone = [np.concatenate(parts) for parts in zip(*apart)]
        same = all(np.allclose(a, y, atol=1e-9) for a, y in zip(alone, run(xs, train=True)[0]))
        assert same != said.depends_on_batch, "depends_on_batch"
    if not said.numbers:  # in ONNX they are other numbers: test_unpooling_in_a_network
        check_onnx(in_float32, *shapes)


def check_reads(said, run, xs, ys):
    """No output pixel changes with a row or column that it is not said to read; away from borders the outermost ones do."""
    for i, x in enumerate(xs):
        for axis in (0, 1):
            window, size = said.window(i, axis), x.shape[1 + axis]
            others = tuple({0, 1, 2, 3} - {1 + axis})
            for at in range(size):
                moved = x.copy()
                moved[(slice(None),) * (1 + axis) + (at,)] += np.random.default_rng(at).uniform(5, 9)
                for y, z in zip(ys, run([*xs[:i], moved, *xs[i + 1 :]])[0]):
                    changed = np.abs(z - y).max(others) > 1e-9
                    for out in range(y.shape[1 + axis]):
                        first, last = pixels_read(window, (out, out), size, y.shape[1 + axis])
                        where = f"reads: row {out} of the output, row {at} of input {i}, axis {axis}"
                        assert first <= at <= last or not changed[out], where
                        inside = window.whole or 0 < first <= last < size - 1
                        assert not inside or at not in (first, last) or changed[out], where


def check_size(said, run, xs, ys):
    """A map without its last rows gives the same rows as the whole, but for those that would read what it lacks."""
    window, x = said.window(0, 0), xs[0]
    if len(xs) > 1 or window.whole:
        return
    same = True
    for size in range(x.shape[1] // 2, x.shape[1]):
        for y, z in zip(ys, run([x[:, :size]])[0]):
            ends = [pixels_read(window, (out, out), x.shape[1], y.shape[1])[1] for out in range(z.shape[1])]
            inside = [out for out, end in enumerate(ends) if end < size - 1]
            same &= np.allclose(y[:, inside], z[:, inside], atol=1e-9)
    assert same != said.depends_on_size, "depends_on_size"


def check_kept(said, layer, ys, cache, xs):
    """The maps of a cache are those that it is said to keep, and the bytes of the others are as many."""
    own = {id(a) for _, m in layer.modules() for a in (*m.params.values(), *m.buffers.values())}
    found = []

    def walk(part):
        if isinstance(part, (list, tuple)):
            for p in part:
                walk(p)
        elif isinstance(part, np.ndarray) and id(part) not in own:
            found.append(part)

    def held(arrays):
        return any(np.shares_memory(a, b) for a in found for b in arrays)

    walk(cache)
    for maps, keeps in ((xs, said.keeps_input), (ys, said.keeps_output)):
        assert all(held([m]) == keep for m, keep in zip(maps, as_many(keeps, maps))), "keeps_input, keeps_output"
    maps = [a for a in found if a.size > 64 and not any(np.shares_memory(a, b) for b in (*xs, *ys))]
    assert sum(a.nbytes for a in maps) == said.keeps_bytes, "keeps_bytes"


class Fed(Module):
    """A layer behind a convolution for each of its inputs, which gives all of its outputs as one map."""

    def __init__(self, layer, shapes):
        super().__init__()
        self.convs = [Conv2d(2, shape[3], 1) for shape in shapes]
        self.layer = layer
        self.together = Beside()

    def forward(self, x, train=True, rng=None, keep=True):
        maps = tuple(m.forward(x, train, rng, keep)[0] for m in self.convs)
        y = self.layer.forward(maps if len(maps) > 1 else maps[0], train, rng, keep)[0]
        return (self.together.forward(y, train, rng, keep)[0] if isinstance(y, tuple) else y), None


class Beside(Module):
    """Any number of maps of one size, side by side."""

    def forward(self, x, train=True, rng=None, keep=True):
        return np.concatenate(x, axis=-1), None

    def describe(self, *shapes):
        from minunet.nn import PIXEL, Description

        return Description(
            output=(*shapes[0][:3], sum(s[3] for s in shapes)), reads=PIXEL, words="concatenation",
            onnx=lambda graph, *maps: graph.node("Concat", *maps, axis=1),
        )  # fmt: skip


def check_onnx(layer, *shapes):
    """ONNX Runtime gives what the layer gives, for maps of another size than it was written for, too."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from minunet.checkpoint.onnx import to_onnx

    if len({shape[1:3] for shape in shapes}) > 1:
        return  # maps of several sizes: tests/test_export.py has them in whole networks
    network = Fed(layer, shapes)
    session = onnxruntime.InferenceSession(to_onnx(network), providers=["CPUExecutionProvider"])
    for size in (shapes[0][1:3], (18, 23)):
        x = np.random.default_rng(1).standard_normal((2, *size, 2), np.float32)
        found = np.moveaxis(session.run(["logits"], {"image": np.moveaxis(x, -1, 1)})[0], 1, -1)
        wanted = network(x)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
