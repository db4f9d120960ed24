"""``python -m minunet.data fetch NAME``: get a public data set from where its makers publish it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..cli import HelpFormatter, run
from .public.fetch import SETS, fetch

EXAMPLES = """
examples:
  python -m minunet.data fetch dsb2018
  python -m minunet.data fetch PhC-C2DH-U373 -o ~/cells
"""


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m minunet.data", formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__
    )
    commands = p.add_subparsers(dest="command", required=True, metavar="fetch")
    names = "\n".join(f"  {name:<15}{s.title}" for name, s in SETS.items())
    get = commands.add_parser(
        "fetch",
        formatter_class=HelpFormatter,
        help="download a data set, check it and unpack it",
        description="Download a data set, check it and unpack it. A download that was cut off goes on where it ended.\n\n"
        + names,
    )
    get.add_argument("name", choices=SETS, metavar="NAME", help=", ".join(SETS))
    get.add_argument("-o", "--output", default="data", metavar="DIR", help="folder to put it in")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = make_parser().parse_args(argv)
    return run(lambda: get(args.name, Path(args.output)))


def get(name: str, folder: Path) -> int:
    """Fetch a data set, saying under which terms, and what to do next."""
    chosen = SETS[name]
    print(
        f"{chosen.title}\nterms       {chosen.terms}\ncite        {chosen.cite}\nfrom        {chosen.url}", flush=True
    )
    where = fetch(name, folder)
    print(f"in          {where}\nnext: python -m minunet.train --data {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
