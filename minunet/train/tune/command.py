"""``minunet tune``: search for the settings with which ``minunet train`` does best on the validation images."""

from __future__ import annotations

import argparse
from typing import Any

from ...cli import HelpFormatter, number, run, typed
from ...errors import UserError
from ..arguments import complete_arguments
from ..arguments import make_parser as make_training_parser

DESCRIPTION = """Search for the settings with which minunet train does best on the validation images, by Optuna.

A trial is a training. The first has the default settings; the others' are proposed by what came out so far, and a trial ends
early whose validation score lags behind the others'. All flags of minunet train may be given: what is typed is fixed, and not
searched. The images to test with have no part in it: keep them out of --data.

Everything goes into a run folder: the study, trials.csv, importance.png, parallel.png, history.png, pareto.png, and the best
settings as a command in best.txt and as config.toml, for minunet train --config. The same command goes on with a
search that was stopped; started elsewhere with the same --out or --storage, it joins in.
"""

EXAMPLES = """
examples:
  %(prog)s --data DSB2018 -e 6 --minutes 60 --workers 2
  %(prog)s --data DSB2018 -e 6 --trials 50 --lr 1e-3     the learning rate is fixed, and not searched
  %(prog)s --data DSB2018 --space SPACE.toml --out RUN   a space of your own; started again, it goes on
  %(prog)s --data DSB2018 --storage postgresql://USER@HOST/DATABASE --name nuclei   on every machine that takes part

a --space file has a line for each setting that is searched, by the name of its flag: a list of values, or a range
  learning-rate = {low = 1e-4, high = 1e-2, log = true}
  depth = {low = 3, high = 5}
  loss = ["ce", "ce+dice"]
  augment = [true, false]
"""

OWN = ("trials", "minutes", "workers", "storage", "name", "space", "worker")
TRIALS = 50  # if neither --trials nor --minutes is given


def make_parser() -> argparse.ArgumentParser:
    """The flags: those of `minunet train`, and the search's own."""
    p = make_training_parser()
    p.prog, p.usage, p.formatter_class = typed("tune"), "%(prog)s --data PATH [flags]", HelpFormatter
    p.description, p.epilog = DESCRIPTION, EXAMPLES
    g: Any = p.add_argument_group("search")
    g.add_argument("--trials", type=number(int, 1), metavar="N",
                   help=f"trials in all, by all workers (default: any number with --minutes, else {TRIALS})")  # fmt: skip
    g.add_argument("--minutes", type=number(float, 0, above=True), metavar="M",
                   help="minutes in all, without those in which no worker was at a trial (default: no limit)")  # fmt: skip
    g.add_argument("--workers", type=number(int, 1), default=1, metavar="K",
                   help="processes on this machine, which share its threads")  # fmt: skip
    g.add_argument("--storage", metavar="URL",
                   help="where workers meet: postgresql://..., another database of Optuna's, redis://..., or a journal's "
                        "path on a disk that they share (default: a journal in the run folder)")  # fmt: skip
    g.add_argument("--name", default="minunet", help="the study's name in a storage that holds several")
    g.add_argument("--space", metavar="FILE",
                   help="TOML file of what is searched (default: architecture, width, depth, optimiser, learning rate, "
                        "batch size, loss and augmentation, around the defaults)")  # fmt: skip
    g.add_argument("--worker", help=argparse.SUPPRESS)  # its name, if this process is one
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""

    def body() -> int:
        parser = make_parser()
        for action in parser._actions:
            action.default = argparse.SUPPRESS
        entered = vars(parser.parse_args(argv))
        own = {name: entered.pop(name, None) for name in OWN}
        args, given = complete_arguments(entered)
        if args.resume:
            raise UserError("--resume is of minunet train: a search goes on by the same command, with the same --out")
        if args.recipe != "modern":
            raise UserError(f"--recipe {args.recipe} fixes all that is searched: leave it out")
        if own["trials"] is None and own["minutes"] is None:
            own["trials"] = TRIALS
        from .search import search  # slow to load, so --help does without it

        return search(args, given, **own)

    return run(body)
