"""Dropout's masks for a rank's patches of a batch: those that a single process would draw for them.

`ops.dropout` draws one number for every value of a map, patch by patch. A rank draws those of its own patches and leaps over
the others', which NumPy's generator does in one go (O'Neill 2014, PCG).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class OwnRows:
    """In place of a Generator: `random` draws for rows rank, rank + size, ... of an array that has `count` of them.

    Parameters
    ----------
    rng : numpy.random.Generator
        In the same state on all ranks.
    rank, size : int
    count : int
        Rows on all ranks together.
    """

    def __init__(self, rng: np.random.Generator, rank: int, size: int, count: int) -> None:
        self.rng, self.rank, self.size, self.count = rng, rank, size, count

    def random(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Numbers from 0 to below 1 for this rank's rows."""
        values = math.prod(shape[1:])
        if values % 2 or np.dtype(dtype) != np.float32:
            return self.rng.random((self.count, *shape[1:]), dtype)[self.rank :: self.size]
        found = np.empty(shape, np.float32)
        bits: Any = self.rng.bit_generator
        for row in range(self.count):
            if row % self.size == self.rank:
                found[row // self.size] = self.rng.random(shape[1:], np.float32)
            else:
                bits.advance(values // 2)  # 64 bits are two float32
        return found
