"""What predict writes: pixel sizes and axes, class numbers, a single file, and what it says of files that it leaves out."""

import csv

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet.data import ClassMap, Preprocessing, count_pages
from minunet.data.files.info import read_pages
from minunet.data.files.pixel_size import PixelSize
from minunet.errors import UserError
from minunet.predict import PredictionOptions, predict_files
from minunet.predict.command import main

RNG = np.random.default_rng(5)
PAGES = RNG.integers(0, 256, (2, 3, 20, 24), np.uint8)


def network(channels=1, classes=2):
    model = minunet.UNet(channels, classes, base_width=2, depth=1)
    known = ClassMap.binary() if classes == 2 else ClassMap(list(range(classes)), list("abc"))
    model.preprocessing = Preprocessing(channels, known)
    return model


ALL = PredictionOptions(instances=True, min_size=0, probabilities=True)


def test_axes_and_pixel_size_of_a_stack_are_kept(tmp_path):
    about = {"axes": "TZYX", "unit": "um", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "a.tif", PAGES, imagej=True, resolution=(4.0, 2.0), metadata=about)
    predict_files(network(), tmp_path / "a.tif", tmp_path / "out", ALL)
    for what, axes in (("mask", "TZYX"), ("labels", "TZYX"), ("probabilities", "TZCYX")):
        with tifffile.TiffFile(tmp_path / "out" / f"a_{what}.tif") as tiff:
            assert tiff.series[0].axes == axes
        assert read_pages(tmp_path / "out" / f"a_{what}.tif").pixel == PixelSize(0.25, 0.5, "um", 2.0)
    rows = list(csv.DictReader((tmp_path / "out" / "a_objects.csv").read_text().splitlines()))
    assert {row["page"] for row in rows} <= {str(n) for n in range(1, 7)}
    for row in rows:
        for px, unit, factor in (("area_px", "area_um2", 0.125), ("centroid_x_px", "centroid_x_um", 0.25),
                                 ("bbox_height_px", "bbox_height_um", 0.5), ("bbox_y_px", "bbox_y_um", 0.5)):  # fmt: skip
            assert float(row[unit]) == pytest.approx(factor * float(row[px]), rel=1e-4)


def test_pixel_size_of_one_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PAGES[0, 0], resolution=(20000, 20000), resolutionunit="CENTIMETER")
    predict_files(network(), tmp_path / "a.tif", tmp_path / "out", ALL)
    with Image.open(tmp_path / "out" / "a_mask.png") as mask:
        assert mask.info["dpi"] == pytest.approx((50800, 50800), rel=1e-4)
    assert read_pages(tmp_path / "out" / "a_labels.tif").pixel == PixelSize(0.5, 0.5, "um")
    predict_files(network(), tmp_path / "a.tif", tmp_path / "other", PredictionOptions(instances=True, pixel_size=0.1))
    assert read_pages(tmp_path / "other" / "a_labels.tif").pixel.x == pytest.approx(0.1)
    Image.fromarray(PAGES[0, 0]).save(tmp_path / "b.png")
    predict_files(network(), tmp_path / "b.png", tmp_path / "out", ALL)
    assert "area_um2" not in (tmp_path / "out" / "b_objects.csv").read_text()


def test_an_image_of_channels_is_one_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PAGES[0, :2], imagej=True, metadata={"axes": "CYX"})
    made = predict_files(network(channels=2), tmp_path / "a.tif", tmp_path / "out", ALL)
    assert [p.name for p in made.images[0].files if "mask" in p.name] == ["a_mask.png"]
    header = (tmp_path / "out" / "a_objects.csv").read_text().splitlines()[0]
    assert header.endswith("mean_intensity_channel_1,mean_intensity_channel_2")
    made = predict_files(network(), tmp_path / "a.tif", tmp_path / "out")
    assert "is 8-bit 2 channels, the network takes 1 channels; if its axis C counts images, give --axes" in str(
        made.failures
    )
    made = predict_files(network(), tmp_path / "a.tif", tmp_path / "out", PredictionOptions(axes="ZYX"))
    assert made.images[0].pages == 2 and count_pages(tmp_path / "out" / "a_mask.tif") == 2


def test_pages_or_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PAGES[0], photometric="minisblack")
    made = predict_files(network(channels=3), tmp_path / "a.tif", tmp_path / "out")
    assert "3 images, or one of 3 channels, as the network takes?" in str(made.failures)
    made = predict_files(network(), tmp_path / "a.tif", tmp_path / "out")
    assert made.images[0].pages == 3 and "--axes CYX takes them for channels" in made.images[0].notes[0]


