"""What a U-Net costs, before it runs

Lesson 10, about 45 minutes. NumPy may be imported, nothing else.

Write three functions that foretell a U-Net's parameters, operations and the bytes it keeps for the backward. The grader
asks `minunet.summary` for the right numbers, to the last one. This is the network:

    encoder.l   level l = 0 ... depth - 1: two 3x3 convolutions, padded and without bias, each followed by a batch norm
                (gamma and beta) and a ReLU. The first takes what comes from above (at level 0 the image), both give
                width * 2^l channels. Then a 2x2 max-pool, which drops an odd last row or column
    bottom      the same two convolutions, with width * 2^depth channels; no pool
    up.l        level l = depth - 1 ... 0: a 2x2 transposed convolution with stride 2 and a bias, to half as many channels;
                if a pool has dropped a row or a column, zeros make up for it
    decoder.l   joined with what encoder.l gave, two convolutions as there, to width * 2^l channels
    head        a 1x1 convolution with a bias, to K channels

Kept are, by the plain ops: what each convolution (also a transposed one, and the head) and each batch norm reads, 4
bytes a number; of each ReLU a mask, and of each pool the winners, one byte for each number that it gives.

Grade it with:  python -m minunet.grade unet_cost.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def unet_parameters(C: int, K: int, width: int, depth: int) -> int:
    """How many parameters the network has, for images of C channels and K classes."""
    raise NotImplementedError


def unet_operations(shape: tuple[int, int, int, int], K: int, width: int, depth: int) -> int:
    """How many multiplications and additions a forward takes, both counted, for images of this shape, (N, H, W, C).

    Those of convolutions alone, without biases: all else is below 1 %.
    """
    raise NotImplementedError


def unet_kept(shape: tuple[int, int, int, int], K: int, width: int, depth: int) -> int:
    """How many bytes a forward keeps for the backward, for images of this shape, (N, H, W, C)."""
    raise NotImplementedError
