"""Scores of a segmentation, from counts of pixels.

With TP, FP, FN the pixels of a class that were found, invented and missed,

    Dice = 2 TP / (2 TP + FP + FN)          IoU = TP / (TP + FP + FN)          Dice = 2 IoU / (1 + IoU)

Averaging: counts are *pooled*: added over all pixels of all images before the ratio is taken, so a large image counts
more than a small one, and an image without the class cannot spoil the score. `Dice` of a network, without more words, is the
mean over the foreground classes (all but class 0).

The empty rule: a class that is neither in the truth nor in the prediction has no score (nan) and is left out of means; if no
class has a score, the mean is 1: nothing was to be found and nothing was.
"""

from __future__ import annotations

import numpy as np

from ..array import Array, to_numpy


class Confusion:
    """Counts of pixels by true and predicted class, gathered image by image.

    Parameters
    ----------
    num_classes : int
    ignore : int
        Pixels with this true label do not count.

    Examples
    --------
    >>> c = Confusion(2)
    >>> c.add(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]]))
    >>> round(c.mean_dice(), 3)
    0.667
    """

    def __init__(self, num_classes: int, ignore: int = -1) -> None:
        self.counts = np.zeros((num_classes, num_classes), np.int64)  # [truth, prediction]
        self.ignore = ignore

    def add(self, truth: Array, prediction: Array) -> None:
        """Count the pixels of one or more images; integer arrays of one shape."""
        truth, prediction = to_numpy(truth).ravel(), to_numpy(prediction).ravel()
        seen = truth != self.ignore
        K = len(self.counts)
        pairs = truth[seen].astype(np.int64) * K + prediction[seen]
        self.counts += np.bincount(pairs, minlength=K * K).reshape(K, K)

    def dice(self) -> np.ndarray:
        """Dice of every class, (num_classes,); nan where there is nothing to score."""
        return self._ratio(2)

    def iou(self) -> np.ndarray:
        """Intersection over union of every class, (num_classes,); nan where there is nothing to score."""
        return self._ratio(1)

    def pixel_accuracy(self) -> float:
        """Share of the pixels that have the right class; 1 if there are none."""
        total = self.counts.sum()
        return float(self.counts.trace() / total) if total else 1.0

    def mean_dice(self) -> float:
        """Mean Dice of the foreground classes."""
        return _mean(self.dice()[1:])

    def mean_iou(self) -> float:
        """Mean IoU of the foreground classes."""
        return _mean(self.iou()[1:])

    def foreground_dice(self) -> float:
        """Dice of all foreground classes taken as one."""
        counts = self.counts
        both, one = counts[1:, 1:].sum(), counts[1:].sum() + counts[:, 1:].sum()
        return float(2 * both / one) if one else 1.0

    def _ratio(self, weight: int) -> np.ndarray:
        found = self.counts.diagonal()
        wrong = self.counts.sum(0) + self.counts.sum(1) - 2 * found  # invented and missed
        below = weight * found + wrong
        return np.where(below > 0, weight * found / np.maximum(below, 1), np.nan)


def _mean(scores: np.ndarray) -> float:
    scores = scores[~np.isnan(scores)]
    return float(scores.mean()) if scores.size else 1.0


def dice(truth: Array, prediction: Array, num_classes: int = 2) -> float:
    """Mean Dice of the foreground classes of two integer arrays of one shape, pooled over all their pixels."""
    c = Confusion(num_classes)
    c.add(truth, prediction)
    return c.mean_dice()


def iou(truth: Array, prediction: Array, num_classes: int = 2) -> float:
    """Mean IoU of the foreground classes of two integer arrays of one shape, pooled over all their pixels."""
    c = Confusion(num_classes)
    c.add(truth, prediction)
    return c.mean_iou()
