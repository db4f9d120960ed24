"""Grades as a table, as Gradescope's results.json, and as CSV."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..cli import csv_text, printable, quoted
from .exercise import EXERCISES
from .grading import POINTS, Grade, Part
from .process.calls import UNWRITTEN

RAISED = re.compile(r"\w+: .* in line \d+.*\)$")  # an error, where it was, and in brackets what was asked


def table(grade: Grade) -> str:
    """What passes and what does not, with the likely mistake, for a terminal."""
    lines = [f"{grade.exercise.name}: {grade.exercise.title}   ({grade.file}, seed {grade.seed})"]
    if grade.forbidden:
        lines.append(f"  no points: {grade.forbidden}")
    for part, message, hint in () if grade.forbidden else said_once(grade.parts):
        verdict = "ok" if part.ok else "todo" if part.message.startswith(UNWRITTEN) else "WRONG"
        lines.append(f"  {verdict:<5}  {part.name:<22}  {message}".rstrip())
        if hint:
            lines += textwrap.wrap(f"likely: {hint}", 110, initial_indent=" " * 9, subsequent_indent=" " * 17)
    passed = sum(p.ok for p in grade.parts)
    share = "" if grade.forbidden else f"   ({passed} of {len(grade.parts)} parts, {grade.seconds:.1f} s)"
    return "\n".join([*lines, f"  {grade.score:.1f} of {POINTS:.0f} points{share}"])


def said_once(parts: Iterable[Part]) -> Iterator[tuple[Part, str, str]]:
    """Each part with its message and hint, or with words for the same that was said before."""
    error = hint = ""
    for part in parts:
        what, _, asked = part.message.rpartition(" (") if RAISED.match(part.message) else ("", "", "")
        message = f"the same error ({asked}" if what and what == error else part.message
        yield part, message, "the same" if part.hint and part.hint == hint else part.hint
        error, hint = what or error, part.hint or hint


def gradescope(grades: Sequence[Grade], notes: Iterable[str] = (), expected: Iterable[str] = ()) -> str:
    """The text of results.json: a test for every part, also of the exercises that are expected and were not answered.

    `notes` are what is to be said of the whole submission. Format: https://gradescope-autograders.readthedocs.io/en/latest/specs/
    """
    tests: list[dict[str, Any]] = []
    answered = {g.exercise.name: g.parts for g in grades}
    missing = {name: [Part(p, False, "no answer") for p in EXERCISES[name].parts] for name in expected}
    for number, (name, parts) in enumerate((missing | answered).items(), 1):
        each = POINTS / len(parts)
        for i, part in enumerate(parts, 1):
            said = "\n".join(filter(None, [part.message, part.hint and f"Likely: {part.hint}"]))
            tests.append({
                "name": f"{name}: {part.name}",
                "number": f"{number}.{i}",
                "score": round(each * part.ok, 4),
                "max_score": round(each, 4),
                "status": "passed" if part.ok else "failed",
                "output": said or "right",
                "output_format": "text",
                "visibility": "visible",
            })  # fmt: skip
    of_all = [*map(printable, notes), *(f"{g.exercise.name}: {g.forbidden}" for g in grades if g.forbidden)]
    wrong = [g for g in grades if g.score < POINTS and not g.forbidden]
    of_all += [f"{g.exercise.name}, the same numbers again: {again(g)}" for g in wrong]
    content = {
        "score": round(sum(g.score for g in grades), 4),
        "execution_time": round(sum(g.seconds for g in grades), 1),
        "output": "\n".join(of_all),
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"isolation": [g.isolation for g in grades]},
    }
    return json.dumps(content, indent=1)


def again(grade: Grade) -> str:
    """The command that grades an exercise with the same numbers."""
    return f"python -m minunet.grade {quoted(grade.file)} -e {grade.exercise.name} --seed {grade.seed}"


def as_csv(graded: dict[str, tuple[list[Grade], list[str]]], expected: Iterable[str] = ()) -> str:
    """A row a submission, a column an exercise (empty where there is no answer), and what the mistakes were.

    The head says how many points there are. Exercises that are expected have a column even if nobody answered them.
    """
    answered = {g.exercise.name for grades, _ in graded.values() for g in grades} | set(expected)
    exercises = [name for name in EXERCISES if name in answered]
    points = [f"{name} (of {POINTS:g})" for name in exercises]
    rows = [["submission", f"score (of {POINTS * len(points):g})", *points, "forbidden", "isolation", "notes"]]
    for name, (grades, notes) in zip(labels(graded), graded.values()):
        scores = {g.exercise.name: f"{g.score:.2f}" for g in grades}
        said = {g.exercise.name: list(dict.fromkeys(p.hint for p in g.parts if p.hint)) for g in grades}
        for g in grades:
            if not (g.score or g.forbidden or said[g.exercise.name]):
                said[g.exercise.name] = [g.parts[0].message]
        hints = [f"{name}: {text}" for name, texts in said.items() for text in texts]
        forbidden = "; ".join(g.forbidden for g in grades if g.forbidden)
        row = [name, f"{sum(g.score for g in grades):.2f}", *(scores.get(e, "") for e in exercises), forbidden]
        rows.append([*row, ", ".join(dict.fromkeys(g.isolation for g in grades)), "; ".join([*notes, *hints])])
    return csv_text([printable(cell) for cell in row] for row in rows)


def labels(names: Iterable[str]) -> list[str]:
    """How submissions are called in a table: in one line each, and no two alike."""
    found: dict[str, None] = {}
    for name in names:
        label = printable(name)
        if label in found:  # names may differ only in bytes that are no UTF-8
            label = ascii(name)[1:-1]
        while label in found:
            label += "_"
        found[label] = None
    return list(found)
