"""`train -f`: what is taken over from a checkpoint, how carefully it goes on, and what is said of it."""

import re
import tomllib

import numpy as np
import pytest
from helpers.datasets import make_data, make_objects
from helpers.training import same_run, stop_after
from safetensors.numpy import load_file

import minunet
from minunet.train.command import main as train
from minunet.train.config import TrainingConfig
from minunet.train.start import FROZEN, SLOWER

SMALL = ["--base-width", "2", "--depth", "2", "-b", "4"]
PATCHES = ["--crop", "16"]


def go(data, out, *flags):
    return train(["--data", str(data), "--out", str(out), *PATCHES, *flags])


def settings(run):
    return tomllib.loads((run / "config.toml").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_objects(tmp_path_factory.mktemp("objects") / "data", 4)


@pytest.fixture(scope="module")
def border(data, tmp_path_factory):
    """A run with a border, at half the size, that averages over rotations."""
    run = tmp_path_factory.mktemp("border") / "run"
    flags = ["--target", "border", "-e", "1", "-s", "0.5", "--tta", "4", "--normalise", "range", "-v", "25"]
    assert go(data, run, *SMALL, *flags) == 0
    return run


def test_it_goes_on_carefully_with_what_it_knows(data, border, tmp_path, capsys):
    """Smaller steps, and an encoder that rests for a fifth of the epochs, its norms always; config.toml repeats it."""
    load = ["-f", str(border / "best.safetensors")]
    stop_after(1, data, tmp_path / "a", [*load, "-e", "5", "-v", "25"], batches=1)
    said = capsys.readouterr().out
    assert "learning rate 0.00033, 3 times below the usual" in said
    assert "frozen: encoder:1 norms (--freeze)" in said and "pixels, those that it knows" not in said
    told = settings(tmp_path / "a")
    assert told["learning-rate"] == TrainingConfig.learning_rate / SLOWER and told["freeze"] == ["encoder:1", "norms"]
    assert (told["target"], told["scale"], told["tta"], told["normalise"]) == ("border", 0.5, 4, "range")
    old = minunet.load(border / "best.safetensors")
    known = minunet.load(tmp_path / "a/best.safetensors")  # of the first epoch
    assert (known.preprocessing.target, known.preprocessing.tta) == ("border", 4)
    rested = [np.array_equal(a, old.state()[name]) for name, a in known.state().items() if name.startswith("encoder.")]
    others = [
        np.array_equal(a, old.state()[name]) for name, a in known.named_params().items() if name[:8] != "encoder."
    ]
    assert all(rested) and not any(others)
    assert train(["--resume", str(tmp_path / "a/last.safetensors")]) == 0
    after = load_file(tmp_path / "a/last.safetensors")
    moved = {name for name, a in known.state().items() if name[:8] == "encoder." and not np.array_equal(after[name], a)}
    assert moved and not any("norm" in name for name in moved)  # filters alone
    assert train(["--config", str(tmp_path / "a/config.toml"), "--out", str(tmp_path / "b")]) == 0
    same_run(tmp_path / "a", tmp_path / "b")


def test_flags_decide(data, border, tmp_path, capsys):
    flags = ["-f", str(border / "best.safetensors"), "-e", str(FROZEN), "-v", "25", "-s", "1", "-l", "0.01"]
    assert go(data, tmp_path / "a", *flags, "--freeze", "encoder:0", "--target", "classes", "--tta", "1") == 0
    said, told = capsys.readouterr().out, settings(tmp_path / "a")
    assert "3 times below" not in said and "frozen" not in said and "its last layer, of 3 outputs, is left out" in said
    assert (told["learning-rate"], told["target"], told["scale"], told["tta"]) == (0.01, "classes", 1, 1)
    assert "--scale 0.5" in said  # lets it see the objects as large as it knows them


@pytest.mark.drawn(quick=1)
@pytest.mark.parametrize("flags", [["--classes", "2"], ["--loss", "bce"], ["--class-weights", "1", "2"]])
def test_what_is_asked_of_classes_means_classes(data, border, tmp_path, flags):
    assert go(data, tmp_path / "a", "-f", str(border / "best.safetensors"), "-e", "1", *flags) == 0
    assert settings(tmp_path / "a")["target"] == "classes" and settings(tmp_path / "a")["freeze"] == ["norms"]


def test_masks_that_do_not_tell_objects_apart_are_learnt_as_classes(border, tmp_path, capsys):
    data = make_data(tmp_path / "data", 4, (40, 40))
    assert go(data, tmp_path / "a", "-f", str(border / "best.safetensors"), "-e", "1") == 0
    said = capsys.readouterr().out
    assert "was trained with --target border; these masks do not tell objects apart" in said
    assert minunet.load(tmp_path / "a/best.safetensors").preprocessing.target == "classes"


def test_polygons_keep_their_unit(data, tmp_path, capsys):
    """Distances mean the same in the same network, however large the new objects are; and a note says that they are."""
    stars = ["--target", "stardist", "--rays", "4", "-e", "1", "-v", "25"]
    assert go(data, tmp_path / "a", *SMALL, *stars) == 0
    capsys.readouterr()
    load = ["-f", str(tmp_path / "a/best.safetensors"), "-e", "1", "-v", "25", "-s", "0.5"]
    assert go(data, tmp_path / "b", *load) == 0
    one, other = (minunet.load(tmp_path / run / "last.safetensors").preprocessing for run in "ab")
    assert one.rays == other.rays and other.scale == 0.5 and other.objects.diameter < 0.6 * one.objects.diameter
    note = re.search(r"those that it knows have \d+: --scale (\S+) lets it", capsys.readouterr().out)
    assert float(note[1]) == pytest.approx(1, rel=0.1)
