"""Non-maximum suppression of boxes

Lesson 14, about 40 minutes. NumPy may be imported, nothing else.

Write `box_iou` and with it `suppress_boxes`. A detector finds an object many times. From the best score to the worst, a
box is kept unless it overlaps one that has been kept: an IoU above the threshold. A box that is suppressed suppresses
no other. Boxes that do not meet have the IoU 0. No box is empty, no two scores are equal, and there may be no boxes at
all.

Grade it with:  python -m minunet.grade nms.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def box_iou(boxes: Array, others: Array) -> Array:
    """Intersection over union of every box with every other: (n, 4) and (m, 4) to (n, m).

    A box is a row of top, left, bottom, right. These are places, not numbers of pixels: its height is bottom - top.
    """
    raise NotImplementedError


def suppress_boxes(boxes: Array, scores: Array, threshold: float = 0.5) -> Array:
    """Greedy non-maximum suppression: the numbers of the boxes that are kept, the best first, as an array of integers.

    boxes (n, 4), scores (n,). From the best score to the worst, a box is kept unless its IoU with one that has been kept is
    larger than the threshold.
    """
    raise NotImplementedError