def test_pages_of_different_sizes_have_files_of_their_own(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for page in (PAGES[0, 0], PAGES[0, 1, :9, :11]):
            tiff.write(page, photometric="minisblack", metadata=None)
    predict_files(network(), tmp_path / "a.tif", tmp_path / "out")
    sizes = [minunet.data.read_mask(tmp_path / "out" / f"a_00{i}_mask.png").shape for i in range(2)]
    assert sizes == [(20, 24), (9, 11)]


def test_four_channels_without_a_mark(tmp_path):
    bands = RNG.integers(0, 256, (20, 24, 4), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="rgb", extrasamples=["unspecified"])
    made = predict_files(network(channels=3), tmp_path / "a.tif", tmp_path / "out")
    assert made.images[0].notes == ["its fourth channel is not seen by the network, which takes 3"]
    model = network(channels=4)
    image = minunet.data.read_image(tmp_path / "a.tif")
    other = image.copy()
    other[..., 3] = other[::-1, ::-1, 3]
    from minunet.predict.inference import probabilities

    assert np.abs(probabilities(model, image) - probabilities(model, other)).max() > 1e-4
    assert not predict_files(model, tmp_path / "a.tif", tmp_path / "out").failures


def test_class_numbers(tmp_path):
    Image.fromarray(PAGES[0, 0]).save(tmp_path / "a.png")
    model = network(classes=3)
    predict_files(model, tmp_path / "a.png", tmp_path / "out", PredictionOptions(masks_as="numbers"))
    mask = np.asarray(Image.open(tmp_path / "out" / "a_mask.png"))
    assert mask.ndim == 2 and np.array_equal(mask, minunet.segment(model, PAGES[0, 0]))


def test_one_image_into_one_file(tmp_path):
    Image.fromarray(PAGES[0, 0]).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "s.tif", PAGES[0], photometric="minisblack")
    model = network()
    predict_files(model, tmp_path / "a.png", tmp_path / "new" / "result.png")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["result.png"]
    mask = np.asarray(Image.open(tmp_path / "new" / "result.png"))
    assert np.array_equal(mask > 0, minunet.segment(model, PAGES[0, 0]) > 0)
    predict_files(model, tmp_path / "s.tif", tmp_path / "new" / "stack.tif")
    assert count_pages(tmp_path / "new" / "stack.tif") == 3
    for inputs, out, text in (
        (["a.png", "s.tif"], "r.png", "name of a file, but there are 2 images"),
        (["a.png"], "r.jpg", "without loss"),
    ):
        with pytest.raises(UserError, match=text):
            predict_files(model, [tmp_path / name for name in inputs], tmp_path / out)
    made = predict_files(model, tmp_path / "s.tif", tmp_path / "r.png")
    assert "the mask of several pages does not go into such a file" in str(made.failures)
    made = predict_files(model, tmp_path / "a.png", tmp_path / "a.png")
    assert "exists beside" in str(made.failures) and np.array_equal(
        np.asarray(Image.open(tmp_path / "a.png")), PAGES[0, 0]
    )


def test_what_is_left_out_of_a_folder_is_named(tmp_path):
    (tmp_path / "in" / "day2").mkdir(parents=True)
    for name in ("a.png", "a_mask.png", "day2/b.png"):
        Image.fromarray(PAGES[0, 0]).save(tmp_path / "in" / name)
    (tmp_path / "in" / "c.czi").write_bytes(b"x")
    (tmp_path / "in" / "notes.txt").write_bytes(b"x")
    made = predict_files(network(), tmp_path / "in", tmp_path / "out")
    assert [image.name for image in made.images] == ["a"]
    told = " ".join(made.notes)
    for text in ("1 of formats that are not read (c.czi)", "1 files that are no images (notes.txt)",
                 "1 named like results (a_mask.png)", "1 images in folders below (day2/b.png)"):  # fmt: skip
        assert text in told


def test_the_command(tmp_path, capsys):
    from minunet.checkpoint.file import save_checkpoint

    save_checkpoint(tmp_path / "m.safetensors", network(classes=3))
    Image.fromarray(PAGES[0, 0]).save(tmp_path / "a.png")
    args = [
        "-m",
        str(tmp_path / "m.safetensors"),
        "-i",
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "r.png"),
        "--as",
        "numbers",
    ]
    assert main(args) == 0 and "1 image segmented into" in capsys.readouterr().out
    assert set(np.unique(np.asarray(Image.open(tmp_path / "r.png")))) <= {0, 1, 2}
    assert main([*args, "--axes", "XX"]) == 2 and "axes: 'XX'" in capsys.readouterr().err
