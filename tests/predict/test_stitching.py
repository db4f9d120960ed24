"""Instances labelled block by block against the labels of the whole image."""

import numpy as np
import pytest
from helpers.sizes import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from minunet.data.instance_labels import renumber
from minunet.predict.instances import label_objects
from minunet.predict.stitching import Face, Stitching, face_pairs, label_block, lay_blocks, merge, partners


def blobs(H, W, n, largest, seed):
    """Discs that may touch, as foreground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:H, :W]
    image = np.zeros((H, W), bool)
    for _ in range(n):
        cy, cx, r = rng.uniform(0, H), rng.uniform(0, W), rng.uniform(1, largest / 2 - 0.5)
        image |= (y - cy) ** 2 + (x - cx) ** 2 < r**2
    return image


def connected(image):
    return ndimage.label(image)[0]


def watershed(image):
    """As `label_objects` splits foreground."""
    return label_objects(np.stack([1.0 - image, image], -1).astype(np.float32), min_size=0)


def in_blocks(image, label, side, halo, min_size=0, order=None):
    """The labels of an image by blocks that are labelled and joined in the given order."""
    blocks, labels, stitching = lay_blocks(image.shape[:2], side, halo), np.zeros(image.shape[:2], int), Stitching()
    for index in blocks if order is None else order(list(blocks)):
        labels[blocks[index].core], found = label_block(blocks[index], image[blocks[index].seen], label)
        stitching.add(index, found)
    assert not any(found.faces for found in stitching.found.values())  # all of them were compared, and let go
    tables, count = stitching.merge(min_size)
    for index, block in blocks.items():
        labels[block.core] = tables[index][labels[block.core]]
    assert labels.max(initial=0) == count
    return labels


def longest(labels):
    return max((s.stop - s.start for box in ndimage.find_objects(labels) for s in box), default=0)


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(4, 60), st.integers(4, 60), st.integers(8, 40))
def test_blocks_give_the_objects_of_the_whole(seed, n, H, W, side):
    """Numbers included, with a halo as wide as the largest object: across faces in both directions, and at corners."""
    image = blobs(H, W, n, 8, seed)
    whole = connected(image)
    halo = longest(whole) + 1
    if halo <= side:
        assert np.array_equal(in_blocks(image, connected, side, halo), renumber(whole))


@examples(40)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 30), st.sampled_from([0, 9]))
def test_connected_components_need_no_halo(seed, density, side, min_size):
    """However large and winding they are, by blocks of any size; the small ones are dropped by their area in the image."""
    image = np.random.default_rng(seed).random((37, 41)) < density / 60
    expected = renumber(connected(image), min_size)
    assert np.array_equal(in_blocks(image, connected, side, 0, min_size), expected)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False), st.sampled_from([connected, watershed]))
def test_the_order_of_blocks_changes_nothing(seed, random, label):
    """Objects larger than the halo included, where neighbours may disagree."""
    image = blobs(70, 90, 40, 24, seed)
    first = in_blocks(image, label, 25, 6)
    assert np.array_equal(in_blocks(image, label, 25, 6, order=lambda all: random.sample(all, len(all))), first)
    assert np.array_equal(first > 0, image)
    numbers, place = np.unique(first, return_index=True)
    assert list(numbers[numbers > 0]) == list(range(1, first.max() + 1))
    assert (np.diff(place[numbers > 0]) > 0).all()  # in the order of their first pixels


def test_watersheds_too():
    """Round objects that touch, split by a watershed: nearly all of the same shape, and as many as of the whole image."""
    image = blobs(600, 500, 240, 26, 0)
    whole, joined = watershed(image), in_blocks(image, watershed, 100, 32)
    assert whole.max() > 120 and abs(joined.max() - whole.max()) <= 1
    pairs = partners(whole, joined)
    assert len(pairs) >= whole.max() - 2
    equal = sum(((whole == a) == (joined == b)).all() for a, b in pairs)
    assert equal >= 0.97 * whole.max()


def test_an_object_larger_than_the_halo():
    """A bar that crosses all of nine blocks and a disc about their corner, both wider than the halo of 4: whole."""
    image = np.zeros((90, 90), bool)
    image[40:48, 5:85] = True
    y, x = np.mgrid[:90, :90]
    image |= (y - 61) ** 2 + (x - 29) ** 2 < 9**2
    assert np.array_equal(in_blocks(image, watershed, 30, 4), renumber(connected(image)))


def test_partners_are_the_same_object():
    """An object that covers two is neither's, but the larger's: no two are joined into one."""
    a, b = np.zeros((4, 9), int), np.zeros((4, 9), int)
    a[:, 1:8] = 5
    b[:, 1:4], b[:, 4:8] = 1, 2
    assert partners(a, b).tolist() == [[5, 2]] and partners(b, a).tolist() == [[2, 5]]
    b[:] = 0
    b[:, 7:] = 3  # 4 pixels of 8 in common: not more than half
    assert partners(a, b).tolist() == []
    assert partners(a, np.zeros_like(a)).tolist() == []


def test_pairs_touch_across_the_face():
    """Partners in the halo that do not touch are left apart: they would be one object in two pieces."""
    shared = np.array([[1, 1, 0, 2], [1, 1, 0, 2]])
    edge = np.array([1, 0, 2])
    assert face_pairs(Face(edge, shared), Face(edge, shared)).tolist() == [[1, 1], [2, 2]]
    assert face_pairs(Face(edge, shared), Face(np.array([1, 0, 0]), shared)).tolist() == [[1, 1]]
    none = np.zeros((2, 0), int)
    assert face_pairs(Face(edge, none), Face(np.array([7, 7, 8]), none)).tolist() == [[1, 7], [2, 8]]


def test_small_objects_are_dropped_by_their_area_in_the_image():
    """Of 20 pixels in pieces of 10 and fewer one is kept; none of a number is left over."""
    image = np.zeros((40, 40), bool)
    image[8:12, 8:13], image[30:33, 30:33] = True, True
    for halo in (0, 8):
        labels = in_blocks(image, connected, 10, halo, min_size=20)
        assert np.unique(labels).tolist() == [0, 1] and (labels > 0).sum() == 20


def test_one_block_and_none():
    image = blobs(7, 30, 5, 8, 1)
    assert np.array_equal(in_blocks(image, connected, 64, 16), renumber(connected(image)))
    assert merge({}, {}) == ({}, 0)
    with pytest.raises(ValueError, match="next block"):
        lay_blocks((50, 50), 10, 11)


def test_more_objects_than_16_bits_hold():
    image = np.zeros((600, 601), bool)
    image[::2, ::2] = True
    joined = in_blocks(image, connected, 150, 4)
    assert joined.max() == 300 * 301 and np.array_equal(joined, renumber(connected(image)))
