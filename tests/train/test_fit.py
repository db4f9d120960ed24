"""`minunet.fit`: from arrays or a data set to a network, without a word, a file or a signal handler of its own."""

import csv
import json
import re
import signal
import threading

import numpy as np
import pytest
from helpers.training import refused
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import minunet
from minunet import nn
from minunet.checkpoint.file import save_checkpoint
from minunet.checkpoint.load import read_checkpoint
from minunet.data import SyntheticCells
from minunet.data.targets import Target
from minunet.errors import UserError
from minunet.models import Ensemble, UNetOptions
from minunet.train.callbacks import Callback
from minunet.train.command import main as train
from minunet.train.config import TrainingConfig

SMALL = {"model": UNetOptions(base_width=2, depth=1), "crop": 16, "batch_size": 4}
SCORES = ("train_loss", "val_loss", "val_dice", "val_iou", "learning_rate")


def discs(n=6, size=(21, 26), seed=0, **kind):
    """Bright discs on a dark ground, and their masks, 0 and 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    masks = [(y - rng.uniform(6, 15)) ** 2 + (x - rng.uniform(6, 15)) ** 2 < 30 for _ in range(n)]
    images = [(40 + 150 * m + rng.integers(0, 30, size)).astype(np.uint8) for m in masks]
    return images, [np.where(m, 255, 0).astype(np.uint8) for m in masks]


def scores(history):
    return [[row[name] for name in SCORES] for row in history]


def test_arrays_in_a_network_out(capfd, tmp_path, monkeypatch):
    """Nothing is printed, nothing is written, and the model segments as well as its history says."""
    monkeypatch.chdir(tmp_path)
    images, masks = discs(8)
    fitted = minunet.fit(images, masks, epochs=10, learning_rate=0.02, validation=[1, 4], graph=True, **SMALL)
    assert capfd.readouterr() == ("", "") and not list(tmp_path.iterdir())
    assert [row["epoch"] for row in fitted.history] == list(range(1, 11)) and fitted.finished
    counted = minunet.metrics.Confusion(2)
    for i in (1, 4):
        counted.add(masks[i] > 0, minunet.segment(fitted.model, images[i]))
    assert counted.mean_dice() == pytest.approx(fitted.best["val_dice"], abs=1e-6)
    assert fitted.best["val_dice"] > 0.8
    assert fitted.model.preprocessing.classes.describe() == "0 -> background, 255 -> foreground"


@pytest.mark.parametrize("change", [
    lambda images, masks: (np.stack(images), np.stack(masks)),
    lambda images, masks: (np.stack(images)[..., None].astype(np.float32), np.stack(masks) > 0),
    lambda images, masks: (images, [m // 255 for m in masks]),
    lambda images, masks: ([np.dstack([i] * 3) for i in images], masks),
], ids=["stacked", "floats and bools", "class numbers", "grey as colour"])  # fmt: skip
def test_what_images_and_masks_may_be(change):
    """The same training, whatever the arrays' form."""
    images, masks = discs()
    runs = [minunet.fit(*pair, epochs=1, **SMALL) for pair in ((images, masks), change(images, masks))]
    np.testing.assert_allclose(*(scores(run.history) for run in runs), rtol=1e-5)


def test_a_data_set_a_config_and_a_target():
    cells = SyntheticCells(6, size=32)
    config = TrainingConfig(epochs=1, crop=16, batch_size=4)
    by_config = minunet.fit(cells, config, model=SMALL["model"])
    by_names = minunet.fit(cells, epochs=1, crop=16, batch_size=4, model=SMALL["model"])
    assert scores(by_config.history) == scores(by_names.history) and config == TrainingConfig(
        epochs=1, crop=16, batch_size=4
    )
    border = minunet.fit(cells, config, model=SMALL["model"], target=Target("border"))
    assert border.model.architecture.num_classes == 3 and border.model.preprocessing.target == "border"
    assert set(np.unique(minunet.segment(border.model, cells[0].image))) <= {0, 1}


