"""Checkpoints of PyTorch-UNet: every layout is read and gives PyTorch's outputs; what is written, PyTorch loads."""

import builtins
import warnings
import zipfile

import numpy as np
import pytest
from helpers.tolerances import NETWORK, OP
from PIL import Image
from safetensors.numpy import save_file

import minunet
from minunet.checkpoint.file import save_checkpoint
from minunet.data import prepare
from minunet.data.files.windows import Windows
from minunet.errors import UserError
from minunet.models import UNet

torch = pytest.importorskip("torch", reason="PyTorch, which writes these files, is not installed: pip install torch")
from helpers.pytorch_twins import LAYOUTS, TwinUNet, outputs, randomise  # noqa: E402

from minunet.predict.command import main as predict  # noqa: E402
from minunet.train.command import main as train  # noqa: E402


def written(twin, path, legacy=False, **more):
    torch.save({**twin.state_dict(), **more} if more else twin.state_dict(), path,
               _use_new_zipfile_serialization=not legacy)  # fmt: skip
    return path


def same_outputs(model, twin, channels=3, sizes=((35, 51), (16, 17), (64, 33))):
    """To 1e-5 of the outputs' scale, in float32."""
    for size in sizes:
        x = np.random.default_rng(1).random((2, *size, channels), dtype=np.float32)
        truth = outputs(twin, x)
        assert np.ptp(truth) > 0.3  # it does answer something
        np.testing.assert_allclose(model(x), truth, rtol=0, atol=NETWORK["float32"] * abs(truth).max())


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_layout(tmp_path, name, legacy):
    twin = randomise(TwinUNet(3, 2, **LAYOUTS[name]))
    lines = []
    model = minunet.load_torch(written(twin, tmp_path / "net.pth", legacy), report=lines.append)
    same_outputs(model, twin)
    assert [line.split()[0] for line in lines[:-1]] == list(twin.state_dict())  # every key is reported
    assert "3 channels" in lines[-1] and "2 classes" in lines[-1]
    assert model.num_params() == sum(p.numel() for p in twin.parameters())


@pytest.mark.parametrize("bilinear, parameters, keys", [(False, 31_037_698, 118), (True, 17_263_042, 110)])
def test_the_real_size_both_ways(tmp_path, bilinear, parameters, keys):
    """There, and back into PyTorch's strict load, with an odd size in between."""
    twin = randomise(TwinUNet(3, 2, base=64, bilinear=bilinear))
    model = minunet.load_torch(written(twin, tmp_path / "net.pth"), report=None)
    assert model.num_params() == parameters
    same_outputs(model, twin, sizes=[(37, 53)])
    minunet.save_torch(model, tmp_path / "back.pth")
    state = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(state) == list(twin.state_dict()) and len(state) == keys
    for key, tensor in twin.state_dict().items():
        assert state[key].dtype == tensor.dtype and state[key].is_contiguous()
        assert key.endswith("tracked") or torch.equal(state[key], tensor)


def test_channels_and_classes(tmp_path):
    for channels, classes in ((1, 1), (4, 3)):
        twin = randomise(TwinUNet(channels, classes, depth=2))
        model = minunet.load_torch(written(twin, tmp_path / "net.pth"), report=None)
        same_outputs(model, twin, channels)
        assert model.preprocessing.channels == channels and model.preprocessing.classes.num_classes == max(2, classes)


