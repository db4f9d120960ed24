"""CONTRIBUTING's recipe "A new op and its layer", followed to the letter: a scale for each channel, and a bias."""

import types

import numpy as np
import pytest
from helpers.descriptions import check_description
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import nn
from minunet.data import ClassMap, Preprocessing
from minunet.gradcheck import GradientError, cases, check, draw, planting
from minunet.gradcheck.cases import Case
from minunet.kernels import cuda
from minunet.look.show import show
from minunet.models import UNetOptions, build
from minunet.predict.inference import make_tiles, probabilities
from minunet.predict.options import PredictionOptions
from minunet.train.cuda_graph import reason_against

# ---- step 1: the pair, a case, and a mistake ---------------------------------------------------------------------------


def scale(x, gamma, beta):
    """x (N, H, W, C) times gamma (C,), plus beta (C,)."""
    return x * gamma + beta, (x, gamma)


def scale_backward(dy, cache):
    """Gradients of `scale`: of x, gamma and beta."""
    x, gamma = cache
    return dy * gamma, (dy * x).sum((0, 1, 2)), dy.sum((0, 1, 2))


CASE = Case("scale", (scale, scale_backward), lambda rng: (draw((2, 3, 4, 3), rng), draw(3, rng), draw(3, rng)))


def scale_forgets_the_images(dy, cache):
    """The mistake: a sum over pixels, and only those of the first image."""
    dx, _, dbeta = scale_backward(dy, cache)
    return dx, (dy * cache[0])[0].sum((0, 1)), dbeta


def test_step_1(monkeypatch):
    monkeypatch.setattr(cases, "CASES", [*cases.CASES, CASE])
    monkeypatch.setattr(planting, "BUGS", list(planting.BUGS))
    planting.planted("scale", "gamma's gradient is a sum over all images")(scale_forgets_the_images)
    assert CASE.run().ok
    with pytest.raises(GradientError):
        planting.BUGS[-1].run()


# ---- step 2: drawn shapes, and PyTorch ---------------------------------------------------------------------------------


@given(st.tuples(*[st.integers(1, 4)] * 4), st.integers(0, 1000))
def test_step_2_gradients(shape, seed):
    rng = np.random.default_rng(seed)
    check((scale, scale_backward), draw(shape, rng), draw(shape[-1], rng), draw(shape[-1], rng))


def test_step_2_oracle(rng):
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    arrays = [rng.standard_normal(shape) for shape in ((2, 3, 4, 5), 5, 5)]
    x, gamma, beta = (torch.tensor(a, requires_grad=True) for a in arrays)
    y, dy = x * gamma + beta, rng.standard_normal((2, 3, 4, 5))
    y.backward(torch.tensor(dy))
    found, cache = scale(*arrays)
    np.testing.assert_allclose(found, y.detach())
    for mine, theirs in zip(scale_backward(dy, cache), (x, gamma, beta)):
        np.testing.assert_allclose(mine, theirs.grad)


# ---- step 3: the layer -------------------------------------------------------------------------------------------------


class Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.params.update(gamma=np.full(channels, 1.5, np.float32), beta=np.full(channels, 0.1, np.float32))

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = scale(x, self.params["gamma"], self.params["beta"])
        return y, cache if keep else None

    def backward(self, dy, cache):
        dx, dgamma, dbeta = scale_backward(dy, cache)
        self.accumulate(gamma=dgamma, beta=dbeta)
        return dx

    def describe(self, x):
        def onnx(graph, x):
            gamma, beta = (graph.constant(n, self.params[n][:, None, None]) for n in ("gamma", "beta"))
            return graph.node("Add", graph.node("Mul", x, gamma), beta)

        return nn.Description(output=x, reads=nn.PIXEL, keeps_input=True, words="scale", onnx=onnx, unrecordable="")


LAYERS = {"Scale": (lambda: Scale(4), [(2, 9, 12, 4)])}  # the line


@pytest.mark.parametrize("name", LAYERS)
def test_step_3(name):
    make, shapes = LAYERS[name]
    with minunet.use("reference"):
        check_description(make(), *shapes)
        check(make(), draw(shapes[0], np.random.default_rng(0)), mode="projected")


def test_nothing_else_has_to_be_told(monkeypatch, rng):
    """A network with it is summed up, predicts by tiles as a whole, is drawn, exported, and recorded."""
    model = build(UNetOptions(in_channels=1, num_classes=2, base_width=4, depth=1))
    model.encoder[0].children["scale"] = Scale(4)
    model.preprocessing = Preprocessing(1, ClassMap.binary())
    assert {r.name: r.params for r in minunet.summary(model, (1, 8, 8, 1)).rows}["encoder.0.scale"] == 8
    image = rng.integers(0, 255, (60, 50)).astype(np.uint8)
    assert make_tiles(model, image, PredictionOptions(tile=24)).note == ""
    with minunet.use("reference"):
        tiles, whole = (probabilities(model, image, tile=tile) for tile in (24, 0))
        about = {"model": "m", "image": "i", "mask": None, "whole": [8, 8], "params": 1}
        page = show(model, rng.standard_normal((8, 8, 1)).astype(np.float32), None, 1, about)
    np.testing.assert_allclose(tiles, whole, atol=1e-5)
    assert '"title":"scale"' in page
    monkeypatch.setattr(cuda, "compiles", lambda: True)
    assert reason_against(model, types.ModuleType("cupy")) is None
    pytest.importorskip("onnx")
    from minunet.checkpoint.onnx import to_onnx

    assert b"encoder.0.scale" in to_onnx(model)
