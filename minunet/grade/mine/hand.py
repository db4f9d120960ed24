"""A student's answer to one exercise, called as in grading: in a process of its own, which keeps its caches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import UserError
from ..process.inside import Inside, student
from ..process.runner import Limits, Trouble
from .answers import Answer

OFF = "off"  # of --isolation: in this process, without limits


class Failed(UserError):
    """A student's function gave no result, or none of the shape that is needed; the message says which, where and when.

    Attributes
    ----------
    exercise : str
        Whose function it is.
    why : str
        The message without file and moment.
    """

    def __init__(self, message: str, exercise: str, why: str) -> None:
        super().__init__(message)
        self.exercise, self.why = exercise, why


class Hand:
    """One answer, ready to be called; a context manager.

    A process an exercise, as in grading: while the wiring of one waits for a layer, another one's layer can be called.

    Parameters
    ----------
    answer : Answer
    limits : Limits
    isolation : str
        One of `isolation.CHOICES`, or `OFF`.

    Attributes
    ----------
    when : str
        What the call is for, for messages: "step 3 of the training".
    seconds : float
        What all calls took.
    """

    def __init__(self, answer: Answer, limits: Limits, isolation: str) -> None:
        self.answer, self.when, self.seconds, self.calls = answer, "", 0.0, 0
        self.file = answer.path.name
        make = Inside if isolation == OFF else student
        self.impl = make(answer.source, self.file, answer.exercise.extras, limits, isolation)
        self.impl.functions = answer.exercise.functions

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, *exc: object) -> None:
        self.impl.end()

    def __call__(self, function: str, *args: Any, **how: Any) -> Any:
        """As `Student.call`; `Failed` if it gives no result."""
        begun = time.perf_counter()
        try:
            return self.impl.call(function, *args, **how)
        except Trouble as e:
            raise self.failed(function, str(e)) from None
        finally:
            self.seconds += time.perf_counter() - begun
            self.calls += 1

    def array(self, function: str, name: str, got: Any, shape: Sequence[int]) -> np.ndarray:
        """What came back, as an array of the shape that it must have; `Failed` if it is none."""
        if not isinstance(got, (np.ndarray, np.number, float)):
            what = "None" if got is None else f"a {type(got).__name__}"
            raise self.failed(function, f"{name} is {what}, not an array")
        if np.shape(got) != tuple(shape):
            raise self.failed(function, f"{name} has the shape {np.shape(got)}, not {tuple(shape)}")
        return np.asarray(got, np.float64)

    def failed(self, function: str, why: str) -> Failed:
        """The error that names file, function and moment."""
        when = f", {self.when}" if self.when else ""
        return Failed(f"{self.file}: {function}{when}: {why}", self.answer.exercise.name, f"{function}: {why}")

    def forget(self) -> None:
        """Let its process drop the caches that it keeps: they have been used."""
        try:
            self.impl.forget()
        except Trouble as e:
            raise self.failed("its process", str(e)) from None
