"""Images that are segmented by parts: into files as small ones are, and what only they do."""

import csv

import numpy as np
import pytest
import tifffile
from helpers.bright import discs, save_bright_network
from helpers.zarr_files import write_zarr
from PIL import Image
from roifile import roiread
from scipy.ndimage import find_objects

from minunet.checkpoint.file import save_checkpoint
from minunet.data import ClassMap, Preprocessing
from minunet.data.files.large import open_large
from minunet.models import UNetOptions, build
from minunet.predict import files, instance_files, pipeline
from minunet.predict.command import main as predict
from minunet.predict.instance_files import add_rois, new_rois, object_polygons
from minunet.predict.measure import measure
from minunet.predict.writers import new_tiff, new_zarr


def blobs(H=150, W=131):
    return discs(H, W, 25, seed=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_bright_network(tmp_path_factory.mktemp("model") / "x.safetensors", blobs())


@pytest.fixture
def small_limits(monkeypatch):
    """As if images of some thousand pixels were large."""
    monkeypatch.setattr(files, "LARGE", 1000)
    monkeypatch.setattr(pipeline, "BLOCK", 50)
    monkeypatch.setattr(pipeline, "HALO", 16)
    monkeypatch.setattr(pipeline, "STRIP", 131 * 50)
    monkeypatch.setattr(pipeline, "OVERVIEW", 64)


def table(path):
    with open(path) as f:
        return [{k: float(v) for k, v in row.items() if k != "object"} for row in csv.DictReader(f)]


def test_time_points_of_a_zarr_are_segmented_one_by_one(model, tmp_path, capsys):
    """The file says that T are images, and the mask of each is that of the frame by itself; C are never images."""
    frames = np.stack([blobs(), blobs()[::-1, ::-1]])
    write_zarr(tmp_path / "film.zarr", frames[:, None], "tcyx", "0.5")
    write_zarr(tmp_path / "two.zarr", frames, "cyx", "0.5")
    tifffile.imwrite(tmp_path / "second.tif", frames[1], tile=(32, 32))
    zarrs = [str(tmp_path / "film.zarr"), str(tmp_path / "second.tif")]
    assert predict(["-m", str(model), "-i", *zarrs, "-o", str(tmp_path / "out"), "--tile", "64"]) == 0
    made = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"film_000_mask.zarr", "film_001_mask.zarr", "second_mask.png"} <= made
    second = open_large(tmp_path / "out" / "film_001_mask.zarr")[0:150, 0:131][..., 0]
    assert (second != np.asarray(Image.open(tmp_path / "out" / "second_mask.png"))).mean() < 1e-3
    capsys.readouterr()
    assert predict(["-m", str(model), "-i", str(tmp_path / "two.zarr"), "-o", str(tmp_path / "out")]) != 0
    assert (
        "2 channels, the network takes 1 channels; if its axis C counts images, give --axes" in capsys.readouterr().err
    )
    as_images = ["-o", str(tmp_path / "pages"), "--tile", "64", "--axes", "ZYX"]
    assert predict(["-m", str(model), "-i", str(tmp_path / "two.zarr"), *as_images]) == 0
    assert (tmp_path / "pages" / "two_001_mask.zarr").is_dir()


