"""Networks of segmentation_models.pytorch (SMP): loaded whole, and, where it is installed, equal to its own classes."""

import json

import numpy as np
import pytest
from helpers.training import refused
from safetensors.numpy import save_file

import minunet
from minunet.checkpoint.pytorch import smp
from minunet.checkpoint.pytorch.names import entries_of
from minunet.checkpoint.pytorch.save import torch_zip
from minunet.errors import UserError
from minunet.models import DeepLabV3PlusOptions, EncoderUNetOptions, EncoderUNetPlusPlusOptions, build
from minunet.predict.command import main as predict

TINY = {"in_channels": 3, "num_classes": 2, "encoder_width": 1 / 16}
NETWORKS = {
    "Unet": EncoderUNetOptions(**TINY, encoder="resnet18", decoder_width=1),
    "Unet scse": EncoderUNetOptions(**TINY, encoder="mobilenet_v2", decoder_width=1, attention="scse"),
    "Unet vgg": EncoderUNetOptions(**TINY, encoder="vgg11_bn", decoder_width=2),
    "UnetPlusPlus": EncoderUNetPlusPlusOptions(**TINY, encoder="resnet18", decoder_width=1),
    "DeepLabV3Plus": DeepLabV3PlusOptions(
        **TINY, encoder="resnet18", width=2, separable=True, dropout=0.5, layout="smp"
    ),
    "DeepLabV3Plus dense": DeepLabV3PlusOptions(**TINY, encoder="resnet50", width=2, dropout=0.5, layout="smp"),
}


def place(options):
    if isinstance(options, DeepLabV3PlusOptions):
        return lambda layer: smp.place_in_deeplab(layer, options.separable)
    return smp.place_in_nested if isinstance(options, EncoderUNetPlusPlusOptions) else smp.place_in_unet


def contents(options, seed=0):
    """A network's tensors under SMP's keys, and the network."""
    net, rng, state = build(options), np.random.default_rng(seed), {}
    for a in net.state().values():
        a[...] = rng.uniform(0.5, 1.5, a.shape) if a.ndim == 1 else rng.normal(0, 0.3, a.shape)
    ours = net.state()
    for key, spec in entries_of(net, place(options)).items():
        a = ours[spec.path]
        a = a[:, :, None] if a.ndim == 3 else a
        state[key] = np.ascontiguousarray(a.transpose(3, 2, 0, 1) if a.ndim == 4 else a)
        if key.endswith("running_var"):
            state[key.replace("running_var", "num_batches_tracked")] = np.array(3, np.int64)
    return state, net


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind(name, tmp_path):
    """As a file of torch.save under Lightning's prefix, and as safetensors: the same options, weights and preprocessing."""
    options, told = NETWORKS[name], []
    state, net = contents(options)
    (tmp_path / "smp.pth").write_bytes(torch_zip({f"model.{key}": a for key, a in state.items()}))
    save_file(state, tmp_path / "smp.safetensors")
    for file in ("smp.pth", "smp.safetensors"):
        made = minunet.load_torch(tmp_path / file, told.append)
        assert made.architecture == type(options)(**options.to_json() | {"standardise": "imagenet"})
        assert all((made.state()[path] == a).all() for path, a in net.state().items())
        assert (made.preprocessing.normalise, made.preprocessing.channels) == ("255", 3)
    np.testing.assert_allclose(made.encoder.state()["standardise.mean"], [0.485, 0.456, 0.406])
    assert "taken off its keys: model." in told[0] and "without config.json" in told[1]


