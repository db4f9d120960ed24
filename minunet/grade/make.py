"""Write the exercises' files, cut out of the package's sources."""

from __future__ import annotations

from pathlib import Path

from ..atomic import write_atomically
from ..errors import UserError
from .exercises import EXERCISES
from .notebook import notebook


def contents() -> dict[str, str]:
    """The files of tutorials/exercises by name: for each exercise one and a notebook, and a list of them."""
    rows = [
        f"| [`{name}.py`]({name}.py) | [notebook]({name}.ipynb) | {e.title} | {e.lesson:02d} | {e.minutes} |"
        for name, e in EXERCISES.items()
    ]
    index = (
        "# Exercises\n\nCopy a file to wherever you like, under any name, and write there what raises "
        "`NotImplementedError`. Then `python -m minunet.grade YOUR_FILE.py` says what passes and what is likely wrong. Every "
        "exercise is also a notebook, whose last cell grades it. `python -m minunet mine YOUR_FILES` puts what passes into a "
        "U-Net that becomes your own.\n\n"
        "For who maintains minunet: these files are cut out of the package by `python -m minunet.grade --make-exercises "
        "tutorials/exercises`; change the sources there.\n\n"
        "| file | | | lesson | minutes |\n| --- | --- | --- | --- | --- |\n"
    )
    files = {f"{name}.py": e.text for name, e in EXERCISES.items()}
    files |= {f"{name}.ipynb": notebook(e) for name, e in EXERCISES.items()}
    return files | {"README.md": index + "\n".join(rows) + "\n"}


def make_exercises(folder: Path) -> None:
    """Write them into a folder; UserError if that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot make the folder {folder}: {e.strerror or e}; choose another") from e
    for name, text in contents().items():
        write_atomically(folder / name, text.encode())