def test_validation_may_be_named_in_many_ways():
    images, masks = discs()
    runs = [
        minunet.fit(images, masks, epochs=1, validation=v, **SMALL)
        for v in ([0, 3], ["image 0", "image 3"], np.array([3, 0]))
    ]
    assert len({str(scores(run.history)) for run in runs}) == 1
    held = ([images[0], images[3]], [masks[0], masks[3]])
    rest = [[a[i] for i in (1, 2, 4, 5)] for a in (images, masks)]
    apart = [minunet.fit(*rest, epochs=1, validation=v, **SMALL) for v in (held, minunet.data.arrays.ArraySet(*held))]
    assert scores(apart[0].history) == scores(apart[1].history)
    assert apart[0].history[0]["val_dice"] == pytest.approx(runs[0].history[0]["val_dice"], abs=0.2)


# ---- callbacks -------------------------------------------------------------------------------------------------------


def test_callbacks_follow_and_stop():
    images, masks = discs()
    rows, steps = [], []

    class Steps(Callback):
        def on_step(self, step):
            steps.append(step)

    stopped = minunet.fit(
        images, masks, epochs=9, callbacks=[rows.append, Steps(), lambda row: row["epoch"] == 2], **SMALL
    )
    assert [row["epoch"] for row in rows] == [1, 2] and rows == stopped.history and not stopped.finished
    assert [s["step"] for s in steps] == list(range(1, len(steps) + 1)) and {s["epoch"] for s in steps} == {1, 2}
    assert all(np.isfinite(s["loss"]) and s["learning_rate"] > 0 for s in steps)

    by_numpy = [lambda row: np.mean([row["epoch"]]) > 1, lambda row: "no answer"]
    assert len(minunet.fit(images, masks, epochs=9, callbacks=by_numpy, **SMALL).history) == 2

    class Third(Callback):
        def on_step(self, step):
            return step["step"] == 3

    assert not minunet.fit(images, masks, epochs=9, callbacks=[Third()], **SMALL).finished


def test_what_a_callback_raises_is_raised():
    class Pruned(Exception):
        pass

    def prune(row):
        raise Pruned

    with pytest.raises(Pruned):
        minunet.fit(*discs(), epochs=2, callbacks=[prune], **SMALL)
    with pytest.raises(TypeError, match="not int"):
        minunet.fit(*discs(), callbacks=[3], **SMALL)


def test_patience_ends_a_training_that_no_longer_improves(tmp_path):
    """A learning rate of next to nothing: the first epoch stays the best but for chance; resumed, it has no more patience."""
    images, masks = discs()
    given = {"epochs": 30, "learning_rate": 1e-30, "patience": 2, "augment": False}
    fitted = minunet.fit(images, masks, out=tmp_path / "run", **given, **SMALL)
    dice = [row["val_dice"] for row in fitted.history]
    assert fitted.finished and len(dice) < 30 and len(dice) - 1 - dice.index(max(dice)) == 2
    again = minunet.fit(images, masks, resume=tmp_path / "run" / "last.safetensors")
    assert scores(again.history) == scores(fitted.history)
    more = minunet.fit(images, masks, resume=tmp_path / "run" / "last.safetensors", patience=3)
    assert len(more.history) > len(dice)


# ---- where it runs ---------------------------------------------------------------------------------------------------


def test_no_signal_handler_is_touched_and_threads_do(monkeypatch):
    """Two at once, in threads: each as if it were alone."""
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a signal handler was installed"))
    images, masks = discs()
    alone = minunet.fit(images, masks, epochs=2, **SMALL)
    found = []
    work = lambda: found.append(minunet.fit(images, masks, epochs=2, **SMALL))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [scores(run.history) for run in found] == 2 * [scores(alone.history)]


