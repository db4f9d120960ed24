"""Grade a student's files or a folder of submissions, and write the tables and pages that are asked for."""

from __future__ import annotations

import argparse
import sys

from tqdm import tqdm

from ..atomic import write_atomically
from ..cli import printable, quoted
from ..errors import UserError
from .exercises import EXERCISES
from .grading import POINTS
from .make import make_exercises
from .mine.parts import PARTS
from .process.isolation import CHOICES
from .process.runner import Limits, Student
from .report import as_csv, gradescope, table
from .reports.clusters import add_clusters, read_sentences
from .reports.folder import Feedback
from .submissions import grade_file, grade_submission, hard_links, python_files, submissions


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
    for file in filter(None, (args.csv, args.gradescope, args.autograder)):  # before minutes of grading, not after
        if file.is_dir() or not file.parent.is_dir():
            raise UserError(f"cannot write {file}: give the name of a file in a folder that exists")
    sentences = read_sentences(args.hints)
    if args.autograder and args.path:
        raise UserError(f"--autograder grades nothing itself: leave out {args.path[0]}")
    if args.autograder:
        from .autograder import write_autograder

        return write_autograder(args)
    if not args.path:
        raise UserError("which file? Give a Python file or a folder of submissions; --help shows examples")
    limits = Limits(call=args.seconds, total=6 * args.seconds, memory=args.memory << 20)
    if args.isolation != CHOICES[0]:  # refuse before anything is graded
        with Student("", "nothing", limits=limits, isolation=args.isolation) as student:
            student.start()
    if args.gradescope:
        return grade_upload(args, limits, sentences)
    if not any(path.is_dir() for path in args.path):
        return grade_one_by_one(args, limits, sentences)
    if len(args.path) > 1:
        raise UserError("give files, or one folder of submissions: of several folders each is graded by itself")
    return grade_folder(args, limits, sentences)


def grade_one_by_one(args: argparse.Namespace, limits: Limits, sentences: dict[str, str]) -> int:
    """Grade files and print the tables."""
    if args.feedback:
        raise UserError("--feedback writes a page for each submission in a folder: give the folder, not a file")
    graded: dict = {}
    for path in args.path:
        grades = grade_file(path, args.exercise, args.seed, limits, args.isolation)
        if sentences:
            add_clusters(grades, sentences, limits, args.isolation)
        print("\n\n".join([""] * bool(graded) + [table(g) for g in grades]))
        print(f"  isolation: {', '.join(dict.fromkeys(g.isolation for g in grades))}")
        graded[path.name if len(args.path) == 1 else str(path)] = grades, []
        write_csv(args, graded)
    everything = [g for grades, _ in graded.values() for g in grades]
    if any(g.score == POINTS and g.exercise.name in PARTS for g in everything) and not args.quiet:
        print(f"  in a U-Net of your own: python -m minunet mine {' '.join(map(quoted, args.path))}")
    return 0 if all(g.score == POINTS for g in everything) else 1


def grade_upload(args: argparse.Namespace, limits: Limits, sentences: dict[str, str]) -> int:
    """Grade what one student uploaded, for Gradescope: it asks whether the grader worked, not whether the student did."""
    files = [file for path in args.path for file in (python_files(str(path)) if path.is_dir() else [path])]
    grades, notes = grade_submission(files, args.exercise, args.seed, limits, args.isolation, hard_links({"": files}))
    if sentences:
        add_clusters(grades, sentences, limits, args.isolation)
    write_atomically(args.gradescope, gradescope(grades, notes, args.exercise or []).encode())
    print("\n\n".join(table(g) for g in grades))
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    return 0


def grade_folder(args: argparse.Namespace, limits: Limits, sentences: dict[str, str]) -> int:
    """Grade all submissions in a folder."""
    graded, found = {}, submissions(args.path[0])
    links = hard_links(found)
    feedback = Feedback(args.feedback, args.path[0], found) if args.feedback else None
    for name, files in tqdm(found.items(), unit="submission", disable=args.quiet or None):
        grades, notes = grade_submission(files, args.exercise, args.seed, limits, args.isolation, links)
        if sentences or feedback:
            add_clusters(grades, sentences, limits, args.isolation)
        graded[name] = grades, notes
        write_csv(args, graded)  # at once: whatever comes, these rows are there
        if feedback:
            feedback.add(name, grades, [note for note in notes if note not in links.values()])  # which name others
    if feedback:
        feedback.finish(graded)
    if not (args.csv or args.feedback):
        print(as_csv(graded, args.exercise or []), end="")
    elif not args.quiet:
        for written in filter(None, (args.csv, args.feedback and args.feedback / "summary.html")):
            print(f"{written}: {len(graded)} submissions")
    return 0


def write_csv(args: argparse.Namespace, graded: dict) -> None:
    """Write the table, if it is asked for."""
    if args.csv:
        write_atomically(args.csv, as_csv(graded, args.exercise or []).encode())
