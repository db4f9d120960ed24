"""Deep supervision: losses of several heads, their labels, and a training step that sums them."""

import numpy as np
import pytest
from helpers import pretend_cupy
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import ops
from minunet.data import SyntheticCells
from minunet.kernels.cuda import emulator
from minunet.models import Network
from minunet.nn import BatchNorm2d, Conv2d, MaxPool2d, ReLU, Sequential, UpsampleNearest, take
from minunet.ops.lazy import fusion_scope
from minunet.train.config import TrainingConfig
from minunet.train.heads import at_nearest, heads_gradients, heads_loss
from minunet.train.step import TrainingStep


class TwoHeads(Network):
    """A head at full size, one at half of it, and one of weight 0."""

    head_weights = (0.75, 0.25, 0.0)
    multiple = 2

    def __init__(self, seed=0):
        super().__init__()
        rng = np.random.default_rng(seed)
        self.stem = Sequential(conv=Conv2d(1, 4, bias=False, rng=rng), norm=BatchNorm2d(4), relu=ReLU())
        self.pool, self.deep, self.up = (
            MaxPool2d(2),
            Sequential(conv=Conv2d(4, 4, rng=rng), relu=ReLU()),
            UpsampleNearest(),
        )
        self.head, self.half, self.spare = (Conv2d(4, 2, size=1, rng=rng) for _ in range(3))

    @fusion_scope
    def forward(self, x, train=True, rng=None, keep=True):
        caches = []

        def run(m, x):
            y, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
            return y

        low = run(self.deep, run(self.pool, run(self.stem, x)))
        heads = [run(self.half, low), run(self.spare, low)] if train else []
        heads.insert(0, run(self.head, run(self.up, low)))
        return heads if train else heads[0], caches if keep else None

    @fusion_scope
    def backward(self, dy, cache):
        def back(m, dy):
            return m.backward(dy, take(cache))

        dlow = back(self.up, back(self.head, dy[0]))
        assert dy[2] is None and take(cache) is not None
        dlow = dlow + back(self.half, dy[1])
        return back(self.stem, back(self.pool, back(self.deep, dlow)))


@pytest.fixture
def batch(rng):
    return (
        rng.standard_normal((2, 12, 16, 1)).astype(np.float32),
        rng.integers(-1, 2, (2, 12, 16)),
        rng.random((2, 12, 16)),
    )


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_nearest_pixel(n, m):
    """Of every pixel of the smaller map the one whose middle is nearest to its own."""
    m = min(n, m)
    found = at_nearest(np.arange(n)[None, None], (1, m))[0, 0]
    middles = (np.arange(m) + 0.5) * n / m - 0.5
    assert (abs(found - middles) <= 0.5).all() and (np.diff(found) > 0).all()


def test_the_loss_is_the_weighted_sum(batch):
    x, labels, weights = batch
    heads, _ = TwoHeads().forward(x)
    total, caches = heads_loss(ops.softmax_cross_entropy, (0.75, 0.25, 0.0), heads, labels, weights)
    whole, _ = ops.softmax_cross_entropy(heads[0], labels, weights)
    half, cache = ops.softmax_cross_entropy(heads[1], labels[:, 1::2, 1::2], weights[:, 1::2, 1::2])
    assert total == pytest.approx(0.75 * whole + 0.25 * half, rel=1e-6)
    first, second, none = heads_gradients(ops.softmax_cross_entropy_backward, (0.75, 0.25, 0.0), caches)
    np.testing.assert_allclose(second, 0.25 * ops.softmax_cross_entropy_backward(1.0, cache), rtol=1e-6)
    assert none is None and first.shape == (2, 12, 16, 2)
    with pytest.raises(ValueError, match="one must be above 0"):
        heads_loss(ops.softmax_cross_entropy, (0, 0, 0), heads, labels)


def test_a_step_goes_down_the_gradient_of_the_sum(batch):
    """The step's gradients are the differences of the loss that it reports."""
    x, labels, weights = batch
    model = TwoHeads()
    model.architecture = minunet.models.UNetOptions(1, 2)
    step = TrainingStep(model, TrainingConfig(loss="ce", optimizer="sgd", momentum=0, learning_rate=1e-3))
    before = {name: p.copy() for name, p in model.named_params().items()}
    first = step(0, 1e-3, x, labels, weights)
    moved = {name: p - before[name] for name, p in model.named_params().items()}
    assert not moved["spare.w"].any() and moved["half.w"].any() and moved["stem.conv.w"].any()
    fall = sum(float((d.astype(float) ** 2).sum()) for d in moved.values()) / 1e-3  # lr |gradient|^2
    second = step(1, 1e-9, x, labels, weights)
    assert first - second == pytest.approx(fall, rel=0.05)  # the loss is curved


def test_fit_trains_and_scores_the_main_head():
    cells = SyntheticCells(6, size=32, seed=0)
    fitted = minunet.fit(cells, model=TwoHeads(), epochs=4, crop=32, batch_size=2, learning_rate=0.02)
    assert fitted.history[-1]["train_loss"] < fitted.history[0]["train_loss"]
    assert fitted.history[-1]["val_dice"] > 0.5
    assert minunet.segment(fitted.model, cells[0].image).shape == (32, 32)


@pytest.mark.parametrize("kind", [{}, {"amp": "fp16"}])
def test_on_the_stand_in(batch, monkeypatch, kind):
    """In float32 and in mixed precision, the loss is that of the CPU."""
    cupy = pretend_cupy.install(monkeypatch)
    x, labels, weights = batch
    losses = []
    for xp in (np, cupy):
        model = TwoHeads().convert(xp.asarray)
        model.architecture = minunet.models.UNetOptions(1, 2)
        step = TrainingStep(model, TrainingConfig(**kind), xp)
        losses.append([step(n, 1e-2, x, labels, weights.astype(np.float32)) for n in range(4)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02 if kind else 1e-3)
    assert losses[0][3] < losses[0][0]


@pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")
def test_a_step_with_heads_is_recorded(gpu, batch):
    """As a CUDA graph, it gives the losses of the steps that it stands for."""
    x, labels, _ = batch
    losses, said = [], []
    for graph in (False, True):
        model = TwoHeads().convert(gpu.asarray)
        model.architecture = minunet.models.UNetOptions(1, 2)
        step = TrainingStep(model, TrainingConfig(loss="ce"), gpu, graph, said.append)
        losses.append([step(n, 1e-2, x[:, :8, :8], labels[:, :8, :8]) for n in range(4)])
    assert not said and step.recorded.graph is not None
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
