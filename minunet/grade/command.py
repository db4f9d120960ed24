"""``minunet grade``: grade a file, or a folder of submissions; see docs/teaching.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..cli import HelpFormatter, add_quiet, number, run, typed
from .process.isolation import CHOICES

EXAMPLES = """examples:
  %(prog)s my_conv.py                       what passes, and what is likely wrong
  %(prog)s my_conv.py -e conv_backward      this exercise only
  %(prog)s submissions --csv grades.csv     everybody: a file or a folder for each
  %(prog)s submissions --csv grades.csv --feedback pages   and a page for each, and one of the class
  %(prog)s submission --gradescope results.json            one student's folder or files
  %(prog)s --autograder autograder.zip -e max_pool         what Gradescope needs to do the same
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog=typed("grade"), description="Grade exercises.", epilog=EXAMPLES, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "path", nargs="*", type=Path, metavar="PATH", help="a student's files or notebooks, or a folder of submissions"
    )
    parser.add_argument(
        "-e", "--exercise", action="append", metavar="NAME", help="grade this exercise only (repeatable)"
    )
    parser.add_argument("--seed", type=number(int, 0), help="for shapes and numbers (default: others every time)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row a submission")
    parser.add_argument(
        "--feedback", type=Path, metavar="FOLDER", help="write a page for each submission, and a summary of the class"
    )
    parser.add_argument(
        "--hints", type=Path, metavar="FILE", help="your sentences for what gets no hint: TOML, by the summary's names"
    )
    parser.add_argument(
        "--gradescope", type=Path, metavar="FILE", help="write Gradescope's results.json; PATH is one submission"
    )
    parser.add_argument(
        "--autograder",
        type=Path,
        metavar="FILE",
        help="write the zip that makes Gradescope grade the exercises of -e (without: all that are answered)",
    )
    parser.add_argument(
        "--seconds", type=number(float, 0, above=True), default=10, help="for one call of the student's code"
    )
    parser.add_argument("--memory", type=number(int, 256), default=2048, metavar="MB", help="for the student's process")
    parser.add_argument(
        "--isolation",
        choices=CHOICES,
        default=CHOICES[0],
        help="of the student's process: the strongest that this system offers (auto), the same or none is graded (require), "
        "one of the two that there are, or Python's audit hook alone, which stops nobody who knows it (default: auto)",
    )
    parser.add_argument("--list", action="store_true", help="show the exercises")
    parser.add_argument("--make-exercises", type=Path, metavar="FOLDER", help="write the exercises' files there")
    add_quiet(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 if everything is right, 1 if not, 2 for a mistake in the command."""
    return run(lambda: grade(make_parser().parse_args(argv)))


def grade(args: argparse.Namespace) -> int:
    """Do what the flags say."""
    from .files import grade_files

    return grade_files(args)
