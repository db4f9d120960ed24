"""The memory of large arrays, used again and again: never while anybody can still see it, and always after."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st

from minunet import ops, optim
from minunet.kernels.cpu import launch, memory
from minunet.models import UNet


@pytest.fixture(autouse=True)
def taken_memory(monkeypatch):
    """A recycler of its own, for arrays of any size; the list of how many bytes it has taken from the system, each time."""
    taken, real = [], memory._aligned
    monkeypatch.setattr(memory, "_aligned", lambda size: taken.append(size) or real(size))
    monkeypatch.setattr(memory, "_recycler", memory.Recycler())
    monkeypatch.setattr(memory, "RECYCLED", 1)
    monkeypatch.setattr(memory, "CHUNK", 1 << 18)
    return taken


def place(a):
    return a.__array_interface__["data"][0]


VIEWS = {
    "itself": lambda a: a,
    "a slice": lambda a: a[3:, ::2],
    "one number": lambda a: a[:1, :1],
    "of another dtype": lambda a: a.view(np.int32),
    "of another shape": lambda a: a.T.reshape(5, -1, order="F"),
    "of a view": lambda a: a[1:][1:][1:].swapaxes(0, 1),
    "without numbers": lambda a: a.reshape(-1)[7:7],
    "a memoryview": lambda a: memoryview(a),
    "by its interface": lambda a: np.asarray(
        type("Holder", (), {"a": a, "__array_interface__": a.__array_interface__})()
    ),
    "broadcast": lambda a: np.broadcast_to(a, (3, *a.shape)),
    "made ready": lambda a: launch.ready(a[2:]),
}


@pytest.mark.parametrize("view", VIEWS)
def test_not_while_there_is_a_view(view, taken_memory):
    a = memory.empty((20, 10), np.float32)
    a[...] = 7
    seen, where = VIEWS[view](a), place(a)
    before = np.array(seen)
    del a
    others = [memory.empty((20, 10), np.float32) for _ in range(3)]
    for b in others:
        b[...] = 8
        assert place(b) != where
    np.testing.assert_array_equal(np.array(seen), before)
    del seen
    gc.collect()
    assert place(memory.empty((20, 10), np.float32)) == where
    assert len(taken_memory) == 1


def test_alignment_and_what_comes_out(taken_memory):
    for shape, dtype in [
        ((3, 5), np.float32),
        ((1,), np.uint8),
        ((1, 4), np.float64),
        ((2, 2), bool),
        ((), np.float64),
    ]:
        for _ in range(2):
            a = memory.empty(shape, dtype)
            assert (a.shape, a.dtype, place(a) % memory.LINE) == (shape, dtype, 0)
            assert a.flags.writeable and a.flags.c_contiguous and a.flags.aligned
            assert type(a) is np.ndarray


def test_small_arrays_are_not_kept(taken_memory, monkeypatch):
    monkeypatch.setattr(memory, "RECYCLED", 1000)
    memory.empty((999,), np.uint8)
    assert taken_memory == [999]
    memory.empty((1000,), np.uint8)
    assert taken_memory == [999, memory.CHUNK]


def gaps(recycler):
    """All gaps of a recycler, which must be in order, apart from each other, and inside of their chunks."""
    with recycler.lock:
        recycler._sort_in()
    for (chunk, _, end), (following, start, _) in itertools.pairwise(recycler.gaps):
        assert (chunk, end) < (following, start)
    for chunk, start, end in recycler.gaps:
        assert 0 <= start < end <= recycler.chunks[chunk].size
    return recycler.gaps


@given(st.lists(st.one_of(st.integers(1, 200_000), st.integers(-20, -1)), min_size=1, max_size=80))
@examples(100)
def test_any_order_of_sizes(steps):
    """A number is a size to take, a negative one which of the arrays so far is dropped: none ever sees another one's numbers,
    and what is in use and the gaps are all that there is."""
    memory._recycler = recycler = memory.Recycler()
    live = []
    for n, step in enumerate(steps):
        if step < 0:
            live[step : (step + 1) or None] = []
        else:
            a = memory.empty((step,), np.uint8)
            a[...] = n % 251
            live.append((a, n % 251))
        for a, value in live:
            assert (a == value).all()
        a = None  # it would hold memory
        used = sum(-(-a.size // memory.PAGE) * memory.PAGE for a, _ in live)
        assert used + sum(end - start for _, start, end in gaps(recycler)) == sum(
            c.size for c in recycler.chunks.values()
        )
    live.clear()
    assert len(gaps(recycler)) == len(recycler.chunks)
    memory.release_memory()
    assert not recycler.chunks and not recycler.gaps


def test_sizes_that_grow_and_shrink_do_not_pile_up(taken_memory):
    for _ in range(3):
        for size in (*range(1000, 500_000, 30_000), *range(500_000, 1000, -29_999)):
            memory.empty((size,), np.uint8)
            assert sum(c.size for c in memory._recycler.chunks.values()) <= 503_808  # whole pages


def test_the_smallest_gap_that_is_large_enough(taken_memory):
    """An array as large as one that has gone lies where that one lay, though there are larger gaps before it."""
    page, held = memory.PAGE, []
    for pages in (3, 1, 2, 1, 1):
        held.append(memory.empty((pages * page,), np.uint8))
    places = [place(a) for a in held]
    held[0] = held[2] = None
    assert place(memory.empty((2 * page,), np.uint8)) == places[2]
    assert place(memory.empty((2 * page + 1,), np.uint8)) == places[0]
    assert place(memory.empty((4 * page,), np.uint8)) == places[4] + page  # what was never used comes last
    assert len(taken_memory) == 1


def test_gradients_lie_where_maps_have_been(monkeypatch):
    """All that a step's parameters' gradients need beyond its maps' memory is less than the tenth of what they take."""
    m, x = UNet(1, 2, base_width=8, depth=2), np.zeros((1, 48, 48, 1), np.float32)
    ends, take = {}, memory.Recycler.take

    def watched(recycler, size):
        block = take(recycler, size)
        ends[block.start] = max(ends.get(block.start, 0), block.start + size)
        return block

    monkeypatch.setattr(memory, "CHUNK", 1 << 24)
    monkeypatch.setattr(memory.Recycler, "take", watched)
    m.backward(*m.forward(x))
    weights = {place(g): g.nbytes for g in m.named_grads().values() if g.ndim == 4}
    maps = max(end for start, end in ends.items() if start not in weights)
    assert len(weights) > 10 and max(ends.values()) - maps < sum(weights.values()) / 10


