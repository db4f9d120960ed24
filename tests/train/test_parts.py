"""Parts of a network: frozen ones compute as in inference and stay, thaw when they should, and the encoder has its own rate."""

import numpy as np
import pytest
from helpers.datasets import make_data
from helpers.training import refused, same_run

import minunet
from minunet import nn, optim
from minunet.data import SyntheticCells
from minunet.errors import UserError
from minunet.models import UNetOptions, build
from minunet.train.callbacks import Callback
from minunet.train.command import main as train
from minunet.train.config import TrainingConfig
from minunet.train.parts import Parts
from minunet.train.step import TrainingStep
from minunet.train.trainer import Trainer

ENCODER = {"encoder": "resnet18", "encoder_width": 1 / 32, "decoder_width": 1, "in_channels": 1}
SMALL = ["--crop", "32", "-b", "2", "-v", "25", "--arch", "encoder_unet", "--arch-options"]
SMALL += ["encoder=resnet18", "encoder_width=0.03125", "decoder_width=1"]


def network():
    return build("encoder_unet", **ENCODER, seed=1)


def state(model, part):
    return {name: a.copy() for name, a in model.state().items() if name.startswith(f"{part}.")}


def moved(before, model):
    return {name for name, a in before.items() if (a != model.state()[name]).any()}


class Watch(Callback):
    """What has changed in each epoch."""

    def on_start(self, trainer):
        self.model, self.changes, self.before = trainer.model, [], trainer.model.state()
        self.before = {name: a.copy() for name, a in self.before.items()}

    def on_epoch(self, row):
        now = self.model.state()
        self.changes.append({name for name, a in self.before.items() if (a != now[name]).any()})
        self.before = {name: a.copy() for name, a in now.items()}


@pytest.mark.parametrize("model", [network, lambda: build(UNetOptions(base_width=2, depth=2))])
def test_frozen_for_an_epoch(model):
    watch, model = Watch(), model()
    minunet.fit(
        SyntheticCells(6, size=32),
        model=model,
        epochs=2,
        crop=32,
        batch_size=5,
        freeze=["encoder:1"],
        callbacks=[watch],
    )
    first, second = ({name.startswith("encoder.") for name in changed} for changed in watch.changes)
    assert first == {False} and second == {True, False}
    assert all(not m.frozen for _, m in model.modules() if hasattr(m, "frozen"))


def test_norms_alone():
    watch = Watch()
    minunet.fit(
        SyntheticCells(4, size=32),
        model=network(),
        epochs=1,
        crop=32,
        batch_size=3,
        freeze=("norms",),
        callbacks=[watch],
    )
    norms = {
        f"{p}.{n}" for p, m in watch.model.modules() if isinstance(m, nn.BatchNorm2d) for n in (*m.params, *m.buffers)
    }
    changed = watch.changes[0]
    assert {n for n in norms if n.startswith("encoder.")}.isdisjoint(changed) and "encoder.conv1.w" in changed
    assert {n for n in norms if n.startswith("decoder.") and n.endswith("mean")} <= changed


@pytest.mark.parametrize("freeze", [("encoder",), ("norms",)])
def test_it_computes_as_in_inference(freeze, rng):
    """With the kernels and without, and the decoder's gradients are those of a network that freezes nothing by itself."""
    x, labels = rng.standard_normal((2, 32, 32, 1)).astype(np.float32), rng.integers(0, 2, (2, 32, 32))
    model = network()
    for name, a in model.named_buffers().items():
        a[...] = rng.uniform(0.5, 1.5, a.shape) if name.endswith("var") else rng.normal(0, 0.3, a.shape)
    features, _ = model.encoder.forward(x, train=False)
    config = TrainingConfig(freeze=freeze, loss="ce", optimizer="sgd", momentum=0)
    updates = []
    for kernels in ("fast", "reference"):
        with minunet.use(kernels):
            step = TrainingStep(model, config)
            Parts([model], step.optimizer, config).begin(0, {})
            if freeze == ("encoder",):
                for a, b in zip(model.encoder.forward(x)[0], features):
                    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
            step(0, 1e-30, x, labels)
            updates.append({name: g.copy() for name, g in step.optimizer.gradients().items()})
    fast, plain = updates
    assert fast.keys() == plain.keys() and any(n.startswith("encoder.") for n in plain) == (freeze == ("norms",))
    for name, g in plain.items():
        np.testing.assert_allclose(fast[name], g, rtol=0, atol=2e-4 * max(abs(g).max(), 1e-3), err_msg=name)


