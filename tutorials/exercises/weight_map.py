"""The paper's weight map

Lesson 07, about 60 minutes. NumPy and SciPy may be imported, nothing else.

Write `class_balance` and `separation`, the two terms of the U-Net paper's map of weights,

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)),

where d1 and d2 are the distances from x to the nearest and to the second nearest cell: to a cell's nearest pixel, 0 in
it. The rarest class that occurs has w_c = 1. `instances` has a number for every cell, not without gaps, and 0 for the
background; scipy.ndimage.distance_transform_edt measures distances to the nearest zero.

Grade it with:  python -m minunet.grade weight_map.py
"""

from __future__ import annotations

import numpy as np
import scipy  # noqa: F401

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def class_balance(counts: np.ndarray) -> np.ndarray:
    """w_c for every class, (K,) float32, from its number of pixels: inverse to it, 1 for the rarest, 0 for none at all."""
    raise NotImplementedError


def separation(instances: np.ndarray, sigma: float = 5.0) -> np.ndarray:
    """exp(-(d1 + d2)^2 / (2 sigma^2)) in every pixel, cells included; 0 where there are not two cells in reach.

    Parameters
    ----------
    instances : (H, W) integer array, 0 for background
    sigma : float, in pixels

    Returns
    -------
    (H, W) float32 array
    """
    raise NotImplementedError
