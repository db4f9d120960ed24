"""Weights of torchvision for encoders: read without PyTorch, adapted to other channels, and refused where they are wrong."""

import hashlib

import numpy as np
import pytest
from helpers.datasets import make_data
from helpers.training import refused
from safetensors.numpy import save_file

import minunet
from minunet.checkpoint import official
from minunet.checkpoint.pytorch.encoder import load_encoder
from minunet.checkpoint.pytorch.names import entries_of
from minunet.checkpoint.pytorch.save import torch_zip
from minunet.data import SyntheticCells
from minunet.errors import UserError
from minunet.models import EncoderUNetOptions, build, outline
from minunet.models.encoders import ENCODERS, make_encoder
from minunet.train.command import main as train

TINY = {"encoder_width": 1 / 32, "decoder_width": 1}


def contents(name, channels=3, seed=0, width=1 / 32):
    """What a file of torchvision's holds, of a narrower network: the keys of the encoder, counters, and a classifier."""
    rng, state = np.random.default_rng(seed), {}
    for key, spec in entries_of(make_encoder(name, channels, width)).items():
        a = rng.normal(0, 0.3, spec.shape)
        state[key] = (abs(a) + 0.5 if key.endswith("var") else a).astype(np.float32)
        if key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = np.array(3, np.int64)
    last = "fc" if name.startswith("resnet") else "classifier.1"
    return state | {f"{last}.weight": np.zeros((7, 2), np.float32), f"{last}.bias": np.zeros(7, np.float32)}


def written(path, state):
    path.write_bytes(torch_zip(state))
    return path


def network(name, channels=3, **options):
    return build("encoder_unet", in_channels=channels, encoder=name, **TINY, **options)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder(name, tmp_path):
    """Each parameter has the file's values; what the file has beside them is said, and the decoder stays."""
    state, told, net = contents(name), [], network(name)
    before = {key: a.copy() for key, a in net.state().items()}
    load_encoder(net, written(tmp_path / "weights.pth", state), told.append)
    for key, spec in entries_of(net.encoder).items():
        a, ours = (
            state[key].transpose(2, 3, 1, 0) if state[key].ndim == 4 else state[key],
            net.encoder.state()[spec.path],
        )
        np.testing.assert_array_equal(ours, a[:, :, 0] if ours.ndim == 3 else a)
    assert all((a == net.state()[key]).all() for key, a in before.items() if not key.startswith("encoder."))
    last = "fc" if name.startswith("resnet") else "classifier.1"
    assert len(told) == 1 and f"left out, as no part of it: {last}.bias, {last}.weight" in told[0]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg16_bn", "mobilenet_v2"])
def test_features_equal_a_twin(name, tmp_path, rng):
    """A module of PyTorch with these weights, fed with what torchvision's recipe makes of an image, has the same features."""
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from helpers import encoder_twins

    twin = encoder_twins.encoder(name, 3, 1 / 32)[0]
    state = {key: a for key, a in contents(name).items() if not key.startswith(("fc", "classifier"))}
    twin.load_state_dict({key: torch.tensor(a) for key, a in state.items()})
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in twin.state_dict().items()}}, tmp_path / "weights.pth"
    )
    net = network(name, standardise="imagenet")
    load_encoder(net, tmp_path / "weights.pth", None)
    image = rng.random((2, 33, 40, 3)).astype(np.float32)
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    with torch.no_grad():
        theirs = twin.eval()(torch.tensor(((image - mean) / std).transpose(0, 3, 1, 2).copy()))
    for ours, t in zip(net.encoder.forward(image, train=False)[0][-5:], theirs[-5:]):
        np.testing.assert_allclose(ours, t.numpy().transpose(0, 2, 3, 1), rtol=0, atol=1e-4 * max(1, abs(ours).max()))


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "vgg11_bn", "mobilenet_v2"])
def test_a_grey_image_counts_as_three_equal_channels(name, tmp_path, rng):
    """But at the border, where zeros stand for three different means, and at what the border reaches."""
    file, told = written(tmp_path / "weights.pth", contents(name)), []
    colour, grey = (network(name, n, standardise="imagenet") for n in (3, 1))
    load_encoder(colour, file, None)
    load_encoder(grey, file, told.append)
    assert "from 3 channels to 1: the sum of the three" in told[1]
    x = rng.random((1, 64, 64, 1)).astype(np.float32)
    ours, theirs = (m.encoder.forward(i, train=False)[0] for m, i in ((grey, x), (colour, x.repeat(3, -1))))
    first = 0 if name.startswith("vgg") else 1
    a, b = (f[first][:, 8:24, 8:24] for f in (ours, theirs))
    np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(1, abs(b).max()))
    assert abs(a).max() > 0


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels(channels, tmp_path):
    state, net = contents("resnet18"), network("resnet18", channels)
    load_encoder(net, written(tmp_path / "weights.pth", state), None)
    w = state["conv1.weight"].transpose(2, 3, 1, 0)
    expected = np.stack([w[:, :, i % 3] for i in range(channels)], 2) * (3 / channels)
    np.testing.assert_allclose(net.encoder.conv1.params["w"], expected, rtol=1e-6)


