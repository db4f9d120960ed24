"""One call of a student's function: what was handed over, why nothing came back, and what must not have changed."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import wire
from .guard import FORBIDDEN
from .pipes import Late

UNWRITTEN = "not written yet"


class Trouble(Exception):
    """A call gave no answer; the message says why, to the student."""


class Changed(Trouble):
    """A function changed what it was given, or what the forward of its pair was given or gave.

    Parameters
    ----------
    function : str
        Whose it was: the function's, or that of the forward.
    place : int or str
        Number of the argument, name of the option, or "" for what it returned.
    """

    def __init__(self, function: str, place: int | str) -> None:
        self.function, self.place = function, place
        what = "what it returned" if place == "" else f"its argument {place}"
        super().__init__(f"{function}: {what} was changed: work on a copy")


class Forbidden(Trouble):
    """The student's file does what it must not: it gets no points at all."""


@dataclass
class Handle:
    """A call, and where the cache lies that it left; it stands for the cache in a later call."""

    where: Any
    function: str
    args: tuple
    options: dict[str, Any]
    result: Any

    def copied(self) -> Handle:
        """The same with copies of its arrays, which others may change before it is compared."""
        return Handle(self.where, self.function, *map(wire.copied, (self.args, self.options, self.result)))

    def compare(self, after: Any, changes: tuple[int, ...] = ()) -> None:
        """Changed, if what was handed over is no longer what it was.

        `after` is [arguments, options, and where it is asked for the result] as they are now; `changes` may be others.
        """
        try:
            (args, options), result = after[:2], after[2:]
            pairs = list(zip(self.args, args, strict=True))
            named = [(a, options.get(name)) for name, a in self.options.items()]
        except (TypeError, ValueError, AttributeError):  # it comes from the student's process
            raise Trouble("its process gave no answer") from None
        for number, (a, b) in enumerate(pairs):
            if isinstance(a, Handle):
                a.compare(b)
            elif number not in changes and differ(a, b):
                raise Changed(self.function, number)
        for name, (a, b) in zip(self.options, named):
            if differ(a, b):
                raise Changed(self.function, name)
        if result and differ(self.result, result[0]):
            raise Changed(self.function, "")


def differ(a: Any, b: Any) -> bool:
    """Whether arrays, or lists of arrays, are no longer the same; what rounding leaves of a change that was undone is none."""
    if isinstance(a, (list, tuple)):
        return not isinstance(b, (list, tuple)) or len(a) != len(b) or any(map(differ, a, b))
    if not isinstance(a, np.ndarray):
        return False
    if not isinstance(b, np.ndarray) or b.shape != a.shape or b.dtype != a.dtype:
        return True
    if a.dtype.kind != "f" or not np.isfinite(a).all():
        return not np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return not bool((np.abs(a - b) <= 1e-12 * np.abs(a).max(initial=0.0)).all())


def in_words(kind: str, content: list, what: str) -> str:
    """Why there is no result."""
    if kind == "unwritten":
        return UNWRITTEN
    if kind == "missing":
        return f"the file defines no {what}"
    text = content[0] if content and isinstance(content[0], str) else "no answer"
    return text[:500]


def obituary(status: int, printed: str, e: Exception, late: str) -> Trouble:
    """Why the process ended, as an error to raise."""
    if status == FORBIDDEN:
        said = [line.removeprefix("forbidden: ") for line in printed.splitlines() if line.startswith("forbidden: ")]
        return Forbidden(f"the file does what it must not: {said[-1] if said else 'it was stopped'}")
    killed = getattr(signal, "SIGSYS", 0)  # by the filter of `confine`; 128 more if bubblewrap passes it on
    if killed and status in (-killed, 128 + killed):
        what = "a process, a connection, a signal, or a change to a file"
        return Forbidden(
            f"the file does what it must not: it asks the system for what no computation needs, such as {what}"
        )
    if isinstance(e, Late):
        return Trouble(late)
    if isinstance(e, wire.Garbled):
        return Trouble("its process sent something that is no answer")
    return Trouble("its process ended before it answered (out of memory, sys.exit or a crash)")
