"""Threads: the rows of the map, shared out among the cores.

Before: one core worked, the others looked on. Rows of the output do not depend on each other, so each may go to another
core; numba's `prange` says so:

    for line in the N*H rows:           in parallel
        the loops of the last rung, for one row

Why rows: a thread should get much work at once, since to start one takes some 20 microseconds, and no two threads should
write to the same cache line, which would travel to and fro between their cores. A row is W*K numbers in one piece. The input
is only read, which any number of cores may do together.

Expect as many times the speed as there are cores, less what each core loses when all are busy (a shared memory, a lower
clock). It is the only rung whose gain is bought with more hardware; every later one uses all cores too.
"""

import numpy as np
from numba import njit, prange


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    y = np.zeros((*x.shape[:3], w.shape[3]), np.float32)
    loops(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), w, y)
    return y


@njit(parallel=True)
def loops(x, w, y):
    """x (N, H+2, W+2, C), w (3, 3, C, K), y (N, H, W, K), zeros at first."""
    (N, H, W, K), C = y.shape, x.shape[3]
    for line in prange(N * H):
        n, row = line // H, line % H
        for column in range(W):
            sums = y[n, row, column]
            for i in range(3):
                for j in range(3):
                    for c in range(C):
                        a, taps = x[n, row + i, column + j, c], w[i, j, c]
                        for k in range(K):
                            sums[k] += a * taps[k]
