"""One filter, one image

Lesson 01, about 15 minutes. NumPy may be imported, nothing else.

Write `filter_image`. For one image and one filter

    y[row, column] = sum over i, j, c of  x[row*s + i, column*s + j, c] * w[i, j, c]

wherever the filter fits whole: no padding, no bias. s is the stride. Loops over pixels are right; speed comes later.

Grade it with:  python -m minunet.grade filter_image.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def filter_image(x: Array, w: Array, stride: int = 1) -> Array:
    """Filter an image x (H, W, C) with w (KH, KW, C), wherever it fits whole: (OH, OW).

    The lesson says how large OH and OW are, under "Taking fewer"."""
    raise NotImplementedError
