"""Training and predicting from the command line, as a user does it: what is written, resuming, and what goes wrong."""

import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.datasets import make_data
from helpers.tolerances import NETWORK
from helpers.training import SMALL, go, history, refused, same_run, stop_after
from PIL import Image
from safetensors.numpy import load_file

import minunet
from minunet import atomic
from minunet.data import SyntheticCells
from minunet.evaluate import main as evaluate
from minunet.predict.command import main as predict
from minunet.train import session
from minunet.train.command import main as train
from minunet.train.trainer import Trainer


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data")


def weights(path):
    return {k: v for k, v in load_file(path).items() if not k.startswith("optimizer.")}


def test_a_run_leaves_what_it_promises(data, tmp_path, capsys):
    out = tmp_path / "run"
    assert go(data, out, "-e", "2", "-v", "25") == 0
    assert {p.name for p in out.iterdir()} == {
        "history.csv", "curves.png", "predictions.png", "best.safetensors", "last.safetensors", "config.toml",
    }  # fmt: skip
    rows = history(out)
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert list(rows[0])[:6] == ["epoch", "train_loss", "val_loss", "val_dice", "val_iou", "seconds"]
    said = capsys.readouterr().out
    for words in ("folder layout", "26x21", "0 -> background, 255 -> foreground", "foreground", "6 to train, 2 to validate",
                  "Dice", str(out), "next: python -m minunet.predict"):  # fmt: skip
        assert words in said
    assert np.asarray(Image.open(out / "curves.png")).shape[1] > 500


@pytest.mark.parametrize("flags", [[], ["--target", "border"]], ids=["masks", "objects"])
def test_the_commands_that_a_run_on_generated_cells_prints(tmp_path, capsys, monkeypatch, flags):
    """Both run as they stand: predict segments the examples, evaluate finds the truth of each."""
    monkeypatch.setattr(session, "SyntheticCells", lambda n, **options: SyntheticCells(8, **{**options, "size": 32}))
    assert train(["--out", f"{tmp_path}/my run", *SMALL, "-e", "1", *flags]) == 0
    said = capsys.readouterr().out
    commands = [shlex.split(line.partition(": ")[2]) for line in said.splitlines() if line[:5] in ("next:", "then:")]
    assert [c[:3] for c in commands] == [["python", "-m", "minunet.predict"], ["python", "-m", "minunet.evaluate"]]
    assert predict(commands[0][3:]) == 0 and evaluate(commands[1][3:]) == 0
    images = len(list((tmp_path / "my run" / "examples").iterdir()))
    assert images and f"{images} images, " in capsys.readouterr().out


@pytest.mark.parametrize("flags, noted", [(["-b", "1"], True), (["-b", "1", "--norm", "group"], False), ([], False)])
def test_a_note_on_batch_norm_of_single_images(data, tmp_path, capsys, flags, noted):
    assert go(data, tmp_path / "run", "-e", "1", *flags) == 0
    assert ("try --norm group" in capsys.readouterr().out) == noted


def test_resuming_gives_the_same_numbers(data, tmp_path):
    """Stopped after epoch 2 of 4 and resumed, with dropout, augmentation and momentum: equal to the last bit."""
    flags = ["-e", "4", "--dropout", "0.3", "--optimizer", "sgd", "-l", "0.05", "--ema", "0.9"]
    assert go(data, tmp_path / "whole", *flags) == 0
    assert go(data, tmp_path / "part", *flags) == 0
    # the state after epoch 2 is what an interrupted run would have left: make it by stopping there
    stop_after(2, data, tmp_path / "cut", flags)
    assert len(history(tmp_path / "cut")) == 2
    assert train(["--resume", str(tmp_path / "cut" / "last.safetensors")]) == 0
    same_run(tmp_path / "whole", tmp_path / "part")
    same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("ema", ["0", "0.8"])