def test_files_of_other_kinds(tmp_path):
    """safetensors, prefixes, a network that has this encoder, and the names of MobileNetV2's first version."""
    state = contents("mobilenet_v2")
    want = network("mobilenet_v2")
    load_encoder(want, written(tmp_path / "plain.pth", state), None)

    def old(key):
        head, conv, rest = key.partition(".conv.")
        if not conv:
            return key
        widens = f"{head}.conv.3.weight" in state
        numbers = (
            {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7} if widens else {"0.0": 0, "0.1": 1, "1": 3, "2": 4}
        )
        place, _, name = rest.rpartition(".")
        return f"{head}.conv.{numbers[place]}.{name}"

    save_file({f"model.encoder.{key}": np.asarray(a) for key, a in state.items()}, tmp_path / "inside.safetensors")
    written(tmp_path / "old.pt", {old(key): a for key, a in state.items() if not key.startswith("classifier")})
    for name in ("inside.safetensors", "old.pt"):
        net = network("mobilenet_v2")
        load_encoder(net, tmp_path / name, None)
        assert all((a == want.encoder.state()[key]).all() for key, a in net.encoder.state().items()), name


def test_what_is_refused(tmp_path):
    def broken(words, state, net=None):
        path = written(tmp_path / "weights.pth", state)
        with pytest.raises(UserError, match=words) as error:
            load_encoder(net or network("resnet18"), path, None)
        assert "weights.pth" in str(error.value)

    broken(
        "holds the weights of resnet34, not of resnet18: give it with --encoder resnet34",
        contents("resnet34"),
    )
    some = contents("resnet18")
    broken(r"lacks 2 of the 100 tensors of resnet18: layer4.1.bn2.running_mean, layer4.1.bn2.running_var; it has conv1.weight",
           {k: a for k, a in some.items() if not k.startswith("layer4.1.bn2.running")})  # fmt: skip
    broken("layer1.0.conv1.weight has the shape", some | {"layer1.0.conv1.weight": np.zeros((2, 3, 3, 3), np.float32)})
    broken("conv1.weight is for 5 channels, not for 3", some | {"conv1.weight": np.zeros((2, 5, 7, 7), np.float32)})
    broken("not finite", some | {"bn1.bias": np.full(2, np.nan, np.float32)})
    broken("is of type int64", some | {"bn1.bias": np.zeros(2, np.int64)})
    file = written(tmp_path / "weights.pth", contents("resnet34"))
    with pytest.raises(UserError, match="it holds resnet34 alone, which is no whole network: train --encoder resnet34"):
        minunet.load(file)
    (tmp_path / "weights.pth").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UserError, match="cut short"):
        load_encoder(network("resnet18"), tmp_path / "weights.pth", None)
    with pytest.raises(UserError, match="no such file"):
        load_encoder(network("resnet18"), tmp_path / "none.pth", None)
    with pytest.raises(UserError, match="a network of the kind unet has no encoder to load"):
        load_encoder(minunet.UNet(1, 2, base_width=1, depth=1), tmp_path / "weights.pth", None)


def test_a_hash_in_the_name(tmp_path):
    data = torch_zip(contents("resnet18"))
    good = tmp_path / f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    good.write_bytes(data)
    load_encoder(network("resnet18"), good, None)
    good.rename(tmp_path / "resnet18-f37072fd.pth")
    with pytest.raises(UserError, match="not with f37072fd as its name says"):
        load_encoder(network("resnet18"), tmp_path / "resnet18-f37072fd.pth", None)


