"""Walk a graph back

Lesson 12, about 60 minutes. NumPy may be imported, nothing else.

A tape is written in the order of the run, so its lines can be read from the end. Here the lines come in any order, as
in a file of a network: first find an order. Write `walk_order`, and with it `walk_back`, which walks the lines and adds
up the gradients. Values have the numbers 0, 1, 2, ...; no two lines have the same output.

A gradient that `local_gradients` gives may be handed to two inputs at once, as one array: change none of them in place.
And a graph of 40 lines may have 2^40 ways through it: each line is walked once.

Grade it with:  python -m minunet.grade tape.py
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


Line = tuple[str, tuple[int, ...], int]


def local_gradients(op: str, dy: Array, *inputs: Array) -> tuple[Array, ...]:
    """What a line hands to its inputs, one gradient each, given that of its output. For "add" both are the same array."""
    if op == "add":
        return dy, dy
    if op == "multiply":
        return dy * inputs[1], dy * inputs[0]
    if op == "tanh":
        return (dy * (1 - np.tanh(inputs[0]) ** 2),)
    raise ValueError(f"there is no op {op!r}")


# ---- yours -----------------------------------------------------------------------------------------------------------


def walk_order(lines: Sequence[Line], end: int) -> list[int]:
    """The numbers of the lines in an order in which they can be walked back from value `end`.

    A line is (op, numbers of its inputs, number of its output). It may be walked when all lines have been walked that use its
    output; those on which `end` does not depend are left out. Several orders may be right.
    """
    raise NotImplementedError


def walk_back(lines: Sequence[Line], values: Array, end: int, dend: Array) -> Array:
    """The gradients of all values, (V, H, W), zeros for those on which value `end` does not depend.

    values (V, H, W) has the values by their numbers; dend (H, W) is the gradient of `end`, and stays as it is.
    """
    raise NotImplementedError