def test_resuming_within_an_epoch_too(data, tmp_path, capsys, ema):
    flags = ["-e", "2", "-b", "2", "--ema", ema]
    assert go(data, tmp_path / "whole", *flags) == 0
    stop_after(1, data, tmp_path / "cut", flags, batches=3)
    said = capsys.readouterr().out
    assert f"--resume {tmp_path / 'cut' / 'last.safetensors'}" in said
    assert train(["--resume", str(tmp_path / "cut" / "last.safetensors")]) == 0
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_averaged_weights_are_validated_and_kept(data, tmp_path, monkeypatch):
    """By the definition, over all steps of a run; and those to go on from are kept beside them."""
    steps, scored = [], []

    def step(self, *batch, plain=Trainer.step):
        loss = plain(self, *batch)
        steps.append({name: a.astype(np.float64) for name, a in self.model.state().items()})
        return loss

    def validate(self, plain=Trainer.validate):
        scored.append({name: a.copy() for name, a in self.model.state().items()})
        return plain(self)

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr(Trainer, "validate", validate)
    assert go(data, tmp_path / "run", "-e", "3", "-b", "2", "--ema", "0.6", "--schedule", "constant") == 0
    tensors = load_file(tmp_path / "run" / "last.safetensors")
    name = "encoder.0.conv1.w"
    average = minunet.models.UNet(1, 2, base_width=2, depth=2, seed=0).named_params()[name].astype(np.float64)
    for n, weights in enumerate(steps, start=1):
        d = min(0.6, (1 + n) / (10 + n))
        average = d * average + (1 - d) * weights[name]
    np.testing.assert_allclose(tensors[name], average, rtol=NETWORK["float32"], atol=1e-7)
    for name, a in scored[-1].items():
        np.testing.assert_array_equal(tensors[name], a)
        np.testing.assert_array_equal(tensors["optimizer.raw." + name], steps[-1][name])
    assert np.abs(tensors["encoder.0.conv1.w"] - steps[-1]["encoder.0.conv1.w"]).max() > 1e-4


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise on Windows")
def test_ctrl_c_saves_and_says_how_to_go_on(data, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "minunet.train", "--data", str(data), "--out", str(out), *SMALL, "-e", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not (out / "history.csv").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in said and "Traceback" not in err
    minunet.load(out / "last.safetensors")


def test_more_epochs_can_be_added(data, tmp_path):
    out = tmp_path / "run"
    assert go(data, out, "-e", "1") == 0
    assert train(["--resume", str(out / "last.safetensors"), "-e", "2"]) == 0
    assert len(history(out)) == 2


@pytest.mark.drawn(quick=4)
@pytest.mark.parametrize("flags", [
    ["--loss", "bce"], ["--loss", "dice", "-c", "1"], ["--loss", "focal"], ["--loss", "ce"],
    ["--optimizer", "adamw", "--schedule", "poly", "--clip", "1"], ["--optimizer", "rmsprop", "--schedule", "plateau"],
    ["--padding", "valid", "--crop", "44", "--norm", "none"], ["--bilinear", "--norm", "group", "--no-augment"],
    ["--crop", "0", "-s", "0.8", "--channels", "3"], ["--normalise", "range", "--up", "nearest", "--amp"],
])  # fmt: skip
def test_flags_train_and_predict(data, tmp_path, flags):
    """Every choice trains an epoch, and its checkpoint segments an image to the image's own size."""
    out = tmp_path / "run"
    assert go(data, out, "-e", "1", *flags) == 0
    assert (
        predict(["-m", str(out / "best.safetensors"), "-i", str(data / "imgs" / "0.png"), "-o", str(tmp_path / "p")])
        == 0
    )
    mask = np.asarray(Image.open(tmp_path / "p" / "0_mask.png"))
    assert mask.shape == (21, 26) and set(np.unique(mask)) <= {0, 255}


def test_weights_can_be_carried_over(data, tmp_path, capsys):
    assert go(data, tmp_path / "a", "-e", "1") == 0
    assert go(data, tmp_path / "b", "-e", "1", "-f", str(tmp_path / "a" / "best.safetensors"), "-l", "1e-30") == 0
    a, b = weights(tmp_path / "a" / "best.safetensors"), weights(tmp_path / "b" / "best.safetensors")
    assert all(np.allclose(a[k], b[k]) for k in a if not k.endswith((".mean", ".var")))
    assert go(data, tmp_path / "c", "-e", "1", "-f", str(tmp_path / "a" / "best.safetensors"), "--base-width", "4") == 2
    assert "another network" in capsys.readouterr().err
    source = str(tmp_path / "a" / "best.safetensors")  # what is not typed is as the checkpoint has it
    assert train(["--data", str(data), "--out", str(tmp_path / "d"), "--crop", "16", "-e", "1", "-f", source]) == 0
    assert minunet.load(tmp_path / "d" / "best.safetensors").depth == 2


# ---- predicting ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = make_data(folder / "data")
    assert go(data, folder / "run", "-e", "12", "-l", "0.02", "-v", "25") == 0
    return data, folder / "run" / "best.safetensors"


def test_it_learns_and_the_notebook_agrees_with_the_command(trained, tmp_path):
    data, path = trained
    model = minunet.load(path)
    image, truth = (np.asarray(Image.open(data / p)) for p in ("imgs/0.png", "masks/0_mask.png"))
    mask = minunet.segment(model, image)
    assert mask.shape == image.shape and mask.dtype == np.uint8
    assert minunet.metrics.dice(truth > 0, mask) > 0.8
    assert predict(["-m", str(path), "-i", str(data / "imgs" / "0.png"), "-o", str(tmp_path)]) == 0
    assert (np.asarray(Image.open(tmp_path / "0_mask.png")) == 255 * mask).all()
    assert np.asarray(Image.open(tmp_path / "0_overlay.png")).shape == (*image.shape, 3)


def test_the_threshold_shrinks_the_foreground(trained):
    data, path = trained
    model, image = minunet.load(path), np.asarray(Image.open(data / "imgs" / "1.png"))
    sizes = [int(minunet.segment(model, image, threshold=t).sum()) for t in (0.1, 0.5, 0.9)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("shape", [(3, 50), (1, 1), (17, 4, 3), (40, 31, 4)])
def test_any_image_can_be_segmented(trained, shape):
    image = np.random.default_rng(0).integers(0, 65535, shape).astype(np.uint16)
    assert minunet.segment(minunet.load(trained[1]), image).shape == shape[:2]


def test_folders_patterns_and_stacks(trained, tmp_path, capsys):
    import tifffile

    data, path = trained
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 20, 24), np.uint8), photometric="minisblack")
    inputs = [str(data / "imgs"), str(tmp_path / "*.tif")]
    assert predict(["-m", str(path), "-i", *inputs, "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 8
    assert tifffile.imread(tmp_path / "out" / "stack_mask.tif").shape == (3, 20, 24)
    assert predict(["-m", str(path), "-i", str(data / "imgs"), "-o", str(tmp_path / "out")]) == 0
    assert predict(["-m", str(path), "-i", str(tmp_path / "out"), "-n"]) == 2  # what it wrote itself is not read again
    assert "holds no images" in capsys.readouterr().err


def test_what_cannot_be_read_does_not_stop_the_rest(trained, tmp_path, capsys):
    data, path = trained
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.png").write_text("no picture")
    Image.open(data / "imgs" / "0.png").save(tmp_path / "in" / "good.png")
    assert predict(["-m", str(path), "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 2
    assert "bad.png" in capsys.readouterr().err
    assert (tmp_path / "out" / "good_mask.png").exists() and not (tmp_path / "out" / "bad_mask.png").exists()


# ---- bad input: one clear line, status 2, nothing half-written -------------------------------------------------------


def test_missing_folder(tmp_path, capsys):
    refused(capsys, go(tmp_path / "nowhere", tmp_path / "run"), tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()


def test_damaged_image(data, tmp_path, capsys):
    path = data / "imgs" / "3.png"
    path.write_bytes(path.read_bytes()[:200])
    refused(capsys, go(data, tmp_path / "run", "-e", "1"), "3.png")


def test_image_without_mask_and_sizes_that_differ(data, tmp_path, capsys):
    (data / "masks" / "2_mask.png").rename(tmp_path / "kept.png")
    refused(capsys, go(data, tmp_path / "run"), "2.png")
    Image.open(tmp_path / "kept.png").resize((10, 10)).save(data / "masks" / "2_mask.png")
    refused(capsys, go(data, tmp_path / "run"), "2_mask.png", "10x10", "26x21")


def test_one_image_only(tmp_path, capsys):
    refused(capsys, go(make_data(tmp_path / "one", n=1), tmp_path / "run"), "one")


def test_empty_validation_set(data, tmp_path, capsys):
    (tmp_path / "val.txt").write_text("# nobody\n")
    refused(capsys, go(data, tmp_path / "run", "--val-files", str(tmp_path / "val.txt")), "val.txt")


def test_only_background_is_a_warning(data, tmp_path, capsys):
    for path in (data / "masks").iterdir():
        Image.fromarray(np.zeros((21, 26), np.uint8)).save(path)
    assert go(data, tmp_path / "run", "-e", "1") == 0
    assert "no foreground" in capsys.readouterr().out


def test_checkpoint_cut_in_half(trained, tmp_path, capsys):
    data, path = trained
    half = tmp_path / "half.safetensors"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(capsys, predict(["-m", str(half), "-i", str(data / "imgs")]), half, "cut short")
    refused(capsys, train(["--resume", str(half)]), half)
    refused(capsys, go(data, tmp_path / "run", "-f", str(half)), half)
    half.write_text("{}")
    refused(capsys, predict(["-m", str(half), "-i", str(data / "imgs")]), half)
    refused(capsys, predict(["-m", str(tmp_path / "none"), "-i", str(data / "imgs")]), "no such checkpoint")


def test_safetensors_of_somebody_else(trained, tmp_path, capsys):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2)}, tmp_path / "other.safetensors")
    refused(capsys, predict(["-m", str(tmp_path / "other.safetensors"), "-i", "x"]), "not a minunet checkpoint")


def test_unwritable_output(data, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    refused(capsys, go(data, tmp_path / "file" / "run"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""


def test_a_finished_run_is_not_overwritten(data, tmp_path, capsys):
    assert go(data, tmp_path / "run", "-e", "1") == 0
    before = (tmp_path / "run" / "best.safetensors").read_bytes()
    refused(capsys, go(data, tmp_path / "run", "-e", "1"), "holds a run already", "--resume")
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == before


def test_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "last.safetensors"
    atomic.write_atomically(path, b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(minunet.UserError, match=r"last.safetensors: No space left on device; the earlier .* untouched"):
        atomic.write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_loss_that_explodes_keeps_the_last_good_state(data, tmp_path, capsys):
    """Weights that turn NaN in the second epoch: what the first one left is still there, and finite."""
    from minunet.train.trainer import Trainer

    def step(self, *batch, plain=Trainer.step):
        if self.state.epoch == 1:
            self.model.head.params["b"][0] = np.nan
        return plain(self, *batch)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        refused(capsys, go(data, out, "-e", "3"), "the loss became nan in epoch 2", out / "last.safetensors")
    assert len(history(out)) == 1
    assert all(np.isfinite(v).all() for v in weights(out / "last.safetensors").values())


def test_a_loss_that_explodes_stops_with_advice(data, tmp_path, capsys):
    status = train(["--data", str(data), *SMALL, "--out", str(tmp_path / "nan"), "-e", "9", "-l", "1e30", "--norm", "none",
                    "--optimizer", "sgd"])  # fmt: skip
    refused(capsys, status, "the loss became", "-l 1e+29", "--clip")
    assert not (tmp_path / "nan" / "best.safetensors").exists()


def test_wrong_flags(data, tmp_path, capsys):
    refused(capsys, go(data, tmp_path / "r", "-c", "5"), "--classes 5", "2 classes")
    refused(capsys, go(data, tmp_path / "r", "--padding", "valid", "--crop", "46"), "--crop 46", "44 and 48")
    refused(capsys, go(data, tmp_path / "r", "--layout", "isbi2012"), "ISBI 2012", data)
    for flags in (["-e", "0"], ["-l", "fast"], ["--dropout", "1"], ["-b", "-1"]):
        with pytest.raises(SystemExit) as stopped:
            go(data, tmp_path / "r", *flags)
        assert stopped.value.code == 2
    capsys.readouterr()
    assert go(data, tmp_path / "r", "-e", "1") == 0
    refused(capsys, train(["--resume", str(tmp_path / "r" / "last.safetensors"), "-l", "0.1"]), "--learning-rate")


def test_cuda_without_a_gpu_says_what_is_missing(data, tmp_path, capsys):
    status = minunet.gpu_status()
    if status:
        pytest.skip("there is a GPU")
    refused(capsys, go(data, tmp_path / "run", "--device", "cuda"), "--device cuda", status.reason)
    assert not (tmp_path / "run").exists()


def test_import_is_light():
    code = "import sys, minunet; print([m for m in ('numpy', 'numba', 'scipy', 'matplotlib') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def damage(path, to, change):
    """A copy of a checkpoint with its metadata changed."""
    import json

    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="np") as f:
        meta = json.loads(f.metadata()["minunet"])
    change(meta)
    save_file(load_file(path), to, {"minunet": json.dumps(meta)})
    return to


@pytest.mark.parametrize("change, words", [
    (lambda m: m.update(data={}), "damaged"), (lambda m: m["data"]["classes"].update(values=[0]), "damaged"),
    (lambda m: m.update(arch="resnet"), "resnet"), (lambda m: m["options"].update(depth="deep"), "damaged"),
    (lambda m: m.update(format=99), "update minunet"),
])  # fmt: skip
def test_damaged_metadata(trained, tmp_path, capsys, change, words):
    data, path = trained
    bad = damage(path, tmp_path / "bad.safetensors", change)
    refused(capsys, predict(["-m", str(bad), "-i", str(data / "imgs"), "-n"]), bad, words)


def test_another_architecture_is_not_trained_on(trained, tmp_path, capsys):
    data, path = trained
    bad = damage(path, tmp_path / "bad.safetensors", lambda m: m.update(arch="resnet"))
    refused(capsys, go(data, tmp_path / "run", "-f", str(bad)), bad, "resnet")
    refused(capsys, train(["--resume", str(bad)]), bad, "resnet")


def test_weights_that_are_not_finite_are_refused(trained, tmp_path, capsys):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    data, path = trained
    arrays = load_file(path)
    arrays["head.b"][0] = np.nan
    with safe_open(path, framework="np") as f:
        save_file(arrays, tmp_path / "nan.safetensors", f.metadata())
    refused(capsys, predict(["-m", str(tmp_path / "nan.safetensors"), "-i", str(data / "imgs")]), "not finite")


def test_a_run_can_be_moved_and_resumed_from_anywhere(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert go("data", "first", "-e", "1") == 0
    (tmp_path / "first").rename(tmp_path / "moved")
    (tmp_path / "moved" / "best.safetensors").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert train(["--resume", "../moved/last.safetensors", "-e", "2"]) == 0
    assert len(history(tmp_path / "moved")) == 2 and (tmp_path / "moved" / "best.safetensors").exists()
    assert not any((tmp_path / "elsewhere").iterdir()) and not (tmp_path / "first").exists()


def test_resuming_refuses_other_flags_and_other_images(data, tmp_path, capsys):
    assert go(data, tmp_path / "run", "-e", "1") == 0
    last = str(tmp_path / "run" / "last.safetensors")
    capsys.readouterr()
    refused(capsys, train(["--resume", last, "-b", "8"]), "--batch-size")  # though 8 is the default
    refused(capsys, train(["--resume", last, "--out", str(tmp_path / "other")]), "--out")
    (data / "imgs" / "7.png").unlink()
    (data / "masks" / "7_mask.png").unlink()
    refused(capsys, train(["--resume", last, "-e", "2"]), last, "other images")
    assert len(history(tmp_path / "run")) == 1


def test_a_damaged_image_is_found_before_anything_is_written(data, tmp_path, capsys):
    Image.open(data / "imgs" / "0.png").convert("RGBA").save(data / "imgs" / "0.png")
    path = data / "imgs" / "6.png"
    path.write_bytes(path.read_bytes()[:-200])
    refused(capsys, go(data, tmp_path / "run", "-e", "1"), "6.png")
    assert not (tmp_path / "run").exists()


def test_true_masks_are_not_overwritten(trained, tmp_path, capsys):
    data, path = trained
    for name, source in (("a.png", "imgs/0.png"), ("a_mask.png", "masks/0_mask.png")):
        (tmp_path / name).write_bytes((data / source).read_bytes())
    before = (tmp_path / "a_mask.png").read_bytes()
    refused(
        capsys, predict(["-m", str(path), "-i", str(tmp_path), "-o", str(tmp_path)]), "a_mask.png", "may be its truth"
    )
    assert (tmp_path / "a_mask.png").read_bytes() == before


def test_images_of_one_name_keep_their_endings(trained, tmp_path):
    data, path = trained
    (tmp_path / "in").mkdir()
    for suffix in ("png", "tif"):
        Image.open(data / "imgs" / "0.png").save(tmp_path / "in" / f"a.{suffix}")
    assert predict(["-m", str(path), "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 0
    masks = {p.name for p in (tmp_path / "out").iterdir()}
    assert masks == {f"a.{s}_{what}.png" for s in ("png", "tif") for what in ("mask", "overlay")}


def test_overlays_show_the_image(trained, tmp_path):
    """Alpha is no grey value: an RGBA image's overlay is as bright as the grey one's."""
    data, path = trained
    grey = np.asarray(Image.open(data / "imgs" / "0.png"))
    Image.fromarray((grey // 8).astype(np.uint8)).convert("RGBA").save(tmp_path / "rgba.png")
    assert predict(["-m", str(path), "-i", str(tmp_path / "rgba.png"), "-o", str(tmp_path)]) == 0
    overlay = np.asarray(Image.open(tmp_path / "rgba_overlay.png"))
    assert overlay.max() > 200 and overlay.mean() > 40


def test_three_classes_have_one_colour_everywhere(tmp_path):
    from minunet.data import ClassMap
    from minunet.predict.overlay import overlay

    classes = ClassMap([[0, 0, 0], [255, 0, 0], [0, 0, 255]], ["a", "b", "c"])
    labels = np.repeat(np.arange(3), 4)[None].repeat(6, 0)
    picture = overlay(np.zeros((6, 12, 1)), labels, classes)
    assert {tuple(c) for c in picture.reshape(-1, 3)} >= {(255, 0, 0), (0, 0, 255), (0, 0, 0)}


def test_what_segment_cannot_take(trained):
    model = minunet.load(trained[1])
    for image, words in (
        (np.zeros((2, 2, 2, 2)), "rows, columns"),
        (np.full((20, 20), np.nan), "NaN"),
        (np.zeros((0, 3)), "rows"),
    ):
        with pytest.raises(ValueError, match=words):
            minunet.segment(model, image)
    with pytest.raises(ValueError, match="not trained"):
        minunet.segment(minunet.UNet(1, 2, base_width=2), np.zeros((16, 16)))
    assert minunet.segment(model, [[0, 1], [2, 3]]).shape == (2, 2)
