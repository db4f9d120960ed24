"""Gradients that are let go during the backward, on the stand-in for CuPy: the plain steps to the last bit, and less memory."""

import contextlib
import copy

import numpy as np
import pytest
from helpers import pretend_gpu
from helpers.gpu_training import batch, trainer

import minunet
from minunet import nn, ops, optim
from minunet.kernels.cuda import emulator
from minunet.models import R2UNet
from minunet.train import portions
from minunet.train.portions import Portions

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")

LABELS = np.random.default_rng(0).integers(0, 2, (1, 8, 8))


def after_steps(gpu, tmp_path, steps=3, **options):
    """Parameters, statistics and losses after some steps, and how often the optimiser was started in the last one."""
    here, losses, started = trainer(gpu, tmp_path, **options), [], []
    apply = here.optimizer.apply
    here.optimizer.apply = lambda *paths: [started.append(len(here.optimizer.gradients())), apply(*paths)][1]
    for i in range(steps):
        started.clear()
        losses.append(here.step(*batch(gpu, seed=i)))
    return {"losses": np.array(losses), **{n: a.get() for n, a in here.model.state().items()}}, started, here


@pytest.mark.drawn(quick=1, ci=2)
@pytest.mark.parametrize("options", [{"optimizer": "sgd"}, {"graph": True}, {"network": {"norm": "group"}}], ids=str)
def test_steps_are_the_plain_ones(gpu, tmp_path, monkeypatch, options):
    """A graph records the starts as they come."""
    steps = 5 if "graph" in options else 3
    monkeypatch.setattr(portions, "PORTION", 1 << 40)
    wanted, started, _ = after_steps(gpu, tmp_path / "plain", steps, **options)
    assert len(started) == ("graph" not in options)
    monkeypatch.setattr(portions, "PORTION", 1)
    found, started, here = after_steps(gpu, tmp_path / "portions", steps, **options)
    assert (here.training_step.recorded.graph is not None) if "graph" in options else len(started) > 3
    for name, a in wanted.items():
        np.testing.assert_array_equal(found[name], a, name)


def test_recurrent_modules_wait_for_their_last_gradient(monkeypatch):
    """They add to their gradients several times."""
    monkeypatch.setattr(portions, "PORTION", 1)
    model = R2UNet(1, 2, base_width=2, depth=1, seed=0)
    found = []
    with minunet.use("reference"):
        for early in (False, True):
            m, started = copy.deepcopy(model), []
            optimizer = optim.SGD(m, 0.1)
            used, apply = Portions(m, optimizer).used, optimizer.apply
            monkeypatch.setattr(
                optimizer, "apply", lambda *p, started=started, apply=apply: [started.append(p), apply(*p)]
            )
            for i in range(2):
                y, cache = m.forward(np.random.default_rng(i).standard_normal((1, 8, 8, 1)))
                m.zero_grad()
                optimizer.advance()
                with used() if early else contextlib.nullcontext():
                    m.backward(ops.softmax_cross_entropy_backward(1.0, ops.softmax_cross_entropy(y, LABELS)[1]), cache)
                optimizer.apply()
            found.append(m.state())
            assert (len(started) > 5) == early
    for name, a in found[0].items():
        np.testing.assert_array_equal(found[1][name], a, name)


@pytest.mark.parametrize("options", [{"clip": 1.0}, {"amp": "fp16"}], ids=str)
def test_what_needs_all_gradients_gets_them(gpu, tmp_path, monkeypatch, options):
    monkeypatch.setattr(portions, "PORTION", 1)
    _, started, here = after_steps(gpu, tmp_path, **options)
    assert here.training_step.portions is None and started == [len(here.model.named_params())]


def test_frozen_parameters_keep_their_values(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(portions, "PORTION", 1)
    here = trainer(gpu, tmp_path, optimizer="sgd")
    here.optimizer.frozen = {path for path in here.model.named_params() if path.startswith("encoder")}
    before = {path: p.get() for path, p in here.model.named_params().items()}
    for i in range(2):
        here.step(*batch(gpu, seed=i))
    for path, p in here.model.named_params().items():
        assert (p.get() == before[path]).all() == (path in here.optimizer.frozen)


def test_fewer_gradients_are_alive(gpu, tmp_path, monkeypatch):
    """At most a portion and a layer's, in place of all."""
    most = {}
    for portion in (1 << 40, 1 << 10):
        monkeypatch.setattr(portions, "PORTION", portion)
        here, alive = trainer(gpu, tmp_path / str(portion), optimizer="sgd"), [0]
        told = Portions._take

        def take(self, path, m, names, alive=alive, told=told):
            told(self, path, m, names)
            alive.append(sum(g.nbytes for g in self.model.named_grads().values()))

        monkeypatch.setattr(Portions, "_take", take)
        for i in range(2):
            alive.clear()
            here.step(*batch(gpu, seed=i))
        most[portion] = max(alive)
        monkeypatch.setattr(Portions, "_take", told)
    few = sum(p.nbytes for n, p in here.model.named_params().items() if n.endswith(".w") and p.shape[2] <= 4)
    assert most[1 << 10] <= few + (1 << 10) and most[1 << 40] == sum(
        p.nbytes for p in here.model.named_params().values()
    )
    assert pretend_gpu.waits


def test_a_module_that_is_used_more_often_than_before_is_noticed():
    """Its parameters have been changed by a part of the gradient."""
    layer = nn.Conv2d(1, 1)
    here, g = Portions(layer, optim.SGD(layer, 0.1)), np.ones_like(layer.params["w"])
    for times in (1, 2):
        if times == 2:
            with pytest.raises(RuntimeError, match="more often than in the last step"), here.used():
                for _ in range(2):
                    layer.accumulate(w=g)
        else:
            with here.used():
                layer.accumulate(w=g)
    assert layer.told_of_gradients is None


def test_a_module_may_be_used_less_often_in_a_step(monkeypatch):
    """Its gradients are left for the step's end, and the next step waits for all of them again."""
    monkeypatch.setattr(portions, "PORTION", 1)
    layer = nn.Conv2d(1, 1)
    optimizer, g, before = (
        optim.SGD(layer, 0.1, momentum=0.0),
        np.ones_like(layer.params["w"]),
        layer.params["w"].copy(),
    )
    here = Portions(layer, optimizer)
    for uses in (2, 1, 2):
        with here.used():
            for _ in range(uses):
                layer.accumulate(w=g)
        assert bool(layer.grads) == (layer.params["w"] == before).all()  # used up, or left as it is
        optimizer.apply()
        layer.zero_grad()
        before -= np.float32(0.1 * uses)
    np.testing.assert_allclose(layer.params["w"], before, rtol=1e-5)
