"""Grade a student's file or a folder of submissions, and write the tables that are asked for."""

from __future__ import annotations

import argparse

from tqdm import tqdm

from ..atomic import write_atomically
from ..cli import printable
from ..errors import UserError
from .exercises import EXERCISES
from .grading import POINTS
from .make import make_exercises
from .process.isolation import CHOICES
from .process.runner import Limits, Student
from .report import as_csv, gradescope, table
from .submissions import grade_file, grade_submission, hard_links, submissions


def grade_files(args: argparse.Namespace) -> int:
    """Do what the flags of ``minunet grade`` say; returns the exit status."""
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
    if args.isolation != CHOICES[0]:  # refuse before anything is graded
        with Student("", "nothing", limits=limits, isolation=args.isolation) as student:
            student.start()
    return (grade_folder if args.path.is_dir() else grade_one)(args, limits)


def grade_one(args: argparse.Namespace, limits: Limits) -> int:
    """Grade a file and print the table."""
    try:
        grades = grade_file(args.path, args.exercise, args.seed, limits, args.isolation)
    except UserError as e:
        if args.gradescope:  # a student whose file cannot be graded is to read why
            write_atomically(args.gradescope, gradescope([], printable(str(e))).encode())
        raise
    print("\n\n".join(table(g) for g in grades))
    print(f"  isolation: {', '.join(dict.fromkeys(g.isolation for g in grades))}")
    write(args, {args.path.name: (grades, [])})
    return 0 if all(g.score == POINTS for g in grades) else 1


def grade_folder(args: argparse.Namespace, limits: Limits) -> int:
    """Grade all submissions in a folder."""
    if args.gradescope:
        raise UserError("--gradescope takes one submission: give its file, not a folder")
    graded, found = {}, submissions(args.path)
    links = hard_links(found)
    for name, files in tqdm(found.items(), unit="submission", disable=args.quiet or None):
        graded[name] = grade_submission(files, args.exercise, args.seed, limits, args.isolation, links)
        write(args, graded)  # at once: whatever comes, these rows are there
    if not args.csv:
        print(as_csv(graded), end="")
    elif not args.quiet:
        print(f"{args.csv}: {len(graded)} submissions")
    return 0


def write(args: argparse.Namespace, graded: dict) -> None:
    """Write the files that were asked for."""
    if args.csv:
        write_atomically(args.csv, as_csv(graded).encode())
    if args.gradescope:
        write_atomically(args.gradescope, gradescope([g for grades, _ in graded.values() for g in grades]).encode())
