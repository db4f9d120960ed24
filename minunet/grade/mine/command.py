"""``minunet mine``: a U-Net in which a student's own functions run; see docs/teaching.md."""

from __future__ import annotations

import argparse
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ...cli import HelpFormatter, add_quiet, number, run, typed
from ..process.isolation import CHOICES

if TYPE_CHECKING:
    from ..process.runner import Limits
    from .adapters import Functions
    from .answers import Answer
    from .network import Call
    from .report import Report
    from .training import Cells

DESCRIPTION = """A U-Net that becomes your own: each exercise that you have passed runs in it in the place of our function.

Your files are graded, what is right is put into a small network, and the network is trained with it on generated cells.
Layers that you have not written are ours. A page shows which are whose, what the network has learned, and how far it is."""
EXAMPLES = """examples:
  %(prog)s conv_forward.py conv_backward.py       these two, in a network that is ours otherwise
  %(prog)s my_answers                             all files of a folder
  %(prog)s conv_backward.py --look                where a wrong gradient first goes astray, as a picture
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    p = argparse.ArgumentParser(
        prog=typed("mine"), description=DESCRIPTION, epilog=EXAMPLES, formatter_class=HelpFormatter
    )
    p.add_argument("path", nargs="+", type=Path, metavar="PATH", help="your files, or folders with them")
    p.add_argument("-o", "--output", type=Path, default=Path("mine.html"), metavar="FILE", help="page to write")
    p.add_argument("--look", action="store_true", help="show where answers that are wrong first go astray")
    p.add_argument("--steps", type=number(int, 0), default=80, help="of the training, at most")
    p.add_argument(
        "--budget", type=number(float, 0, above=True), default=45, metavar="SECONDS",
        help="that the training may take: there are fewer steps if yours are slow",
    )  # fmt: skip
    p.add_argument(
        "--seed", type=number(int, 0), help="for the grading's shapes and numbers (default: others every time)"
    )
    p.add_argument("--seconds", type=number(float, 0, above=True), default=10, help="for one call of your code")
    p.add_argument("--memory", type=number(int, 256), default=2048, metavar="MB", help="for each process of your code")
    p.add_argument(
        "--isolation",
        choices=(*CHOICES, "off"),
        default=CHOICES[0],
        help="of the processes in which your code runs, as in grading; off: the network is trained in this process, faster, "
        "and without any",
    )
    add_quiet(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 if all that was handed in is right, 1 if not, 2 for a mistake in the command."""
    return run(lambda: mine(make_parser().parse_args(argv)))


