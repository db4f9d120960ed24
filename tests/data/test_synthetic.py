"""Made-up cells: always the same, well formed, and not to be had by a threshold."""

import numpy as np
import pytest
import scipy

from minunet.data import Batches, SyntheticCells, filters


def test_a_sample_depends_on_seed_and_index_alone():
    few, many = SyntheticCells(3, seed=7), SyntheticCells(20, seed=7)
    backwards = [many[i] for i in (2, 1, 0)][::-1]
    for a, b in zip(few, backwards):
        assert a.name == b.name
        assert np.array_equal(a.image, b.image) and np.array_equal(a.instances, b.instances)
    assert not np.array_equal(few[0].image, few[1].image)
    assert not np.array_equal(few[0].image, SyntheticCells(1, seed=8)[0].image)


@pytest.mark.parametrize(("size", "channels"), [(32, 1), (100, 3), (160, 1)])
def test_samples_are_well_formed(size, channels):
    ds = SyntheticCells(6, size, seed=1, channels=channels)
    for sample in ds:
        assert sample.image.shape == (size, size, channels) and sample.image.dtype == np.float32
        assert sample.labels.dtype == np.uint8 and sample.instances.dtype == np.int32
        assert np.array_equal(sample.labels, sample.instances > 0)
        assert np.isfinite(sample.image).all() and 0 < sample.labels.mean() < 0.7
    assert ds.sizes == [(size, size)] * 6 and ds.layout == "synthetic" and not ds.warnings
    assert "synthetic" in ds.describe() and ds.classes.names == ["background", "cell"]


def test_cells_touch_and_are_of_the_stated_size():
    samples = list(SyntheticCells(20))
    areas = np.concatenate([np.bincount(s.instances.ravel())[1:] for s in samples])
    assert 150 < np.median(areas[areas > 0]) < 450
    pairs = 0
    for s in samples:
        left, right = s.instances[:, :-1], s.instances[:, 1:]
        pairs += len(np.unique(np.stack([left, right])[:, (left != right) & (left > 0) & (right > 0)], axis=1).T)
    assert pairs > 5 * len(samples)


def test_cells_are_brighter_than_their_surroundings():
    for sample in SyntheticCells(10):
        image, inside = sample.image[..., 0], sample.labels > 0
        assert image[inside].mean() > image[~inside].mean() + 0.1


def test_no_threshold_is_good_enough():
    samples = list(SyntheticCells(40))
    light = np.stack([s.image[..., 0] for s in samples])
    truth = np.stack([s.labels > 0 for s in samples])
    dice = [2 * ((light > t) & truth).sum() / ((light > t).sum() + truth.sum()) for t in np.linspace(0, 1, 41)]
    assert 0.5 < max(dice) < 0.85


def test_it_behaves_as_a_data_set():
    ds = SyntheticCells(10, 64)
    train, held = ds.split(20)
    assert len(train) == 8 and len(held) == 2
    images, labels = next(Batches(ds, train, 4, 32).epoch(0))
    assert images.shape == (4, 32, 32, 1) and set(np.unique(labels)) <= {0, 1}
    for wrong in ((0,), (1, 16)):
        with pytest.raises(ValueError):
            SyntheticCells(*wrong)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_filters_are_scipys_to_the_last_bit(rng, dtype):
    """Or else generated cells would be others than they were."""
    x = rng.standard_normal((40, 57)).astype(dtype)
    for sigma, truncate in ((0.7, 3), (1.5, 2)):
        wanted = scipy.ndimage.gaussian_filter(x, sigma, truncate=truncate)
        np.testing.assert_array_equal(filters.gaussian(x, sigma, truncate), wanted, strict=True)
    for size in (4, 17):
        np.testing.assert_array_equal(filters.mean(x, size), scipy.ndimage.uniform_filter(x, size), strict=True)
