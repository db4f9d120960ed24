"""Metrics on hand-computed cases, schedules, clipping, and what `summary` predicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import minunet
from minunet.kernels.cpu.lazy_maps import LazyAffine, ReluMask
from minunet.metrics import Confusion, dice, iou
from minunet.models import UNet
from minunet.nn import Conv2d
from minunet.ops.lazy import LazyConcat
from minunet.optim import SGD, Schedule, WeightAverage, clip_by_norm


def test_binary_scores_by_hand():
    truth = np.array([[1, 1, 1, 0, 0, 0]])
    guess = np.array([[1, 1, 0, 1, 0, 0]])  # 2 found, 1 invented, 1 missed
    assert dice(truth, guess) == pytest.approx(4 / 6)
    assert iou(truth, guess) == pytest.approx(2 / 4)
    c = Confusion(2)
    c.add(truth, guess)
    assert c.pixel_accuracy() == pytest.approx(4 / 6)
    assert c.dice().tolist() == pytest.approx([4 / 6, 4 / 6])


def test_classes_are_averaged_without_the_background():
    truth, guess = np.array([0, 1, 1, 2, 2, 2]), np.array([0, 1, 0, 2, 2, 1])
    c = Confusion(3)
    c.add(truth, guess)
    assert c.dice().tolist() == pytest.approx([2 / 3, 2 / 4, 4 / 5])
    assert c.mean_dice() == pytest.approx((2 / 4 + 4 / 5) / 2)
    assert c.iou().tolist() == pytest.approx([1 / 2, 1 / 3, 2 / 3])


def test_counts_are_pooled_over_images():
    c = Confusion(2)
    c.add(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 1]))
    c.add(np.array([1, 0]), np.array([0, 0]))
    assert c.mean_dice() == pytest.approx(8 / 9)  # and not the mean of 1 and 0


def test_the_empty_rule():
    nothing = np.zeros((3, 3), int)
    assert dice(nothing, nothing) == 1
    assert dice(nothing, nothing + 1) == 0
    c = Confusion(3)
    c.add(np.array([0, 1]), np.array([0, 1]))
    assert math.isnan(c.dice()[2]) and c.mean_dice() == 1


def test_ignored_pixels_do_not_count():
    c = Confusion(2)
    c.add(np.array([1, -1, 0]), np.array([1, 1, 0]))
    assert c.mean_dice() == 1 and c.counts.sum() == 2


@given(arrays(np.int64, (4, 5), elements=st.integers(0, 2)), arrays(np.int64, (4, 5), elements=st.integers(0, 2)))
def test_dice_and_iou_agree(truth, guess):
    c = Confusion(3)
    c.add(truth, guess)
    d, j = c.dice(), c.iou()
    seen = ~np.isnan(d)
    assert (seen == ~np.isnan(j)).all()
    np.testing.assert_allclose(d[seen], 2 * j[seen] / (1 + j[seen]))
    assert ((d[seen] >= 0) & (d[seen] <= 1)).all()


def test_schedules():
    assert [Schedule("constant", 2.0, 10)(s) for s in (0, 9)] == [2, 2]
    assert [Schedule("step", 1.0, 8)(s) for s in (0, 3, 4, 6)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [Schedule("cosine", 1.0, 10)(s) for s in (0, 5, 10, 11)] == pytest.approx([1, 0.5, 0, 0])
    assert Schedule("poly", 1.0, 10)(5) == pytest.approx(0.5**0.9)
    with pytest.raises(ValueError, match="schedule must be"):
        Schedule("linear", 1.0, 10)


def test_plateau_waits_then_halves():
    s = Schedule("plateau", 1.0, 100, patience=2)
    for score in (0.5, 0.6, 0.6, 0.6):
        s.step(score)
    assert s(4) == 1.0
    s.step(0.6)
    assert s(5) == 0.5
    s.step(0.7)
    assert s(6) == 0.5


def test_an_average_comes_and_goes():
    """Its weights are the model's inside of the block, whatever happens there, and to the last bit as before afterwards."""
    model = UNet(1, 2, base_width=2, depth=1)
    average = WeightAverage(model, 0.9)
    first = {name: a.copy() for name, a in model.state().items()}
    for a in model.state().values():
        a += 1
    average.update(10**6)
    outside = {name: a.copy() for name, a in model.state().items()}
    with pytest.raises(KeyError), average.applied() as raw:
        for name, a in model.state().items():
            np.testing.assert_allclose(a, first[name] + 0.1, atol=1e-6)
            np.testing.assert_array_equal(raw[name], outside[name])
        raise KeyError
    for name, a in model.state().items():
        np.testing.assert_array_equal(a, outside[name])