def mine(args: argparse.Namespace) -> int:
    """Grade the files, put what is right into the network, train it, and write the page."""
    from ...atomic import check_writable, write_atomically
    from ..process.runner import Limits
    from .answers import grade_answers
    from .hand import OFF
    from .page import page

    check_writable(args.output)
    isolation = args.isolation
    if isolation == OFF:
        print("warning: --isolation off: your files run in this process, and can do whatever you can", file=sys.stderr)
        isolation = CHOICES[0]  # they are graded in a process of their own all the same
    limits = Limits(args.seconds, 6 * args.seconds, args.memory << 20)

    def tell(text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    answers = grade_answers(args.path, args.seed, limits, isolation, tell, args.quiet)
    report = run_network(args, answers)
    write_atomically(args.output, page(report).encode())
    if not args.quiet:
        print(f"\n{args.output}: open it in a browser")
    return 0 if all(answer.passed for answer in answers.values()) else 1


def run_network(args: argparse.Namespace, answers: dict[str, Answer]) -> Report:
    """Say how far the network is, look for what goes astray, and train it."""
    from .adapters import ADAPTERS
    from .astray import true_trail
    from .hand import Hand
    from .network import Plug, shares
    from .picture import as_text
    from .report import Report
    from .training import JUDGED, make_cells, train, tried

    trail, batch = true_trail()
    with ExitStack() as stack:
        hands = {n: stack.enter_context(Hand(a, limits_of(n, args), args.isolation)) for n, a in answers.items()}
        functions = {name: ADAPTERS[name](hand) for name, hand in hands.items()}
        right = {name: hands[name] for name, answer in answers.items() if answer.passed}
        trial = tried(right, functions, args.steps, args.budget, args.quiet)
        answered = list(trial.plug.functions)
        report = Report(
            {name: str(answer.path) for name, answer in answers.items()}, answered,
            {name: f"{a.right} of {a.parts} parts" for name, a in answers.items() if not a.passed}, trial.left_out,
            shares(trail, answered), make_cells(Plug(), JUDGED, 0),
        )  # fmt: skip
        print(f"\n{as_text(answered, encodes)}\n\n{rows(report)}\n\n{textwrap.fill(report.summary(), 110)}")
        if trial.checks:
            wrong = [words for words, ok in trial.checks.items() if not ok]
            said = f"does not approve of: {', '.join(wrong)}" if wrong else "approves of the layers' gradients"
            report.notes.append(f"Before the training your gradient checker {said}.")
            print(f"Your gradient checker {said}.")
        if args.look:
            look(report, functions, trail, batch)
        elif report.failed:
            print("--look shows where what is not right yet goes astray.")
        if trial.steps:
            report.mine = train(trial.plug, trial.hands, trial.cells, report.judged, trial.steps, args.quiet)
            report.ours = train(Plug(), (), make_cells(Plug()), report.judged, trial.steps, quiet=True)
            print(trained(report))
        report.seconds = {name: hand.seconds for name, hand in hands.items()}
        levels = dict.fromkeys(hand.impl.level for hand in hands.values() if hand.calls)
    if levels:
        report.notes.append(f"Isolation of your code: {', '.join(levels)}.")
    return report


def look(report: Report, functions: dict[str, Functions], trail: list[Call], batch: Cells) -> None:
    """Find where answers go astray, and say it."""
    from .astray import first_differences, says, wrong_calls

    functions = {name: f for name, f in functions.items() if name not in report.left_out}
    report.looked, report.astray = True, first_differences(functions, trail, batch)
    report.wrong = wrong_calls(functions, trail, batch) if report.astray else set()
    for astray in report.astray:
        text = f"astray: {report.files[astray.exercise]}, {says(astray)}"
        print(textwrap.fill(text, 110, subsequent_indent="        "))
    if report.unseen():
        print(report.unseen())


def limits_of(exercise: str, args: argparse.Namespace) -> Limits:
    """The limits of an answer's process: a training has many calls, and a wiring waits for all the layers that it calls."""
    from ..process.runner import Limits

    waits = 50 if exercise in ("unet_backward", "gradient_check") else 1
    return Limits(waits * args.seconds, 3600 + 10 * args.budget, args.memory << 20, called_with=1 << 26)


def encodes(text: str) -> bool:
    """Whether stdout can show it."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def rows(report: Report) -> str:
    """A line for each part: whose it is, and where to go on."""
    from ..exercises import EXERCISES
    from .parts import PARTS
    from .report import percent

    lines = []
    for name, part in PARTS.items():
        whose = "yours" if name in report.answered else "WRONG" if name in report.failed else "ours"
        share = percent(report.shares[name]) if report.shares.get(name) else ""
        where = report.files.get(name) or f"lesson {EXERCISES[name].lesson:02d}"
        if name in report.failed:
            where += f": {report.failed[name]} are right"
        if name in report.left_out:
            where += f", right, but left out: {report.left_out[name]}"
        lines.append(f"  {whose:<5}  {name:<14}  {part.words:<52}  {share:>13}  {where}".rstrip())
    return "\n".join(lines)


def trained(report: Report) -> str:
    """What the training came to, in two lines."""
    mine = report.mine
    assert mine
    losses = f"loss {mine.losses[0]:.3f} -> {mine.losses[-1]:.3f}"
    said = f"\n{len(mine.losses)} steps in {mine.seconds:.0f} s: {losses}, Dice {mine.dice:.2f} on images that it has not seen."
    if report.answered:
        said += f"\nWith our functions alone {report.compared()}"
    if report.whole:
        said += (
            "\n\nThis U-Net is yours. You wrote every layer of it, every gradient and every step; what finds these cells "
            "is your own code."
        )
    return said
