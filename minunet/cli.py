"""What the command lines share: how they begin and end, checked numbers, common flags, and the form of their help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import UserError

FILES, FOLDERS = ("FILE", "PATH", "IMAGE"), ("DIR", "FOLDER")  # metavars of arguments that are files, and folders


def run(body: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    A UserError becomes one line on stderr and status 2, Ctrl-C status 130. If stdout was closed, as by ``| head``, the command
    ends without a message and with 141, the status of a program that SIGPIPE ended.
    """
    try:
        try:
            return _status(body)
        finally:  # also of --help, which leaves by SystemExit
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        return 141


def _status(body: Callable[[], int]) -> int:
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


def typed(name: str) -> str:
    """How a command was typed: "minunet train", "minunet-train", "python -m minunet train" or "python -m minunet.train"."""
    program = Path(sys.argv[0]).stem
    if program in ("minunet", f"minunet-{name}"):
        return program if program != "minunet" else f"minunet {name}"
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m minunet{' ' if module and module.name == 'minunet.__main__' else '.'}{name}"


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


def use_threads(n: int | None, quiet: bool = False) -> None:
    """Apply --threads; unless `quiet`, print a note if fewer threads are used."""
    from .kernels.threads import set_threads

    used = n and set_threads(n)
    if used != n and not quiet:
        print(f"note: --threads {n}: computing on {used}, as there are no more cores, or NUMBA_NUM_THREADS says so")


def add_quiet(parser: argparse._ActionsContainer, what: str = "print results and errors only") -> None:
    """Add the flag --quiet."""
    parser.add_argument("-q", "--quiet", action="store_true", help=what)


def complete_files(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments are files and folders: those whose metavar says so."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                complete_files(inner)
        elif action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the examples' lines, and adds the default to every flag's help unless it has none."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.default == argparse.SUPPRESS:
            return action.help
        return super()._get_help_string(action)