class Sends:
    """In place of the downloader."""

    def __init__(self, content):
        self.content = content

    def __call__(self, part, most, quiet):
        def send(url, output_file, pooch):
            self.url = url
            with open(output_file, "wb") as f:
                f.write(self.content)

        return send


def test_official_files(tmp_path, monkeypatch):
    """Fetched once, and only what has the right hash stays."""
    pytest.importorskip("pooch", reason="pooch is not installed")
    assert official.FILES.keys() == set(ENCODERS)
    data = torch_zip(contents("resnet18"))
    sent = Sends(data)
    monkeypatch.setattr(official, "Resuming", sent)
    monkeypatch.setenv("MINUNET_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth sent is not what its name says"):
        official.official("resnet18")
    assert not list((tmp_path / "weights").iterdir()) and sent.url.startswith(
        "https://download.pytorch.org/models/resnet18"
    )
    monkeypatch.setitem(official.FILES, "resnet18", f"resnet18-{hashlib.sha256(data).hexdigest()[:8]}.pth")
    path = official.official("resnet18")
    sent.content = b""
    assert official.official("resnet18") == path and path.read_bytes() == data
    load_encoder(network("resnet18"), "imagenet", None)


# ---- training --------------------------------------------------------------------------------------------------------


def test_a_run_from_such_weights(tmp_path, capsys):
    """The checkpoint knows what is taken off images; the run resumes, without the file; flags that do not fit are refused."""
    data, file = (
        make_data(tmp_path / "data", n=4, size=(32, 34)),
        written(tmp_path / "weights.pth", contents("resnet18")),
    )
    tiny = ["--arch-options", "encoder_width=0.03125", "decoder_width=1", "--crop", "32", "-b", "3", "-v", "25"]
    flags = ["--data", str(data), "--encoder", "resnet18", *tiny, "--freeze", "encoder", "-e", "1"]
    run = tmp_path / "run"
    assert train([*flags, "--encoder-weights", str(file), "--out", str(run)]) == 0
    out = capsys.readouterr().out
    assert "encoder     weights.pth: all 100 tensors of resnet18" in out and "from 3 channels to 1" in out
    assert "network     encoder_unet, " in out and "encoder resnet18" in out
    model, expected = minunet.load(run / "best.safetensors"), network("resnet18", 1, standardise="imagenet")
    load_encoder(expected, file, None)
    assert model.architecture.standardise == "imagenet"
    assert all((a == model.encoder.state()[key]).all() for key, a in expected.encoder.state().items())
    assert f'encoder-weights = "{file}"' in (run / "config.toml").read_text()
    file.unlink()
    assert train(["--resume", str(run / "last.safetensors"), "-e", "2"]) == 0
    capsys.readouterr()
    more = ["-f", str(run / "best.safetensors"), "--data", str(data), "--out", str(tmp_path / "other")]
    refused(capsys, train([*more, "--encoder-weights", "imagenet"]), "holds the encoder's weights, too")
    bare = ["--data", str(data), "--out", str(tmp_path / "other"), "--encoder-weights", str(file)]
    refused(capsys, train(bare), "--encoder-weights: unet has no encoder")
    refused(
        capsys, train([*bare, "--arch", "unet", "--encoder", "resnet18"]), "--encoder: unet has no option 'encoder'"
    )
    refused(capsys, train([*bare, "--encoder", "resnet18"]), "no such file of weights")


def test_fit_from_such_weights(tmp_path):
    file = written(tmp_path / "weights.pth", contents("resnet18"))
    options = EncoderUNetOptions(encoder="resnet18", **TINY)
    fitted = minunet.fit(
        SyntheticCells(4, size=32),
        model=options,
        encoder_weights=file,
        epochs=1,
        crop=32,
        batch_size=3,
        freeze=["encoder"],
    )
    expected = network("resnet18", 1, standardise="imagenet")
    load_encoder(expected, file, None)
    assert all((a == fitted.model.encoder.state()[key]).all() for key, a in expected.encoder.state().items())
    assert outline(fitted.model.architecture).num_params() == fitted.model.num_params()
