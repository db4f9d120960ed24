"""Loop order: the innermost loop goes over neighbours.

Before: one long sum at a time, every addition waiting for the last, w read in steps of K numbers. The loops may be nested in
any order, since each term is added to its y exactly once. Put k innermost:

    for n, row, column:
        for i, j, c:
            a = x[n, row + i, column + j, c]                one number of x
            for k:
                y[n, row, column, k] += a * w[i, j, c, k]   both contiguous, no sum waits for its neighbour

The K sums are independent, and their numbers lie side by side in memory: the compiler turns the inner loop into vector
instructions, which multiply and add 8 or 16 numbers at once (SIMD: single instruction, multiple data). Not a single
operation was saved; they only come in an order that the hardware likes.

What limits it now: each vector of y is loaded and stored again for every term, 12 bytes (load y, load w, store y) for two
operations. All of it lies in the L1 cache, yet a core can load two vectors a cycle and store one, so at most half of the
multiply-adds that it could do get their numbers. Expect ten times the last rung.
"""

import numpy as np
from numba import njit


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    y = np.zeros((*x.shape[:3], w.shape[3]), np.float32)
    loops(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), w, y)
    return y


@njit
def loops(x, w, y):
    """x (N, H+2, W+2, C), w (3, 3, C, K), y (N, H, W, K), zeros at first."""
    (N, H, W, K), C = y.shape, x.shape[3]
    for n in range(N):
        for row in range(H):
            for column in range(W):
                sums = y[n, row, column]
                for i in range(3):
                    for j in range(3):
                        for c in range(C):
                            a, taps = x[n, row + i, column + j, c], w[i, j, c]
                            for k in range(K):
                                sums[k] += a * taps[k]
