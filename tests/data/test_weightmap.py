"""The weight map against equation 2 taken literally, seams, and the cache."""

import itertools
import os

import numpy as np
import pytest
from helpers.datasets import draw_objects
from helpers.tolerances import OP
from hypothesis import given
from hypothesis import strategies as st

from minunet.data import SyntheticCells, weightmap
from minunet.data.weightmap import cached_separation, class_balance, cut_seams, nearest_two, separation
from minunet.errors import UserError


def distances(instances):
    """d1 and d2 by looking at every pair of a pixel and an object's pixel."""
    H, W = instances.shape
    per_object = []
    for number in np.unique(instances[instances > 0]):
        rows, columns = np.nonzero(instances == number)
        y, x = np.mgrid[:H, :W]
        squares = (y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2
        per_object.append(np.sqrt(squares.min(-1)))
    nothing = np.full((H, W), np.inf)
    return np.sort([*per_object, nothing, nothing], axis=0)[:2]


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30), st.integers(0, 8), st.floats(0.3, 8))
def test_separation_is_equation_2(seed, H, W, n, sigma):
    instances = draw_objects(seed, H, W, n)
    d1, d2 = distances(instances)
    expected = np.exp(-((d1 + d2) ** 2) / (2 * sigma**2))
    made = separation(instances, sigma)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, expected, atol=OP["float32"])


@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(1, 12))
def test_nearest_two_are_exact_within_reach(seed, n, reach):
    instances = draw_objects(seed, 24, 19, n)
    for made, expected in zip(nearest_two(instances, reach), distances(instances)):
        assert (made >= expected - 1e-5).all()
        np.testing.assert_allclose(made[expected <= reach], expected[expected <= reach], rtol=OP["float32"])


def test_a_gap_by_hand():
    """Two cells three pixels apart: in the middle of the gap d1 = d2 = 2."""
    instances = np.array([[5, 0, 0, 0, 9]])
    weights = separation(instances, sigma=5.0)
    np.testing.assert_allclose(weights, np.exp(-(np.array([[4, 4, 4, 4, 4]]) ** 2) / 50), rtol=OP["float32"])
    assert not separation(np.array([[5, 0, 0]]), 5.0).any()  # one cell: there is no second


def test_high_numbers_cost_no_memory():
    instances = draw_objects(3, 20, 20, 4)
    far = np.where(instances > 0, instances + 2_000_000_000, 0).astype(np.int32)
    np.testing.assert_array_equal(separation(far), separation(instances))
    full = np.full((4, 4), 2_000_000_000, np.int32)
    full[2:] += 1  # no background at all
    assert separation(full).min() > 0.5


@given(st.integers(0, 10**6), st.integers(0, 8))
def test_seams_part_all_objects_and_take_no_more_than_they_must(seed, n):
    instances = draw_objects(seed, 20, 20, n)
    seam = cut_seams(instances)
    assert (instances[seam] > 0).all()
    cut = np.where(seam, 0, instances)
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        moved = np.pad(cut, 1)[1 + dy : 21 + dy, 1 + dx : 21 + dx]
        assert not ((cut > 0) & (moved > 0) & (cut != moved)).any()
    for row, column in np.argwhere(seam):  # without it, this pixel would touch another object
        around = instances[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        assert ((around > 0) & (around != instances[row, column])).any()


def test_class_balance_by_hand():
    np.testing.assert_allclose(class_balance(np.array([75, 25])), [1 / 3, 1])
    np.testing.assert_allclose(class_balance(np.array([10, 0, 40])), [1, 0, 0.25])  # a class that never occurs
    assert not class_balance(np.zeros(3, int)).any()


def test_the_cache_gives_the_same_and_knows_content_and_sigma(tmp_path, monkeypatch):
    instances = SyntheticCells(2, 48)[0].instances
    made = cached_separation(instances, 5.0, tmp_path / "a" / "b")
    np.testing.assert_array_equal(made, separation(instances, 5.0))
    monkeypatch.setattr(weightmap, "separation", lambda *_: pytest.fail("it was computed again"))
    np.testing.assert_array_equal(cached_separation(instances, 5.0, tmp_path / "a" / "b"), made)
    monkeypatch.undo()
    other = np.roll(instances, 1, axis=0)
    np.testing.assert_array_equal(cached_separation(other, 5.0, tmp_path / "a" / "b"), separation(other, 5.0))
    np.testing.assert_array_equal(cached_separation(instances, 2.0, tmp_path / "a" / "b"), separation(instances, 2.0))
    assert len(list((tmp_path / "a" / "b").iterdir())) == 3


@pytest.mark.parametrize(
    "content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (99999999999,)}"]
)
def test_a_damaged_cache_is_made_anew(tmp_path, content):
    instances = draw_objects(0, 12, 12, 3)
    cached_separation(instances, 5.0, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    np.testing.assert_array_equal(cached_separation(instances, 5.0, tmp_path), separation(instances, 5.0))
    assert path.stat().st_size > 12 * 12 * 4


def test_a_cache_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--cache"):
        cached_separation(np.zeros((3, 3), np.int32), 5.0, tmp_path / "file" / "folder")
    assert os.listdir(tmp_path) == ["file"]
