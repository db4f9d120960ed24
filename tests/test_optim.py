"""Schedules, the average of weights, clipping, and the state of an optimiser."""

import numpy as np
import pytest
from helpers.tolerances import OP

from minunet.models import UNet
from minunet.nn import Conv2d
from minunet.optim import SGD, Schedule, WeightAverage, clip_by_norm


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
            np.testing.assert_allclose(a, first[name] + 0.1, atol=OP["float32"])
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
