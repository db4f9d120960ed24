"""``minunet data fetch NAME``: download a public data set from its makers' site."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ..cli import HelpFormatter, add_quiet, quoted, run, typed
from .public.fetch import SETS, fetch

EXAMPLES = """
examples:
  %(prog)s fetch dsb2018
  %(prog)s fetch PhC-C2DH-U373 -o ~/cells
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(prog=typed("data"), formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__)
    commands = p.add_subparsers(dest="command", required=True, metavar="fetch")
    names = "\n".join(f"  {name:<15}{s.title}" for name, s in SETS.items())
    get = commands.add_parser(
        "fetch",
        formatter_class=HelpFormatter,
        help="download a data set, check it and unpack it",
        description="Download a data set, check it and unpack it. A download that was cut off goes on where it ended.\n\n"
        + names,
    )
    get.add_argument("name", choices=list(SETS), metavar="NAME", help=", ".join(SETS))
    get.add_argument("-o", "--output", default="data", metavar="DIR", help="folder to put it in")
    add_quiet(get)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: get(make_parser().parse_args(argv)))


def get(args: argparse.Namespace) -> int:
    """Fetch a data set, saying under which terms, and what to do next."""
    say = (lambda *lines: None) if args.quiet else partial(print, sep="\n", flush=True)
    s = SETS[args.name]
    say(s.title, f"terms       {s.terms}", f"cite        {s.cite}", f"from        {s.url}")
    where = fetch(args.name, Path(args.output), quiet=args.quiet)
    say(f"in          {where}", f"next: {typed('train')} --data {quoted(where)}")
    return 0
