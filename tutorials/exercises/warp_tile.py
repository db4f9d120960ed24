"""A tile in shared memory, as a warp reads it

Lesson 09, about 45 minutes. NumPy may be imported, nothing else.

Write what a kernel computes of addresses, for all 32 lanes at once: where a number lies in a tile that is stored across
k, how many turns the banks take for what a warp reads at one moment, what each lane loads of the fragments of a and b
for one mma.sync, and where it stores its results. These are the places of minunet's CUDA kernels (tiles.cuh, float32).
They are not those of the lesson's `along_k`: there a tile's row holds numbers along k, here one k for all rows of a, or
columns of b.

    g, t = lane // 4, lane % 4

Grade it with:  python -m minunet.grade warp_tile.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def across_k(k: Array | int, i: Array | int, width: int) -> Array | int:
    """The place of number i in row k of a tile with `width` numbers a row; k and i are numbers or arrays of them.

    Rows lie one after the other, `width` numbers each, a multiple of 32. In each the chunks of four numbers are permuted:
    chunk c of row k lies where chunk (c xor 2 (k mod 4)) would lie.
    """
    raise NotImplementedError


def bank_turns(places: Array) -> int:
    """How many turns shared memory takes to read these places, at one moment, each a word of 4 bytes.

    Place p lies in bank p mod 32. A bank gives one word a turn, and all banks work at once. A word that several lanes want is
    given once.
    """
    raise NotImplementedError


def load_a(tile: Array, width: int, m: int, k: int) -> Array:
    """What the lanes of a warp hold of a fragment of a, 16 x 8: rows m to m + 15, columns k to k + 7: (32, 4).

    The tile is flat, and across k: a's column number k is its row number k, with a's rows side by side. With g = lane // 4 and
    t = lane % 4 a lane holds, in this order, (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), as (row, column) of the fragment.
    """
    raise NotImplementedError


def load_b(tile: Array, width: int, n: int, k: int) -> Array:
    """What the lanes hold of a fragment of b, 8 x 8: rows k to k + 7, columns n to n + 7: (32, 2).

    The tile is flat: its row number k is b's, with b's columns side by side. A lane holds (t, g) and (t + 4, g).
    """
    raise NotImplementedError


def store_c(sums: Array) -> Array:
    """The 16 x 8 results of a warp from what its lanes hold of them, (32, 4): (16, 8).

    A lane holds (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
    """
    raise NotImplementedError
