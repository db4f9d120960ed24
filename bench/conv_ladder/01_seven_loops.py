"""Seven loops: the definition, in plain Python.

An output number is a sum over the nine taps (i, j) of a filter and over the input channels c:

    for n, row, column, k:                      every output number: N*H*W*K
        for i, j, c:                            9*C terms each
            y[n, row, column, k] += x[n, row + i - 1, column + j - 1, c] * w[i, j, c, k]

Zeros stand around x, so that nothing needs to ask where the border is. Every rung of this ladder computes just this: 9*C
multiplications and as many additions a number, 2*9*C*K*H*W operations for an image. For a 64 x 64 map with 64 channels in
and out that is 0.3 billion, on 2 MB of maps and 0.15 MB of filters: every number that is loaded could be used hundreds of
times. A core can do some hundred billion operations a second, so 3 milliseconds would be possible on one of them.

What it costs instead: Python looks up each index, boxes each number as an object, finds out that it is a float32 and picks
the function that adds it, some 500 instructions for the two that count. Expect millions of operations a second, not billions
(hence it is timed on a smaller map, and its time on the whole one is extrapolated).
"""

import numpy as np


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    (N, H, W, C), K = x.shape, w.shape[3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.zeros((N, H, W, K), np.float32)
    for n in range(N):
        for row in range(H):
            for column in range(W):
                for k in range(K):
                    for i in range(3):
                        for j in range(3):
                            for c in range(C):
                                y[n, row, column, k] += x[n, row + i, column + j, c] * w[i, j, c, k]
    return y
