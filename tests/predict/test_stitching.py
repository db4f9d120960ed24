"""Objects labelled strip by strip against the labels of the whole image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from minunet.predict.stitching import label_strips, partners


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


def in_strips(image, heights):
    ends = np.cumsum(heights)
    assert ends[-1] == len(image)
    return [image[e - h : e] for h, e in zip(heights, ends)]


def same(a, b):
    """Whether two label images name the same objects, whatever the numbers."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1] and ((a == 0) == (b == 0)).all()


def tallest(labels):
    return max((box[0].stop - box[0].start for box in ndimage.find_objects(labels)), default=0)


@given(st.integers(0, 10**6), st.integers(1, 40), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_strips_give_the_objects_of_the_whole(seed, n, more):
    """With an overlap of twice the tallest object and a row more."""
    image = blobs(sum(more) + 20 * len(more) + 5, 50, n, 8, seed)
    whole = connected(image)
    overlap = 2 * tallest(whole) + 2
    heights = [m + 20 for m in more]
    heights[-1] += 5
    if min(heights) < overlap:
        return
    joined = np.concatenate(list(label_strips(in_strips(image, heights), connected, overlap)))
    assert joined.shape == whole.shape and same(joined, whole)
    assert set(np.unique(joined)) - {0} == set(range(1, whole.max() + 1))  # no gaps


def test_watersheds_too():
    """Round objects that touch, split by a watershed: nearly all of the same shape, and as many as of the whole image."""
    segmentation = pytest.importorskip("skimage.segmentation")

    def split(image):
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(image), 1)
        seeds = ndimage.label((depth == ndimage.maximum_filter(depth, 9)) & image)[0]
        return segmentation.watershed(-depth, seeds, mask=image)

    image = blobs(600, 300, 160, 26, 0)
    whole = split(image)
    joined = np.concatenate(list(label_strips(in_strips(image, [100] * 6), split, 64)))
    assert whole.max() > 80 and abs(joined.max() - whole.max()) <= 1
    assert sum(b for _, b in [(0, 1) for a, b in partners(whole, joined)]) >= whole.max() - 2
    pairs = partners(whole, joined)
    equal = sum(((whole == a) == (joined == b)).all() for a, b in pairs)
    assert equal >= 0.97 * whole.max()


def test_partners_are_the_same_object():
    """An object that covers two is neither's, but the larger's: no two are joined into one."""
    above, below = np.zeros((4, 9), int), np.zeros((4, 9), int)
    above[:, 1:8] = 5
    below[:, 1:4], below[:, 4:8] = 1, 2
    assert partners(above, below) == [(5, 2)]
    below[:] = 0
    below[:, 7:] = 3  # 4 pixels of 8 in common: not more than half
    assert partners(above, below) == []
    assert partners(above, np.zeros_like(above)) == []


def test_one_short_strip_and_none():
    image = blobs(7, 30, 5, 8, 1)
    assert same(np.concatenate(list(label_strips([image], connected, 64))), connected(image))
    assert list(label_strips([], connected, 64)) == []


def test_more_objects_than_16_bits_hold():
    image = np.zeros((600, 601), bool)
    image[::2, ::2] = True
    joined = np.concatenate(list(label_strips(in_strips(image, [150] * 4), connected, 8)))
    assert joined.max() == 300 * 301 and same(joined, connected(image))