def test_verbose_prints_a_line_an_epoch(capsys):
    minunet.fit(*discs(), epochs=2, verbose=True, **SMALL)
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["epoch", "train", "loss", "val", "loss", "val", "Dice", "val", "IoU", "seconds", "left"]
    assert [line.split()[0] for line in said[1:]] == ["1/2", "2/2"]


def test_a_run_folder_on_request_and_resuming_from_it(tmp_path, capsys):
    """Stopped within the second epoch and resumed: the very numbers, and the best weights are the model's."""
    images, masks = discs()
    given = {"epochs": 3, "batch_size": 2, "ema": 0.5, "model": SMALL["model"], "crop": 16}

    class Stop(Callback):
        def on_step(self, step):
            return step["step"] == 7

    whole = minunet.fit(images, masks, out=tmp_path / "whole", **given)
    cut = minunet.fit(images, masks, out=tmp_path / "cut", callbacks=[Stop()], **given)
    assert not cut.finished and len(cut.history) == 1
    done = minunet.fit(images, masks, out=tmp_path / "cut", resume=tmp_path / "cut" / "last.safetensors")
    assert scores(done.history) == scores(whole.history)
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {"best.safetensors", "last.safetensors", "history.csv"}
    kept = minunet.load(tmp_path / "cut" / "best.safetensors").state()
    assert all(np.array_equal(a, kept[name]) for name, a in done.model.state().items())
    with open(tmp_path / "cut" / "history.csv") as f:
        assert [row["epoch"] for row in csv.DictReader(f)] == ["1", "2", "3"]
    assert read_checkpoint(tmp_path / "cut" / "last.safetensors").train["config"]["ema"] == 0.5
    refused(
        capsys, train(["--resume", str(tmp_path / "cut" / "last.safetensors")]), "a training in Python", "minunet.fit("
    )


def test_a_network_made_by_hand(tmp_path):
    """A plain UNet is trained in place and kept; a network of one's own trains too, and is kept by whoever wrote it."""
    images, masks = discs()
    model = minunet.UNet(1, 2, base_width=2, depth=1)
    before = model.head.params["w"].copy()
    fitted = minunet.fit(images, masks, epochs=1, out=tmp_path / "run", **{**SMALL, "model": model})
    assert fitted.model is model and not np.array_equal(model.head.params["w"], before)
    again = minunet.load(tmp_path / "run" / "best.safetensors")
    assert again.architecture == model.architecture and again.depth == 1
    own = nn.Sequential(first=nn.Conv2d(1, 4), relu=nn.ReLU(), last=nn.Conv2d(4, 2))
    fitted = minunet.fit(images, masks, epochs=12, learning_rate=0.05, **{**SMALL, "model": own})
    assert fitted.best["val_dice"] > 0.8 and minunet.segment(own, images[0]).shape == images[0].shape
    with pytest.raises(UserError, match=r"cannot be built again from a file.*model\.state"):
        minunet.fit(images, masks, epochs=1, out=tmp_path / "own", **{**SMALL, "model": own})
    assert not (tmp_path / "own").exists()
    with pytest.raises(UserError, match="cannot be built again"):
        save_checkpoint(tmp_path / "own.safetensors", own)
    pytest.importorskip("onnx")
    from minunet.checkpoint.onnx import to_onnx

    assert b"Conv" in to_onnx(own)


def test_a_run_that_has_not_counted_all_foreground_goes_on(tmp_path):
    """As runs of three classes were before that score was there."""
    images, masks = discs()
    masks = [np.where(m > 0, 1 + (np.arange(26) > 13), 0).astype(np.uint8) for m in masks]
    path = tmp_path / "last.safetensors"
    first = minunet.fit(images, masks, epochs=1, out=tmp_path, masks_are="classes", **SMALL).history[0]
    with safe_open(path, "np") as f:
        meta = json.loads(f.metadata()["minunet"])
    assert meta["train"]["state"]["history"][0].pop("dice_all_foreground") == first["dice_all_foreground"]
    save_file(load_file(path), path, {"minunet": json.dumps(meta)})
    for epochs in (2, 3):
        history = minunet.fit(images, masks, resume=path, out=tmp_path, epochs=epochs, masks_are="classes").history
        assert [row["dice_all_foreground"] is None for row in history] == [True] + [False] * (epochs - 1)


