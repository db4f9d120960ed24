"""``python -m minunet.grade``: grade a file, or a folder of submissions; see docs/teaching.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ..atomic import write_atomically
from ..cli import HelpFormatter, number, run
from ..errors import UserError
from .collection import EXERCISES
from .grading import POINTS, grade_file
from .make import make_exercises
from .report import as_csv, grade_submission, gradescope, submissions, table
from .runner import Limits

EXAMPLES = """examples:
  python -m minunet.grade my_conv.py                       what passes, and what is likely wrong
  python -m minunet.grade my_conv.py -e conv_backward      this exercise only
  python -m minunet.grade submissions --csv grades.csv     everybody: a file or a folder for each
  python -m minunet.grade conv.py --gradescope results.json
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog="python -m minunet.grade", description="Grade exercises.", epilog=EXAMPLES, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "path", nargs="?", type=Path, metavar="PATH", help="a student's file, or a folder of submissions"
    )
    parser.add_argument(
        "-e", "--exercise", action="append", metavar="NAME", help="grade this exercise only (repeatable)"
    )
    parser.add_argument("--seed", type=number(int, 0), help="for shapes and numbers (default: others every time)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row a submission")
    parser.add_argument("--gradescope", type=Path, metavar="FILE", help="write Gradescope's results.json")
    parser.add_argument(
        "--seconds", type=number(float, 0, above=True), default=10, help="for one call of the student's code"
    )
    parser.add_argument("--memory", type=number(int, 256), default=2048, metavar="MB", help="for the student's process")
    parser.add_argument("--list", action="store_true", help="show the exercises")
    parser.add_argument("--make-exercises", type=Path, metavar="FOLDER", help="write the exercises' files there")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 if everything is right, 1 if not, 2 for a mistake in the command."""
    return run(lambda: work(make_parser().parse_args(argv)))


def work(args: argparse.Namespace) -> int:
    """Do what the flags say."""
    for name in args.exercise or []:
        if name not in EXERCISES:
            raise UserError(f"there is no exercise {name!r}; --list shows them all")
    if args.list:
        for name, e in EXERCISES.items():
            print(f"{name:<16} lesson {e.lesson:02d}  {e.minutes:>3} min  {e.title}: {', '.join(e.functions)}")
        return 0
    if args.make_exercises:
        make_exercises(args.make_exercises)
        return 0
    if args.path is None:
        raise UserError("which file? Give a Python file or a folder of submissions; --help shows examples")
    for file in filter(None, (args.csv, args.gradescope)):  # before minutes of grading, not after
        if file.is_dir() or not file.parent.is_dir():
            raise UserError(f"cannot write {file}: give the name of a file in a folder that exists")
    limits = Limits(call=args.seconds, total=6 * args.seconds, memory=args.memory << 20)
    return (grade_folder if args.path.is_dir() else grade_one)(args, limits)


def grade_one(args: argparse.Namespace, limits: Limits) -> int:
    """Grade a file and print the table."""
    try:
        grades = grade_file(args.path, args.exercise, args.seed, limits)
    except UserError as e:
        if args.gradescope:  # a student whose file cannot be graded is to read why
            write_atomically(args.gradescope, gradescope([], str(e)).encode())
        raise
    print("\n\n".join(table(g) for g in grades))
    write(args, {args.path.name: (grades, [])})
    return 0 if all(g.score == POINTS for g in grades) else 1


def grade_folder(args: argparse.Namespace, limits: Limits) -> int:
    """Grade all submissions in a folder."""
    if args.gradescope:
        raise UserError("--gradescope takes one submission: give its file, not a folder")
    graded = {}
    for name, files in tqdm(submissions(args.path).items(), unit="submission", disable=None):
        graded[name] = grade_submission(files, args.exercise, args.seed, limits)
    write(args, graded)
    print(f"{args.csv}: {len(graded)} submissions\n" if args.csv else as_csv(graded), end="")
    return 0


def write(args: argparse.Namespace, graded: dict) -> None:
    """Write the files that were asked for."""
    if args.csv:
        write_atomically(args.csv, as_csv(graded).encode())
    if args.gradescope:
        write_atomically(args.gradescope, gradescope([g for grades, _ in graded.values() for g in grades]).encode())


if __name__ == "__main__":
    sys.exit(main())
