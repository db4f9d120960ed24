"""Running one check of an exercise, on a student's code or on a known mistake."""

from __future__ import annotations

from typing import Any

import numpy as np

from .exercise import Exercise
from .sheet import Mark, Run, Sheet


def run_check(
    exercise: Exercise, number: int, impl: Any, seed: int, judge: bool = True, only: int | None = None
) -> list[Run]:
    """Run one check as often as it wants, or one time of those: [((check, time), marks)]."""
    parts, body, times = exercise.checks[number]
    runs = []
    for time_ in range(times) if only is None else [only]:
        sheet = Sheet(impl, judge)
        try:
            body(sheet, np.random.default_rng([seed, number, time_]))
        except (TypeError, ValueError, IndexError, AttributeError) as e:  # what came back has another form than agreed
            text = f"what it returns cannot be used: {e}"  # nobody knows what would have come: no part of it counts
            sheet.marks += [Mark(p, "", None, False, text) for p in parts]
        runs.append(((number, time_), sheet.marks))
    return runs
