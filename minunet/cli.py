"""What the command lines share: errors as one line, checked numbers, and the number of threads."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from .errors import UserError
from .kernels.threads import set_threads


def run(body: Callable[[], int]) -> int:
    """Run a command; a UserError becomes one line on stderr and exit status 2, Ctrl-C status 130."""
    try:
        return body()
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except MemoryError:
        print("error: out of memory: use a smaller --batch-size, --crop, --base-width or --scale", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def number(kind: type, least: float, most: float = float("inf"), above: bool = False) -> Callable[[str], float]:
    """An argparse type: an int or float from `least` (not itself if `above`) to `most`."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {'a whole number' if kind is int else 'a number'}"
            ) from None
        if not (least < value if above else least <= value) or not value <= most:
            limits = f"{'above' if above else 'at least'} {least:g}" + (
                f" and at most {most:g}" if most < 1e300 else ""
            )
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {limits}")
        return value

    return parse


def add_threads(parser: argparse._ActionsContainer) -> None:
    """Add the flag --threads."""
    text = "threads to compute on (default: all cores, or as NUMBA_NUM_THREADS and OMP_NUM_THREADS say)"
    parser.add_argument("--threads", type=number(int, 1), metavar="N", help=text)


def use_threads(n: int | None) -> None:
    """Do as --threads says; a note if there are not so many."""
    used = n and set_threads(n)
    if used != n:
        print(f"note: --threads {n}: computing on {used}, as there are no more cores, or NUMBA_NUM_THREADS says so")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the examples' lines, and adds the default to every flag's help unless it has none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == argparse.SUPPRESS:
            return action.help
        return super()._get_help_string(action)
