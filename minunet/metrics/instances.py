"""Scores of instances (separate objects), from one table: how many pixels every true and every predicted object share.

With R a true and S a predicted object, IoU(R, S) = |R and S| / |R or S|. An object has at most one partner with IoU > 0.5, so
the pairs need no assignment problem to be solved, and at a threshold t >= 0.5

    TP(t)  pairs with IoU > t        FP(t)  predicted objects in no such pair        FN(t)  true objects in none

    precision(t)  TP / (TP + FP + FN); the mean over t = 0.50, 0.55 .. 0.95 is the score of the Data Science Bowl 2018
    PQ            panoptic quality: the sum of the IoUs of the pairs with IoU > 0.5, over TP + FP / 2 + FN / 2
    SEG           of the Cell Tracking Challenge: the mean over true objects R of IoU(R, S) for the S with
                  |R and S| > |R| / 2, and of 0 for an R without one; what else was predicted does not count
    adapted Rand  1 - F of the Rand index, ISBI 2012: over the pairs of pixels that are both in true objects,
                  F = 2 * joint / (true + predicted), where `true` counts the pairs in one true object, `predicted` those in
                  one predicted object, `joint` those in both; background in the prediction belongs to no object
    merged pairs  pairs of true objects that lie, more than half of each, in the same predicted object
    split pairs   pairs of predicted objects that lie, more than half of each, in the same true object

Partly annotated truth (`valid`): pixels that are not valid are left out of every score but SEG, which is defined for such truth
and takes objects whole. A predicted object with more than half of its pixels not valid is no false positive, and no part of a
split pair.

Averaging: if several images are added to one `ObjectCounts`, the score is *pooled*: counts are summed before the ratio is
taken. A *mean of images* takes one `ObjectCounts` for each image, and leaves out images whose score is nan.

Empty images: without true and predicted objects precision and PQ are 1; SEG without true objects and adapted Rand without a
pair of pixels in one object are nan.

Sources: Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7; Kirillov et al. 2019, arXiv:1801.00868; Maska et al. 2014,
doi:10.1093/bioinformatics/btu080; Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PERCENTS = np.arange(50, 100, 5)  # thresholds of the IoU; integers, so that IoU = 0.6 is not above 0.6


class Overlaps(NamedTuple):
    """Pairs of a true and a predicted object that share pixels, and every object's pixels.

    Attributes
    ----------
    truth, predicted, shared : (P,) integer arrays
        Of each pair the two instance numbers, and the number of pixels in both.
    truth_area, predicted_area : 1-D integer arrays
        Number of pixels by instance number; 0 at unused numbers, and at 0, which is background.
    """

    truth: np.ndarray
    predicted: np.ndarray
    shared: np.ndarray
    truth_area: np.ndarray
    predicted_area: np.ndarray

    @property
    def union(self) -> np.ndarray:
        """Pixels in either object of each pair, (P,)."""
        return self.truth_area[self.truth] + self.predicted_area[self.predicted] - self.shared


def overlaps(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """The table of overlaps, in one pass over the pixels.

    Parameters
    ----------
    truth, predicted : integer arrays of one shape
        Instance numbers, 0 for background. Memory is taken for every number up to the largest: see `small_numbers`.

    Examples
    --------
    >>> table = overlaps(np.array([1, 1, 2, 2]), np.array([0, 5, 5, 5]))
    >>> table.truth.tolist(), table.predicted.tolist(), table.shared.tolist()
    ([1, 2], [5, 5], [1, 2])
    """
    import scipy

    t, p = truth.ravel(), predicted.ravel()
    shape = int(t.max(initial=0)) + 1, int(p.max(initial=0)) + 1
    table = (
        scipy.sparse.coo_array((np.ones(t.size, np.int64), (t, p)), shape=shape).tocsr().tocoo()
    )  # equal pairs are summed
    areas = [np.asarray(table.sum(axis)).ravel() for axis in (1, 0)]
    for area in areas:
        area[0] = 0
    rows, columns = table.coords
    both = (rows > 0) & (columns > 0)
    return Overlaps(rows[both], columns[both], table.data[both], *areas)


class ObjectCounts:
    """What is counted of true and predicted objects, gathered image by image.

    Attributes
    ----------
    truth, predicted : int
        Number of objects; predicted objects that lie mostly outside of the valid pixels do not count.
    tp, fp, fn : (10,) int arrays
        True positives, false positives and false negatives at each IoU threshold, 0.50, 0.55 .. 0.95.
    merged, split : int
        Pairs.

    Examples
    --------
    >>> c = ObjectCounts()
    >>> c.add(np.array([[1, 1, 0, 2, 2, 2]]), np.array([[1, 1, 0, 1, 1, 0]]))  # one predicted object for two true ones
    >>> c.precision(50), c.merged
    (0.0, 1)
    """

    def __init__(self) -> None:
        self.truth = self.predicted = self.merged = self.split = 0
        self.tp, self.fp, self.fn = (np.zeros(len(PERCENTS), np.int64) for _ in range(3))
        self.iou_sum = 0.0  # of the pairs with IoU > 0.5
        self.seg_sum, self.seg_objects = 0.0, 0
        self.pixel_pairs = np.zeros(3, np.int64)  # joint, true, predicted

    def add(self, truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Count the objects of an image.

        Parameters
        ----------
        truth, predicted : (H, W) integer arrays
            Object numbers, not necessarily consecutive; 0 is background.
        valid : (H, W) bool array, optional
            False where the truth is not annotated.

        Raises
        ------
        ValueError
            If shapes differ, or a number is negative.
        """
        if truth.shape != predicted.shape:
            raise ValueError(f"truth of shape {truth.shape}, prediction of shape {predicted.shape}")
        truth, predicted = small_numbers(truth), small_numbers(predicted)
        table = overlaps(truth, predicted)
        whole = table.predicted_area
        known, counts = np.ones(len(table.truth_area), bool), np.ones(len(table.predicted_area), bool)
        if valid is None:
            self._add_seg(table, known)
        else:
            known[:] = np.bincount(truth.ravel(), weights=valid.ravel()) > 0
            counts[:] = 2 * np.bincount(predicted.ravel(), weights=valid.ravel()) >= np.bincount(predicted.ravel())
            self._add_seg(table, known)
            table = overlaps(truth[valid], predicted[valid])
        self._add_matches(table, counts)
        self.merged += _pairs_in_one(table.truth_area[table.truth], table.shared, table.predicted)
        self.split += _pairs_in_one(whole[table.predicted], table.shared, table.truth)
        self._add_pixel_pairs(table)

    def __iadd__(self, other: ObjectCounts) -> ObjectCounts:
        """Add the counts of other images."""
        for name, count in vars(other).items():
            setattr(self, name, getattr(self, name) + count)
        return self

    def precision(self, percent: int = 50) -> float:
        """TP / (TP + FP + FN) at an IoU threshold, one of PERCENTS."""
        return float(self.precisions()[PERCENTS.tolist().index(percent)])

    def precisions(self) -> np.ndarray:
        """TP / (TP + FP + FN) at every threshold, (10,)."""
        below = self.tp + self.fp + self.fn
        return np.where(below > 0, self.tp / np.maximum(below, 1), 1.0)

    def mean_precision(self) -> float:
        """The mean of `precisions`, the score of the Data Science Bowl 2018."""
        return float(self.precisions().mean())

    def panoptic_quality(self) -> float:
        """The sum of the matched pairs' IoUs over TP + FP / 2 + FN / 2, at 0.5."""
        below = self.tp[0] + (self.fp[0] + self.fn[0]) / 2
        return float(self.iou_sum / below) if below else 1.0

    def seg(self) -> float:
        """The Cell Tracking Challenge's SEG; nan without true objects."""
        return self.seg_sum / self.seg_objects if self.seg_objects else float("nan")

    def adapted_rand_error(self) -> float:
        """1 - F of the Rand index in the true foreground; nan if no two pixels are in one object."""
        joint, true, predicted = self.pixel_pairs.tolist()
        return 1 - 2 * joint / (true + predicted) if true + predicted else float("nan")

    def _add_seg(self, table: Overlaps, known: np.ndarray) -> None:
        match = (2 * table.shared > table.truth_area[table.truth]) & known[table.truth]
        self.seg_sum += float((table.shared[match] / table.union[match]).sum())
        self.seg_objects += int(np.count_nonzero(known & (table.truth_area > 0)))

    def _add_matches(self, table: Overlaps, counts: np.ndarray) -> None:
        """TP, FP and FN at every threshold; a predicted object that does not count may be a TP, but no FP."""
        hits = 100 * table.shared > PERCENTS[:, None] * table.union  # (10, P)
        objects = np.flatnonzero(table.predicted_area)
        n_true = int(np.count_nonzero(table.truth_area))
        self.truth += n_true
        self.predicted += int(counts[objects].sum())
        self.tp += hits.sum(1)
        self.fn += n_true - hits.sum(1)
        self.fp += counts[objects].sum() - hits[:, counts[table.predicted]].sum(1)
        self.iou_sum += float((table.shared[hits[0]] / table.union[hits[0]]).sum())

    def _add_pixel_pairs(self, table: Overlaps) -> None:
        in_predicted = np.bincount(table.predicted, weights=table.shared)  # of the pixels in true objects
        for i, n in enumerate((table.shared, table.truth_area, in_predicted)):
            n = n.astype(np.int64)
            self.pixel_pairs[i] += int((n * (n - 1)).sum())


def small_numbers(labels: np.ndarray) -> np.ndarray:
    """The same instances with numbers no larger than the count of pixels, intp; ValueError if a number is negative."""
    if labels.size and labels.min() < 0:
        raise ValueError(f"object numbers are 0 and above, but there is {labels.min()}")
    if labels.size and labels.max() > labels.size:
        numbers, labels = np.unique(labels, return_inverse=True)
        labels = labels + (numbers[0] > 0)  # without background the first number is an object's
    return labels.astype(np.intp, copy=False)


def _pairs_in_one(area: np.ndarray, shared: np.ndarray, holder: np.ndarray) -> int:
    """Pairs of objects that lie, each with more than half of its area, in the same holder."""
    held = np.bincount(holder[2 * shared > area])
    return int((held * (held - 1) // 2).sum())
