"""Networks that come with minunet: found by name, listed with their cards, small on disk, and nearly as they were trained."""

import json
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
from helpers.datasets import draw_objects

import minunet
from minunet.checkpoint.file import read_safetensors, save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.errors import UserError
from minunet.export import main as export
from minunet.models import UNetOptions, build, shipped
from minunet.models.command import main as models
from minunet.predict.command import main as predict
from minunet.predict.inference import probabilities

MOST = 8e6  # bytes
CARD = """
title = "Specks"
data = "drawn"
licence = "CC0-1.0"
date = 2026-11-30
command = "python specks.py"
hours = 0.5
diameter = 9
kinds = ["light", "dark"]
[scores]
light = { precision = 0.5, precision_50 = 0.75 }
dark = { precision = 0.25 }
"""


def picture():
    return (draw_objects(1, 32, 32, 3) > 0).astype(np.uint8) * 150 + 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of networks with one, specks, in place of ours; it is drawn at random."""
    model = build("unet", in_channels=1, num_classes=2, base_width=4, depth=2)
    model.preprocessing = Preprocessing(1, ClassMap([0, 255], ["background", "speck"]))
    rng = np.random.default_rng(0)
    for name, a in model.state().items():  # other than at the start: the statistics of batch norms
        a[...] += rng.uniform(0, 0.2, a.shape) * ("mean" in name or "var" in name)
    save_checkpoint(tmp_path / "full.safetensors", model)
    inside = tmp_path / "shipped"
    inside.mkdir()
    save_checkpoint(inside / "specks.safetensors", model, half=True)
    (inside / "specks.toml").write_text(CARD)
    monkeypatch.setattr(shipped, "FOLDER", inside)
    monkeypatch.setattr("minunet.models.OPTIONS", {"unet": UNetOptions})  # the others take their time to be listed
    monkeypatch.chdir(tmp_path)
    return inside


def test_half_the_bytes_and_nearly_the_same_answers(folder):
    full, half = folder.parent / "full.safetensors", folder / "specks.safetensors"
    assert half.stat().st_size < 0.6 * full.stat().st_size
    (_, exact), (_, rounded) = map(read_safetensors, (full, half))
    assert {rounded[name].dtype for name in exact if exact[name].ndim > 1} == {np.dtype(np.float16)}
    assert all(np.array_equal(exact[name], rounded[name]) for name in exact if exact[name].ndim == 1)
    one, other = (minunet.load(path) for path in (full, half))
    assert {a.dtype for a in other.state().values()} == {np.dtype(np.float32)}
    image = picture()
    p, q = (probabilities(model, image) for model in (one, other))
    assert 0 < np.abs(p - q).max() < 0.01 < np.ptp(p[..., 1])


def test_what_half_precision_cannot_hold_is_refused(folder, tmp_path):
    model = minunet.load("specks")
    next(a for a in model.state().values() if a.ndim > 1)[0] = 1e5
    with pytest.raises(UserError, match="beyond the largest number of half precision"):
        save_checkpoint(tmp_path / "x.safetensors", model, half=True)
    assert not (tmp_path / "x.safetensors").exists()


def test_a_name_is_a_network_unless_it_is_a_file(folder, tmp_path):
    known = minunet.load("specks").state()
    assert all(
        np.array_equal(a, known[name]) for name, a in minunet.load(folder / "specks.safetensors").state().items()
    )
    (tmp_path / "specks").write_bytes((tmp_path / "full.safetensors").read_bytes())
    assert any(not np.array_equal(a, known[name]) for name, a in minunet.load("specks").state().items())


@pytest.mark.parametrize(
    "typed, said",
    [("spekcs", "did you mean specks?"), ("zebra", "networks that come with minunet are specks;"), ("a/specks", "")],
)
def test_another_name_names_those_that_there_are(folder, typed, said):
    with pytest.raises(UserError, match=f"^{typed}: no such checkpoint; ") as e:
        minunet.load(typed)
    assert said in str(e.value) and ("specks" in str(e.value)) == bool(said or "specks" in typed)


def test_without_networks_nothing_is_said_of_them(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "none")
    with pytest.raises(UserError) as e:
        minunet.load("nuclei")
    assert str(e.value) == "nuclei: no such checkpoint; a run keeps best.safetensors and last.safetensors in its folder"
    assert models([]) == 0 and "trained" not in capsys.readouterr().out


def test_models_lists_cards(folder, capsys):
    assert models([]) == 0
    out = capsys.readouterr().out
    assert "specks: Specks" in out and "light: precision 0.5, precision_50 0.75" in out and "licence   CC0-1.0" in out
    assert models(["--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["trained"]
    assert row["name"] == "specks" and row["date"] == "2026-11-30" and row["scores"]["dark"] == {"precision": 0.25}
    assert models(["specks"]) == 0
    assert capsys.readouterr().out in out


@pytest.mark.parametrize(
    "line, other", [("hours = 0.5", ""), ("hours = 0.5", "hours = -1"), ("0.25", '"high"'), ("[scores]", "[scores")]
)
def test_a_damaged_card_is_named(folder, line, other, capsys):
    (folder / "specks.toml").write_text(CARD.replace(line, other))
    assert models(["specks"]) == 2
    assert "specks.toml" in capsys.readouterr().err


def test_commands_take_the_name(folder, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert predict(["-m", "specks", "-i", "a.png", "-o", "out", "--instances"]) == 0
    assert (tmp_path / "out" / "a_labels.tif").exists()
    assert export(["-m", "specks", "-o", "again.safetensors", "--half"]) == 0
    assert export(["-m", "specks", "-o", "again.safetensors", "--half"]) == 0
    assert (tmp_path / "again.safetensors").stat().st_size == (folder / "specks.safetensors").stat().st_size
    assert export(["-m", "specks", "-o", "x.pth", "--half"]) == 2
    assert "--half is for .safetensors" in capsys.readouterr().err


def test_a_run_that_starts_from_a_name_is_repeated_from_it(folder, tmp_path):
    from minunet.train.arguments import Arguments, whole_paths

    assert whole_paths(Arguments(load="specks", data="d")).load == "specks"
    assert whole_paths(Arguments(load="full.safetensors")).load == str((tmp_path / "full.safetensors").resolve())


def test_what_comes_with_minunet():
    """The networks in the package: small, whole, each with a card, and all of it goes into the wheel."""
    root = Path(minunet.__file__).resolve().parents[1]
    cards = {path.stem for path in shipped.FOLDER.glob("*.toml")}
    assert set(shipped.names()) == cards
    for name in cards:
        assert (shipped.FOLDER / f"{name}.safetensors").stat().st_size <= MOST
        model, card = minunet.load(name), shipped.card(name)
        assert card.licence == "CC0-1.0" and card.scores and card.kinds
        assert model.preprocessing.objects.diameter == pytest.approx(card.diameter, rel=0.1)
    if (root / "pyproject.toml").exists():
        data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
        packed = data["minunet.models.shipped"]
        files = [p.name for p in shipped.FOLDER.iterdir() if p.suffix != ".py" and p.is_file()]
        assert [f for f in files if not any(fnmatch(f, pattern) for pattern in packed)] == []
