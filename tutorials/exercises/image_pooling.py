"""The pyramid's image pooling, both ways

Lesson 14, about 40 minutes. NumPy may be imported, nothing else.

Write `image_pooling` and its backward, the branch of DeepLab's pyramid that sees the whole map: the mean of every
channel over all pixels, a 1x1 convolution with a bias, ReLU, and back to the size of the map. From a map of one pixel,
interpolation can give nothing but that pixel, everywhere. (The real one has a batch norm before the ReLU.) Three
gradients come back; each counts by itself. You choose what the cache holds.

Grade it with:  python -m minunet.grade image_pooling.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def image_pooling(x: Array, w: Array, b: Array) -> tuple[Array, tuple]:
    """What the whole map says: the mean over its pixels, a 1x1 convolution, ReLU, and back to the size of the map.

    x (N, H, W, C), w (C, K), b (K,) to (y, cache), y (N, H, W, K): the same at all pixels of an image.
    """
    raise NotImplementedError


def image_pooling_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of `image_pooling`: dy (N, H, W, K) to (dx, dw, db), in the shapes of x, w and b."""
    raise NotImplementedError
