"""Wrong outputs without a hint, gathered by what they look like, so that one sentence of a teacher's serves all who need it.

What failed without a hint is asked again, with a seed that is always the same: then the same mistake gives the same numbers, up
to rounding, or the same error. A cluster's name follows from the exercise, the part and these outputs alone. So it is the same
in every run, whoever else handed in, and a sentence that was written for it once is the hint for all who come to it later.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, shown
from ...ops.dispatch import use
from ..exercise import EXERCISES, Exercise
from ..grading import Grade
from ..process.calls import UNWRITTEN, Forbidden
from ..process.inside import student as student_of
from ..process.runner import Limits
from ..sheet import Mark, Raised

SEEDS = range(3)  # the first with which the part fails: some mistakes show for some numbers only
APART = (UNWRITTEN, "the file defines no", "not run:", "it took longer")  # such messages tell of no output
NAME = re.compile(r"(\w+)-\w+-[0-9a-f]{8}")
PLACE = re.compile(r" in line \d+(: .*)?$|0x[0-9a-f]+")  # of an error in a student's file; what no two files share


def read_sentences(path: Path | None) -> dict[str, str]:
    """A teacher's sentences by the names of clusters, from a TOML file of lines ``"NAME ..." = "sentence"``.

    Raises
    ------
    UserError
        If it cannot be read, is no TOML, or holds what is no cluster's name or no text.
    """
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"--hints {path}: {e.strerror or e}; give a file that is there") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f'--hints {path} is no TOML: {e}; it has lines "NAME" = "sentence"') from e
    sentences = {}
    for key, sentence in found.items():
        if not isinstance(sentence, str):
            raise UserError(f"--hints {path}: {shown(key)} is {shown(sentence)}; write a sentence between quotes")
        for name in key.split() or [key]:
            match = NAME.fullmatch(name)
            if not match or match[1] not in EXERCISES:
                raise UserError(f"--hints {path}: {shown(name)} is no cluster; copy its name from the class's summary")
            sentences[name] = " ".join(sentence.split())
    return {name: sentence for name, sentence in sentences.items() if sentence}


def add_clusters(grades: list[Grade], sentences: dict[str, str], limits: Limits, isolation: str) -> None:
    """Note the cluster of every part that failed without a hint, and take the teacher's sentence for it as the hint."""
    for grade in grades:
        silent = [p for p in grade.parts if not (p.ok or p.hint or grade.forbidden or p.message.startswith(APART))]
        found = clusters_of(grade, {p.name for p in silent}, limits, isolation) if silent else {}
        for part in silent:
            part.cluster = found.get(part.name, "")
            part.hint = sentences.get(part.cluster, "")


def clusters_of(grade: Grade, parts: set[str], limits: Limits, isolation: str) -> dict[str, str]:
    """By part, the cluster that a file's output belongs to; none for a part that is right with every seed."""
    exercise, found = grade.exercise, dict[str, str]()
    with student_of(grade.source, grade.file, exercise.extras, limits, isolation) as student, use("reference"):
        student.functions = exercise.functions
        for seed in SEEDS:
            left = parts - found.keys()
            checks = [number for number, (decides, *_) in enumerate(exercise.checks) if left & set(decides)]
            try:
                marks = [m for n in checks for _, marks in exercise.run_check(n, student, seed) for m in marks]
            except Forbidden:  # what it did not do when it was graded
                break
            for part in left:
                of_part = [m for m in marks if m.part == part]
                if not all(m.ok for m in of_part):
                    found[part] = name_of(exercise, part, of_part)
    return found


def name_of(exercise: Exercise, part: str, marks: list[Mark]) -> str:
    """A cluster's name, which says of which part it is."""
    outcomes = [f"{number} {outcome(m)}" for number, m in enumerate(marks) if not m.ok]
    digits = hashlib.sha256("\n".join(outcomes).encode()).hexdigest()[:8]
    return f"{exercise.name}-{re.sub(r'[^A-Za-z0-9]+', '_', part)}-{digits}"


def outcome(mark: Mark) -> str:
    """What came of a call: an error without its place in the file, or numbers, rounded."""
    output = mark.output
    if isinstance(output, Raised):
        return PLACE.sub("", output)
    return numbers(output) if output is not None else mark.message


def numbers(output: Any) -> str:
    """What stands for an output: the same for numbers that differ by rounding, and for no others.

    Rounding splits values that lie close to a step's edge. The steps are shifted, so that no simple fraction lies there.
    """
    if isinstance(output, (tuple, list)):
        return f"({', '.join(map(numbers, output))})"
    array = np.asarray(output)
    if array.dtype.kind not in "fiub":
        return f"{array.dtype} {PLACE.sub('', repr(output))}"
    values = array.astype(np.float64).ravel()
    finite = np.isfinite(values)
    scale = float(np.abs(values[finite]).max(initial=0.0)) or 1.0
    steps = 1e7 if array.dtype.itemsize > 4 or array.dtype.kind != "f" else 1e3
    rounded = np.floor(np.where(finite, values, 0.0) / scale * steps + 0.317).astype(np.int64)
    kinds = np.where(finite, 0, np.where(np.isnan(values), 1, np.where(values > 0, 2, 3))).astype(np.int64)
    content = hashlib.sha256(rounded.astype("<i8").tobytes() + kinds.astype("<i8").tobytes()).hexdigest()
    return f"{array.dtype} {array.shape} {int(np.floor(np.log(scale) * steps + 0.317))} {content}"
