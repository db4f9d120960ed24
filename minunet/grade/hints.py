"""The likely mistake: which known mistake gives the same outputs as the student's file?

Outputs agree by chance, too, if they can only be True or False, are all 0, or are an error that many mistakes raise. So a hint
needs evidence: wrong outputs that agree in enough numbers. Without it none is given, which is better than a wrong one.

An error counts as an output. Two errors are the same if their messages are, or, as errors about shapes have many wordings, if
the same sizes did not fit each other: shapes are drawn at random, so sizes tell mistakes apart as numbers do.
"""

from __future__ import annotations

import re
from functools import cache
from math import prod
from typing import Any

import numpy as np

from .difference import MUCH_CLOSER
from .exercise import EXERCISES, Exercise, Wrong
from .process.runner import Local
from .sheet import Mark, Raised, Run

ENOUGH = 12  # bits: what a hint needs, and one number of a float array gives


def likely_mistakes(exercise: Exercise, runs: list[Run], seed: int) -> dict[str, str]:
    """For each part that failed, the hint of the known mistake that gives the same outputs for the same inputs.

    All outputs for the part must agree, right ones too. If several mistakes explain a part, the one that agrees on most other
    parts is taken.
    """
    failed = {m.part for _, marks in runs for m in marks if not m.ok}
    if not failed:
        return {}
    agreed = {w: agreement(exercise, i, runs, seed) for i, w in enumerate(exercise.wrongs) if w.hint}
    hints: dict[str, str] = {}
    given: list[Wrong] = []
    for wrong in sorted(agreed, key=lambda wrong: -len(agreed[wrong])):  # of equals the first
        more = {part: wrong.hint for part in agreed[wrong] & failed if part not in hints}
        if more and not any(contradict(wrong, other) for other in given):
            hints |= more
            given.append(wrong)
    return hints


def contradict(a: Wrong, b: Wrong) -> bool:
    """Whether two mistakes cannot both be made, as they put different things in the same place."""
    return a.hint != b.hint and bool({right for right, _ in a.changes} & {right for right, _ in b.changes})


def swapped(bad: Mark, runs: list[Run]) -> str:
    """That an output is what is wanted for another part, of the same call: results in another order."""
    marks = next(marks for _, marks in runs if any(m is bad for m in marks))
    for m in marks if evidence(bad.output) >= ENOUGH else ():
        mine, other = (part.partition(",")[0] for part in (bad.part, m.part))
        if mine != other and m.asked == bad.asked and m.wanted is not None and equal(bad.output, m.wanted):
            told = f"this is {other}, where {mine} should be: are the results in another order?"
            return told if not equal(bad.wanted, m.wanted) else ""
    return ""


def agreement(exercise: Exercise, number: int, runs: list[Run], seed: int) -> set[str]:
    """The parts for which a known mistake gives the student's outputs; none if no part that failed is among them."""
    parts = {m.part for _, marks in runs for m in marks}
    failed = {m.part for _, marks in runs for m in marks if not m.ok}
    for (check, time), marks in sorted(runs, key=lambda run: all(m.ok for m in run[1])):  # what failed first
        if not parts & failed:
            return set()
        [(_, theirs)] = exercise.run_check(check, mistaken(exercise.name, number), seed, only=time)
        for part in parts & {m.part for m in marks}:
            mine, known = ([m for m in sheet if m.part == part] for sheet in (marks, theirs))
            if len(mine) != len(known) or not all(map(explains, known, mine)):
                parts.remove(part)
        hint = exercise.wrongs[number].hint
        parts -= {m.part for m in marks if not m.ok and not names(hint, m.part) and spared(m, marks, theirs)}
    return parts - {part for part in parts & failed if not enough(exercise, number, part, runs, seed)}


def explains(known: Mark, mine: Mark) -> bool:
    """Whether a known mistake's output is the student's; for a wrong one it must be wrong itself, and nearer than the right."""
    if not equal(mine.output, known.output):
        return False
    if mine.ok or mine.wanted is None or isinstance(mine.output, Raised):
        return mine.ok or not known.ok
    if known.ok:
        return False
    a, b, right = (np.asarray(x) for x in (mine.output, known.output, mine.wanted))
    if a.shape != right.shape or not (np.isfinite(a).all() and np.isfinite(b).all() and np.isfinite(right).all()):
        return True
    a, b, right = (x.astype(np.float64) for x in (a, b, right))
    return bool(np.abs(a - b).max(initial=0.0) <= MUCH_CLOSER * np.abs(a - right).max(initial=0.0))


def names(hint: str, part: str) -> bool:
    """Whether a hint speaks of a part's output by its name: then it is true of that one, whatever the others are."""
    return bool(re.search(rf"\b{re.escape(part.partition(',')[0])}\b", hint))


def spared(bad: Mark, marks: list[Mark], theirs: list[Mark]) -> bool:
    """Whether another result of the same call is right where the known mistake's is wrong: then it is another mistake."""
    pairs = zip(marks, theirs) if len(marks) == len(theirs) else ()
    return any(m.ok and not known.ok and m.given is bad.given and m.given for m, known in pairs)


