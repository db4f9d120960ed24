"""Scores of a segmentation, from counts of pixels.

With TP, FP, FN the true positive, false positive and false negative pixels of a class,

    Dice = 2 TP / (2 TP + FP + FN)          IoU = TP / (TP + FP + FN)          Dice = 2 IoU / (1 + IoU)

Averaging: counts are *pooled*, that is, added over all pixels of all images before the ratio is taken. So a large image
counts more than a small one, and an image without the class does not lower the score. "Dice" without further words is the
mean over the foreground classes (all but class 0).

Empty classes: a class that is neither in the truth nor in the prediction has no score (nan) and is left out of means. If no
class has a score, the mean is 1: there was nothing to find, and nothing was predicted.
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
        """Count the pixels of one or more images.

        Parameters
        ----------
        truth, prediction : integer arrays of one shape, of any number of dimensions
            Class numbers; NumPy or CuPy arrays.
        """
        truth, prediction = to_numpy(truth).ravel(), to_numpy(prediction).ravel()
        seen = truth != self.ignore
        K = len(self.counts)
        pairs = (truth[seen].astype(np.int64) * K + prediction[seen]).astype(np.intp)  # a browser's has 32 bits
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
        """Dice of the foreground, all its classes taken as one; 1 if there is none in truth and prediction."""
        counts = self.counts
        both, one = counts[1:, 1:].sum(), counts[1:].sum() + counts[:, 1:].sum()
        return float(2 * both / one) if one else 1.0

    def _ratio(self, weight: int) -> np.ndarray:
        tp = self.counts.diagonal()
        fp_and_fn = self.counts.sum(0) + self.counts.sum(1) - 2 * tp
        below = weight * tp + fp_and_fn
        return np.where(below > 0, weight * tp / np.maximum(below, 1), np.nan)


def _mean(scores: np.ndarray) -> float:
    scores = scores[~np.isnan(scores)]
    return float(scores.mean()) if scores.size else 1.0


def dice(truth: Array, prediction: Array, num_classes: int = 2) -> float:
    """Mean Dice of the foreground classes, pooled over all pixels.

    Parameters
    ----------
    truth, prediction : integer arrays of one shape, of class numbers
        Pixels with truth -1 do not count.
    num_classes : int

    Returns
    -------
    float, 0 to 1

    Examples
    --------
    >>> round(dice(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]])), 3)
    0.667
    """
    c = Confusion(num_classes)
    c.add(truth, prediction)
    return c.mean_dice()


def iou(truth: Array, prediction: Array, num_classes: int = 2) -> float:
    """Mean intersection over union of the foreground classes, pooled over all pixels; parameters as in `dice`.

    Examples
    --------
    >>> iou(np.array([[1, 1, 0, 0]]), np.array([[1, 0, 0, 0]]))
    0.5
    """
    c = Confusion(num_classes)
    c.add(truth, prediction)
    return c.mean_iou()
