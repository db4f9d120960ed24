"""Scores of objects: cases counted by hand, brute force over pairs of objects and of pixels, scikit-image."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.metrics import adapted_rand_error

from minunet.metrics.instances import PERCENTS, ObjectCounts, overlaps, small_numbers
from minunet.metrics.warping_error import deform, separated, simple_points, warping_error

LABELS = arrays(np.int64, (5, 7), elements=st.integers(0, 4))


def count(truth, predicted, valid=None):
    c = ObjectCounts()
    c.add(np.array(truth), np.array(predicted), None if valid is None else np.array(valid, bool))
    return c


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_matches_by_hand():
    """IoU 3/4, a missed object, an invented one."""
    c = count([[1, 1, 1, 1, 0, 2, 2, 0, 0]], [[5, 5, 5, 0, 0, 0, 0, 0, 7]])
    assert (c.truth, c.predicted) == (2, 2)
    assert c.tp.tolist() == [1] * 5 + [0] * 5  # 0.75 is not above 0.75
    assert c.fp.tolist() == c.fn.tolist() == [1] * 5 + [2] * 5
    assert c.precision(50) == pytest.approx(1 / 3) and c.mean_precision() == pytest.approx(5 * (1 / 3) / 10)
    assert c.panoptic_quality() == pytest.approx(0.75 / (1 + 1 / 2 + 1 / 2))
    assert c.seg() == pytest.approx(0.75 / 2)


def test_iou_at_a_threshold_is_not_above_it():
    """3/5 as a float is not 0.6, and 0.5 is no match."""
    assert count([[1, 1, 1, 1, 1]], [[1, 1, 1, 0, 0]]).tp.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert count([[1, 1, 0, 0]], [[1, 0, 0, 0]]).tp[0] == 0
    assert count([[1, 1, 0, 0]], [[1, 0, 0, 0]]).seg() == 0  # not more than half of it


def test_seg_takes_the_object_that_holds_more_than_half():
    """Found with IoU 3/7: no match for the precision, but one for SEG."""
    c = count([[1, 1, 1, 1, 0, 0, 0]], [[2, 2, 2, 0, 2, 2, 2]])
    assert c.seg() == pytest.approx(3 / 7) and c.tp[0] == 0


def test_merged_and_split_pairs():
    merged = count([[1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 4]], [[1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 2]])
    assert (merged.merged, merged.split) == (3, 0)  # the three pairs of three
    split = count([[1, 1, 1, 1, 1, 1]], [[1, 1, 2, 2, 0, 0]])
    assert (split.merged, split.split) == (0, 1)
    half = count([[1, 1, 2, 2]], [[3, 0, 3, 0]])
    assert half.merged == 0  # half is no majority


def test_adapted_rand_by_hand():
    """Truth 3 + 2 pixels, found as 2 + 1, and one of each missed: pairs of pixels 4, 2 and 2, in order of the pixels."""
    c = count([[1, 1, 1, 2, 2]], [[1, 1, 0, 1, 0]])
    joint, true, predicted = 2, 6 + 2, 6
    assert c.pixel_pairs.tolist() == [joint, true, predicted]
    assert c.adapted_rand_error() == pytest.approx(1 - 2 * joint / (true + predicted))


def test_the_empty_rule():
    nothing, something = np.zeros((2, 3), int), np.ones((2, 3), int)
    c = count(nothing, nothing)
    assert c.mean_precision() == c.panoptic_quality() == 1
    assert math.isnan(c.seg()) and math.isnan(c.adapted_rand_error())
    invented = count(nothing, something)
    assert invented.mean_precision() == invented.panoptic_quality() == 0 and math.isnan(invented.seg())
    missed = count(something, nothing)
    assert missed.mean_precision() == missed.seg() == 0 and missed.adapted_rand_error() == 1


def test_counts_are_pooled_over_images():
    c = ObjectCounts()
    c.add(np.array([[1, 0, 2, 0, 3]]), np.array([[1, 0, 2, 0, 3]]))
    c.add(np.array([[1, 0]]), np.array([[0, 1]]))
    assert c.precision(50) == pytest.approx(3 / 5) and c.seg() == pytest.approx(3 / 4)


def test_partly_annotated_truth():
    """What lies wholly or mostly where nothing is annotated is not invented; the rest is judged by what lies inside."""
    truth = [[1, 1, 1, 1, 0, 0, 0, 0, 0, 0]]
    valid = [[1, 1, 1, 1, 1, 0, 0, 0, 1, 1]]
    found = [[1, 1, 1, 1, 0, 0, 2, 2, 0, 0]]
    c = count(truth, found, valid)
    assert (c.tp[0], c.fp[0], c.fn[0], c.predicted) == (1, 0, 0, 1)
    mostly_outside = [[1, 1, 1, 1, 2, 2, 2, 2, 2, 0]]  # 2 of 5 pixels inside
    assert count(truth, mostly_outside, valid).fp[0] == 0
    half_inside = [[1, 1, 1, 1, 0, 0, 2, 2, 2, 2]]
    assert count(truth, half_inside, valid).fp[0] == 1
    # reaching out where nothing is annotated costs nothing, except in SEG
    wide = count(truth, [[1, 1, 1, 1, 0, 1, 1, 1, 0, 0]], valid)
    assert wide.tp[-1] == 1 and wide.seg() == pytest.approx(4 / 7)
    # a true object where nothing counts is none
    assert count([[1, 1, 0, 2]], [[1, 1, 0, 0]], [[1, 1, 1, 0]]).fn[0] == 0
    assert count([[1, 1, 0, 2]], [[1, 1, 0, 0]], [[1, 1, 1, 0]]).seg() == 1


def test_found_although_mostly_outside():
    """A match counts even if more than half of the predicted object is not annotated."""
    c = count([[1, 1, 0, 0, 0]], [[1, 1, 1, 1, 1]], [[1, 1, 0, 0, 0]])
    assert (c.tp[0], c.fp[0]) == (1, 0)


def test_neighbours_that_reach_into_partly_annotated_truth_do_not_split_it():
    """Object 1 is outlined, its neighbours are not; each of these was found a pixel too large, and reaches into it."""
    truth, found = [[0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]], [[2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4]]
    assert count(truth, found, np.array(truth) > 0).split == 0
    assert (
        count(truth, [[0, 0, 0, 2, 2, 3, 3, 3, 3, 0, 0]], np.array(truth) > 0).split == 1
    )  # two halves, and a pixel beyond


def test_numbers_with_gaps_and_vast_ones():
    truth, predicted = np.array([[7, 7, 0, 2**40]]), np.array([[0, 900, 0, 2**33]])
    assert count(truth, predicted).tp.tolist() == [1] * 10
    assert small_numbers(np.array([[2**40, 5]])).min() == 1  # without background none becomes background
    with pytest.raises(ValueError, match="-1"):
        count([[-1]], [[0]])


# ---- oracles ---------------------------------------------------------------------------------------------------------


def brute_force(truth, predicted):
    """The definitions, object by object."""
    T, S = ([labels == n for n in np.unique(labels[labels > 0])] for labels in (truth, predicted))
    shared = np.array([[(r & s).sum() for s in S] for r in T]).reshape(len(T), len(S))
    union = np.array([[(r | s).sum() for s in S] for r in T]).reshape(len(T), len(S))
    iou = shared / np.maximum(union, 1)
    tp = [(iou > p / 100).sum() if p != 60 else (5 * shared > 3 * union).sum() for p in PERCENTS]
    seg = [max((iou[r, s] for s in range(len(S)) if shared[r, s] > T[r].sum() / 2), default=0) for r in range(len(T))]
    merged = sum(
        any(shared[a, s] > T[a].sum() / 2 and shared[b, s] > T[b].sum() / 2 for s in range(len(S)))
        for a, b in combinations(range(len(T)), 2)
    )
    split = sum(
        any(shared[r, a] > S[a].sum() / 2 and shared[r, b] > S[b].sum() / 2 for r in range(len(T)))
        for a, b in combinations(range(len(S)), 2)
    )
    return tp, len(T), len(S), iou[iou > 0.5].sum(), seg, merged, split


@given(LABELS, LABELS)
def test_equal_to_brute_force(truth, predicted):
    c = count(truth, predicted)
    tp, true, found, iou_sum, seg, merged, split = brute_force(truth, predicted)
    assert c.tp.tolist() == tp and c.fn.tolist() == [true - n for n in tp] and c.fp.tolist() == [found - n for n in tp]
    assert c.iou_sum == pytest.approx(iou_sum) and (c.merged, c.split) == (merged, split)
    assert c.seg() == pytest.approx(np.mean(seg)) if seg else math.isnan(c.seg())


@given(LABELS, LABELS)
def test_symmetry(truth, predicted):
    a, b = count(truth, predicted), count(predicted, truth)
    assert a.tp.tolist() == b.tp.tolist() and (a.merged, a.split) == (b.split, b.merged)
    assert a.panoptic_quality() == pytest.approx(b.panoptic_quality())


@given(LABELS, LABELS)
def test_adapted_rand_equals_scikit_image(truth, predicted):
    """There background in the prediction is one more object, so every such pixel is made an object of its own."""
    alone = np.where(predicted == 0, 10 + np.arange(predicted.size).reshape(predicted.shape), predicted)
    ours = count(truth, predicted)
    if ours.pixel_pairs[1] and ours.pixel_pairs[2]:
        assert ours.adapted_rand_error() == pytest.approx(adapted_rand_error(truth, alone)[0])


@given(LABELS, LABELS, arrays(bool, (5, 7)))
def test_what_is_not_valid_may_be_anything(truth, predicted, valid):
    """Two predictions that agree where the truth is annotated get one score there, unless an object's larger part differs."""
    c = count(truth, predicted, valid)
    everywhere = count(truth, predicted, np.ones_like(valid))
    plain = count(truth, predicted)
    assert vars(everywhere).keys() == vars(plain).keys()
    assert all(np.array_equal(v, vars(plain)[k]) for k, v in vars(everywhere).items())
    cut = count(np.where(valid, truth, 0), np.where(valid, predicted, 0))
    assert c.tp.tolist() == cut.tp.tolist() and c.fn.tolist() == cut.fn.tolist() and (c.fp <= cut.fp).all()
    assert c.merged == cut.merged and c.split <= cut.split
    assert c.pixel_pairs.tolist() == cut.pixel_pairs.tolist()


