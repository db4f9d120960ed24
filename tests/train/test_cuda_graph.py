"""Training steps as CUDA graphs, on the stand-in for CuPy with the kernels emulated: the plain steps to the last bit."""

import copy
import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from helpers import pretend_gpu
from helpers.gpu_training import batch, trainer

import minunet
from minunet import nn, optim
from minunet.kernels.cuda import emulator
from minunet.models import UNet
from minunet.ops import named_loss
from minunet.train import amp
from minunet.train import cuda_graph as graph
from minunet.train.cuda_graph import RecordedStep, reason_against

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")


class Others:
    """They take all memory that they can get, and want to find in it what they wrote."""

    def __init__(self, gpu):
        self.gpu, self.arrays = gpu, []

    def take(self):
        self.gpu.get_default_memory_pool().free_all_blocks()
        for size, blocks in list(pretend_gpu.freed.items()):
            self.arrays += [self.gpu.full(size, 7, np.uint8) for _ in range(len(blocks))]

    def intact(self):
        return all((a.get() == 7).all() for a in self.arrays)


def small():
    """A network that has most kinds of kernels and few launches."""
    rng = np.random.default_rng(1)
    return nn.Sequential(
        conv=nn.Conv2d(1, 4, rng=rng), norm=nn.BatchNorm2d(4), relu=nn.ReLU(), head=nn.Conv2d(4, 2, 1, rng=rng)
    )


def unet(norm):
    return UNet(1, 2, base_width=4, depth=1, norm=norm, seed=1)


def steps(gpu, make=None, kind=optim.SGD, network=small, loss="ce", odd=(), **options):
    """What six steps at six rates leave, by RecordedStep or another `make`, or plainly: losses, parameters, statistics, and
    whether others found their memory as they had left it."""
    model = network().convert(gpu.asarray)
    optimizer = kind(model, 0.1, **options)
    forward, backward = named_loss(loss, 2)

    def gradients(x, labels):
        logits, cache = model.forward(x)
        value, loss_cache = forward(logits, labels)
        model.zero_grad()
        model.backward(backward(1.0, loss_cache), cache)
        return value

    def update(x, labels):
        value = gradients(x, labels)
        optimizer.apply()
        return value

    recorded = make and make(update, gpu, pytest.fail)
    if recorded:
        optimizer.hold()
    losses, others = [], Others(gpu)
    for i in range(6):
        x, labels = (a[: 1 if i in odd else 2] for a in batch(gpu, seed=i))
        optimizer.lr = 0.1 / (i + 1)
        if recorded:
            optimizer.advance()
            value = recorded(x, labels)
        else:
            value = gradients(x, labels)
            optimizer.step()
        losses.append(float(value))
        others.take()
    found = {"losses": np.array(losses), "others": np.array(others.intact())}
    return {**found, **{name: a.get() for name, a in model.state().items()}}, recorded


def same(found, wanted):
    assert found.keys() == wanted.keys() and all(np.isfinite(a).all() for a in wanted.values())
    for name, a in wanted.items():
        np.testing.assert_array_equal(found[name], a, name)


@pytest.mark.drawn(quick=2)
@pytest.mark.parametrize(
    "case",
    [
        {"kind": optim.SGD, "network": lambda: unet("batch"), "odd": (1,)},
        {"kind": optim.Adam, "network": lambda: unet("group")},
        {"kind": optim.SGD, "nesterov": True, "weight_decay": 0.1, "odd": (1, 4)},
        {"kind": optim.AdamW, "weight_decay": 0.1, "loss": "ce+dice"},
        {"kind": optim.RMSprop},
    ],
    ids=lambda case: ", ".join([case["kind"].__name__, *(key for key in case if key != "kind")]),
)
def test_recorded_steps_are_the_plain_ones(gpu, case):
    """To the last bit, at changing rates, with batches of another size in between."""
    wanted, _ = steps(gpu, **case)
    found, recorded = steps(gpu, RecordedStep, **case)
    assert recorded.graph is not None and recorded.calls == 6 - len(case.get("odd", ()))
    same(found, wanted)


