"""An exercise as a notebook: a cell with the task, one with what is given, one for each function, and one that grades them.

The format is that of Jupyter, nbformat 4.5 (https://nbformat.readthedocs.io). The cells also have the metadata of nbgrader,
schema version 3 (https://nbgrader.readthedocs.io): the functions' cells are autograded answers, the last cell is the test,
worth the exercise's points, and the others are locked.
"""

from __future__ import annotations

import json
from typing import Any

from .exercise import Exercise
from .grading import POINTS

METADATA = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
OPEN = "    raise NotImplementedError"
MARKED = f"    ### BEGIN SOLUTION\n{OPEN}\n    ### END SOLUTION"
"""Between these marks, by which nbgrader finds it, stands what students write."""

HOW = """Run the cells from top to bottom. Whenever you have changed a cell, run it, and then the last one, which grades what
the cells define. With the notebook saved, `python -m minunet.grade {name}.ipynb` does the same."""


def notebook(exercise: Exercise) -> str:
    """The text of an exercise's notebook; the same exercise always gives the same text."""
    name = exercise.name
    text = f"# {exercise.title}\n\n{exercise.introduction}\n\n{HOW.format(name=name)}"
    grading = f'from minunet.grade import here\n\nhere(globals(), "{name}")'
    cells = [
        cell("markdown", f"{name}-task", text, locked=True),
        cell("code", f"{name}-given", exercise.opening, locked=True),
        *(
            cell("code", f"{name}-{function}", stub.replace(OPEN, MARKED), solution=True)
            for function, stub in zip(exercise.functions, exercise.stubs)
        ),
        cell("code", f"{name}-grade", grading, locked=True, grade=True, points=POINTS),
    ]
    content = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def cell(
    kind: str, name: str, text: str, locked: bool = False, solution: bool = False, grade: bool = False, **more: Any
) -> dict[str, Any]:
    """A cell of this kind ("code" or "markdown"), with nbgrader's metadata."""
    about = {
        "schema_version": 3,
        "grade_id": name,
        "grade": grade,
        "locked": locked,
        "solution": solution,
        "task": False,
    }
    ran: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
    lines = text.strip("\n").splitlines(keepends=True)
    return {"cell_type": kind, "id": name, "metadata": {"nbgrader": about | more}, **ran, "source": lines}
