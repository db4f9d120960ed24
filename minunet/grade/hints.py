"""The likely mistake: whose known-wrong outputs are the student's?"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np

from .exercise import EXERCISES, Exercise, Wrong
from .runner import Local
from .sheet import Raised, Run


def likely_mistakes(exercise: Exercise, runs: list[Run], seed: int) -> dict[str, str]:
    """For each part that failed, the hint of the known mistake that gives the same outputs for the same inputs.

    All outputs for the part must agree, right ones too. If several mistakes explain a part, the one that explains most of the
    others is taken.
    """
    failed = {m.part for _, marks in runs for m in marks if not m.ok}
    if not failed:
        return {}
    explained = {
        wrong: {part for part in failed if explains(exercise, i, part, runs, seed)}
        for i, wrong in enumerate(exercise.wrongs)
    }
    hints: dict[str, str] = {}
    often: Counter[Wrong] = Counter({wrong: len(parts) for wrong, parts in explained.items()})
    for wrong, _ in often.most_common():
        hints |= {part: wrong.hint for part in explained[wrong] if part not in hints}
    return hints


def explains(exercise: Exercise, number: int, part: str, runs: list[Run], seed: int) -> bool:
    """Whether a known mistake gives the student's outputs for a part."""
    from .grading import run_check

    for (check, time), marks in runs:
        mine = [m for m in marks if m.part == part]
        if not mine:
            continue
        [(_, theirs)] = run_check(exercise, check, mistaken(exercise.name, number), seed, judge=False, only=time)
        known = [m for m in theirs if m.part == part]
        if len(mine) != len(known) or not all(equal(m.output, k.output) for m, k in zip(mine, known)):
            return False
    return True


@cache
def mistaken(exercise: str, number: int) -> Local:
    """A known-wrong version, ready to be called."""
    e = EXERCISES[exercise]
    return Local(e.mistaken(e.wrongs[number]), f"{exercise} {e.wrongs[number].name}")


def equal(a: Any, b: Any) -> bool:
    """Whether two outputs are the same numbers, but for rounding."""
    if isinstance(a, Raised) and isinstance(b, Raised):  # the student's says in which line
        return a.split(" in line ")[0] == b
    if a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return False
    if isinstance(a, tuple) or isinstance(b, tuple):
        return isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b) and all(map(equal, a, b))
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype.kind not in "fiub" or (a.dtype.kind == b.dtype.kind == "f" and a.dtype != b.dtype):
        return False  # of another precision: that is the mistake to mend first
    finite = np.isfinite(a) & np.isfinite(b)  # where one overflows, the other may do so a little differently
    if np.isfinite(a).all() != np.isfinite(b).all():
        return False
    error = np.abs(np.where(finite, a, 0).astype(float) - np.where(finite, b, 0))
    return bool(error.max(initial=0.0) <= 1e-6 * (float(np.abs(b[finite]).max(initial=0.0)) or 1.0))
