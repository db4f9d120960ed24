"""Mixed precision on the stand-in for a GPU: the same training within a half's rounding, and scales that find their place."""

import itertools
import sys

import numpy as np
import pytest
from helpers import pretend_cupy
from PIL import Image

from minunet.checkpoint.load import read_checkpoint
from minunet.data import SyntheticCells
from minunet.errors import UserError
from minunet.models import UNet
from minunet.nn import BatchNorm2d, Conv2d, Sequential
from minunet.ops import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    softmax_cross_entropy,
    softmax_cross_entropy_backward,
)
from minunet.train.amp import MixedPrecision, half_dtype
from minunet.train.command import main as train


@pytest.fixture
def cupy(monkeypatch):
    return pretend_cupy.install(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The flags for eight small images on disk."""
    folder = tmp_path_factory.mktemp("data")
    for sample, name in zip(SyntheticCells(8, size=48, seed=0), "abcdefgh"):
        for kind, a in (("imgs", np.clip(255 * sample.image[..., 0], 0, 255)), ("masks", 255 * sample.labels)):
            (folder / kind).mkdir(exist_ok=True)
            Image.fromarray(a.astype(np.uint8)).save(folder / kind / f"{name}.png")
    return f"--device cuda --data {folder} -v 25 --crop 48 --no-augment --base-width 4 --depth 1".split()


def step(cupy, network, model, seed=0):
    """Loss and gradients of one step, on random images."""
    rng = np.random.default_rng(seed)
    x, t = cupy.asarray(rng.standard_normal((2, 16, 16, 1), np.float32)), cupy.asarray(rng.integers(0, 2, (2, 16, 16)))
    logits, cache = network.forward(x, train=True)
    loss, loss_cache = softmax_cross_entropy(logits, t)
    model.zero_grad()
    network.backward(softmax_cross_entropy_backward(1.0, loss_cache), cache)
    return float(loss), {name: g.get() for name, g in model.named_grads().items()}


def chain():
    """A network without a ReLU, whose sides rounding could change."""
    rng = np.random.default_rng(1)
    return Sequential(conv1=Conv2d(1, 8, rng=rng), norm=BatchNorm2d(8), conv2=Conv2d(8, 2, rng=rng))


@pytest.mark.parametrize(("kind", "bits"), [("fp16", 10), ("bf16", 7)])
@pytest.mark.parametrize(("make", "roundings"), [(chain, 8), (lambda: UNet(1, 2, base_width=8, depth=2), 256)])
def test_gradients_are_those_of_float32(cupy, kind, bits, make, roundings):
    """Within a few of a half's roundings; in a U-Net some ReLUs change sides, which makes it more."""
    if kind == "bf16":
        pytest.importorskip("ml_dtypes")
    model = make().convert(cupy.asarray)
    loss, exact = step(cupy, model, model)
    before = {name: p.get() for name, p in model.named_params().items()}
    half_loss, found = step(cupy, MixedPrecision(model, kind), model)
    assert half_loss == pytest.approx(loss, rel=4 * 2.0**-bits)
    assert found.keys() == exact.keys() and all(g.dtype == np.float32 for g in found.values())
    a, b = (np.concatenate([grads[name].ravel() for name in exact]) for grads in (found, exact))
    assert np.linalg.norm(a - b) < min(roundings * 2.0**-bits, 0.5) * np.linalg.norm(b)
    for name, p in model.named_params().items():  # the master weights stay what they were
        assert p.dtype == np.float32 and (p.get() == before[name]).all()


def test_bf16_says_what_it_lacks(monkeypatch):
    """CuPy has no bfloat16 with older NumPys, which the project allows otherwise; and nobody need have ml_dtypes."""
    monkeypatch.setattr(np, "__version__", "2.1.1")
    with pytest.raises(
        UserError, match=r"--amp bf16 needs NumPy 2\.1\.2 or later, and 2\.1\.1 is installed: pip install -U"
    ):
        half_dtype("bf16")
    assert half_dtype("fp16") == np.float16
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(UserError, match="--amp bf16 needs the package ml_dtypes: pip install ml_dtypes"):
        half_dtype("bf16")


def test_small_gradients_do_not_vanish(cupy):
    """Without a scale those of a loss that is divided by 1e6 are zero in float16; with it they are right."""
    model = UNet(1, 2, base_width=4, depth=1).convert(cupy.asarray)
    exact = step(cupy, model, model)[1]["encoder.0.conv1.w"]

    class Faint(MixedPrecision):
        def backward(self, dy, cache):
            super().backward(dy * np.float32(1e-6), cache)

    unscaled = step(cupy, Faint(model, "fp16", scale=1), model)[1]["encoder.0.conv1.w"]
    scaled = step(cupy, Faint(model, "fp16", scale=2.0**18), model)[1]["encoder.0.conv1.w"]
    assert np.linalg.norm(unscaled - 1e-6 * exact) > 0.5 * np.linalg.norm(1e-6 * exact)
    assert np.linalg.norm(scaled - 1e-6 * exact) < 0.1 * np.linalg.norm(1e-6 * exact)


def test_the_scale_falls_and_rises(cupy, monkeypatch):
    monkeypatch.setattr("minunet.train.amp.PATIENCE", 2)
    model = UNet(1, 2, base_width=4, depth=1).convert(cupy.asarray)
    mixed, seen = MixedPrecision(model, "fp16", scale=2.0**30), []
    for _ in range(30):
        step(cupy, mixed, model)
        seen.append((mixed.overflowed, mixed.scale))
    assert seen[0] == (True, 2.0**29)
    assert any(not over for over, _ in seen) and any(b > a for (_, a), (_, b) in itertools.pairwise(seen))


def test_an_overflow_leaves_the_step_out(cupy, data, tmp_path, monkeypatch):
    monkeypatch.setattr(MixedPrecision.__init__, "__defaults__", ("fp16", 2.0**60))
    weights = []
    monkeypatch.setattr("minunet.optim.Adam.step", lambda self: weights.append("step"))
    assert train([*data, "--amp", "-e", "1", "-b", "2", "--out", str(tmp_path / "run")]) == 0
    meta = read_checkpoint(tmp_path / "run/last.safetensors").train
    assert meta["state"]["step"] > 0 and not weights
    assert meta["state"]["loss_scale"] == 2.0 ** (60 - meta["state"]["step"])


@pytest.mark.slow
def test_training_reaches_the_same_dice(cupy, data, tmp_path):
    scores = []
    for name, amp in (("float32", []), ("half", ["--amp", "fp16"])):
        assert train([*data, *amp, "-e", "15", "-b", "2", "-l", "1e-2", "--out", str(tmp_path / name)]) == 0
        scores.append(read_checkpoint(tmp_path / name / "last.safetensors").train["state"]["history"][-1]["val_dice"])
    assert scores[0] > 0.6 and scores[1] == pytest.approx(scores[0], abs=0.03)


def test_amp_on_the_cpu_is_said_to_do_nothing(data, tmp_path, capsys):
    assert train([*data, "--device", "cpu", "--amp", "-e", "1", "--out", str(tmp_path / "run")]) == 0
    assert "--amp has no effect on the CPU" in capsys.readouterr().out


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_norms_of_halves_compute_in_float32(rng, norm):
    """Values around 1000 with a spread of 10: their variance in float16 would be wrong in its first digit."""
    x = (1000 + 10 * rng.standard_normal((2, 32, 32, 4))).astype(np.float16)
    gamma, beta, dy = np.ones(4, np.float32), np.zeros(4, np.float32), rng.standard_normal(x.shape).astype(np.float16)
    options = {"groups": 2} if norm == "group" else {}
    forward, backward = (batch_norm, batch_norm_backward) if norm == "batch" else (group_norm, group_norm_backward)
    y, cache, *_ = forward(x, gamma, beta, **options)
    dx, dgamma, dbeta = backward(dy, cache)
    exact, exact_cache, *_ = forward(x.astype(float), gamma.astype(float), beta.astype(float), **options)
    exact_back = backward(dy.astype(float), exact_cache)
    assert y.dtype == dx.dtype == np.float16 and dgamma.dtype == dbeta.dtype == np.float32
    np.testing.assert_allclose(y, exact, atol=3e-3)
    for found, wanted in zip((dx, dgamma, dbeta), exact_back):
        np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3 * np.abs(wanted).max())


def test_half_dtypes():
    assert half_dtype("fp16") == np.float16
