"""Scores of pixels, of instances, and of borders.

confusion.py       Dice, IoU, accuracy: counts of pixels by class
per_object.py      all scores of an image's objects, and their table
per_class.py       the same of three classes or more, one by one
instances.py       precision at IoU thresholds, SEG, panoptic quality, adapted Rand, merged and split pairs
best_threshold.py  adapted Rand at the threshold that is best on other images
evaluation.py      what `minunet.evaluate` finds, as text, JSON and CSV
warping_error.py   the warping error of Jain et al.
"""

from .confusion import Confusion, dice, iou

__all__ = ["Confusion", "dice", "iou"]
