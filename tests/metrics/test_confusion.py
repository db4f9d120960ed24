"""Scores of classes on cases computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minunet.metrics import Confusion, dice, iou


def test_binary_scores_by_hand():
    truth = np.array([[1, 1, 1, 0, 0, 0]])
    guess = np.array([[1, 1, 0, 1, 0, 0]])  # 2 found, 1 invented, 1 missed
    assert dice(truth, guess) == pytest.approx(4 / 6)
    assert iou(truth, guess) == pytest.approx(2 / 4)
    c = Confusion(2)
    c.add(truth, guess)
    assert c.pixel_accuracy() == pytest.approx(4 / 6)
    assert c.dice().tolist() == pytest.approx([4 / 6, 4 / 6])


def test_classes_are_averaged_without_the_background():
    truth, guess = np.array([0, 1, 1, 2, 2, 2]), np.array([0, 1, 0, 2, 2, 1])
    c = Confusion(3)
    c.add(truth, guess)
    assert c.dice().tolist() == pytest.approx([2 / 3, 2 / 4, 4 / 5])
    assert c.mean_dice() == pytest.approx((2 / 4 + 4 / 5) / 2)
    assert c.iou().tolist() == pytest.approx([1 / 2, 1 / 3, 2 / 3])


def test_counts_are_pooled_over_images():
    c = Confusion(2)
    c.add(np.array([1, 1, 1, 1]), np.array([1, 1, 1, 1]))
    c.add(np.array([1, 0]), np.array([0, 0]))
    assert c.mean_dice() == pytest.approx(8 / 9)  # and not the mean of 1 and 0


def test_the_empty_rule():
    nothing = np.zeros((3, 3), int)
    assert dice(nothing, nothing) == 1
    assert dice(nothing, nothing + 1) == 0
    c = Confusion(3)
    c.add(np.array([0, 1]), np.array([0, 1]))
    assert math.isnan(c.dice()[2]) and c.mean_dice() == 1


def test_ignored_pixels_do_not_count():
    c = Confusion(2)
    c.add(np.array([1, -1, 0]), np.array([1, 1, 0]))
    assert c.mean_dice() == 1 and c.counts.sum() == 2


@given(arrays(np.int64, (4, 5), elements=st.integers(0, 2)), arrays(np.int64, (4, 5), elements=st.integers(0, 2)))
def test_dice_and_iou_agree(truth, guess):
    c = Confusion(3)
    c.add(truth, guess)
    d, j = c.dice(), c.iou()
    seen = ~np.isnan(d)
    assert (seen == ~np.isnan(j)).all()
    np.testing.assert_allclose(d[seen], 2 * j[seen] / (1 + j[seen]))
    assert ((d[seen] >= 0) & (d[seen] <= 1)).all()