def test_streams_as_small_images_go(model, tmp_path, small_limits, capsys):
    """Masks, probabilities, objects and their table are those that the usual way gives, of a tiled TIFF and of an OME-Zarr."""
    image = blobs()
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32), compression="zlib")
    write_zarr(tmp_path / "b.zarr", image, "yx", "0.4")
    flags = ["-m", str(model), "--instances", "--probabilities", "--min-size", "5", "--tta", "2"]
    assert predict([*flags, "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path / "whole"), "--tile", "0"]) == 0
    assert predict([*flags, "-i", str(tmp_path), "-o", str(tmp_path / "parts"), "--tile", "40"]) == 0
    assert "note" not in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {
        "a_mask.tif", "a_labels.tif", "a_objects.csv", "a_overlay.png", "a_probabilities.tif",
        "b_mask.zarr", "b_labels.zarr", "b_objects.csv", "b_overlay.png", "b_probabilities.zarr",
    }  # fmt: skip
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    mask = np.asarray(Image.open(whole / "a_mask.png"))
    assert 0.1 < (mask > 0).mean() < 0.5
    p, labels = tifffile.imread(whole / "a_probabilities.tif"), tifffile.imread(whole / "a_labels.tif")
    assert labels.max() > 8
    for found in (tifffile.imread(parts / "a_mask.tif"), open_large(parts / "b_mask.zarr")[0:150, 0:131][..., 0]):
        assert found.dtype == np.uint8 and (found != mask).mean() < 1e-3
    for found in (tifffile.imread(parts / "a_probabilities.tif"),
                  np.moveaxis(open_large(parts / "b_probabilities.zarr")[0:150, 0:131], -1, 0)):  # fmt: skip
        assert abs(found - p).max() < 1e-5
    for found in (tifffile.imread(parts / "a_labels.tif"), open_large(parts / "b_labels.zarr")[0:150, 0:131][..., 0]):
        assert found.dtype == np.uint16
        pairs = {(a, b) for a, b in zip(labels.ravel().tolist(), found.ravel().tolist()) if a and b}
        assert len(pairs) == labels.max() == found.max()
    expected = sorted(table(whole / "a_objects.csv"), key=lambda row: row["centroid_x_px"])
    for name in "ab":
        rows = sorted(table(parts / f"{name}_objects.csv"), key=lambda row: row["centroid_x_px"])
        assert [r.keys() for r in rows] == [r.keys() for r in expected]
        assert all(abs(a[k] - b[k]) <= 1 for a, b in zip(rows, expected) for k in a)
        assert max(np.asarray(Image.open(parts / f"{name}_overlay.png")).shape) <= 64


def test_a_truth_is_not_overwritten_and_a_failure_leaves_nothing(model, tmp_path, small_limits, monkeypatch, capsys):
    tifffile.imwrite(tmp_path / "a.tif", blobs())
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path), "-n"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif"}
    (tmp_path / "a_mask.tif").write_bytes(b"truth")
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path)]) == 2
    assert "a_mask.tif" in capsys.readouterr().err and (tmp_path / "a_mask.tif").read_bytes() == b"truth"

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("minunet.predict.writers.TiffWriter._write", full)
    out = tmp_path / "out"
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(out)]) == 2
    assert "No space left" in capsys.readouterr().err and not list(out.iterdir())


def outlines(labels):
    """The outlines of a whole label image's objects by their numbers."""
    return dict(object_polygons(labels, measure(labels, labels[..., None]).boxes, len(labels)))


def polygons(path):
    """The outlines in a file of ImageJ's ROI Manager, by what they hold: any corner first."""
    return sorted(sorted(map(tuple, roi.coordinates().tolist())) for roi in roiread(path))


@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_outlines_are_those_of_the_labels(model, tmp_path, small_limits, monkeypatch, capsys, kind):
    """Of objects within strips and across them; what is too large to look at is said."""
    image = blobs()
    image[5:145, 60:64] = 220
    if kind == "tif":
        tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 32))
    else:
        write_zarr(tmp_path / "a.zarr", image, "yx", "0.5")
    flags = ["-m", str(model), "-i", str(tmp_path / f"a.{kind}"), "--rois", "--min-size", "5", "--no-split"]
    assert predict([*flags, "-o", str(tmp_path / "out")]) == 0
    assert "note" not in capsys.readouterr().out
    read = tmp_path / f"out/a_labels.{kind}"
    labels = tifffile.imread(read) if kind == "tif" else open_large(read)[0:150, 0:131][..., 0]
    with new_rois(tmp_path / "expected.zip") as archive:
        add_rois(archive, outlines(labels).items())
    assert polygons(tmp_path / "out/a_rois.zip") == polygons(tmp_path / "expected.zip")
    spans = sorted((b[0].stop - b[0].start) * (b[1].stop - b[1].start) for b in find_objects(labels))
    assert len(spans) > 2 and spans[0] < spans[-1]
    monkeypatch.setattr(instance_files, "OUTLINED", spans[-1] - 1)
    assert predict([*flags, "-o", str(tmp_path / "less")]) == 0
    assert f"without the outlines of {spans.count(spans[-1])} objects" in capsys.readouterr().out
    assert len(polygons(tmp_path / "less/a_rois.zip")) == len(spans) - spans.count(spans[-1])


