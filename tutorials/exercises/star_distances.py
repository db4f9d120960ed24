"""Star distances of labelled objects

Lesson 14, about 40 minutes. NumPy may be imported, nothing else.

Write `star_distances`, what a network of star-convex polygons is to learn. Ray k of R leaves a pixel at the angle 2 pi
k / R: from row r and column c it is after n steps at

    (r + n sin, c + n cos),    in the pixel  (floor(r + n sin + 1/2), floor(c + n cos + 1/2))

It goes on, n = 1, 2, ..., to the first pixel that is not of the same object: background, another object, or outside the
image. If that is the n-th, the distance is n - 1 + 0.5 / max(|sin|, |cos|): the outline lies half a pixel beyond the
last one inside. Loops over pixels are right.

Grade it with:  python -m minunet.grade star_distances.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def star_distances(numbers: Array, count: int) -> Array:
    """From every pixel of an object, how far its outline is along `count` rays: numbers (H, W) to (H, W, count).

    numbers has 0 for the background and another number for every object. Distances are in pixels, 0 in the background.
    """
    raise NotImplementedError