def test_the_table_of_overlaps():
    table = overlaps(np.array([[1, 1, 0, 3]]), np.array([[2, 0, 2, 3]]))
    pairs = {(1, 2): 1, (3, 3): 1}
    assert dict(zip(zip(table.truth.tolist(), table.predicted.tolist()), table.shared.tolist())) == pairs
    assert table.truth_area.tolist() == [0, 2, 0, 1] and table.predicted_area.tolist() == [0, 0, 2, 1]


# ---- warping ---------------------------------------------------------------------------------------------------------

MASKS = arrays(bool, (7, 8))


def topology(mask):
    """Numbers of 4-connected objects and of 8-connected pieces of background, with the background around the image."""
    padded = np.pad(mask, 1)
    return ndimage.label(padded)[1], ndimage.label(~padded, np.ones((3, 3)))[1]


@given(MASKS, MASKS)
def test_warping_keeps_the_topology_and_comes_nearer(truth, predicted):
    warped = deform(truth, predicted)
    assert topology(warped) == topology(truth)
    assert not (warped != truth)[truth == predicted].any()  # what agreed is left
    code_of = {tuple(flips): None for flips in np.argwhere(warped != predicted)}
    for row, column in code_of:  # and no single flip is left that would keep it
        nearer = warped.copy()
        nearer[row, column] ^= True
        assert topology(nearer) != topology(warped) or not is_simple(warped, row, column)


