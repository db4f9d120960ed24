"""`predict_files`: what it writes, returns and tells, the same by whichever way an image goes; and its command's output."""

import json

import numpy as np
import pytest
import tifffile
from helpers.bright import discs, save_bright_network
from PIL import Image

import minunet
from minunet.errors import UserError
from minunet.predict import PredictionOptions, files, pipeline, predict_files
from minunet.predict.command import main as predict
from minunet.predict.progress import Progress


def cells():
    return discs(90, 110, 18, radii=(3, 6), seed=3)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_bright_network(tmp_path_factory.mktemp("model") / "x.safetensors", cells())


@pytest.fixture
def model(checkpoint):
    return minunet.load(checkpoint)


@pytest.fixture
def image(tmp_path):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "a.tif", cells())
    return tmp_path / "in" / "a.tif"


@pytest.mark.parametrize("split", [True, False])
def test_every_way_gives_the_same(model, image, tmp_path, monkeypatch, split):
    """One tile, many tiles, and by parts: masks and tables alike; objects, too, numbers included, blocks or not."""
    options = {"rois": True, "min_size": 5, "split": split}
    ways = {"whole": {"tile": 0}, "tiles": {"tile": 40}}
    made = {
        way: predict_files(model, [image], tmp_path / way, PredictionOptions(**options, **o)) for way, o in ways.items()
    }
    monkeypatch.setattr(files, "LARGE", 1000)
    monkeypatch.setattr(pipeline, "BLOCK", 37)
    monkeypatch.setattr(pipeline, "HALO", 30)
    made["parts"] = predict_files(model, [image], tmp_path / "parts", PredictionOptions(**options, tile=40))
    mask = np.asarray(Image.open(tmp_path / "whole/a_mask.png"))
    labels = tifffile.imread(tmp_path / "whole/a_labels.tif")
    assert 0.1 < (mask > 0).mean() < 0.5 and labels.max() > 5
    assert np.array_equal(np.asarray(Image.open(tmp_path / "tiles/a_mask.png")), mask)
    assert np.array_equal(tifffile.imread(tmp_path / "parts/a_mask.tif"), mask)
    for way, result in made.items():
        assert not result.failures and result.images[0].objects == labels.max()
        assert np.array_equal(tifffile.imread(tmp_path / way / "a_labels.tif"), labels)
        assert (tmp_path / way / "a_objects.csv").read_bytes() == (tmp_path / "whole/a_objects.csv").read_bytes()
        assert set((tmp_path / way).iterdir()) == set(result.images[0].files)
    assert np.array_equal(minunet.segment_objects(model, cells(), min_size=5, split=split), labels)


def test_results_and_failures(model, image, tmp_path, capsys):
    """Nothing is printed; one image that cannot be read does not stop the others."""
    (image.parent / "broken.png").write_bytes(b"no image")
    tifffile.imwrite(image.parent / "s.tif", np.stack([cells()] * 2), photometric="minisblack")
    found = predict_files(model, [image.parent], tmp_path / "out", PredictionOptions(instances=True, overlays=False))
    assert [(i.name, i.pages) for i in found.images] == [("a", 1), ("s", 2)]
    assert found.images[1].objects == 2 * found.images[0].objects > 10
    assert list(found.failures) == [str(image.parent / "broken.png")] and "broken.png" in str(found.failures)
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {"a_mask.png", "a_labels.tif", "a_objects.csv", "s_mask.tif", "s_labels.tif", "s_objects.csv"}
    assert written == {f.name for i in found.images for f in i.files}
    json.dumps(found.to_json())
    assert capsys.readouterr() == ("", "")


def test_one_path_alone_and_a_network_that_was_not_trained(model, image, tmp_path):
    for path in (image, str(image)):
        assert [i.name for i in predict_files(model, path, None).images] == ["a"]
    with pytest.raises(ValueError, match="was not trained"):
        predict_files(minunet.UNet(1, 2, base_width=1, depth=1), [image], tmp_path / "out")


@pytest.mark.parametrize("large", [0, 1 << 25])
def test_nothing_is_written_without_a_folder(model, image, tmp_path, monkeypatch, large):
    """Objects are counted all the same."""
    monkeypatch.setattr(files, "LARGE", large)
    found = predict_files(model, [image], None, PredictionOptions(instances=True))
    assert found.images[0].objects > 5 and found.images[0].files == []
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.tif"]


def test_progress_is_told(model, image, tmp_path):
    told, shown = [], []

    class Told(Progress):
        shows_overlays = True

        def step(self, what, done, total):
            told.append((what, done, total))

        def image(self, result):
            told.append(result.name)

        def overlay(self, path, picture):
            shown.append((path, picture.shape))

    options = PredictionOptions(tile=40, overlays=False)
    predict_files(model, [image], tmp_path / "out", options, Told())
    tiles = [done for what, done, total in told[1:-2] if what == "tile" and total == 9]
    assert tiles == list(range(1, 10))
    assert told[0] == ("image", 0, 1) and told[-2:] == ["a", ("image", 1, 1)]
    assert shown == [(image, (90, 110, 3))] and not (tmp_path / "out/a_overlay.png").exists()


@pytest.mark.parametrize("wrong, words", [
    ({"threshold": 1.5}, "threshold: 1.5 is out of range"), ({"scale": 0}, "scale: 0"), ({"tta": 9}, "tta: 9"),
    ({"tile": -1}, "tile: -1"), ({"min_size": 2.5}, "min_size: 2.5 is not a whole number"), ({"split": 1}, "split: 1"),
])  # fmt: skip
def test_options_are_checked(wrong, words):
    with pytest.raises(UserError, match=words):
        PredictionOptions(**wrong)


def test_json_stands_alone(checkpoint, image, tmp_path, capsys):
    flags = ["-m", str(checkpoint), "-o", str(tmp_path / "out"), "--json", "--instances"]
    assert predict([*flags, "-i", str(image)]) == 0
    out, err = capsys.readouterr()
    (row,) = json.loads(out)["images"]
    assert row["name"] == "a" and row["objects"] > 5 and row["source"] == str(image) and err == ""
    assert all((tmp_path / "out").joinpath(p.rsplit("/", 1)[1]).exists() for p in row["files"])
    (image.parent / "broken.png").write_bytes(b"no image")
    assert predict([*flags, "-i", str(image.parent)]) == 2
    out, err = capsys.readouterr()
    assert "broken.png" in json.loads(out)["failures"][0]["error"] and err.startswith("error: ")


def test_results_are_there_before_they_are_shown(checkpoint, image, tmp_path, monkeypatch):
    """Who looks at a window for an hour, or stops the program there, has the mask; the same without a place for windows."""
    flags = ["-m", str(checkpoint), "-i", str(image), "-o", str(tmp_path / "out"), "--instances", "--viz"]
    monkeypatch.setattr("matplotlib.pyplot.get_backend", lambda: "agg")
    assert predict(flags) == 2 and not (tmp_path / "out").exists()
    seen = []
    monkeypatch.setattr("matplotlib.pyplot.get_backend", lambda: "QtAgg")
    monkeypatch.setattr(
        "minunet.predict.images.show", lambda *_: seen.extend(p.name for p in (tmp_path / "out").iterdir())
    )
    assert predict(flags) == 0
    assert set(seen) == {"a_mask.png", "a_overlay.png", "a_labels.tif", "a_objects.csv"}


def test_quiet_says_nothing(checkpoint, image, tmp_path, capsys):
    assert predict(["-m", str(checkpoint), "-i", str(image), "-o", str(tmp_path / "out"), "-q", "--threads", "64"]) == 0
    assert capsys.readouterr() == ("", "")
