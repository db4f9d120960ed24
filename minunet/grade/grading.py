"""Grade a file: run an exercise's checks on the student's process, count the parts, and find the likely mistakes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import printable
from ..errors import UserError
from ..ops.dispatch import use
from .exercise import Exercise
from .exercises import EXERCISES
from .hints import likely_mistakes, swapped
from .process.calls import Forbidden
from .process.inside import student as student_of
from .process.runner import Limits, Student

POINTS = 10.0  # of an exercise


@dataclass
class Part:
    """One scored part: whether all its marks are right, and if not, what was found and what is likely wrong."""

    name: str
    ok: bool
    message: str = ""
    hint: str = ""
    cluster: str = ""  # of `reports.clusters`, if it failed without a hint


@dataclass
class Grade:
    """What an exercise got."""

    exercise: Exercise
    file: str
    parts: list[Part]
    seconds: float
    seed: int
    forbidden: str = ""
    isolation: str = ""  # one of `isolation.LEVELS`, which was in force
    source: str = ""

    @property
    def score(self) -> float:
        """Points, of `POINTS`: the share of the parts that are right."""
        return 0.0 if self.forbidden else POINTS * sum(p.ok for p in self.parts) / len(self.parts)


def grade_source(
    path: Path,
    source: str,
    names: list[str] | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    isolation: str = "auto",
) -> list[Grade]:
    """Grade every exercise whose functions a file's text defines, of those named if any are; see `submissions.grade_file`.

    The text is parsed in the student's process, not here: there it can take no more memory and time than it is granted. The
    same process then serves the first exercise.
    """
    grades: list[Grade] = []
    with student_of(source, path.name, (), limits, isolation) as first:
        functions, problem = first.outline()
        defined = [name for name in names or () if set(functions) & set(EXERCISES[name].functions)]
        for name in defined or names or exercises_of(path, functions, problem):
            student = first if not EXERCISES[name].extras and not grades else None
            grades.append(grade(EXERCISES[name], source, path.name, seed, limits, isolation, student))
    return grades


def exercises_of(path: Path, functions: tuple[str, ...], problem: str) -> list[str]:
    """The exercises that a file answers, by the functions it defines; of one that cannot be read, by its name.

    UserError for one that cannot be read and has another name, and for one that answers none.
    """
    if problem:
        if path.stem in EXERCISES:
            return [path.stem]
        raise UserError(f"{path} is {problem}; mend that first")
    names = [name for name, e in EXERCISES.items() if set(functions) & set(e.functions)]
    if not names:
        raise UserError(f"{path} defines no function of an exercise; --list shows them all")
    return names


def grade(
    exercise: Exercise,
    source: str,
    name: str,
    seed: int | None = None,
    limits: Limits | None = None,
    isolation: str = "auto",
    student: Student | None = None,
) -> Grade:
    """Grade a file's text as an answer to an exercise; without a seed, with other random numbers every time.

    `student` may be a process that has the text already.
    """
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    begun, forbidden = time.monotonic(), ""
    with student or student_of(source, name, exercise.extras, limits, isolation) as student:
        student.functions = exercise.functions
        try:
            parts = judge(exercise, student, seed)
        except Forbidden as e:  # nothing counts, whatever was right before
            forbidden = printable(str(e))
            parts = [Part(part, False, forbidden) for part in exercise.parts]
        level = student.level
    return Grade(exercise, printable(name), parts, time.monotonic() - begun, seed, forbidden, level, source)


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
            text = swapped(bad, runs) or bad.said(exercise.axes_of(part))
            message = f"{text} ({bad.asked})" if bad.asked else text
            parts.append(Part(part, False, printable(message), hints.get(part, "")))
    return parts
