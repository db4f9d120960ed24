"""Batches: what they hold, that they can be made again, and that their thread ends."""

import threading
from collections import Counter

import numpy as np
import pytest

from minunet.data import Batches, ClassMap, ImageSet, Sample
from minunet.data.augment import augment as augmented
from minunet.data.augment import crop_patch
from minunet.data.loader import AHEAD
from minunet.data.sample import true_labels


class Numbers(ImageSet):
    """Images whose every pixel tells where it comes from; the labels tell the same."""

    channels, classes = 1, ClassMap.binary()

    def __init__(self, sizes, valid=False, fail=None):
        super().__init__()
        self.sizes, self.valid, self.fail, self.reads = sizes, valid, fail, 0
        self.names = [str(i) for i in range(len(sizes))]

    def _read(self, index):
        self.reads += 1
        if index == self.fail:
            raise OSError(f"image {index} is gone")
        H, W = self.sizes[index]
        labels = (np.arange(H * W).reshape(H, W) % 200).astype(np.uint8)
        valid = labels % 2 == 0 if self.valid else None
        return Sample(str(index), labels[..., None] + np.float32(1000 * index), labels, None, valid)


def threads():
    return [t for t in threading.enumerate() if t.name == "minunet-batches"]


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(x, u) and np.array_equal(y, v) for (x, y), (u, v) in zip(a, b))


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("crop", [16, None])
def test_epochs_can_be_made_again_from_any_batch_on(augment, crop):
    def make(seed=5):
        return Batches(Numbers([(40, 24), (24, 24), (40, 24)] * 3), range(9), 2, crop, augment, seed)

    batches = make()
    whole = list(batches.epoch(3))
    assert len(whole) == len(batches)
    assert equal(whole, list(make().epoch(3)))
    assert equal(whole[3:], list(make().epoch(3, start=3)))
    assert equal(whole[2:3], [make().batch(3, 2)])
    assert not equal(whole, list(batches.epoch(4))) and not equal(whole, list(make(6).epoch(3)))
    assert list(batches.epoch(3, start=len(batches))) == []
    for images, labels in whole:
        assert images.dtype == np.float32 and labels.dtype == np.int64 and images.shape == (*labels.shape, 1)


def test_every_patch_of_every_epoch_is_drawn_anew():
    numbers = Numbers([(64, 64)])
    batches = Batches(numbers, [0], 4, 16, augment=False, seed=9)
    for epoch in (0, 1):
        patches = [patch for _, y in batches.epoch(epoch) for patch in y]
        for k, patch in enumerate(patches):
            rng = np.random.default_rng([9, 2, epoch, k])
            assert np.array_equal(patch, crop_patch(numbers[0].image, numbers[0].labels, rng, 16)[1])
        assert len({patch.tobytes() for patch in patches}) > 12


def test_patches_by_area_and_the_last_small_batch():
    batches = Batches(Numbers([(8, 8), (40, 24), (400, 400)]), [0, 1, 2], 4, 16, augment=False)
    whole = list(batches.epoch(0))
    assert [len(x) for x, _ in whole] == [4] * 5 + [1]  # 1 + round(3.75) + 16 patches
    origin = Counter(int(patch.min() // 1000) for x, _ in whole for patch in x)
    assert origin == {0: 1, 1: 4, 2: 16}
    for x, y in whole:
        assert x.shape[1:] == (16, 16, 1) and np.array_equal(x[..., 0] % 1000, y)


def test_whole_images_of_different_sizes_never_share_a_batch():
    sizes = [(20, 30), (16, 16), (20, 30), (16, 16), (20, 30)]
    batches = Batches(Numbers(sizes), range(5), 2, None, augment=False)
    orders = set()
    for epoch in range(8):
        whole = list(batches.epoch(epoch))
        assert sorted(len(x) for x, _ in whole) == [1, 2, 2] and len(batches) == 3
        seen = [int(image.max() // 1000) for x, _ in whole for image in x]
        assert sorted(seen) == list(range(5))
        assert {x.shape[1:3] for x, _ in whole} == set(sizes)
        orders.add(tuple(seen))
    assert len(orders) > 4


def test_pixels_that_do_not_count_are_minus_one():
    batches = Batches(Numbers([(20, 20)], valid=True), [0], 1, None, augment=False)
    [(x, y)] = batches.epoch(0)
    assert np.array_equal(y, np.where(x[..., 0] % 2 == 0, x[..., 0], -1))
    [(_, y)] = Batches(Numbers([(16, 16)], valid=True), [0], 1, 16, augment=True).epoch(0)
    assert (y == -1).any() and set(np.unique(y % 2)) <= {0, 1} and not ((y > 0) & (y % 2 == 1)).any()


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_abandoned_iterators_leave_no_thread(taken):
    batches = Batches(Numbers([(32, 32)] * 20), range(20), 1, 16)
    iterator = batches.epoch(0)
    for _ in range(taken):
        next(iterator)
    del iterator
    assert not threads()
    for _ in batches.epoch(0):
        break
    iterator = batches.epoch(1)
    next(iterator)
    iterator.close()
    assert not threads()


def test_the_thread_runs_only_a_little_ahead():
    numbers = Numbers([(16, 16)] * 30)
    iterator = Batches(numbers, range(30), 1, 16).epoch(0)
    next(iterator)
    next(iterator)
    threading.Event().wait(0.2)
    assert 2 < numbers.reads <= 2 + AHEAD + 1
    iterator.close()


def test_errors_reach_the_consumer():
    batches = Batches(Numbers([(16, 16)] * 4, fail=2), range(4), 1, 16)
    with pytest.raises(OSError, match="image 2 is gone"):
        list(batches.epoch(0))
    assert not threads()


def test_samples_are_not_modified():
    numbers = Numbers([(32, 32)], valid=True)
    before = numbers[0].image.copy(), numbers[0].labels.copy()
    for crop in (None, 16, 32):
        for x, y in Batches(numbers, [0], 1, crop).epoch(0):
            x[:], y[:] = 0, 0
    assert np.array_equal(before[0], numbers[0].image) and np.array_equal(before[1], numbers[0].labels)


def test_impossible_settings_are_refused():
    for wrong in ({"batch_size": 0}, {"crop": -1}, {"seed": -1}):
        with pytest.raises(ValueError):
            Batches(Numbers([(16, 16)]), [0], **wrong)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_labels_are_read_where_the_image_is(augment, share):
    """Only at the patch's pixels, and what does not count is -1; all numbers are as if the whole maps had been read."""
    data = Numbers([(40, 33), (70, 24), (10, 50)], valid=True)
    batches = Batches(data, range(3), 2, 16, augment, 3, foreground_share=share)
    for (k, i), images, labels in (
        (patch, image, maps)
        for number, patches in enumerate(batches.plan(2))
        for patch, image, maps in zip(patches, *batches.batch(2, number))
    ):
        index, at = batches._foreground(np.random.default_rng([3, 4, 2, k])) or (i, None)
        sample, rng = data[index], np.random.default_rng([3, 2, 2, k])
        source = np.arange(sample.labels.size).reshape(sample.labels.shape)
        if augment:
            image, source = augmented(sample.image, source, rng, 16, at=at)
        else:
            image, source = crop_patch(sample.image, source, rng, 16, at=at)
        np.testing.assert_array_equal(images, image)
        np.testing.assert_array_equal(labels, true_labels(sample).ravel()[source])