def test_recorded_inference_is_the_plain_one(gpu):
    """With given statistics, on other images each time, and with parameters that have changed since."""
    model = unet("batch").convert(gpu.asarray)
    recorded = RecordedStep(model, gpu, pytest.fail)
    for i in range(5):
        x, _ = batch(gpu, seed=i)
        wanted = model(x).get()
        assert (recorded(x).get() == wanted).all() and np.ptp(wanted) > 0
        for p in model.named_params().values():
            p += 0.01
    assert recorded.graph is not None


class BatchWhereItLies(RecordedStep):
    """A bug: the recorded kernels read the batch that was recorded, where it lay."""

    def __call__(self, *arrays):
        self.given = arrays
        return super().__call__(*arrays)

    def _in_arena(self):
        with self.xp.cuda.using_allocator(self.arena.malloc):
            return self.step(*self.given)


class SharedArena(RecordedStep):
    """A bug: what a step frees, others take between two replays."""

    def __init__(self, step, xp, tell):
        super().__init__(step, xp, tell)
        self.arena = xp.get_default_memory_pool()


class Unordered(RecordedStep):
    """A bug: nobody waits for the step's stream."""

    def __call__(self, *arrays):
        wait, pretend_gpu.Stream.wait_event = pretend_gpu.Stream.wait_event, lambda self, event: None
        try:
            return super().__call__(*arrays)
        finally:
            pretend_gpu.Stream.wait_event = wait


@pytest.mark.parametrize("bug", [BatchWhereItLies, SharedArena, Unordered])
def test_bugs_are_caught(gpu, bug):
    wanted, _ = steps(gpu)
    found, recorded = steps(gpu, bug)
    assert recorded.graph is not None
    with pytest.raises(AssertionError):
        same(found, wanted)


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_a_rate_that_is_baked_in_is_caught(gpu, kind, monkeypatch):
    wanted, _ = steps(gpu, kind=kind)
    monkeypatch.setattr(optim.Optimizer, "hold", lambda self: None)
    found, recorded = steps(gpu, RecordedStep, kind=kind)
    assert recorded.graph is not None
    with pytest.raises(AssertionError):
        same(found, wanted)


def test_corrections_that_are_baked_in_are_caught(gpu, monkeypatch):
    """Adam's step count must go on in memory, too."""
    wanted, _ = steps(gpu, kind=optim.Adam)
    scalars = optim.Adam.scalars

    def stuck(self):  # at those of the step that is recorded
        known = copy.copy(self)
        known.steps = min(self.steps, graph.WARM_UP + 1)
        return scalars(known)

    monkeypatch.setattr(optim.Adam, "scalars", stuck)
    found, _ = steps(gpu, RecordedStep, kind=optim.Adam)
    with pytest.raises(AssertionError):
        same(found, wanted)


def test_what_cannot_be_recorded_runs_as_it_is(gpu):
    said = []
    recorded = RecordedStep(lambda x: x * float(x.sum()), gpu, said.append)
    for i in range(6):
        x = np.arange(4.0) + i
        np.testing.assert_array_equal(recorded(gpu.asarray(x)).get(), x * x.sum())
    assert recorded.refused and recorded.graph is None and not recorded.stream.is_capturing()
    assert len(said) == 1 and said[0].startswith("note: it goes on without a CUDA graph") and "float" in said[0]


@pytest.mark.slow
def test_a_run_with_graphs_is_the_run_without(gpu, tmp_path):
    """The trainer's: epochs with validation between them, a last batch that is smaller, checkpoints."""
    runs = [trainer(gpu, tmp_path / str(g), graph=g, loss="ce+dice", clip=0.1) for g in (False, True)]
    assert all(run.run() for run in runs)
    assert runs[1].training_step.recorded.graph is not None
    plain, recorded = ({name: a.get() for name, a in run.model.state().items()} for run in runs)
    same(recorded, plain)
    for a, b in zip(*(run.state.history for run in runs)):
        assert {k: v for k, v in a.items() if k != "seconds"} == {k: v for k, v in b.items() if k != "seconds"}
    assert runs[0].optimizer.steps == runs[1].optimizer.steps == 8


