"""Objects of another size than the network knows: a diameter is a scale, given or measured; results have the image's size."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from helpers.bright import save_bright_network

import minunet
from minunet.data.objects import ObjectSize, areas_and_sides, diameter
from minunet.errors import UserError
from minunet.predict import diameter as diameters
from minunet.predict import files
from minunet.predict.command import main as predict
from minunet.predict.diameter import measured_diameter, scale_for
from minunet.predict.files import predict_files
from minunet.predict.options import PredictionOptions

KNOWN, WIDE = 16.0, 8  # of the objects that the network knows, and of those in the image
SIZE = (90, 70)


def discs(wide=WIDE, size=SIZE):
    """Numbers of discs of one diameter in rows, apart from each other."""
    y, x = (np.arange(n) % (2 * wide) - wide + 0.5 for n in size)
    inside = y[:, None] ** 2 + x**2 < wide**2 / 4
    rows, columns = (np.arange(n) // (2 * wide) for n in size)
    return np.where(inside, 1 + rows[:, None] * 100 + columns, 0)


@pytest.fixture(scope="module")
def image():
    noise = np.random.default_rng(0).integers(0, 30, SIZE)
    return (40 + noise + 150 * (discs() > 0)).astype(np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory, image):
    model = minunet.load(save_bright_network(tmp_path_factory.mktemp("model") / "x.safetensors", image))
    model.preprocessing = replace(model.preprocessing, objects=ObjectSize(KNOWN, 10, 20))
    return model


def test_a_diameter_is_a_scale(model, image, tmp_path):
    twice = minunet.segment_objects(model, image, scale=2, min_size=5)
    assert twice.shape == SIZE and twice.max() > 3
    assert np.array_equal(minunet.segment_objects(model, image, diameter=WIDE, min_size=5), twice)
    assert not np.array_equal(minunet.segment_objects(model, image, min_size=5), twice)
    for way, options in {"scale": {"scale": 2}, "diameter": {"diameter": WIDE}}.items():
        made = predict_files(
            model,
            [save(image, tmp_path)],
            tmp_path / way,
            PredictionOptions(rois=True, probabilities=True, min_size=5, **options),
        )
        assert not made.failures and made.images[0].diameter == options.get("diameter")
    names = sorted(p.name for p in (tmp_path / "scale").iterdir())
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "scale" / name).read_bytes() == (tmp_path / "diameter" / name).read_bytes(), name
    assert np.array_equal(tifffile.imread(tmp_path / "diameter/a_labels.tif"), twice)


def save(image, folder):
    tifffile.imwrite(folder / "a.tif", image)
    return folder / "a.tif"


def test_auto_measures(model, image, tmp_path, monkeypatch):
    """Whole, by tiles and by parts; the report has the diameter and a note."""
    found = minunet.segment_objects(model, image, diameter="auto")
    areas = areas_and_sides(found)[0]
    made, measured = {}, []
    for way, options in {"whole": {"tile": 0}, "tiles": {"tile": 32}, "parts": {"tile": 32}}.items():
        monkeypatch.setattr(files, "LARGE", 1000 if way == "parts" else 1 << 25)
        options = PredictionOptions(instances=True, diameter="auto", **options)
        (result,) = predict_files(model, [save(image, tmp_path)], tmp_path / way, options).images
        measured.append(result.diameter)
        told = f"objects are about {measured[0]:.0f} pixels wide, and are seen at {KNOWN / measured[0]:.2g} of the size"
        assert told in result.notes and json.loads(json.dumps(result.diameter)) == result.diameter
        made[way] = tifffile.imread(tmp_path / way / "a_labels.tif")
    assert len(set(measured)) == 1 and measured[0] == pytest.approx(WIDE, rel=0.3)  # the network's discs are blurred
    assert diameter(np.median(areas)) == pytest.approx(measured[0], rel=0.1)
    assert all(np.array_equal(labels, found) for labels in made.values())


def test_an_image_without_objects_is_seen_as_it_is(model, tmp_path):
    blank = np.zeros(SIZE, np.uint8)
    options = PredictionOptions(instances=True, diameter="auto")
    (result,) = predict_files(model, [save(blank, tmp_path)], tmp_path / "out", options).images
    assert result.objects == 0 and result.diameter is None and "no objects were found to be measured" in result.notes[0]


@pytest.mark.parametrize("wide", [4, 8, 16, 32])
def test_pieces_and_clumps_deceive_nobody(model, monkeypatch, wide):
    """Of a network that finds slices of what is too large, and what is too small as one clump."""
    monkeypatch.setattr(diameters, "LOOKED_AT", 400)
    truth = discs(wide, (400, 400))

    def find(part, scale):
        seen, rows = wide * scale / KNOWN, np.arange(part.shape[0])[:, None]
        if seen > 1.5:
            return part * (1 + rows % 3 // 2) + 5000 * (rows // 3) * (part > 0)
        return np.where(part > 0, 1, 0) if seen < 0.6 else part

    assert measured_diameter(model, truth, find) == pytest.approx(wide, rel=0.15)


def test_only_the_middle_is_looked_at(model, monkeypatch):
    monkeypatch.setattr(diameters, "LOOKED_AT", 20)
    parts = []
    measured_diameter(
        model, np.zeros((200, 30, 3), int), lambda part, scale: parts.append((part.shape, scale)) or part[..., 0]
    )
    assert parts == [((20, 20, 3), 1), ((40, 30, 3), 0.5), ((10, 10, 3), 2), ((80, 30, 3), 0.25), ((5, 5, 3), 4)]


def test_what_cannot_be_is_refused(model, image, tmp_path, capsys):
    for px, said in (("wide", "'wide' is no number"), (0, "0 is no number"), (True, "True is no number")):
        with pytest.raises(UserError, match=f"diameter: {said} of pixels, and not 'auto'"):
            PredictionOptions(diameter=px)
    with pytest.raises(UserError, match="leave one out"):
        PredictionOptions(diameter=9, scale=1)
    with pytest.raises(
        UserError, match=r"--diameter 0.1: the network knows objects of 16 pixels, .* magnified 160 times"
    ):
        scale_for(model, 0.1)
    path = save_bright_network(tmp_path / "x.safetensors", image)
    assert (
        predict(["-m", str(path), "-i", str(save(image, tmp_path)), "-o", str(tmp_path / "out"), "--diameter", "9"])
        == 2
    )
    assert "does not know how wide the objects of its training were" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        predict(["-m", str(path), "-i", "a.tif", "--diameter", "-3"])
    assert "-3 is out of range" in capsys.readouterr().err


# ---- the doctor --------------------------------------------------------------------------------------------------------


def test_the_doctor_says_when_objects_are_too_small(model, image, tmp_path):
    """By the masks, or, where there are none, as the network finds them."""
    from minunet.checkpoint.file import save_checkpoint
    from minunet.doctor import examine

    checkpoint, many = tmp_path / "x.safetensors", discs(WIDE, (96, 96)) > 0
    save_checkpoint(checkpoint, model)
    for folder in ("data/imgs", "data/masks", "bare"):
        (tmp_path / folder).mkdir(parents=True)
    for i in range(4):
        tifffile.imwrite(tmp_path / f"data/imgs/{i}.tif", (40 + 150 * (many)).astype(np.uint8))
        tifffile.imwrite(tmp_path / f"data/masks/{i}.tif", np.uint8(255) * many)
    tifffile.imwrite(tmp_path / "bare/a.tif", image)
    told = [f for f in examine(tmp_path / "data", checkpoint) if f.name == "object sizes" and "across" in f.text]
    assert told[0].text == (
        "objects of 8 pixels across (median) are too small for the network: those of its training were 2 times as wide"
    )
    assert told[0].advice.startswith("predict with --diameter 8 or auto, and train from it with --scale 2")
    found = examine(tmp_path / "bare", checkpoint)
    assert not found.troubles and next(f.text for f in found if f.name == "names").startswith("1 images without masks")
    assert "too small" in next(f.text for f in found if f.name == "object sizes")
    model_of_these = replace(model.preprocessing, objects=ObjectSize(10.0, 10, 20))
    (tmp_path / "y").mkdir()
    fitting = minunet.load(checkpoint)
    fitting.preprocessing = model_of_these
    save_checkpoint(tmp_path / "y/y.safetensors", fitting)
    sizes = [f for f in examine(tmp_path / "bare", tmp_path / "y/y.safetensors") if f.name == "object sizes"]
    assert [f.severity for f in sizes] == ["ok"] and "pixels across (median of 1 images)" in sizes[0].text
