"""Larger tiles: Winograd on 4 x 4 outputs, with all that came before.

Before: a tile of 2 x 2 outputs took 16 multiplications in place of 36. A tile of 4 x 4 reads 6 x 6 inputs and takes 36 in
place of 144, four times fewer; the matrices come from evaluating polynomials at six points instead of four, which
minunet/kernels/cpu/winograd_transforms.py derives. The larger a tile, the less its inputs overlap with its neighbours': 36
numbers are read for 16 outputs, 2.25 each, where the small tile reads 4 for each. This is minunet's own convolution:

    for each item = (block of 64 tiles, some panels of output channels):    in parallel
        V[36, tiles, C] = B^T X B
        for each panel, for each slice of input channels:
            for each of the 36 points:   M[point] += V[point, :, slice] @ U[point, slice]
        y = A^T M A

From the rungs before it has: vectors in the right order (4), threads (5), sums in registers and packed panels (8), slices that
stay in the L1 cache and blocks that stay in L2 (9). Memory to work in is kept from call to call, because a fresh array costs
the system more than the arithmetic that is done in it.

The price: larger tiles have matrices with larger numbers, and subtract what is nearly equal. Float32 keeps 5 to 6 good
decimals here, where a direct sum keeps 6 to 7; training does not notice. Tiles of 6 x 6 would save still more multiplications,
and their transforms and errors would eat it up.

Expect 1.1 to 1.8 times the last rung, the more the larger the map, and more operations a second than the machine has, as it
does not do them all.
(On maps or with channels so few that tiles do not pay, minunet takes the direct way of rung 9.)
"""

from minunet.ops import conv2d


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    return conv2d(x, w)[0]
