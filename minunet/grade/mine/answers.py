"""A student's files, graded: which exercises they answer, and how much of each answer is right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ...errors import UserError
from ..exercise import Exercise
from ..grading import Grade
from ..process.calls import UNWRITTEN
from ..process.runner import Limits
from ..submissions import grade_file, python_files, read
from .parts import PARTS

UNTOUCHED = (UNWRITTEN, "the file defines no ", "the notebook defines no ")  # what the grader says of stubs


@dataclass
class Answer:
    """A file's answer to an exercise.

    Attributes
    ----------
    exercise : Exercise
    path : Path
    source : str
        The file's text.
    right, parts : int
        How many parts of it are right, and how many there are.
    """

    exercise: Exercise
    path: Path
    source: str
    right: int
    parts: int

    @property
    def passed(self) -> bool:
        """Whether all of it is right."""
        return self.right == self.parts


def grade_answers(
    paths: Sequence[Path],
    seed: int | None,
    limits: Limits,
    isolation: str,
    say: Callable[[str], None] = print,
    quiet: bool = True,
) -> dict[str, Answer]:
    """Grade files, and all files of folders; of two answers to an exercise the better counts.

    Parameters
    ----------
    paths : sequence of Path
    seed, limits, isolation
        As in `submissions.grade_file`.
    say : callable
        Is told of files that answer nothing, of exercises that have no place in the network, and of files that are refused.
    quiet : bool
        Show no progress.

    Returns
    -------
    dict
        By exercise, in the order of the lessons.

    Raises
    ------
    UserError
        If no file answers an exercise that has a place in the network.
    """
    best: dict[str, Answer] = {}
    files = [f for path in paths for f in (map(Path, python_files(str(path))) if path.is_dir() else [path])]
    for file in tqdm(files, desc="grading", unit="file", disable=quiet or None, leave=False):
        try:
            grades, source = grade_file(file, None, seed, limits, isolation), read(file)
        except UserError as e:
            if len(paths) == 1 and not paths[0].is_dir():
                raise
            say(f"note: {e}")
            continue
        for grade in grades:
            take(grade, file, source, best, say)
    if not best:
        raise UserError(
            "no file answers an exercise that has a place in this network; these have one: " + ", ".join(PARTS)
        )
    return {name: best[name] for name in PARTS if name in best}


def take(grade: Grade, file: Path, source: str, best: dict[str, Answer], say: Callable[[str], None]) -> None:
    """Note an answer, if it is the best one so far; a stub is none."""
    name = grade.exercise.name
    if name not in PARTS:
        say(f"note: {name} ({file}) belongs to another network, and has no place in this one")
    elif grade.forbidden:
        say(f"note: {name} ({file}) is left out: {grade.forbidden}")
    elif not all(part.message.startswith(UNTOUCHED) for part in grade.parts):
        answer = Answer(grade.exercise, file, source, sum(p.ok for p in grade.parts), len(grade.parts))
        if name not in best or answer.right > best[name].right:
            best[name] = answer
