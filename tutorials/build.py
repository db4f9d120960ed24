"""The lessons: run them, turn them into notebooks, or into a site.

    python tutorials/build.py --run [LESSON ...]          # each in a process of its own; any error or failed assert fails
    python tutorials/build.py --notebooks [LESSON ...]    # build/notebooks/NN_name.ipynb; pip install ".[tutorials]"
    python tutorials/build.py --site [LESSON ...]         # runs them, then build/site/index.html; pip install ".[site]"
    python tutorials/build.py --site --lite [LESSON ...]  # and lessons 01 to 07 run in the browser, too

A lesson, `tutorials/NN_name.py`, is the single source: a script in cells ("# %%" code, "# %% [markdown]" text). LESSON is its
number or the beginning of its name; without any, all are taken. What a run leaves goes to build/tutorials/NN_name/. The site
has the lessons with their output, the reference and the measurements; those not named are taken as they last ran.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from minunet import cli
from minunet.errors import UserError, extra

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
LIMIT = 60
"""Seconds that a lesson should take at most on two cores."""
STOP = 300
"""Seconds after which it is stopped: the machine may be busy with other things."""


def find_lessons(names: list[str] | None = None) -> list[Path]:
    """The lessons whose file names begin with one of `names` ("02" or "02_backprop_by_hand"), in order; by default all."""
    lessons = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    names = [f"{int(name):02d}" if name.isdecimal() else name for name in names or ()]
    for name in names:
        if not any(path.name.startswith(name) for path in lessons):
            raise UserError(f"no lesson begins with {name!r}; there are {', '.join(path.stem for path in lessons)}")
    return [path for path in lessons if not names or path.name.startswith(tuple(names))]


def run(lesson: Path, pictures: Path, limit: float = STOP) -> tuple[float, str]:
    """Execute a lesson in a process of its own.

    Returns
    -------
    seconds : float
    problem : str
        Empty if all went well; else what the lesson wrote to stderr, or that it took too long.
    """
    command = [sys.executable, str(FOLDER / "execute.py"), str(lesson), str(pictures)]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return time.perf_counter() - began, f"{lesson.name} was stopped after {limit:g} seconds"
    problem = (done.stderr.strip() or f"exit status {done.returncode}") if done.returncode else ""
    return time.perf_counter() - began, problem


def environment() -> dict[str, str]:
    """That of this process, with its minunet found first."""
    import minunet

    home = str(Path(minunet.__file__).resolve().parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])}


def write_notebook(lesson: Path, folder: Path) -> Path:
    """Turn a lesson into a notebook without outputs; the same lesson always gives the same bytes."""
    try:
        import jupytext
    except ImportError:
        raise UserError(f"notebooks need jupytext: {extra('tutorials')}") from None
    notebook = jupytext.read(lesson)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03}"  # by default random
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{lesson.stem}.ipynb"
    jupytext.write(notebook, path, fmt="ipynb")
    return path


def write_site(runs: Path, out: Path, lite: bool = False) -> int:
    """Make the site of what lessons have left in `runs`; the exit status."""
    command = [sys.executable, str(ROOT / "docs" / "website"), str(runs), str(out), *["--lite"] * lite]
    return subprocess.run(command, cwd=ROOT, env=environment()).returncode


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=cli.HelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", action="store_true", help="execute the lessons")
    what.add_argument("--notebooks", action="store_true", help="write them as notebooks")
    what.add_argument("--site", action="store_true", help="execute them and make the site")
    parser.add_argument("--lite", action="store_true", help="with --site: lessons 01 to 07 also run in the browser")
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="number or name; all without it")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="where runs, notebooks and site go")
    parser.add_argument(
        "--limit", type=cli.number(float, 0, above=True), default=STOP, help="stop a lesson after so many seconds"
    )
    args = parser.parse_args(argv)

    failed = 0
    for lesson in find_lessons(args.lessons):
        if args.notebooks:
            print(write_notebook(lesson, args.out / "notebooks"))
            continue
        pictures = args.out / "tutorials" / lesson.stem
        seconds, problem = run(lesson, pictures, args.limit)
        verdict = "FAILED" if problem else "ok" if seconds <= LIMIT else f"ok, slower than {LIMIT} s"
        shown = "" if problem else f"; pictures in {os.path.relpath(pictures)}"
        print(f"{lesson.stem:<32}{seconds:6.1f} s  {verdict}{shown}", flush=True)
        if problem:
            failed += 1
            print(problem, file=sys.stderr)
    if args.site and not failed:
        return write_site(args.out / "tutorials", args.out / "site", args.lite)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
