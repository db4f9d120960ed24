"""Grade a file: run an exercise's checks on the student's process, count the parts, and find the likely mistakes."""

from __future__ import annotations

import ast
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..ops.dispatch import use
from .collection import EXERCISES
from .exercise import Exercise
from .hints import likely_mistakes
from .runner import Forbidden, Limits, Student

POINTS = 10.0  # of an exercise


@dataclass
class Part:
    """One scored part: whether all its marks are right, and if not, what was found and what is likely wrong."""

    name: str
    ok: bool
    message: str = ""
    hint: str = ""


@dataclass
class Grade:
    """What an exercise got."""

    exercise: Exercise
    file: str
    parts: list[Part]
    seconds: float
    seed: int
    forbidden: str = ""

    @property
    def score(self) -> float:
        """Points, of `POINTS`: the share of the parts that are right."""
        return 0.0 if self.forbidden else POINTS * sum(p.ok for p in self.parts) / len(self.parts)


def grade_file(
    path: Path | str, names: list[str] | None = None, seed: int | None = None, limits: Limits | None = None
) -> list[Grade]:
    """Grade every exercise whose functions the file defines, or those named.

    Raises
    ------
    UserError
        If the file cannot be read, is not Python, or defines none of the exercises' functions.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror or e}; give a Python file") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not text in UTF-8: give a Python file, saved as UTF-8") from e
    names = names or exercises_of(path, source)
    if not names:
        raise UserError(f"{path} defines no function of an exercise; --list shows them all")
    return [grade(EXERCISES[name], source, path.name, seed, limits) for name in names]


def exercises_of(path: Path, source: str) -> list[str]:
    """The exercises that a file answers, by the functions it defines; of one that cannot be parsed, by its name.

    UserError for one that cannot be parsed and has another name.
    """
    try:
        defined = {n.name for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        if path.stem in EXERCISES:
            return [path.stem]
        what = f"{e.msg} in line {e.lineno}" if isinstance(e, SyntaxError) and e.lineno else e
        raise UserError(f"{path} is not Python: {what}; mend that first") from None
    return [name for name, e in EXERCISES.items() if defined & set(e.functions)]


def grade(exercise: Exercise, source: str, name: str, seed: int | None = None, limits: Limits | None = None) -> Grade:
    """Grade a file's text as an answer to an exercise; without a seed, with other random numbers every time."""
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    begun, forbidden = time.monotonic(), ""
    try:
        with Student(source, name, exercise.extras, limits) as student:
            parts = judge(exercise, student, seed)
    except Forbidden as e:  # nothing counts, whatever was right before
        forbidden = str(e)
        parts = [Part(part, False, forbidden) for part in exercise.parts]
    return Grade(exercise, name, parts, time.monotonic() - begun, seed, forbidden)


def judge(exercise: Exercise, impl: Any, seed: int) -> list[Part]:
    """Run all the checks of an exercise on a `Student` (or on `Local` code)."""
    with use("reference"):
        runs = [run for number in range(len(exercise.checks)) for run in exercise.run_check(number, impl, seed)]
        hints = likely_mistakes(exercise, runs, seed)
    parts = []
    for part in exercise.parts:
        marks = [m for _, marks in runs for m in marks if m.part == part]
        bad = next((m for m in marks if not m.ok), None)
        if bad is None:
            parts.append(Part(part, bool(marks)))
        else:
            message = f"{bad.message} ({bad.asked})" if bad.asked else bad.message
            parts.append(Part(part, False, message, hints.get(part, "")))
    return parts
