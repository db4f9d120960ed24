"""Grade the functions of the notebook that one works in, by a cell of it."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError
from .exercises import EXERCISES
from .grading import Grade, grade_source
from .process.inside import LEVEL
from .report import table
from .submissions import read


def here(namespace: dict[str, Any], *names: str, seed: int | None = None) -> float:
    """Grade what has been defined so far, print the tables, and return the points.

    In a notebook (Jupyter, VS Code, Colab, JupyterLite) the text of the cells is taken as they ran, from IPython's history: the
    notebook need not be saved. Only what the exercises' functions need of it is graded, so plots and trials do not matter. In a
    script it is the script's text.

    Parameters
    ----------
    namespace : dict
        ``globals()``.
    *names : str
        Exercises; by default all whose functions there are.
    seed : int, optional
        For shapes and numbers; by default others every time.

    Returns
    -------
    float
        The points of all these exercises. (nbgrader takes what a cell returns for the points.)
    """
    try:
        with contextlib.redirect_stderr(sys.stdout):  # nbgrader takes what is on stderr for a failure
            grades = grade_namespace(namespace, names, seed)
    except UserError as e:
        print(f"error: {e}")
        return 0.0
    text = "\n\n".join(map(table, grades))
    print(re.sub(r"of code cell (\d+)", r"of cell [\1]", text) if "In" in namespace else text)
    if any(g.isolation == LEVEL for g in grades):
        print(
            "  graded in this notebook's own process, without isolation and without a limit on time: there is no other here"
        )
    return sum(g.score for g in grades)


def grade_namespace(namespace: dict[str, Any], names: tuple[str, ...], seed: int | None) -> list[Grade]:
    """The grades; UserError if there is nothing to grade."""
    for name in names:
        if name not in EXERCISES:
            raise UserError(f"there is no exercise {name!r}; there are {', '.join(EXERCISES)}")
    if ran := cells_of(namespace):
        cells = [{"cell_type": "code", "source": code} for code in ran[1:]]  # In[0] is empty
        return grade_source(Path("notebook.ipynb"), json.dumps({"cells": cells}), list(names), seed)
    file = namespace.get("__file__")
    if not isinstance(file, str):
        raise UserError("there is no text of the functions here: call it in a notebook, or in a script, with globals()")
    return grade_source(Path(file), read(Path(file)), list(names), seed)


def cells_of(namespace: dict[str, Any]) -> list[str]:
    """The cells that ran, as they were typed if IPython says so: in its `In` magics of whole cells have become strings."""
    shell = namespace.get("get_ipython")
    history = getattr(shell() if callable(shell) else None, "history_manager", None)
    ran = getattr(history, "input_hist_raw", None) or namespace.get("In") or []
    return [str(code) for code in ran]