def test_many_threads():
    """Each writes its number into arrays of all sizes and finds it there again."""
    wrong = []

    def work(number):
        rng = np.random.default_rng(number)
        held = []
        for _ in range(300):
            a = memory.empty((int(rng.integers(1, 20_000)),), np.uint8)
            a[...] = number
            held.append(a)
            if len(held) > 5:
                held.pop(int(rng.integers(len(held))))
            wrong.extend(a for a in held if not (a == number).all())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_release_memory(taken_memory):
    arrays = [memory.empty((size,), np.uint8) for size in (10, 1000, 100_000)]
    memory.scratch("test", (100,), np.float32)
    del arrays[1:]
    memory.release_memory()
    assert len(taken_memory) == 2 and not memory._scratch  # one chunk, which is in use, and that of the scratch
    assert [end - start for _, start, end in memory._recycler.gaps] == [memory.CHUNK - memory.PAGE]
    del arrays[:]
    memory.release_memory()
    assert not memory._recycler.chunks
    assert memory.empty((1000,), np.uint8).size == 1000


@pytest.mark.parametrize("options", [{}, {"norm": None, "up": "bilinear"}, {"norm": "group", "dropout": 0.3}])
def test_a_further_step_takes_no_new_memory(options, taken_memory, monkeypatch):
    """After three steps of training everything is there; with sizes that alternate, after three rounds."""
    monkeypatch.setattr(memory, "RECYCLED", 1 << 12)
    monkeypatch.setattr(memory, "CHUNK", 1 << 21)  # enough for several of the largest maps, as the real one
    model, rng, asked = UNet(1, 2, base_width=8, depth=2, **options), np.random.default_rng(0), []
    adam, real = optim.Adam(model, 1e-3), memory.Recycler.take
    monkeypatch.setattr(memory.Recycler, "take", lambda self, size: asked.append(size) or real(self, size))

    def step(size):
        x, labels = rng.standard_normal((1, size, size, 1), np.float32), rng.integers(0, 2, (1, size, size))
        y, cache = model.forward(x, rng=rng)
        _, its = ops.softmax_cross_entropy(y, labels)
        model.backward(ops.softmax_cross_entropy_backward(1.0, its), cache)
        adam.step()
        model.zero_grad()

    for sizes in ([128], [128, 96]):
        for _ in range(3):
            for size in sizes:
                step(size)
        taken_memory.clear(), asked.clear()
        for size in sizes:
            step(size)
        large = [n for n in taken_memory if n >= memory.RECYCLED]
        assert sum(asked) > 5e6
        assert sum(large) < 0.01 * sum(asked), (sum(large), sum(asked))


FORK = """
import os, sys, numpy as np
from minunet.kernels.cpu import launch, memory
with memory._recycler.lock, launch._one_at_a_time:  # as if another thread were taking memory
    child = os.fork()
    if child == 0:
        memory.empty((1 << 20,), np.float32)
        with launch.alone():
            os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_is_not_locked_out():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=300)
    assert done.stdout == "7\n", done.stderr
