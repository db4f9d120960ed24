"""NumPy sums: the three inner loops become one call.

Before: Python spent its time on looking up numbers one by one. Now it looks up a whole patch, and NumPy, which is compiled,
goes over its 9*C numbers:

    for n, row, column, k:                      still Python: N*H*W*K rounds
        y[n, row, column, k] = sum(patch(row, column) * w[:, :, :, k])

A call of NumPy takes a microsecond or more before it does anything, and it does only 2*9*C operations here. That is the rule
of NumPy: the work of a call must outweigh the call. Also, the product of patch and filter is written to memory before it is
summed, and the filter's numbers lie K apart in w, so each comes with 60 bytes of a cache line that nobody asked for.

Expect 50 to 100 times the speed of seven loops: the overhead is now paid once for 9*C terms, not once for each.
"""

import numpy as np


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    (N, H, W, _), K = x.shape, w.shape[3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.empty((N, H, W, K), np.float32)
    for n in range(N):
        for row in range(H):
            for column in range(W):
                patch = x[n, row : row + 3, column : column + 3]  # (3, 3, C)
                for k in range(K):
                    y[n, row, column, k] = np.sum(patch * w[..., k])
    return y