def test_what_speaks_against_a_graph(gpu, tmp_path, monkeypatch, capsys):
    model = UNet(1, 2, base_width=4, depth=1, norm="group")
    assert reason_against(model, gpu) is None
    assert "CPU" in reason_against(model, np)
    with minunet.use("reference"):
        assert "plain ops" in reason_against(model, gpu)
    assert "Dropout (encoder.0.dropout) draws on the host" in reason_against(
        UNet(1, 2, base_width=4, depth=1, dropout=0.1), gpu
    )
    model.head = nn.Sequential(own=OwnLayer())
    assert reason_against(model, gpu).startswith("OwnLayer (head.own) does not describe itself")
    monkeypatch.setattr(graph.cuda, "compiles", lambda: False)
    assert "NVRTC" in reason_against(model, gpu)
    assert trainer(np, tmp_path, graph=True).training_step.recorded is None
    assert "note: --graph has no effect: the CPU has no CUDA graphs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
@pytest.mark.drawn(ci=2)
@pytest.mark.parametrize(("scale", "epochs"), [(2.0**10, 4), (2.0**28, 10)])  # of two steps
def test_mixed_precision_with_graphs_is_that_without(gpu, tmp_path, monkeypatch, optimizer, scale, epochs):
    """Overflows, too: their steps are left out, the scale falls, and rises again."""
    monkeypatch.setattr(amp.MixedPrecision.__init__, "__defaults__", ("fp16", scale))
    monkeypatch.setattr(amp, "PATIENCE", 3)
    runs = [
        trainer(gpu, tmp_path / str(g), graph=g, amp="fp16", optimizer=optimizer, epochs=epochs) for g in (False, True)
    ]
    scales = [[], []]
    for run, seen in zip(runs, scales):
        look = run.mixed.look
        run.mixed.look = lambda look=look, mixed=run.mixed, seen=seen: [
            look(),
            seen.append((mixed.overflowed, mixed.scale)),
        ]
        assert run.run()
    assert runs[1].training_step.recorded.graph is not None
    plain, recorded = ({name: a.get() for name, a in run.model.state().items()} for run in runs)
    same(recorded, plain)
    assert scales[0] == scales[1] and runs[0].optimizer.steps == runs[1].optimizer.steps
    overflowed = [over for over, _ in scales[1]]
    assert overflowed[0] == (scale > 2.0**20) and not all(overflowed)
    assert any(b > a for (_, a), (_, b) in itertools.pairwise(scales[1]))


def test_a_scale_that_is_baked_in_is_caught(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(amp.MixedPrecision.__init__, "__defaults__", ("fp16", 2.0**60))
    advance = amp.MixedPrecision.advance
    monkeypatch.setattr(amp.MixedPrecision, "advance", lambda self: advance(self) if not self.held[0] else None)
    run = trainer(gpu, tmp_path, graph=True, amp="fp16")
    run.run()
    assert run.mixed.overflowed and run.optimizer.steps == 0  # it would never have got anywhere


class OwnLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.params["w"] = np.ones(1, np.float32)


@pytest.mark.parametrize("kind", [None, "fp16"])
@pytest.mark.parametrize("what", ["inference", "training"])
def test_the_bench_records_its_step(gpu, monkeypatch, what, kind):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "bench"))
    peers, made = importlib.import_module("peers"), []
    monkeypatch.setattr(peers, "DEPTH", 1)
    monkeypatch.setattr(graph, "RecordedStep", lambda *args: made.append(RecordedStep(*args)) or made[-1])
    setting = peers.Setting("cuda", base_width=2, amp=kind)
    assert peers.can("minunet graph", setting, what) and not peers.can("minunet graph", peers.Setting("cpu"), what)
    step = peers.BUILD["minunet graph"](setting, 8, what)
    for _ in range(graph.WARM_UP + 1):
        step()
    assert made[0].graph is not None


def test_cupy_has_what_graphs_need():
    cuda = pytest.importorskip("cupy").cuda
    importlib.import_module("cupy.cuda.graph")
    for owner, names in ((cuda.Stream, ("begin_capture", "end_capture", "wait_event", "record", "__enter__")),
                         (cuda, ("MemoryPool", "using_allocator", "get_current_stream")),
                         (cuda.MemoryPool, ("malloc", "free_all_blocks")), (cuda.graph.Graph, ("launch",))):  # fmt: skip
        assert all(hasattr(owner, name) for name in names)
