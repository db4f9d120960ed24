"""Grades as a table, as Gradescope's results.json, and as CSV."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from ..cli import csv_text, printable
from .exercise import EXERCISES
from .grading import POINTS, Grade
from .process.runner import UNWRITTEN

RAISED = re.compile(r"\w+: .* in line \d+.*\)$")  # an error, where it was, and in brackets what was asked


def table(grade: Grade) -> str:
    """What passes and what does not, with the likely mistake, for a terminal."""
    lines = [f"{grade.exercise.name}: {grade.exercise.title}   ({grade.file}, seed {grade.seed})"]
    if grade.forbidden:
        lines.append(f"  no points: {grade.forbidden}")
    said = error = ""
    for part in () if grade.forbidden else grade.parts:
        verdict = "ok" if part.ok else "todo" if part.message.startswith(UNWRITTEN) else "WRONG"
        what, _, asked = part.message.rpartition(" (") if RAISED.match(part.message) else ("", "", "")
        message = f"the same error ({asked}" if what and what == error else part.message
        lines.append(f"  {verdict:<5}  {part.name:<22}  {message}".rstrip())
        error = what or error
        if part.hint:
            likely = f"likely: {'the same' if part.hint == said else part.hint}"
            lines += textwrap.wrap(likely, 110, initial_indent=" " * 9, subsequent_indent=" " * 17)
            said = part.hint
    passed = sum(p.ok for p in grade.parts)
    share = "" if grade.forbidden else f"   ({passed} of {len(grade.parts)} parts, {grade.seconds:.1f} s)"
    return "\n".join([*lines, f"  {grade.score:.1f} of {POINTS:.0f} points{share}"])


def gradescope(grades: Iterable[Grade], problem: str = "") -> str:
    """The text of results.json: a test for every part; without grades, the problem that there was.

    Format: https://gradescope-autograders.readthedocs.io/en/latest/specs/
    """
    tests: list[dict[str, Any]] = []
    grades = list(grades)
    for number, grade in enumerate(grades, 1):
        each = POINTS / len(grade.parts)
        for i, part in enumerate(grade.parts, 1):
            said = "\n".join(filter(None, [part.message, part.hint and f"Likely: {part.hint}"]))
            tests.append({
                "name": f"{grade.exercise.name}: {part.name}",
                "number": f"{number}.{i}",
                "score": round(each * part.ok, 4),
                "max_score": round(each, 4),
                "status": "passed" if part.ok else "failed",
                "output": said or "right",
                "output_format": "text",
                "visibility": "visible",
            })  # fmt: skip
    notes = [problem, *(f"{g.exercise.name}: {g.forbidden}" for g in grades if g.forbidden)]
    content = {
        "score": round(sum(g.score for g in grades), 4),
        "execution_time": round(sum(g.seconds for g in grades), 1),
        "output": "\n".join(filter(None, notes)),
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"isolation": [g.isolation for g in grades]},
    }
    return json.dumps(content, indent=1)


def as_csv(graded: dict[str, tuple[list[Grade], list[str]]]) -> str:
    """A row a submission, a column an exercise (empty where there is no answer), and what the mistakes were."""
    exercises = [n for n in EXERCISES if any(g.exercise.name == n for grades, _ in graded.values() for g in grades)]
    rows = [["submission", "score", *exercises, "forbidden", "isolation", "notes"]]
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
