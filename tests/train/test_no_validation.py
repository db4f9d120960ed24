"""Training on all images, and what runs on objects say."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import minunet
from minunet.data.arrays import ArraySet
from minunet.data.targets import Target
from minunet.errors import UserError
from minunet.train.command import main
from minunet.train.fit import Fitted

TINY = ["-e", "2", "--base-width", "2", "--depth", "1", "--crop", "16", "-b", "4"]


def save(folder, numbered=True):
    for i in range(3):
        mask = np.zeros((40, 40), np.uint16)
        for k in range(9 + i):
            mask[10 * (k // 4) + 2 : 10 * (k // 4) + 8, 10 * (k % 4) + 1 : 10 * (k % 4) + 8] = (
                k + 1 if numbered else 255
            )
        image = (np.random.default_rng(i).normal(40, 5, mask.shape) + 100 * (mask > 0)).astype(np.uint8)
        for name, pixels in (("imgs", image), ("masks", mask if numbered else mask.astype(np.uint8))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return str(folder)


def test_without_validation_the_last_weights_are_kept_and_it_is_said(tmp_path, capsys):
    data = save(tmp_path / "data", numbered=False)
    flags = ["--data", data, *TINY, "-v", "0"]
    assert main([*flags, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "3 to train, none to validate" in said and "trained on all 3 images" in said and "last epoch" in said
    assert "--instances" not in said.split("next:")[1]
    best, last = (minunet.load(tmp_path / f"run/{n}.safetensors").state() for n in ("best", "last"))
    assert all(np.array_equal(best[name], last[name]) for name in best)
    rows = (tmp_path / "run/history.csv").read_text().splitlines()
    assert len(rows) == 3 and ",,," in rows[1] and (tmp_path / "run/predictions.png").exists()
    assert main(["--resume", str(tmp_path / "run/last.safetensors"), "-e", "3"]) == 0
    for flag in (["--patience", "3"], ["--schedule", "plateau"]):
        assert main([*flags, *flag, "--out", str(tmp_path / "other")]) == 2
        assert flag[0] in capsys.readouterr().err


def test_fit_without_validation():
    images = [np.random.default_rng(i).integers(0, 255, (24, 24)).astype(np.uint8) for i in range(2)]
    masks = [np.uint8(255) * (m > 120) for m in images]
    small = minunet.models.UNetOptions(base_width=2, depth=1)
    fitted = minunet.fit(images, masks, epochs=2, crop=16, model=small, validation=0)
    assert [row["val_dice"] for row in fitted.history] == [None, None] and fitted.best["epoch"] == 2
    assert minunet.fit(images[:1], masks[:1], epochs=1, crop=16, model=small, validation=0).finished
    for wrong in (1, -0.1):
        with pytest.raises(UserError, match="from 0 to below 1"):
            minunet.fit(images, masks, epochs=1, model=small, validation=wrong)
    rows = [{"epoch": 1, "val_dice": 0.5}, {"epoch": 2, "val_dice": 0.9, "val_score": 0.2}]
    assert Fitted(None, rows, True).best["epoch"] == 1


def test_a_run_on_objects_speaks_of_the_foreground_and_of_objects(tmp_path, capsys):
    data = save(tmp_path / "data")
    assert main(["--data", data, *TINY, "--target", "border", "-v", "34", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "--instances" in said.split("next:")[1] and "inside and border of objects as one" in said
    with safe_open(tmp_path / "run/last.safetensors", "np") as f:
        rows = json.loads(f.metadata()["minunet"])["train"]["state"]["history"]
    for row in rows:
        assert row["val_dice"] == row["dice_all_foreground"]
        parts = [row[f"dice_{name}"] for name in ("inside", "border") if row[f"dice_{name}"] is not None]
        assert np.isclose(row["val_score"], np.mean(parts))
    assert main(["--data", data, *TINY, "-v", "34", "--out", str(tmp_path / "plain")]) == 0
    assert "--instances" in capsys.readouterr().out.split("next:")[1]  # masks that number objects


def test_border_targets_from_python_choose_by_all_classes():
    labels = [
        np.kron(np.arange(12).reshape(3, 4) * 11, np.pad(np.ones((6, 6), int), 2)).astype(np.uint16) for _ in range(2)
    ]
    data = ArraySet([(m > 0) * np.uint8(99) for m in labels], labels, masks_are="objects")
    fitted = minunet.fit(
        data, epochs=2, crop=16, target=Target("border"), model=minunet.models.UNetOptions(base_width=2, depth=1)
    )
    assert fitted.best["val_score"] == max(row["val_score"] for row in fitted.history)