def is_simple(mask, row, column):
    """By counting in the neighbourhood alone, without the table."""
    patch = np.pad(mask, 1)[row : row + 3, column : column + 3].copy()
    patch[1, 1] = False
    pieces = ndimage.label(patch)[0][[0, 1, 1, 2], [1, 0, 2, 1]]
    patch[1, 1] = True
    return len({p for p in pieces.tolist() if p}) == 1 and ndimage.label(~patch, np.ones((3, 3)))[1] == 1


def test_a_border_that_moved_is_no_error():
    truth, predicted = np.zeros((2, 20, 20), bool)
    truth[3:12, 3:12] = True
    predicted[4:16, 2:11] = True
    assert warping_error(truth, predicted) == 0
    assert (truth != predicted).mean() > 0.1


def test_topological_mistakes_by_hand():
    """Each costs as many pixels as it takes to mend it."""
    whole = np.zeros((9, 15), bool)
    whole[2:7, 1:14] = True
    cut = whole.copy()
    cut[:, 7] = False
    size = whole.size
    assert warping_error(cut, whole) * size == pytest.approx(5)  # two cells merged: a line of five is missing
    assert warping_error(whole, cut) * size == pytest.approx(1)  # one cell split: a bridge of one is missing
    hole = whole.copy()
    hole[4, 7] = False
    assert warping_error(whole, hole) * size == pytest.approx(1)
    assert warping_error(whole, np.zeros_like(whole)) * size == pytest.approx(
        1
    )  # a cell missed: one pixel is left of it
    assert warping_error(np.zeros_like(whole), whole) * size == whole.sum()  # a cell invented: all of it


def test_warping_where_truth_is_not_annotated():
    truth, predicted = np.zeros((2, 6, 6), bool)
    predicted[1:3, 1:3] = True
    valid = np.ones((6, 6), bool)
    valid[:3] = False
    assert warping_error(truth, predicted) == 4 / 36 and warping_error(truth, predicted, valid) == 0
    assert math.isnan(warping_error(truth, predicted, np.zeros_like(valid)))


def test_simple_points_are_those_of_the_plane():
    """Flipping a pixel in the middle of a 5x5 image changes no count of objects or holes exactly where it is simple."""
    for code in range(256):
        mask = np.zeros((3, 3), bool)
        mask.ravel()[[0, 1, 2, 5, 8, 7, 6, 3]] = [code >> i & 1 for i in range(8)]
        assert simple_points()[code] == is_simple(mask, 1, 1)
    assert simple_points().sum() == 116


def test_touching_objects_are_separated_before_warping():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 3, 0]])
    mask = separated(labels)
    assert ndimage.label(mask)[1] == 3 and not (mask & (labels == 0)).any()
    assert separated(np.array([[1, 1, 0, 2]])).tolist() == [[True, True, False, True]]