def enough(exercise: Exercise, number: int, part: str, runs: list[Run], seed: int) -> bool:
    """Whether the wrong outputs of a part say enough.

    Errors that name no sizes, and zeros, do so only if the mistake makes the same marks wrong, and no others.
    """
    bad = [m for _, marks in runs for m in marks if m.part == part and not m.ok]
    if all(map(only_axes, bad)):
        return False
    wrong = [m.output for m in bad]
    whole = [
        m.output
        for _, marks in runs
        for m in marks
        if m.part == part and m.ok and not isinstance(m.output, tuple) and np.asarray(m.output).dtype.kind in "iu"
    ]
    if (
        sum(map(evidence, wrong + whole)) >= ENOUGH
    ):  # right whole numbers are evidence, too, as another mistake may change them
        return True
    if any(not isinstance(a, (Raised, tuple)) and not np.ndim(a) and np.isfinite(a) for a in wrong):
        return False
    impl = mistaken(exercise.name, number)
    theirs = [run for check in range(len(exercise.checks)) for run in exercise.run_check(check, impl, seed)]
    return failures(runs) == failures(theirs)


def only_axes(bad: Mark) -> bool:
    """Whether an output is right but for axes of size 1: then that is all there is to say."""
    if bad.wanted is None or not isinstance(bad.output, np.ndarray) or bad.output.shape == bad.wanted.shape:
        return False
    return equal(np.squeeze(bad.output), np.squeeze(bad.wanted))


def failures(runs: list[Run]) -> list[tuple[str, bool]]:
    """Which marks are right, in order."""
    return [(m.part, m.ok) for _, marks in runs for m in marks]


def evidence(a: Any) -> int:
    """How much it says that another output is equal to this one, in bits, about; an error that names no sizes says nothing."""
    if isinstance(a, Raised):
        return ENOUGH if misfits(a) or counts(a) else 0
    if isinstance(a, (tuple, list)):
        return sum(map(evidence, a))
    if a is None or isinstance(a, (str, dict)):
        return 0
    a = np.asarray(a)
    if not a.size and a.ndim > 1:
        return ENOUGH  # nothing is left, on one side or on another
    if a.dtype.kind == "f":
        finite = np.isfinite(a)
        return ENOUGH * len(np.unique(a[finite & (a != 0)])) + min(a.size, ENOUGH) * (not finite.all())
    if a.dtype.kind in "iu":
        return sum(int(n).bit_length() for n in a.flat)
    return a.size * (a.dtype.kind == "b" and a.ndim > 0)


@cache
def mistaken(exercise: str, number: int) -> Local:
    """A known-wrong version, ready to be called."""
    e = EXERCISES[exercise]
    return Local(e.mistaken(e.wrongs[number]), f"{exercise} {e.wrongs[number].name}")


def equal(a: Any, b: Any) -> bool:
    """Whether two outputs are the same numbers, but for rounding."""
    if isinstance(a, Raised) and isinstance(b, Raised):
        return same_error(a, b)
    if a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return False
    if isinstance(a, (tuple, list)) or isinstance(b, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    a, b = np.asarray(a), np.asarray(b)
    if (
        a.shape != b.shape
        or a.dtype.kind not in "fiub"
        or (a.dtype.kind == "b") != (b.dtype.kind == "b")
        or (a.dtype.kind == b.dtype.kind == "f" and a.dtype != b.dtype)
    ):
        return False  # of another precision: that is the mistake to mend first
    finite, either = np.isfinite(a) & np.isfinite(b), np.isfinite(a) | np.isfinite(b)
    if np.isfinite(a).all() != np.isfinite(b).all() or either.sum() - finite.sum() > 0.1 * a.size:
        return False  # where one overflows the other may do so a little differently
    error = np.abs(np.where(finite, a, 0).astype(float) - np.where(finite, b, 0))
    return bool(error.max(initial=0.0) <= 1e-6 * (float(np.abs(b[finite]).max(initial=0.0)) or 1.0))


# ---- errors ----------------------------------------------------------------------------------------------------------

SHAPE = re.compile(r"(?<!->)\((\d+(?:, ?\d+)*),?\)")  # but not einsum's (2,5,6)->(6,2,5)
PRODUCT = re.compile(r"size (\d+) is different from (\d+)|(\d+) \(dim \d+\) != (\d+) \(dim")  # by @, by np.dot
INDEX = re.compile(r"index (\d+) is out of bounds for axis \d+ with size (\d+)")


def same_error(a: str, b: str) -> bool:
    """Whether two errors say the same, or are about the same sizes."""
    a, b = (re.sub(r"^\w+: ", "", e.split(" in line ")[0]) for e in (a, b))  # the student's says in which line
    if a == b or any("the backward of '" in e for e in (a, b)):  # which names a part, beside sizes
        return a == b
    about = counts if ("reshape" in a) != ("reshape" in b) else misfits
    return about(a) == about(b) and bool(about(a))


def misfits(error: str) -> list[tuple[str, set[int]]]:
    """Which sizes did not fit each other, of an error that names them: by axes, from the last one, and what these are."""
    for kind, pattern in (("product", PRODUCT), ("index", INDEX)):
        if found := pattern.search(error):
            return [(kind, {int(n) for n in found.groups() if n})]
    named = shapes(error)
    axes = [set(axis) - {1} for axis in zip(*(shape[::-1] for shape in named))]  # 1 fits any other
    last = "channels" if any(len(shape) > 3 for shape in named) else "pixels"
    return [("pixels" if n else last, sizes) for n, sizes in enumerate(axes) if len(sizes) > 1]


def counts(error: str) -> set[int]:
    """How many elements the arrays had that did not fit each other: all that an error of reshape tells."""
    found = {prod(shape) for shape in shapes(error)} | {int(n) for n in re.findall(r"array of size (\d+) into", error)}
    return found if len(found) > 1 else set()


def shapes(error: str) -> list[list[int]]:
    """The shapes that an error names."""
    return [[int(n) for n in shape.split(",")] for shape in SHAPE.findall(error)]
