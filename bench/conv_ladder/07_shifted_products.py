"""Shifted products: nine products, and no ninefold copy.

Before: im2col wrote nine copies of x side by side only to sum over them. A sum may be taken piece by piece: let each tap
have its own product, of the map shifted by (i, j) with the C x K matrix w[i, j]:

    y = 0
    for i, j:   y += (x shifted by (i, j)) @ w[i, j]            (N*H*W, C) times (C, K), nine times

The shifted map is a view, no copy. (NumPy copies it for BLAS, 1 MB at a time, as a view with a border is not one matrix; that
piece is small enough to stay in a cache.) No array is larger than the map itself: a network that runs this way needs a ninth
of the memory, which is why minunet's plain convolution, `ops/conv.py`, is written so.

The price: y is loaded and stored nine times, as is the product that is added to it, by one core while the others wait. The
bytes are about as many as before, though they come from nearer caches. Expect the speed of im2col on a small map, where its
rows fit into a large cache, and up to a third more on larger ones: the gain of this rung is memory.
"""

import numpy as np


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    (N, H, W, C), K = x.shape, w.shape[3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((N * H * W, K), np.float32)
    for i in range(3):
        for j in range(3):
            y += x[:, i : i + H, j : j + W].reshape(-1, C) @ w[i, j]
    return y.reshape(N, H, W, K)
