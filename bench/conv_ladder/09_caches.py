"""Caches: what is used again soon stays near.

Before: for every 6 pixels the block reads all of w's panel, 9*C rows of 256 bytes: 147 KB for 64 channels. The L1 cache has
32 to 48 KB, so each time w comes from L2 again, at about half the speed; with 512 channels it is over 1 MB, and comes from
still further away. And x was copied as a whole, by one core, only to put zeros around it.

So do less at a time and use it longer. Cut w's panel into slices of DEPTH rows, 24 KB, and go through many pixels with one
slice before taking the next:

    for each block of ROWS rows of the output:                  in parallel
        copy its ROWS + 2 rows of x into a band, zeros around   small: stays in this core's L2 cache
        for each panel of w:
            for i, for each slice of its 3*C rows:
                copy the slice in one piece                     24 KB: stays in the L1 cache
                for each row of the block:
                    y[row, :, panel] += rows of the band @ slice

The price: y is loaded and stored once a slice instead of once, 8 bytes for 2*DEPTH operations, which is little. It is the
same trade at every level of a machine: block the loops so that what a level holds is used as often as possible before it goes.

Expect a third more on a small map with few channels, where L2 keeps up, and much with many channels. This is minunet's direct
convolution in short (kernels/cpu/direct.py), and about the end of this road: nearly all instructions are multiply-adds, nearly
none waits. Who wants more must multiply less.
"""

import numpy as np
from numba import get_num_threads, njit, prange

from minunet.kernels.cpu.simd import clear, copy, lanes, lanes_of, offset, pointer
from minunet.kernels.cpu.simd_gemm import PANEL, multiply

ROWS = 8  # of the output in a block
DEPTH = 96  # rows of a slice: 96 x 256 bytes


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    (N, H, W, C), K = x.shape, w.shape[3]
    y, workers, panel = np.empty((N, H, W, K), np.float32), get_num_threads(), PANEL * lanes(x.dtype)
    bands = np.empty((workers, ROWS + 2, W + 2, C), np.float32)
    slices = np.zeros((workers, DEPTH, panel), np.float32)
    product(x, w.reshape(3, 3 * C, K), bands, slices, np.zeros(panel, np.float32), y)
    return y


@njit(parallel=True)
def product(x, w, bands, slices, zeros, y):
    """x (N, H, W, C), w (3, 3*C, K), y (N, H, W, K); for each thread a band and a slice to work in."""
    (N, H, W, K), C = y.shape, x.shape[3]
    width = lanes_of(x)
    line, blocks = (W + 2) * C, (H + ROWS - 1) // ROWS
    for worker in prange(len(bands)):
        band, part = offset(pointer(bands), worker * bands[0].size), offset(pointer(slices), worker * slices[0].size)
        for item in range(worker, N * blocks, len(bands)):
            n, top = item // blocks, item % blocks * ROWS
            rows = min(ROWS, H - top)
            read_band(band, x, n, top - 1, rows + 2)
            to = offset(pointer(y), (n * H + top) * W * K)
            for k in range(0, K, PANEL * width):
                vectors = min(PANEL, (K - k + width - 1) // width)
                last = min(width, K - k - (vectors - 1) * width)  # numbers in the last vector
                for i in range(3):
                    for d in range(0, 3 * C, DEPTH):
                        depth = min(DEPTH, 3 * C - d)
                        for r in range(depth):
                            source = offset(pointer(w), (i * 3 * C + d + r) * K + k)
                            copy(offset(part, r * vectors * width), source, (vectors - 1) * width + last)
                        for r in range(rows):
                            c = offset(to, r * W * K + k)
                            first = i == 0 and d == 0
                            init, init_row = (pointer(zeros), 0) if first else (c, K)
                            multiply(vectors, W, last, offset(band, (r + i) * line + d), C, 1, 0, 1, depth, part,
                                     c, K, init, init_row)  # fmt: skip


@njit
def read_band(band, x, n, top, rows):
    """Copy the rows from `top` of image n into a band (rows, W+2, C), zeros where x has none."""
    _, H, W, C = x.shape
    line = (W + 2) * C
    for r in range(rows):
        to = offset(band, r * line)
        if 0 <= top + r < H:
            clear(to, C)
            copy(offset(to, C), offset(pointer(x), (n * H + top + r) * W * C), W * C)
            clear(offset(to, (W + 1) * C), C)
        else:
            clear(to, line)
