"""Networks as ONNX files, which ONNX Runtime computes alike; and the command that writes them."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers.tolerances import NETWORK

import minunet
from minunet.checkpoint.file import description, save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.errors import UserError
from minunet.export import main as export
from minunet.models import UNetOptions, build
from minunet.nn import AvgPool2d, BatchNorm2d, Conv2d, Dropout, LeakyReLU, Module, Sequential, UpsampleBilinear

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")
from minunet.checkpoint.onnx import to_onnx  # noqa: E402


def run(content, x):
    """ONNX Runtime's outputs for images (N, H, W, C), (N, H, W, K)."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime, the oracle, is not installed")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.moveaxis(session.run(["logits"], {"image": np.moveaxis(x, -1, 1)})[0], 1, -1)


def network(rng, in_channels=2, num_classes=3, **options):
    """One with norms and biases that are not at their start, where a mistake might hide."""
    options = {"base_width": 4, "depth": 2, **options}
    model = build(UNetOptions(in_channels, num_classes, **options))
    for path, array in model.state().items():
        if not path.endswith(".w"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
    classes = ClassMap(list(range(max(2, num_classes))), [f"class {n}" for n in range(max(2, num_classes))])
    model.preprocessing = Preprocessing(in_channels, classes)
    return model


@pytest.mark.parametrize("options", [
    {}, {"up": "bilinear"}, {"up": "nearest", "norm": "group"}, {"norm": None, "padding": "valid"},
    {"padding": "valid", "up": "bilinear"}, {"dropout": 0.5, "num_classes": 1, "conv_bias": True, "depth": 3},
    {"widths": [[4, [5, 6], 7], [[3, 8], 9], [2, 5]]},
], ids=str)  # fmt: skip
def test_onnx_runtime_agrees(rng, options):
    """One file for all sizes, odd ones too, and for all batch sizes."""
    model = network(rng, **options)
    content = to_onnx(model)
    for n, *size in ((1, 33, 47), (3, 16, 8), (1, 64, 65)):
        size = [model.fit_size(side) for side in size]
        x = rng.random((n, *size, 2), dtype=np.float32)
        truth = model(x)
        np.testing.assert_allclose(run(content, x), truth, rtol=0, atol=NETWORK["float32"] * abs(truth).max())


def test_other_layers(rng):
    model = Sequential(
        a=Conv2d(2, 6, 5, stride=2), b=LeakyReLU(0.1), c=AvgPool2d(2), d=Conv2d(6, 4, 3, dilation=2, groups=2, padding=2),
        e=BatchNorm2d(4, eps=0.1), f=UpsampleBilinear(3, align_corners=False), g=Dropout(0.5),
        h=Conv2d(4, 1, 2, padding=((1, 0), (0, 2))),
    )  # fmt: skip
    x = rng.random((2, 31, 26, 2), dtype=np.float32)
    np.testing.assert_allclose(run(to_onnx(model), x), model(x), atol=NETWORK["float32"])


def test_what_is_written_in_it(rng):
    model = network(rng)
    proto = onnx.load_from_string(to_onnx(model))
    (image,), (logits,) = proto.graph.input, proto.graph.output
    shape = lambda value: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]  # noqa: E731
    assert (image.name, shape(image), logits.name, shape(logits)) == (
        "image",
        ["N", 2, "H", "W"],
        "logits",
        ["N", 3, "H", "W"],
    )
    assert "percentile" in proto.doc_string and "class 0, class 1, class 2" in proto.doc_string
    (entry,) = proto.metadata_props
    assert json.loads(entry.value) == description(model)
    assert all(
        type(m).forward is not None and "forward" not in vars(m) for _, m in model.modules()
    )  # nothing is left of it


def test_layers_that_do_not_describe_themselves():
    class Cube(Module):
        pass

    with pytest.raises(UserError, match=r"Cube \(b\) does not describe itself"):
        to_onnx(Sequential(a=Conv2d(1, 1), b=Cube()))


def test_the_command(rng, tmp_path, capsys):
    model, source, out = network(rng), tmp_path / "best.safetensors", tmp_path / "model.onnx"
    save_checkpoint(source, model)
    assert export(["-m", str(source), "-o", str(out)]) == 0
    assert "percentile" in capsys.readouterr().out
    onnx.checker.check_model(str(out), full_check=True)
    x = rng.random((1, 21, 18, 2), dtype=np.float32)
    np.testing.assert_allclose(run(out.read_bytes(), x), model(x), atol=NETWORK["float32"])
    assert export(["-m", str(source), "-o", str(tmp_path / "model.pth"), "--any-width", "--mask-values"]) == 0
    capsys.readouterr()
    assert export(["-m", str(tmp_path / "model.pth"), "-o", str(tmp_path / "again.safetensors"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    again = minunet.load(tmp_path / "again.safetensors")
    assert again.preprocessing == replace(model.preprocessing, normalise="255")
    assert all((again.state()[k] == v).all() for k, v in model.state().items())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "again.safetensors",
        "best.safetensors",
        "model.onnx",
        "model.pth",
    ]


def test_mistakes_are_one_line(rng, tmp_path, capsys, monkeypatch):
    source = tmp_path / "best.safetensors"
    save_checkpoint(source, network(rng))
    before = source.read_bytes()
    for words, *flags in (
        ("ending must be", "-o", "model.h5"), ("the checkpoint itself", "-o", str(source)),
        ("for .pth files", "-o", "a.onnx", "--any-width"),
        ("cannot write", "-o", str(tmp_path / "none" / "a.onnx")), ("--any-width", "-o", str(tmp_path / "a.pth")),
    ):  # fmt: skip
        assert export(["-m", str(source), *flags]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == [source.name] and source.read_bytes() == before
    monkeypatch.setitem(sys.modules, "onnx", None)  # as where it is not installed
    with pytest.raises(UserError, match=r"pip install '.\[onnx\]'"):
        to_onnx(network(rng))