def test_a_run_is_not_written_over(tmp_path):
    images, masks = discs()
    for name in ("a", "b"):
        minunet.fit(images, masks, epochs=1, out=tmp_path / name, **SMALL)
    before = (tmp_path / "a" / "last.safetensors").read_bytes()
    for more in ({}, {"resume": tmp_path / "b" / "last.safetensors"}):
        with pytest.raises(UserError, match="a holds a run already"):
            minunet.fit(images, masks, **{**SMALL, **more}, epochs=2, out=tmp_path / "a")
    assert (tmp_path / "a" / "last.safetensors").read_bytes() == before


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, words", [
    ({"epochs": 0}, "epochs: 0 is out of range"), ({"epochs": 2.5}, "epochs: 2.5 is not a whole number"),
    ({"epoch": 3}, "did you mean epochs"), ({"optimizer": "adamm"}, "'adamm' is unknown, choose one of adam"),
    ({"learning_rate": float("nan")}, "learning_rate: nan is out of range"), ({"validation": 1.5}, "validation: 1.5"),
    ({"validation": [7]}, "indices of 6"), ({"validation": ["nobody"]}, "nobody"),
    ({"validation": []}, "no image is left to validate"),
    ({"validation": None}, "validation: None is no share"), ({"model": "best.safetensors"}, "minunet.load"),
    ({"out": ""}, "leave an empty one out"), ({"resume": ""}, "leave an empty one out"),
    ({"device": "tpu"}, "tpu"), ({"loss": "bce", "target": Target("border")}, "do not|objects|bce"),
    ({"model": UNetOptions(base_width=2, padding="valid"), "crop": 46}, "crop 46"),
    ({"model": minunet.UNet(2, 2, base_width=2, depth=1)}, "takes 2 channels, the images have 1"),
    ({"model": minunet.UNet(1, 3, base_width=2, depth=1)}, "--classes 3, but the masks hold 2"),
    ({"model": nn.Sequential(conv=nn.Conv2d(3, 2))}, "does not take images of 1 channels"),
    ({"model": nn.Sequential(conv=nn.Conv2d(1, 2, stride=2))}, r"gives \(8, 8\) pixels for images of \(16, 16\)"),
    ({"model": Ensemble([minunet.UNet(1, 2, base_width=2, depth=1)])}, "only predicts"),
])  # fmt: skip
def test_settings_that_will_not_do(change, words):
    with pytest.raises(UserError, match=re.compile(words)):
        minunet.fit(*discs(), **{**SMALL, "epochs": 1, **change})


def test_a_dictionary_is_no_config():
    for arguments in (discs(), [SyntheticCells(4, size=32)]):
        with pytest.raises(UserError, match="is no TrainingConfig; settings may also be given by name"):
            minunet.fit(*arguments, {"epochs": 1})


def test_images_and_masks_that_will_not_do():
    images, masks = discs()
    for pair, words in [
        ((images, masks[:5]), "6 images and 5 masks"), (([], []), "there are no images"), ((images, None), "masks are missing"),
        ((images, [m[:9] for m in masks]), r"image 0: its mask is \(9, 26\)"),
        ((images, [m / 255 for m in masks]), "image 0: its mask is of float64"),
        (([i * np.nan for i in images], masks), "image 0: holds NaN"), (([i[0] for i in images], masks), "an image is"),
        ((images[:1], masks[:1]), "two are needed"), ((SyntheticCells(3), masks), "leave them out"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            minunet.fit(*pair, epochs=1, **SMALL)
