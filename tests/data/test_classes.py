"""Class maps: which mask values are taken for what."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minunet.data import ClassMap
from minunet.data.classes import palette
from minunet.data.mask_kinds import find_classes
from minunet.data.mask_scan import MaskScan
from minunet.errors import UserError

RNG = np.random.default_rng(2)


def scan(*masks, jpeg=False):
    found = MaskScan()
    for i, mask in enumerate(masks):
        found.add(mask, f"mask{i}.png", jpeg)
    return found


def draw(values, dtype=np.uint8, shape=(20, 30)):
    """A mask of squares of 3x3 pixels, in which every value lies in several pieces."""
    places = RNG.permutation(np.resize(values, shape[0] * shape[1])).reshape(shape)
    return np.kron(places, np.ones((3, 3), int)).astype(dtype)


@pytest.mark.parametrize("values", [[0, 1], [0, 255], [0, 1, 3], [1, 2], list(range(64))])
def test_values_are_classes_in_ascending_order(values):
    mask = draw(values)
    found = scan(mask, np.zeros_like(mask) + values[0])
    classes, _, notices = find_classes(found)
    assert classes.values == values and classes.rule == "exact" and not notices
    labels = classes.encode(mask)
    assert labels.dtype == np.uint8 and np.array_equal(np.array(values)[labels], mask)
    assert found.foreground(classes) == np.count_nonzero(labels)


@given(st.sets(st.integers(0, 255), min_size=2, max_size=64))
def test_stored_maps_come_back(values):
    classes = find_classes(scan(draw(sorted(values))), "classes").classes
    again = ClassMap.from_json(json.loads(json.dumps(classes.to_json())), "a file")
    assert again == classes and again.num_classes == len(values) == len(again.names)


def test_colours_are_classes_black_first():
    colours = np.array([[255, 0, 0], [0, 0, 0], [0, 0, 255]], np.uint8)
    mask = colours[RNG.integers(0, 3, (8, 9))]
    black = np.zeros((8, 9), np.uint8)  # as a black colour mask is read: grey
    found = scan(black, mask)
    classes = find_classes(found).classes
    assert classes.values == [[0, 0, 0], [0, 0, 255], [255, 0, 0]] and classes.is_colour
    labels = classes.encode(mask)
    assert np.array_equal(classes.decode(labels), mask)
    assert not classes.encode(black).any()
    assert found.foreground(classes) == np.count_nonzero(labels)
    assert ClassMap.from_json(json.loads(json.dumps(classes.to_json())), "a file") == classes


def test_all_background_and_all_foreground_still_have_two_classes():
    assert find_classes(scan(np.zeros((4, 4), np.uint8))).classes.values == [0, 255]
    assert find_classes(scan(np.full((4, 4), 255, np.uint8))).classes.values == [0, 255]
    assert find_classes(scan(np.full((4, 4), 7, np.uint8))).classes.values == [0, 7]


def test_jpeg_noise_is_thresholded_with_a_notice():
    clean = np.kron(RNG.integers(0, 2, (6, 6)), np.ones((16, 16), int)) * 255
    noisy = np.clip(clean + RNG.integers(-9, 10, clean.shape), 0, 255).astype(np.uint8)
    found = scan(noisy, jpeg=True)
    classes, _, notices = find_classes(found)
    assert classes.rule == "threshold" and "JPEG" in notices[0]
    assert np.array_equal(classes.encode(noisy), clean // 255)
    assert found.foreground(classes) == np.count_nonzero(clean)


def label_image(n, dtype):
    ids = np.arange(n * 25).reshape(5 * 5, n)[::25].ravel() * 7 % 251 + 1 if dtype == np.uint8 else np.arange(n) * 3 + 5
    return np.kron(ids.reshape(-1, 2), np.pad(np.ones((8, 8), int), 2)).astype(dtype)


@pytest.mark.parametrize(("n", "dtype"), [(80, np.uint8), (20, np.uint16), (300, np.int32)])
def test_label_images_are_instances(n, dtype):
    mask = label_image(n, dtype)
    found = scan(mask)
    classes = find_classes(found).classes
    assert classes.rule == "instances" and classes.num_classes == 2
    assert np.array_equal(classes.encode(mask), mask > 0)
    assert found.foreground(classes) == np.count_nonzero(mask)
    assert classes.encode(mask + dtype(1)).all()  # numbers that were not seen before are no error


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_photographs_are_refused(dtype):
    photo = RNG.integers(0, 200, (60, 60)).astype(dtype)
    with pytest.raises(UserError, match="photograph"):
        find_classes(scan(photo))
    with pytest.raises(UserError, match=r"mask0\.png.*photograph"):
        scan(RNG.integers(0, 200, (60, 60, 3), np.uint8))
    with pytest.raises(UserError, match="photograph"):
        find_classes(scan(RNG.integers(0, 256, (60, 60)).astype(dtype), jpeg=True))


def test_a_few_values_in_sixteen_bits_are_classes_with_a_notice():
    classes, _, notices = find_classes(scan(draw([0, 1, 2], np.uint16)))
    assert classes.num_classes == 3 and "objects" in notices[0]
    assert not find_classes(scan(draw([0, 65535], np.uint16))).notices


def test_mixed_0_1_and_0_255_masks_are_an_error_that_names_both():
    with pytest.raises(UserError, match=r"mask0\.png.*mask1\.png"):
        find_classes(scan(draw([0, 1]), draw([0, 255])))
    assert find_classes(scan(draw([0, 1, 255]), draw([0, 255]))).classes.num_classes == 3


def test_unknown_values_are_named_with_their_place():
    classes = ClassMap.binary("membrane", "cell")
    mask = np.zeros((6, 7), np.uint8)
    mask[2, 5], mask[4, 1] = 1, 9
    with pytest.raises(UserError, match=r"12\.png: mask value 1, 9 .*row 2, column 5.*membrane, 255 -> cell"):
        classes.encode(mask, "12.png")
    with pytest.raises(UserError, match=r"12\.png.*colour"):
        classes.encode(np.ones((4, 4, 3), np.uint8), "12.png")
    colours = ClassMap([[0, 0, 0], [0, 0, 9]], ["a", "b"])
    with pytest.raises(UserError, match=r"x\.png: mask value \(1, 2, 3\)"):
        colours.encode(np.full((2, 2, 3), [1, 2, 3], np.uint8), "x.png")
    with pytest.raises(UserError, match=r"mask value 300"):
        classes.encode(np.full((2, 2), 300, np.uint16))


def test_decoded_masks_can_be_looked_at():
    assert ClassMap([0, 1], ["a", "b"]).decode(np.array([[0, 1]])).tolist() == [[0, 255]]
    shown = ClassMap([0, 1, 3], ["a", "b", "c"]).decode(np.array([[0, 1, 2]]))
    assert shown.shape == (1, 3, 3) and shown.dtype == np.uint8 and not shown[0, 0].any()
    assert len({tuple(c) for c in palette(64).tolist()}) == 64


def test_impossible_maps_are_refused():
    for values, names in [([0], ["a"]), ([0, 1], ["a"]), (list(range(257)), ["x"] * 257)]:
        with pytest.raises(ValueError):
            ClassMap(values, names)