def test_a_folder(tmp_path, capsys):
    """What `save_pretrained` writes: predicted with, trained on from, and what its config.json says is heeded."""
    state, _ = contents(NETWORKS["DeepLabV3Plus"])
    folder = tmp_path / "saved"
    folder.mkdir()
    save_file(state, folder / "model.safetensors")
    settings = {"_model_class": "DeepLabV3Plus", "encoder_name": "resnet18", "encoder_output_stride": 8}
    (folder / "config.json").write_text(json.dumps(settings | {"decoder_aspp_dropout": 0.25}))
    model = minunet.load(folder)
    assert (model.architecture.output_stride, model.architecture.dropout) == (8, 0.25)
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "a.png")
    assert predict(["-m", str(folder), "-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--tile", "0"]) == 0
    mask = np.asarray(Image.open(tmp_path / "out" / "a_mask.png"))
    assert ((mask > 0) == minunet.segment(model, image)).all()
    capsys.readouterr()
    for key, value, words in (
        ("encoder_name", "se_resnet50", "its encoder 'se_resnet50' is none of vgg11"),
        ("decoder_atrous_rates", [6, 12], "its config.json says decoder_atrous_rates [6, 12]; only [12, 24, 36]"),
        ("encoder_output_stride", 12, "of its settings, output_stride: 12 is neither"),
    ):
        (folder / "config.json").write_text(json.dumps(settings | {key: value}))
        refused(capsys, predict(["-m", str(folder), "-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "no")]), words)


def test_what_is_refused(tmp_path):
    state, _ = contents(NETWORKS["Unet"])

    def broken(words, state):
        (tmp_path / "smp.pth").write_bytes(torch_zip(state))
        with pytest.raises(UserError, match=words):
            minunet.load_torch(tmp_path / "smp.pth", None)

    def without(start):
        return {key: a for key, a in state.items() if not key.startswith(start)}

    broken("smp.pth is refused: its decoder is none of those of Unet", without("decoder"))
    broken("it lacks decoder.blocks.2.conv1.0.weight", without("decoder.blocks.2.conv1.0.weight"))
    broken(
        "it has decoder.blocks.0.conv1.0.bias, which encoder_unet has not",
        state | {"decoder.blocks.0.conv1.0.bias": np.zeros(16, np.float32)},
    )
    broken(
        "conv2.0.weight has the shape", state | {"decoder.blocks.0.conv2.0.weight": np.zeros((9, 9, 3, 3), np.float32)}
    )
    broken("its encoder is none of", without("encoder.layer3"))


TWINS = [("Unet", "resnet34", {}), ("Unet", "vgg11_bn", {}), ("Unet", "resnet18", {"decoder_attention_type": "scse"}),
         ("UnetPlusPlus", "resnet18", {}), ("UnetPlusPlus", "mobilenet_v2", {"decoder_attention_type": "scse"}),
         ("DeepLabV3Plus", "resnet50", {}), ("DeepLabV3Plus", "resnet18", {"encoder_output_stride": 8})]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "encoder", "options"), TWINS, ids=str)
def test_equals_segmentation_models_pytorch(kind, encoder, options, tmp_path, rng):
    """Its own class, saved as it saves, gives the same logits for an image of which ImageNet's mean was taken off."""
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from helpers import encoder_twins

    package = encoder_twins.import_smp()
    twin = getattr(package, kind)(encoder, encoder_weights=None, classes=3, **options).eval()
    with torch.no_grad():
        for name, a in twin.state_dict().items():
            if a.ndim == 1:
                a.uniform_(0.5, 1.5) if name.endswith(("var", "weight")) else a.normal_(0, 0.2)
    twin.save_pretrained(tmp_path / "saved")
    model = minunet.load(tmp_path / "saved")
    image = rng.random((1, 64, 96, 3)).astype(np.float32)
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    x = ((image - mean) / std).transpose(0, 3, 1, 2).copy()
    with torch.no_grad():
        theirs = twin(torch.tensor(x)).numpy().transpose(0, 2, 3, 1)
    scale = max(1, abs(theirs).max())
    np.testing.assert_allclose(model(image), theirs, rtol=0, atol=1e-5 * scale)
    with torch.no_grad():
        theirs = twin.double()(torch.tensor(x.astype(np.float64))).numpy().transpose(0, 2, 3, 1)
    exact = model.convert(np.float64)
    exact.encoder.children.pop("standardise")
    np.testing.assert_allclose(exact(x.transpose(0, 2, 3, 1).astype(np.float64)), theirs, rtol=0, atol=1e-9 * scale)
