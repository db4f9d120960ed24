"""What is needed at the end of a run is tried at its beginning; pictures take any name; printed commands can be copied."""

import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from minunet import UNet
from minunet.cli import quoted
from minunet.data import ClassMap
from minunet.errors import UserError
from minunet.train import figures
from minunet.train.beforehand import check_pictures, check_space
from minunet.train.config import TrainingConfig


def test_space_for_checkpoints(tmp_path, monkeypatch):
    model = UNet(1, 2, base_width=4, depth=1)
    need = 3 * 4 * 3 * model.num_params() + (4 << 20)  # weights and two moments, best, last and a new one; pictures
    free = need - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, free))
    with pytest.raises(UserError, match=r"MB are free, the run's checkpoints and pictures need 4 MB; free some space"):
        check_space(tmp_path, model, TrainingConfig(optimizer="adam"))
    (tmp_path / "last.safetensors").touch()  # will be replaced
    check_space(tmp_path, model, TrainingConfig(optimizer="adam"))


NAMES = ["$a$_^{", "\u6f22\u5b57", "half \udcff", "a\nb", "x" * 300, "e\u0301"]


def test_pictures_take_any_name(tmp_path):
    check_pictures(NAMES)
    grey = np.zeros((8, 8, 1), np.float32)
    cases = [
        {"name": n, "score": 0.5, "image": grey, "truth": grey[..., 0], "prediction": grey[..., 0], "weight": None}
        for n in NAMES
    ]
    figures.predictions(tmp_path / "p.png", cases, ClassMap.binary())
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.size[1] > 100


def test_what_matplotlib_cannot_do_is_said_before_training(monkeypatch):
    def broken(names):
        raise RuntimeError("no font\ncache")

    monkeypatch.setattr(figures, "try_names", broken)
    with pytest.raises(UserError, match=r"could not be drawn at its end \(no font cache\)"):
        check_pictures(["a"])


def test_a_backend_that_is_not_here_does_no_harm(tmp_path):
    code = f"""
from minunet.train.figures import curves
row = dict(epoch=1, train_loss=1.0, val_loss=1.0, val_dice=0.5, val_iou=0.4)
curves({str(tmp_path / "c.png")!r}, [row])
"""
    env = {**os.environ, "MPLBACKEND": "module://nowhere.to_be_found"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and (tmp_path / "c.png").exists(), done.stderr


def test_paths_in_printed_commands():
    for path in ("runs/plain", "my run (1)/best $1's", "a;b"):
        assert shlex.split(f"x {quoted(path)}") == ["x", path]
    assert quoted("runs/plain") == "runs/plain"


def test_places_of_results_are_tried_before_the_work(tmp_path, capsys):
    from minunet.evaluate import main

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    where = tmp_path / "nowhere" / "scores.csv"
    assert main(["--pred", str(tmp_path), "--truth", str(tmp_path / "gone"), "--csv", str(where)]) == 2
    assert (
        f"cannot write {where}: No such file or directory" in capsys.readouterr().err
    )  # before the truth is looked for
