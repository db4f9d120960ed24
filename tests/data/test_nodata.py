"""NaN and constant borders do not count when intensity is measured."""

import numpy as np
import pytest
import tifffile
from PIL import Image

import minunet
from minunet.data import normalise, open_dataset, prepare, read_image
from minunet.data.checks import has_two_levels
from minunet.data.files.windows import Windows
from minunet.data.nodata import border_value, without_data
from minunet.doctor import examine
from minunet.errors import UserError

RNG = np.random.default_rng(8)
IMAGE = RNG.normal(1200, 60, (90, 110)).astype(np.float32)


def framed(image, value, how):
    rows, columns = np.indices(image.shape)
    outside = {
        "rim": (rows < 7) | (columns > 100), "left": columns < 12, "turned": rows + columns < 40,
        "round": (rows - 45) ** 2 + (columns - 55) ** 2 > 44**2,
    }[how]  # fmt: skip
    return np.where(outside, np.asarray(value, image.dtype), image), outside


@pytest.mark.parametrize("how", ["rim", "left", "turned", "round"])
@pytest.mark.parametrize("value", [0, -9999, 65535, np.nan, -3.4028235e38])
def test_what_holds_no_data_takes_no_contrast(how, value):
    image, outside = framed(IMAGE, value, how)
    found = normalise(image)[..., 0]
    alone = normalise(IMAGE[~outside][:, None])[..., 0, 0]
    assert np.isfinite(found).all() and np.allclose(found[~outside], alone, atol=0.02)
    assert np.array_equal(without_data(image[..., None]), outside)
    assert (found[outside] == (0 if np.isnan(value) else -1 if value < 1000 else 2)).all()


def test_dark_backgrounds_are_data():
    cells = np.zeros((90, 110, 1), np.uint8)
    cells[30:50, 30:70] = RNG.integers(5, 250, (20, 40, 1))
    assert border_value(cells) is None
    assert border_value(np.full((20, 20, 1), 3.0)) is None
    middle = IMAGE[..., None].copy()
    middle[40:60, 40:60] = 0  # a hole is no border
    assert border_value(middle) is None
    colour = np.repeat(IMAGE[..., None], 3, -1)
    colour[:9] = 0
    assert border_value(colour) == 0


def test_large_images_are_measured_in_the_same_way():
    image = framed(np.tile(IMAGE, (8, 8)), np.nan, "left")[0][..., None]
    image[:20] = -1e30
    windows = Windows(image, 1)
    assert np.array_equal(windows(slice(0, 200), slice(0, 150)), prepare(image, 1)[:200, :150])


def test_infinity_and_images_of_nothing_else_are_refused(tmp_path):
    for value, words in ((np.nan, "NaN"), (np.inf, "infinity")):
        tifffile.imwrite(tmp_path / "a.tif", np.full((20, 30), value, np.float32))
        with pytest.raises(UserError, match=words):
            read_image(tmp_path / "a.tif", nan=True)
    tifffile.imwrite(tmp_path / "a.tif", framed(IMAGE, np.nan, "rim")[0])
    with pytest.raises(UserError, match="NaN"):
        read_image(tmp_path / "a.tif")
    assert np.isnan(read_image(tmp_path / "a.tif", nan=True)).any()


def test_training_prediction_and_doctor_take_them(tmp_path):
    for i in range(4):
        mask = np.zeros((48, 64), np.uint8)
        mask[20:34, 10 * i : 10 * i + 20] = 255
        image = RNG.normal(100, 9, mask.shape) + mask / 3
        image[:, -9:] = np.nan
        for name, pixels in (("imgs", image.astype(np.float32)), ("masks", mask)):
            (tmp_path / name).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / name / f"{i}.tif", pixels)
    data = open_dataset(tmp_path)
    assert "without data" in data.warnings[0] and np.isfinite(data[0].image).all() and data[0].image.std() > 0.1
    model = minunet.fit(data, epochs=1, crop=16, model=minunet.models.UNetOptions(base_width=2, depth=1)).model
    assert minunet.segment(model, read_image(tmp_path / "imgs/0.tif", nan=True)).shape == (48, 64)
    found = {f.name: f.severity for f in examine(tmp_path)}
    assert found["no data"] == "note" and found["grey values"] == "ok"


def test_doctor_sees_images_of_two_levels(tmp_path):
    for i in range(3):
        mask = np.zeros((64, 64), np.uint8)
        mask[8 * i : 8 * i + 30, 20:50] = 255
        for name, ending in (("imgs", "jpg"), ("masks", "png")):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(mask).save(tmp_path / name / f"{i}.{ending}", quality=90)
    assert {f.name: f.severity for f in examine(tmp_path)}["two-valued images"] == "trouble"
    assert not has_two_levels(IMAGE[..., None])
    cells = np.where(np.indices((64, 64))[0] < 20, 60.0, 180.0) + RNG.normal(0, 8, (64, 64))
    assert not has_two_levels(cells[..., None])
