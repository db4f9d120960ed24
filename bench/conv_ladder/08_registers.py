"""Registers: our own matrix product, which reads the image as it lies.

Before: BLAS kept the sums in registers, but it wants whole matrices, so numbers were copied for it and its results added
up outside. With a product of our own there is nothing to copy. In NHWC the three taps of a filter's row meet 3*C numbers
that lie one after the other, and the next pixel's start C numbers further: rows of a matrix that overlap, which BLAS does
not allow. A row of the output is a sum of three such products,

    y[row, :, :] = sum over i of rows(x[row + i]) @ w[i]        (W, 3*C) @ (3*C, K)

and a register block computes it for 6 pixels x 4 vectors of output channels at a time:

    6 x 4 vectors of sums = 0                           24 of the 32 registers of AVX-512
    for i, for each of the 3*C numbers:
        load 4 vectors of w                             4 loads
        for each of the 6 pixels:
            a = its number of x, in every lane          1 load
            its 4 sums += a * the 4 vectors             4 multiply-adds, no load, no store
    store the 24 vectors of sums                        once for all 9*C terms

That is 10 loads for 24 multiply-adds: fewer loads than multiply-adds, at last. And 24 sums are enough that none waits: a
multiply-add takes 4 cycles and two start in each, so 8 must be under way. Compilers do not find this block: `multiply` in
minunet/kernels/cpu/simd_gemm.py writes it in vector instructions (with other blocks for 16 registers and for what remains).

The block reads w from one end to the other, 4 vectors a step. So w is packed once: panels of 4 vectors of output channels,
each in one piece. Expect twice the last rung, or more.
"""

import numpy as np
from numba import njit, prange

from minunet.kernels.cpu.simd import lanes, lanes_of, offset, pointer
from minunet.kernels.cpu.simd_gemm import PANEL, multiply


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    (N, H, W, C), K = x.shape, w.shape[3]
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = np.empty((N, H, W, K), np.float32)
    product(x, pack(w.reshape(9 * C, K)), np.zeros(PANEL * lanes(x.dtype), np.float32), y)
    return y


def pack(w):
    """The panels of w (9*C, K) one after the other, the last filled up with zeros to whole vectors: flat."""
    width = lanes(w.dtype)
    panels = [w[:, k : k + PANEL * width] for k in range(0, w.shape[1], PANEL * width)]
    return np.concatenate([np.pad(p, ((0, 0), (0, -p.shape[1] % width))).ravel() for p in panels])


@njit(parallel=True)
def product(x, panels, zeros, y):
    """x (N, H+2, W+2, C), panels as `pack` gives them, zeros as many as a panel is wide, y (N, H, W, K)."""
    (N, H, W, K), C = y.shape, x.shape[3]
    width = lanes_of(x)
    line = (W + 2) * C  # numbers from a row of x to the next
    for n_row in prange(N * H):
        n, row = n_row // H, n_row % H
        source, to = offset(pointer(x), (n * (H + 2) + row) * line), offset(pointer(y), n_row * W * K)
        for k in range(0, K, PANEL * width):
            vectors = min(PANEL, (K - k + width - 1) // width)
            last = min(width, K - k - (vectors - 1) * width)  # numbers in the last vector
            multiply(vectors, W, last, source, C, 1, line, 3, 3 * C, offset(pointer(panels), 9 * C * k),
                     offset(to, k), K, pointer(zeros), 0)  # fmt: skip
