"""Functions of ours that the student's code may call, with arrays as they were handed out; their errors tell nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import wire

UNFIT = "the function cannot be called with this"
"""All that is told of an error of ours: its text could name the answer."""


class Refused(ValueError):
    """A call back was not made; the message says why, to the student."""


class Callback:
    """A function for the student's code, which takes arrays of floats of exactly these shapes, one each.

    Nothing else reaches the function: arrays that broadcast would make results of any size, and the errors of two functions
    would tell them apart. Whole numbers of the right shape are taken as floats.

    Parameters
    ----------
    function : callable
    *shapes : tuples of int
    """

    def __init__(self, function: Callable[..., Any], *shapes: tuple[int, ...]) -> None:
        self.function, self.shapes = function, shapes

    def __call__(self, *args: Any) -> Any:
        if len(args) != len(self.shapes):
            raise Refused(f"its number of arguments is {len(self.shapes)}, not {len(args)}")
        return self.function(*map(floats, args, self.shapes))


def floats(a: Any, shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape; Refused if it has another, or holds no real numbers."""
    if not isinstance(a, np.ndarray) or a.dtype.kind not in "fiub":
        raise Refused(f"it takes an array of floats, not a {type(a).__name__}")
    if a.shape != shape:
        raise Refused(f"it takes an array of the shape {shape}, not {a.shape}")
    return a if a.dtype.kind == "f" else a.astype(np.float64)


def call_back(functions: dict[str, Callable[..., Any]], answer: tuple, most: int) -> tuple[str, Any]:
    """Run one of our functions for the student's process, unless it hands over more than so many bytes."""
    try:
        _, name, args = answer
        given = wire.size(args)
        if given > most:
            raise Refused(f"it was called with {given:,} bytes; {most:,} are allowed")
        value = functions[name](*args)
        wire.pack(value)
        return "value", value
    except Refused as e:
        return "failed", str(e)[:500]
    except Exception:  # whatever the student hands over
        return "failed", UNFIT
