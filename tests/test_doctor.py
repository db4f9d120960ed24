"""The doctor: every trouble is planted, and found by its name; a healthy data set has none."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from minunet import doctor
from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.errors import UserError
from minunet.kernels import gpu
from minunet.models import UNetOptions, build

UPFRONT = ("names", "files", "checkpoint", "empty validation set")  # errors, which say what to do themselves
RNG = np.random.default_rng(0)
SIZE = (40, 52)


def disc(i=0):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return (y - 20) ** 2 + (x - 15 - 2 * (i % 10)) ** 2 < 100


def light(i=0, low=40, high=190, noise=30):
    return low + (high - low) * disc(i) + RNG.integers(0, noise, SIZE)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, array)
    else:
        Image.fromarray(array).save(path)


def healthy(path, n=30, value=255, ending="png"):
    for i in range(n):
        save(path / "imgs" / f"{i}.{ending}", light(i).astype(np.uint8))
        save(path / "masks" / f"{i}.{ending}", (value * disc(i)).astype(np.uint8))
    return path


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "has_nvidia_gpu", lambda: False)
    return healthy(tmp_path / "data")


@pytest.fixture
def ask(data, capsys):
    """Examine the data set: its findings by level, after checking that the status is that of the troubles."""

    def ask(*flags, path=data):
        status = doctor.main([str(path), *flags])
        lines = capsys.readouterr().out.splitlines()
        found = {level: [] for level in ("ok", "note", "trouble")}
        for line, following in zip(lines, [*lines[1:], ""]):
            level = line.split(" ")[0]
            if level in found:
                name, what = line[8:].strip().split(": ", 1)
                found[level].append(name)
                advised = following.startswith("         -> ") or "pip install" in what
                assert level == "ok" or advised or (name in UPFRONT and len(what) > 30)
        assert status == (1 if found["trouble"] else 0)
        return found

    return ask


def test_a_healthy_data_set(ask):
    found = ask()
    assert found["trouble"] == [] and found["note"] == []
    assert found["ok"] == ["names", "files", "mask values", "grey values", "object sizes", "GPU"]


def test_masks_that_only_look_black(ask, data):
    healthy(data, value=1)
    assert ask()["note"] == ["masks look black"]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_values_that_do_not_match(ask, data, ending):
    save(data / "masks" / "3.png", disc(3).astype(np.uint8))  # 0/1 among 0/255
    assert "mask values" in ask()["trouble"]


def test_soft_masks(ask, data):
    for i in range(30):
        save(data / "masks" / f"{i}.png", RNG.integers(0, 256, SIZE).astype(np.uint8))
    assert "mask values" in ask()["trouble"]


def test_stray_values(ask, data):
    mask = (255 * disc()).astype(np.uint8)
    mask[0, 0] = 7
    save(data / "masks" / "3.png", mask)
    found = ask()
    assert "mask values" in found["note"] and not found["trouble"]


def test_unmatched_names(ask, data):
    (data / "masks" / "3.png").rename(data / "masks" / "3_other.png")
    assert ask()["trouble"] == ["names"]


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"depth": 0}, {"crop": "a"}, {"validation": 99}, {"padding": "odd"}])
def test_arguments_out_of_range(data, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        doctor.examine(data, **wrong)


def test_files_of_wrong_size_or_damaged(ask, data, capsys):
    save(data / "masks" / "3.png", np.zeros((9, 9), np.uint8))
    (data / "imgs" / "4.png").write_bytes(b"no image")
    assert ask()["trouble"] == ["files"]


def test_no_foreground(ask, data):
    healthy(data, value=0)
    assert ask()["trouble"] == ["no foreground", "empty training set", "empty validation set"]


def test_blank_masks_and_much_foreground(ask, data):
    for i in range(30):
        save(data / "masks" / f"{i}.png", (255 * ~disc(i)).astype(np.uint8))
    assert ask()["note"] == ["much foreground"]
    save(data / "masks" / "3.png", np.zeros(SIZE, np.uint8))
    assert "blank masks" in ask()["note"]


def test_no_background(ask, data):
    for i in range(30):
        save(data / "imgs" / f"{i}.png", light(i).astype(np.uint8))
        save(data / "masks" / f"{i}.png", np.full(SIZE, 255, np.uint8))
    assert "no background" in ask()["trouble"]


def test_an_empty_validation_set(ask, data, tmp_path):
    (tmp_path / "val.txt").write_text("3\n4\n")
    assert ask("--val-files", str(tmp_path / "val.txt"))["trouble"] == []
    for i in (3, 4):
        save(data / "masks" / f"{i}.png", np.zeros(SIZE, np.uint8))
    assert ask("--val-files", str(tmp_path / "val.txt"))["trouble"] == ["empty validation set"]
    (tmp_path / "val.txt").write_text("nobody\n")
    assert ask("--val-files", str(tmp_path / "val.txt"))["trouble"] == ["empty validation set"]
    for i in range(1, 30):
        (data / "imgs" / f"{i}.png").unlink()
        (data / "masks" / f"{i}.png").unlink()
    assert ask()["trouble"] == ["empty validation set"]


def test_a_small_validation_set(ask):
    assert ask("-v", "5")["note"] == ["small validation set"]


def test_sizes_that_the_network_cannot_take(ask, data):
    assert ask("--crop", "8")["trouble"] == ["sizes"]
    assert (
        ask("--padding", "valid")["trouble"] == ["sizes"]
        and ask("--padding", "valid", "--crop", "188")["trouble"] == []
    )
    assert ask("--padding", "valid", "--crop", "0")["trouble"] == ["sizes"]
    save(data / "imgs" / "3.png", light()[:9].astype(np.uint8))
    save(data / "masks" / "3.png", (255 * disc()[:9]).astype(np.uint8))
    assert ask()["trouble"] == ["sizes"] and ask("--depth", "3")["trouble"] == []
    assert "sizes" in ask("--depth", "3", "--crop", "0")["note"]


def test_intensities_that_normalisation_would_flatten(ask, data):
    for i in range(30):
        (data / "imgs" / f"{i}.png").unlink()
        save(data / "imgs" / f"{i}.tif", (32768 + light(i)).astype(np.uint16))
    assert ask()["trouble"] == []
    assert ask("--normalise", "range")["trouble"] == ["flattened contrast"]
    assert ask("--normalise", "none")["trouble"] == ["large grey values"]


def test_one_hot_pixel_among_few_cells(ask, data):
    few = np.zeros(SIZE, np.uint16)
    few[4:6, 4:7] = [[300, 310, 320], [330, 340, 350]]
    (data / "imgs" / "3.png").unlink()
    save(data / "imgs" / "3.tif", few)
    assert ask()["trouble"] == []  # few cells on black are no trouble by themselves
    few[9, 9] = 65535
    save(data / "imgs" / "3.tif", few)
    assert ask()["trouble"] == ["flattened contrast"]


def test_flat_swapped_and_overexposed_images(ask, data):
    save(data / "imgs" / "3.png", np.full(SIZE, 9, np.uint8))
    assert ask()["trouble"] == ["flat images"]
    save(data / "imgs" / "3.png", (255 * disc(3)).astype(np.uint8))
    assert ask()["trouble"] == ["two-valued images"]
    burnt = light(3)
    burnt[:20] = 255
    save(data / "imgs" / "3.png", burnt.astype(np.uint8))
    found = ask()
    assert found["trouble"] == [] and found["note"] == ["overexposed images"]


def test_mixed_channels(ask, data):
    save(data / "imgs" / "3.png", np.dstack([light(3), light(4), light(5)]).astype(np.uint8))
    assert ask()["note"] == ["channels"]


# ---- with a network --------------------------------------------------------------------------------------------------


def checkpoint(path, answer=0, channels=1, classes=None, depth=2, normalise="percentile"):
    """A network that answers one class everywhere."""
    classes = classes or ClassMap.binary()
    options = {"in_channels": channels, "num_classes": classes.num_classes, "base_width": 2, "depth": depth, "seed": 0}
    model = build(UNetOptions(**options))
    model.head.params["w"][:] = 0
    model.head.params["b"][answer] = 5
    model.preprocessing = Preprocessing(channels, classes, normalise)
    save_checkpoint(path, model)
    return str(path)


@pytest.mark.parametrize("answer", [0, 1])
def test_a_network_that_answers_one_class_everywhere(ask, tmp_path, answer):
    found = ask("-m", checkpoint(tmp_path / "a.safetensors", answer))
    assert found["trouble"] == ["one class"] and "checkpoint" in found["ok"]


def test_a_network_that_is_right_or_wrong(ask, tmp_path, monkeypatch):
    right = ["-m", checkpoint(tmp_path / "a.safetensors")]
    monkeypatch.setattr(doctor, "segment", lambda model, image: (image[..., 0] > 110).astype(np.uint8))
    found = ask(*right)
    assert found["trouble"] == [] and "answers" in found["ok"]
    monkeypatch.setattr(doctor, "segment", lambda model, image: (image[..., 0] < 110).astype(np.uint8))
    assert ask(*right)["trouble"] == ["poor answers"]


def test_masks_of_other_classes_than_the_network_has(ask, data, tmp_path):
    path = checkpoint(tmp_path / "a.safetensors", classes=ClassMap([0, 1, 2], ["background", "cell", "nucleus"]))
    assert "mask values" in ask("-m", path)["trouble"]


def test_images_of_other_channels_than_the_network_takes(ask, data, tmp_path):
    path = checkpoint(tmp_path / "a.safetensors", channels=5)
    assert "channels" in ask("-m", path)["trouble"]
    save(data / "imgs" / "3.png", np.dstack([light(3), light(4), light(5)]).astype(np.uint8))
    assert "channels" in ask("-m", checkpoint(tmp_path / "b.safetensors"))["note"]


def test_the_normalisation_and_depth_are_the_networks(ask, data, tmp_path):
    for i in range(30):
        (data / "imgs" / f"{i}.png").unlink()
        save(data / "imgs" / f"{i}.tif", (32768 + light(i)).astype(np.uint16))
    path = checkpoint(tmp_path / "a.safetensors", depth=6, normalise="range")
    assert {"flattened contrast", "sizes"} <= set(ask("-m", path)["trouble"])


def test_a_checkpoint_that_is_none(ask, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"x" * 100)
    assert ask("-m", str(tmp_path / "a.safetensors"))["trouble"] == ["checkpoint"]


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_used(ask, monkeypatch):
    monkeypatch.setattr(doctor, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(doctor, "gpu_status", lambda: gpu.GpuStatus(False, "CuPy is not installed: pip install CuPy"))
    assert ask()["trouble"] == ["GPU not used"]
    monkeypatch.setattr(doctor, "gpu_status", lambda: gpu.GpuStatus(True, "a GPU"))
    assert ask()["trouble"] == []


def test_nothing_there(tmp_path, capsys):
    assert doctor.main([str(tmp_path / "gone")]) == 2 and "no such folder" in capsys.readouterr().err


# ---- as a function, and for programs ---------------------------------------------------------------------------------


def test_json_is_one_object(data, capsys):
    (data / "imgs" / "3.png").write_bytes(b"not a picture")
    save(data / "masks" / "5.png", np.zeros(SIZE, np.uint8))
    assert doctor.main([str(data), "--json"]) == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == "" and told["path"] == str(data) and told["troubles"] == 1
    by_name = {finding["name"]: finding for finding in told["findings"]}
    assert all(set(f) == {"name", "severity", "files", "text", "advice"} for f in told["findings"])
    assert by_name["files"]["severity"] == "trouble" and by_name["files"]["files"] == ["3"]
    assert by_name["blank masks"]["severity"] == "note" and by_name["blank masks"]["files"] == ["5"]
    assert by_name["mask values"]["severity"] == "ok" and by_name["mask values"]["files"] == []


def test_the_function_says_the_same(data, capsys):
    save(data / "masks" / "5.png", np.zeros(SIZE, np.uint8))
    findings = doctor.examine(data, validation=20, crop=16)
    assert capsys.readouterr() == ("", "")
    doctor.main([str(data), "-v", "20", "--crop", "16"])
    assert capsys.readouterr().out == "".join(f"{f}\n" for f in findings) + "\nno trouble found\n"
    with pytest.raises(UserError, match="no such folder"):
        doctor.examine(data / "gone")


def test_quiet_leaves_out_what_is_well(data, capsys):
    assert doctor.main([str(data), "--quiet"]) == 0 and capsys.readouterr() == ("", "")
    save(data / "masks" / "5.png", np.zeros(SIZE, np.uint8))
    assert doctor.main([str(data), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("note     blank masks: ")
