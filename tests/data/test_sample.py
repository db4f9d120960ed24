"""Normalisation, channels and resizing."""

import numpy as np
import pytest
from helpers.tolerances import OP
from hypothesis import given
from hypothesis import strategies as st

from minunet.data import normalise, prepare, to_channels
from minunet.data.preprocess import is_grey, resize_labels
from minunet.errors import UserError

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64, bool])
def test_flat_images_become_zeros(dtype):
    out = normalise(np.ones((9, 7), dtype))
    assert out.shape == (9, 7, 1) and out.dtype == np.float32 and not out.any()


def test_percentiles_map_to_0_and_1():
    image = RNG.integers(33000, 36900, (120, 90, 1)).astype(np.uint16)
    out = normalise(image)
    assert np.allclose(np.percentile(out, (0.5, 99.5)), (0, 1), atol=1e-3)
    assert np.abs(normalise(image.astype(np.float64) * 3 - 7) - out).max() < 1e-3  # scale and offset do not matter


def test_channels_are_scaled_together_and_outliers_clipped():
    image = np.zeros((100, 100, 3), np.float32)
    image[..., 0] = np.linspace(0, 4, 10_000).reshape(100, 100)
    image[..., 1] = image[..., 0] / 2
    out = normalise(image)
    assert np.allclose(out[..., 1], out[..., 0] / 2, atol=OP["float32"])
    image[0, 0] = 1e6, -1e6, 0
    assert normalise(image).max() == 2 and normalise(image).min() == -1


def test_few_bright_pixels_on_black_are_not_lost():
    image = np.zeros((100, 100), np.uint8)
    image[3, 3:6] = 40, 20, 40
    assert normalise(image)[3, 3:6, 0].tolist() == [1, 0.5, 1]


def test_large_images_are_subsampled_but_wholly_scaled():
    image = RNG.random((1500, 1100), np.float32)
    assert np.allclose(np.percentile(normalise(image), (0.5, 99.5)), (0, 1), atol=5e-3)


def test_range_divides_by_the_types_largest_value():
    assert normalise(np.array([[0, 255]], np.uint8), "range").ravel().tolist() == [0, 1]
    assert normalise(np.array([[0, 65535]], np.uint16), "range").ravel().tolist() == [0, 1]
    assert normalise(np.array([[0.25, 7]]), "range").ravel().tolist() == [0.25, 7]
    with pytest.raises(UserError, match="'zscore'"):
        normalise(np.ones((2, 2)), "zscore")


@given(st.sampled_from([1, 3, 4]), st.sampled_from([1, 3]))
def test_channels(has, wanted):
    image = RNG.integers(0, 256, (5, 6, has), np.uint8)
    out = to_channels(image, wanted)
    assert out.shape == (5, 6, wanted) and out.dtype == np.uint8
    colour = image[..., :3] if has > 2 else image[..., [0, 0, 0]]
    grey = np.rint(colour @ [0.299, 0.587, 0.114])
    assert np.abs(out - (colour if wanted == 3 else grey[..., None])).max() <= 1e-3


def test_two_and_four_channels_are_what_a_network_of_as_many_takes():
    image = RNG.integers(0, 256, (5, 6, 4), np.uint8)
    assert np.array_equal(to_channels(image, 4), image) and np.array_equal(
        to_channels(image[..., :2], 2), image[..., :2]
    )
    for wanted in (1, 3):
        with pytest.raises(UserError, match="if its second channel is alpha, leave that out"):
            to_channels(image[..., :2], wanted)
    assert not is_grey(np.dstack([image[..., 0]] * 2))


def test_grey_in_colour_stays_exactly_that_grey():
    grey = RNG.integers(0, 65536, (40, 40, 1)).astype(np.uint16)
    assert is_grey(grey.repeat(3, -1)) and np.array_equal(to_channels(grey.repeat(3, -1), 1), grey)
    with pytest.raises(UserError, match="5 channels"):
        to_channels(np.ones((4, 4, 5)), 3)


def test_scale_keeps_image_and_labels_together():
    labels = np.kron(RNG.integers(0, 2, (6, 5)), np.ones((8, 8), int)).astype(np.uint8)
    small = resize_labels(labels, 0.5)
    pixels = RNG.integers(0, 9, (9, 9))
    assert np.array_equal(resize_labels(pixels, 1 / 3), pixels[1::3, 1::3])  # the pixel under the centre
    image = prepare(labels * np.uint8(255), 1, "range", 0.5)
    assert image.shape == (24, 20, 1) and image.dtype == np.float32
    assert ((image[..., 0] > 0.5) == small).all()
    assert resize_labels(labels, 1.7).shape == prepare(labels, 3, "none", 1.7).shape[:2] == (82, 68)