def test_clipping():
    grads = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    assert clip_by_norm(grads, 10) == 5 and grads["a"][0] == 3
    assert clip_by_norm(grads, 1) == 5
    np.testing.assert_allclose([grads["a"][0], grads["b"][0, 0]], [0.6, 0.8])


def test_optimizer_state_round_trips(rng):
    a, b = Conv2d(1, 2), Conv2d(1, 2)
    opt = SGD(a, 0.1)
    a.grads["w"] = np.ones_like(a.params["w"])
    opt.step()
    other = SGD(b, 0.1)
    other.load_state({k: v.copy() for k, v in opt.state().items()}, opt.steps)
    assert all((v == opt.state()[k]).all() for k, v in other.state().items()) and other.steps == 1


# ---- summary ---------------------------------------------------------------------------------------------------------


def test_published_arithmetic():
    net = UNet(3, 2)
    for size, gflop in ((256, 96.3), (512, 385), (1024, 1542), (1664, 4071)):
        assert minunet.summary(net, (1, size, size, 3)).flops / 1e9 == pytest.approx(gflop, rel=2e-3)


def distinct_bytes(cache, skip):
    """Bytes of the distinct arrays in a cache, unfinished maps' too, but for the parameters."""
    found = {}

    def walk(part):
        if isinstance(part, (list, tuple)):
            for p in part:
                walk(p)
        elif isinstance(part, LazyConcat):
            walk((part.a, part.b))
        elif isinstance(part, (ReluMask, LazyAffine)):
            walk(part.x.raw if isinstance(part, ReluMask) else part.raw)
        elif isinstance(part, np.ndarray):
            whole = part
            while isinstance(whole.base, np.ndarray):
                whole = whole.base
            if id(part) not in skip and part.ndim > 1:
                found[id(whole)] = whole.nbytes

    walk(cache)
    return sum(found.values())


@pytest.mark.parametrize("options, shape", [
    ({}, (2, 33, 40, 3)), ({"up": "bilinear", "norm": "group"}, (1, 32, 32, 3)),
    ({"norm": None, "padding": "valid"}, (1, 92, 92, 3)),
])  # fmt: skip
def test_summary_states_what_runs(rng, options, shape):
    """Shapes, parameters and the bytes that caches keep are those of a real forward."""
    net = UNet(3, 2, base_width=4, depth=3, **options)
    s = minunet.summary(net, shape)
    y, cache = net.forward(rng.standard_normal(shape).astype(np.float32))
    assert s.rows[-1].output == y.shape
    assert s.params == net.num_params()
    params = {id(p) for p in net.named_params().values()}
    assert s.kept == pytest.approx(distinct_bytes(cache, params), rel=0.02)
    assert s.inference_peak < s.training_peak() < s.training_peak(2)
    assert "decoder.0.conv1" in str(s) and "GFLOP" in str(s)


def test_summary_of_what_cannot_be():
    net = UNet(3, 2, base_width=2, depth=1)
    with pytest.raises(ValueError, match="channels"):
        minunet.summary(net, (1, 8, 8, 1))
    with pytest.raises(ValueError, match="images, rows"):
        minunet.summary(net, (8, 8, 3))


def test_summary_leaves_the_model_alone():
    net = UNet(1, 2, base_width=2, depth=1)
    minunet.summary(net, (1, 8, 8, 1))
    assert net(np.zeros((1, 8, 8, 1), np.float32)).shape == (1, 8, 8, 2)