def test_a_frozen_norm_s_gradient_is_that_of_an_affine_map(rng):
    norm = nn.BatchNorm2d(3).convert(np.float64)
    norm.frozen = True
    norm.buffers["var"][...], norm.buffers["mean"][...] = [0.5, 2.0, 3.0], [0.1, -0.2, 0.3]
    x, dy = rng.standard_normal((2, 4, 5, 3)), rng.standard_normal((2, 4, 5, 3))
    y, cache = norm.forward(x, train=True)
    scale = 1 / np.sqrt(norm.buffers["var"] + norm.eps)
    np.testing.assert_allclose(y, (x - norm.buffers["mean"]) * scale, atol=1e-12)
    np.testing.assert_allclose(norm.backward(dy, cache), dy * scale, atol=1e-12)
    assert norm.buffers["mean"].tolist() == [0.1, -0.2, 0.3]


def test_the_encoder_s_rate(rng):
    """Steps of plain gradient descent are gradients times the rate of the part, whatever the schedule says."""
    x, labels = rng.standard_normal((2, 32, 32, 1)).astype(np.float32), rng.integers(0, 2, (2, 32, 32))
    model = network()
    config = TrainingConfig(learning_rate=0.1, encoder_lr=0.001, optimizer="sgd", momentum=0, loss="ce")
    step = TrainingStep(model, config)
    Parts([model], step.optimizer, config)
    before = {name: p.copy() for name, p in model.named_params().items()}
    step(0, 0.05, x, labels)  # half of the rate at the start
    for name, g in model.named_grads().items():
        rate = 0.0005 if name.startswith("encoder.") else 0.05
        np.testing.assert_allclose(model.named_params()[name], before[name] - rate * g, rtol=1e-5, atol=1e-7)


def test_a_thawed_parameter_starts_like_a_new_one():
    """Adam's corrections count from where a parameter began: else its first steps would be several times too long."""
    layer = nn.Conv2d(1, 1, 1)
    optimizer = optim.Adam(layer, lr=0.1)
    optimizer.frozen = {"w"}
    for n in range(5):
        if n == 4:
            optimizer.frozen, optimizer.began = set(), {"w": 4}
        before = {name: p.copy() for name, p in layer.params.items()}
        layer.zero_grad()
        layer.accumulate(w=np.full((1, 1, 1, 1), 3.0, np.float32), b=np.full(1, 2.0, np.float32))
        optimizer.step()
        step = {name: abs(p - before[name]).max() for name, p in layer.params.items()}
        assert step["b"] == pytest.approx(0.1, rel=1e-4)
        assert step["w"] == (0 if n < 4 else pytest.approx(0.1, rel=1e-4))


def test_a_run_that_thaws_goes_on_as_if_never_interrupted(tmp_path, monkeypatch):
    data = make_data(tmp_path / "data", n=6, size=(32, 34))
    flags = ["--data", str(data), *SMALL, "--freeze", "encoder:1", "norms", "--encoder-lr", "0.0003", "-e", "3"]
    assert train([*flags, "--out", str(tmp_path / "whole")]) == 0

    def step(self, *batch, plain=Trainer.step):
        loss = plain(self, *batch)
        if self.state.step in (2, 5):
            self.stop()
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        parts = tmp_path / "parts"
        assert train([*flags, "--out", str(parts)]) == 130
        assert train(["--resume", str(parts / "last.safetensors")]) == 130
    assert train(["--resume", str(parts / "last.safetensors")]) == 0
    same_run(tmp_path / "whole", parts)
    assert 'freeze = ["encoder:1", "norms"]' in (parts / "config.toml").read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"freeze": ["head2"]}, "it has encoder, bottom, up, decoder, head, norms"),
        ({"freeze": ["encoder:x"]}, "write each part once, as encoder, or encoder:3"),
        ({"freeze": ["encoder", "encoder:2"]}, "write each part once"),
        ({"freeze": ["encoder", "bottom", "up", "decoder", "head:9"], "epochs": 9}, "nothing is left to learn"),
        ({"encoder_lr": 0.1, "model": "unet_plus_plus"}, "--encoder-lr: the network has no part named encoder"),
    ],
)  # fmt: skip
def test_what_is_refused(settings, words):
    settings = {"model": UNetOptions(base_width=1, depth=1), "epochs": 1, **settings}
    with pytest.raises(UserError, match=words):
        minunet.fit(SyntheticCells(3, size=32), crop=32, **settings)


def test_a_bad_flag(tmp_path, capsys):
    refused(
        capsys,
        train(["--out", str(tmp_path / "r"), "-e", "1", "--base-width", "1", "--freeze", "decoder:"]),
        "--freeze",
    )