def test_without_torch(tmp_path, monkeypatch):
    twin = randomise(TwinUNet(3, 2, depth=2))
    path = written(twin, tmp_path / "net.pth")
    plain = builtins.__import__

    def no_torch(name, *args, **more):
        assert name.split(".")[0] not in ("torch", "pickle", "_pickle"), name
        return plain(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    model = minunet.load_torch(path, report=None)
    minunet.save_torch(model, tmp_path / "again.pth", any_width=True)
    monkeypatch.undo()
    same_outputs(model, twin)


# ---- tensors in every form -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_strided_tensors_and_shared_storages(tmp_path, legacy):
    twin = randomise(TwinUNet(3, 2, depth=2))
    strided = randomise(TwinUNet(3, 2, depth=2)).to(memory_format=torch.channels_last)
    assert not strided.state_dict()["down1.maxpool_conv.1.double_conv.0.weight"].is_contiguous()
    same_outputs(minunet.load(written(strided, tmp_path / "a.pth", legacy)), twin)
    parameters = [key for key in twin.state_dict() if not key.endswith("tracked")]
    one = torch.cat([twin.state_dict()[key].flatten() for key in parameters])  # all of them views of one array
    state, at = dict(twin.state_dict()), 0
    for key in parameters:
        n = state[key].numel()
        state[key] = one[at : at + n].view(state[key].shape)
        at += n
    torch.save(state, tmp_path / "b.pth", _use_new_zipfile_serialization=not legacy)
    same_outputs(minunet.load(tmp_path / "b.pth"), twin)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_other_types_of_numbers(tmp_path, dtype, legacy):
    twin = randomise(TwinUNet(3, 2, depth=2)).to(getattr(torch, dtype))
    path = written(twin, tmp_path / "net.pth", legacy)
    same_outputs(minunet.load(path), twin.to(torch.float32))


def test_what_people_wrap_around(tmp_path):
    twin = randomise(TwinUNet(3, 2, depth=2))
    state = twin.state_dict()
    for content in (
        {"epoch": 3, "model_state_dict": state, "loss": 0.5}, {f"module.{k}": v for k, v in state.items()},
        {"state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}},
        {k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()},
        {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},  # before PyTorch 0.4.1
    ):  # fmt: skip
        torch.save(content, tmp_path / "net.pth")
        same_outputs(minunet.load(tmp_path / "net.pth"), twin, sizes=[(19, 21)])


def test_files_without_checksums(tmp_path):
    """torch.serialization.set_crc32_options(False) leaves the zip's checksums wrong."""
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this PyTorch always writes checksums")
    twin = randomise(TwinUNet(3, 2, depth=2))
    torch.serialization.set_crc32_options(False)
    try:
        path = written(twin, tmp_path / "net.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    same_outputs(minunet.load(path), twin, sizes=[(19, 21)])


def test_safetensors_with_the_same_keys(tmp_path):
    twin = randomise(TwinUNet(3, 2, depth=2))
    save_file({k: v.numpy() for k, v in twin.state_dict().items()}, tmp_path / "net.safetensors")
    same_outputs(minunet.load(tmp_path / "net.safetensors"), twin)
    same_outputs(minunet.load_torch(tmp_path / "net.safetensors", report=None), twin)
    save_file({"blocks.0.w": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other.safetensors.*not a minunet checkpoint.*blocks\.0\.w"):
        minunet.load(tmp_path / "other.safetensors")


# ---- classes and images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values, classes, expected", [
    ([0, 1], 2, [0, 1]), ([0, 255], 1, [0, 255]), ([0, 1, 7], 3, [0, 1, 7]),
    ([[0, 0, 0], [255, 0, 9]], 2, [[0, 0, 0], [255, 0, 9]]),
    ([0, 1, 2], 2, [0, 255]), ([0, 0.5], 2, [0, 255]), ("ab", 2, [0, 255]), ([[0, 0], 1], 2, [0, 255]),
])  # fmt: skip
def test_mask_values(tmp_path, values, classes, expected):
    path = written(TwinUNet(3, classes, depth=2), tmp_path / "net.pth", mask_values=values)
    lines = []
    model = minunet.load_torch(path, report=lines.append)
    assert model.preprocessing.classes.values == expected
    assert ("no mask_values" in lines[-1]) == (expected != values)


def test_images_are_prepared_as_there(tmp_path):
    """Divided by 255 only if any value is above 1; bicubic in 8 bits."""
    raw = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    np.testing.assert_array_equal(prepare(raw, 3, "255"), raw.astype(np.float32) / 255)
    small = Image.fromarray(raw).resize((20, 15), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(prepare(raw, 3, "255", 0.5), np.asarray(small, np.float32) / 255)
    np.testing.assert_array_equal(prepare(raw // 128, 3, "255"), raw // 128)
    np.testing.assert_array_equal(prepare(raw.astype(np.uint16) * 4, 3, "255"), raw * np.float32(4) / np.float32(255))


@pytest.mark.parametrize("scale", [1, 0.5, 0.37, 1.8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_are_prepared_alike_by_windows(dtype, scale):
    """As tiles read them; where Pillow rounds to 8 bits by its own arithmetic, a few pixels may fall to the other side."""
    raw = np.random.default_rng(0).integers(0, 256, (60, 71, 3)).astype(dtype)
    for image in (raw, raw // 255):  # with and without values above 1
        whole = prepare(image, 3, "255", scale)
        windows = Windows(image, 3, "255", scale)
        assert windows.size == whole.shape[:2]
        part = slice(3, 19), slice(5, whole.shape[1])
        gap = abs(windows(*part) - whole[part]) * (255 if image.max() > 1 else 1)
        assert gap.max() <= (1.001 if dtype == np.uint8 else 1e-3) and gap.mean() < 0.01


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_segment_and_predict(tmp_path, capsys, classes):
    twin = randomise(TwinUNet(3, classes, depth=2))
    raw = np.random.default_rng(0).integers(0, 256, (33, 41, 3)).astype(np.uint8)
    logits = outputs(twin, raw[None].astype(np.float32) / 255)[0]
    if classes == 1:  # about as many pixels on either side
        twin.outc.conv.bias.data -= float(np.median(logits))
        logits -= np.median(logits)
    truth = logits.argmax(-1) if classes > 1 else logits[..., 0] > 0
    assert 0 < truth.mean() < classes - 0.5
    path = written(twin, tmp_path / "net.pth")
    np.testing.assert_array_equal(minunet.segment(minunet.load(path), raw), truth)
    Image.fromarray(raw).save(tmp_path / "a.png")
    assert predict(["-m", str(path), "-i", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == 0
    assert "-s 0.5" in capsys.readouterr().out  # the file does not tell
    mask = np.asarray(Image.open(tmp_path / "out" / "a_mask.png"))
    np.testing.assert_array_equal(mask.reshape(33, 41, -1).any(-1), truth > 0)


def test_saved_again_as_our_own(tmp_path):
    model = minunet.load(
        written(randomise(TwinUNet(3, 2, depth=2, bias=True)), tmp_path / "net.pth", mask_values=[0, 1])
    )
    save_checkpoint(tmp_path / "net.safetensors", model)
    again = minunet.load(tmp_path / "net.safetensors")
    assert again.preprocessing == model.preprocessing and again.state().keys() == model.state().keys()
    assert all((again.state()[k] == v).all() for k, v in model.state().items())


def test_training_goes_on_from_it(tmp_path, capsys):
    """train -f: the network, its channels and the images' preparation are the file's; then --resume and predict as ever."""
    for folder in ("imgs", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for n in range(4):
            y, x = np.mgrid[:20, :24]
            disc = (y - 8 - n) ** 2 + (x - 10) ** 2 < 30
            Image.fromarray((255 * disc).astype(np.uint8)).save(tmp_path / "data" / folder / f"{n}.png")
    twin = randomise(TwinUNet(3, 2, base=2, depth=3, keeps=True, bias=True))
    path, out = written(twin, tmp_path / "net.pth", mask_values=[0, 255]), tmp_path / "run"
    flags = [
        "--data",
        str(tmp_path / "data"),
        "-e",
        "1",
        "--crop",
        "16",
        "-v",
        "25",
        "-f",
        str(path),
        "--out",
        str(out),
    ]
    assert train([*flags, "-l", "1e-30", "--loss", "ce"]) == 0
    assert "base width 2, depth 3" in capsys.readouterr().out
    before, after = minunet.load(path), minunet.load(out / "best.safetensors")
    assert after.preprocessing == before.preprocessing
    for name, p in before.named_params().items():
        np.testing.assert_allclose(after.named_params()[name], p, atol=OP["float64"])
    assert train(["--resume", str(out / "last.safetensors"), "-e", "2"]) == 0
    assert train([*flags[:-1], str(tmp_path / "other"), "--base-width", "4"]) == 2
    assert f"{path} holds the weights of another network" in capsys.readouterr().err


# ---- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up, bilinear", [("transpose", False), ("bilinear", True)])
def test_what_we_write_pytorch_loads(tmp_path, rng, up, bilinear):
    model = UNet(1, 3, base_width=4, up=up, seed=5)
    for path, array in model.state().items():
        if not path.endswith(".w"):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
    minunet.save_torch(model, tmp_path / "net.pth", any_width=True)
    twin = TwinUNet(1, 3, base=4, bilinear=bilinear)
    twin.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    same_outputs(model, twin.eval(), 1)
    with zipfile.ZipFile(tmp_path / "net.pth") as file:  # as PyTorch's own files: storages on multiples of 64 bytes
        assert file.testzip() is None
    mapped = torch.load(tmp_path / "net.pth", weights_only=True, mmap=True)
    assert all(t.data_ptr() % 64 == 0 for t in mapped.values())
    assert not list(tmp_path.glob(".*"))


def test_mask_values_are_written_on_request(tmp_path):
    model = minunet.load(written(TwinUNet(3, 2, depth=2), tmp_path / "net.pth", mask_values=[[0, 0, 0], [9, 8, 7]]))
    minunet.save_torch(model, tmp_path / "again.pth", mask_values=True, any_width=True)
    assert torch.load(tmp_path / "again.pth", weights_only=True)["mask_values"] == [[0, 0, 0], [9, 8, 7]]
    assert minunet.load(tmp_path / "again.pth").preprocessing == model.preprocessing
    with pytest.raises(UserError, match="no mask_values"):
        minunet.save_torch(UNet(3, 2, base_width=2), tmp_path / "x.pth", mask_values=True, any_width=True)


def test_biases_before_norms_are_folded_away(tmp_path):
    twin = randomise(TwinUNet(3, 2, bias=True))
    model = minunet.load(written(twin, tmp_path / "old.pth"))
    minunet.save_torch(model, tmp_path / "new.pth", any_width=True)
    newer = TwinUNet(3, 2)
    newer.load_state_dict(torch.load(tmp_path / "new.pth", weights_only=True))
    same_outputs(model, newer.eval())


@pytest.mark.parametrize("options, reason", [
    ({"norm": "group"}, "group norms"), ({"norm": None}, "no norms"), ({"padding": "valid"}, "not padded"),
    ({"up": "nearest"}, "nearest"), ({}, "--base-width 64"), ({"base_width": 64, "depth": 3}, "3 poolings"),
])  # fmt: skip
def test_networks_that_it_does_not_have(tmp_path, options, reason):
    with pytest.raises(UserError, match=reason):
        minunet.save_torch(UNet(1, 2, **{"base_width": 16, **options}), tmp_path / "net.pth")
    with pytest.raises(UserError, match="it is a ReLU"):
        minunet.save_torch(minunet.nn.ReLU(), tmp_path / "net.pth")
    assert not list(tmp_path.iterdir())


def test_warnings_are_not_raised_by_pytorch(tmp_path):
    minunet.save_torch(UNet(1, 2, base_width=2), tmp_path / "net.pth", any_width=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.load(tmp_path / "net.pth", weights_only=True)