@pytest.mark.parametrize("new", [new_tiff, new_zarr])
def test_outlines_of_tall_objects(tmp_path, monkeypatch, new):
    """Of some that end in their strip, in the one below, and far below; those that are too large are left out."""
    labels = np.zeros((100, 40), np.uint32)
    labels[3:90, 2:6], labels[5:30, 8:30], labels[32:38, 9:20], labels[95:100, 0:40] = 1, 2, 3, 4
    labels[30:90, 20:38] = 5
    boxes = measure(labels, labels[..., None]).boxes
    monkeypatch.setattr(instance_files, "OUTLINED", 60 * 18 - 1)
    expected = outlines(labels)
    assert sorted(expected) == [1, 2, 3, 4]
    if new is new_zarr:
        pytest.importorskip("zarr", minversion="3")
    with new(tmp_path / "x", (100, 40), np.uint32) as store:
        store[0:100, 0:40] = labels
        found = dict(object_polygons(store, boxes, 20))
    assert found.keys() == expected.keys() and all((found[n] == expected[n]).all() for n in found)


def test_overviews_are_shown(model, tmp_path, small_limits, monkeypatch):
    shown = []
    monkeypatch.setattr("minunet.predict.images.check_display", lambda: None)
    monkeypatch.setattr("minunet.predict.images.show", lambda pictures, title: shown.extend(pictures))
    tifffile.imwrite(tmp_path / "a.tif", blobs())
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), "--viz"]) == 0
    assert (shown[0] == np.asarray(Image.open(tmp_path / "out/a_overlay.png"))).all() and max(shown[0].shape) <= 64


def test_many_objects_take_32_bits(model, tmp_path, small_limits, monkeypatch):
    each = lambda p, *rest, **more: 1 + np.arange(p[..., 0].size).reshape(p.shape[:2])  # noqa: E731
    monkeypatch.setattr(pipeline, "separate", each)
    flags = ["--instances", "--min-size", "0"]
    monkeypatch.setattr(pipeline, "HALO", 2)
    tifffile.imwrite(tmp_path / "a.tif", blobs(270, 260))
    assert predict(["-m", str(model), "-i", str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), *flags]) == 0
    labels = tifffile.imread(tmp_path / "out" / "a_labels.tif")
    assert labels.dtype == np.uint32 and len(np.unique(labels)) == 270 * 260


def test_blending_is_noted(tmp_path, small_limits, capsys):
    grouped = build(UNetOptions(in_channels=1, num_classes=2, base_width=2, depth=2, norm="group"))
    grouped.preprocessing = Preprocessing(1, ClassMap([0, 255], ["background", "cell"]), "range")
    save_checkpoint(tmp_path / "m", grouped)
    tifffile.imwrite(tmp_path / "a.tif", blobs())
    Image.fromarray(blobs()).save(tmp_path / "b.png")
    for name in ("a.tif", "b.png"):
        flags = ["-m", str(tmp_path / "m"), "-i", str(tmp_path / name), "-o", str(tmp_path / "out"), "--tile", "64"]
        assert predict(flags) == 0
        assert "tiles are blended" in capsys.readouterr().out


def test_stacks_are_written_page_by_page(model, tmp_path, small_limits):
    tifffile.imwrite(tmp_path / "s.tif", np.stack([blobs(), blobs()]), photometric="minisblack")
    assert predict(["-m", str(model), "-i", str(tmp_path / "s.tif"), "-o", str(tmp_path / "out"), "--no-overlay"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"s_000_mask.tif", "s_001_mask.tif"}


def test_stores(tmp_path):
    """Parts in any order, planes and samples; 32-bit offsets and 64-bit ones."""
    values = np.random.default_rng(0).integers(0, 60000, (40, 30, 3)).astype(np.uint16)
    parts = [(slice(20, 40), slice(0, 30)), (slice(0, 20), slice(11, 30)), (slice(0, 20), slice(0, 11))]
    for planes, samples in ((3, 1), (1, 3)):
        path = tmp_path / f"{planes}.tif"
        with new_tiff(path, (40, 30), np.uint16, planes, samples) as store:
            for part in parts:
                store[part] = values[part]
            assert (store[5:25, 3:20] == values[5:25, 3:20]).all()
            assert not path.exists()
        found = tifffile.imread(path)
        assert (found == (np.moveaxis(values, -1, 0) if planes > 1 else values)).all()
    with new_tiff(tmp_path / "gone.tif", (4, 3), np.uint8, keep=False) as store:
        store[0:4, 0:3] = np.ones((4, 3))
    assert not (tmp_path / "gone.tif").exists()
