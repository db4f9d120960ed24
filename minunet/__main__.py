"""The command ``minunet``: one name for all commands. ``python -m minunet`` is the same.

The module of a command has `make_parser` and `main`, and is imported only if the command is called. A new command needs one
more line here.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from importlib import import_module
from pathlib import Path

from .cli import HelpFormatter, complete_files, run
from .errors import UserError

COMMANDS = {
    "train": ("train.command", "train a network on generated cells or on your own images"),
    "tune": ("train.tune.command", "search for the settings with which training does best"),
    "predict": ("predict.command", "segment images with a trained network"),
    "evaluate": ("evaluate", "score segmentations against the truth"),
    "doctor": ("doctor", "find common problems of a data set"),
    "look": ("look.command", "write a page that shows a trained network at work on an image"),
    "export": ("export", "write a trained network as a file for other programs"),
    "models": ("models.command", "list the networks with their parameters and arithmetic"),
    "data": ("data.command", "download a public data set"),
    "grade": ("grade.command", "grade exercises"),
    "mine": ("grade.mine.command", "train a U-Net in which your own answers to the exercises run"),
    "gradcheck": ("gradcheck.command", "check the gradient of every op and model"),
}


def main(argv: list[str] | None = None) -> int:
    """Hand over to a command, or answer --help, --version and --print-completion; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv and argv[0] in COMMANDS:
        status: int = import_module(f"minunet.{COMMANDS[argv[0]][0]}").main(argv[1:])
        return status
    return run(lambda: answer(argv))


def answer(argv: list[str]) -> int:
    """Handle arguments that do not begin with the name of a command."""
    if argv and not argv[0].startswith("-"):
        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        meant = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise UserError(f"there is no command {argv[0]!r}: {meant}")
    args = make_parser().parse_args(argv or ["--help"])
    if args.print_completion:
        print(completion(args.print_completion))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The flags of `minunet` itself, without a command."""
    from shtab import SUPPORTED_SHELLS

    from . import __version__

    p = argparse.ArgumentParser(
        prog="minunet" if Path(sys.argv[0]).stem == "minunet" else "python -m minunet",
        usage="%(prog)s COMMAND [flags]",
        formatter_class=HelpFormatter,
        description="A U-Net from scratch, to learn from and to use.",
        epilog="commands:\n"
        + "".join(f"  {name:<11}{what}\n" for name, (_, what) in COMMANDS.items())
        + "\n%(prog)s COMMAND --help lists the flags of a command.",
    )
    p.add_argument("--version", action="version", version=f"minunet {__version__}")
    p.add_argument("--print-completion", choices=SUPPORTED_SHELLS, metavar="SHELL",
                   help=f"print what completes commands, flags and files in {', '.join(SUPPORTED_SHELLS)}")  # fmt: skip
    return p


def completion(shell: str) -> str:
    """The script with which a shell completes the commands, flags and files of `minunet`."""
    import shtab

    whole = make_parser()
    whole.prog = "minunet"
    ready = {"parser_class": lambda module, **_: module.make_parser()}  # parsers that exist, in place of new ones
    commands = whole.add_subparsers(metavar="COMMAND", **ready)  # type: ignore[call-overload]
    for name, (module, what) in COMMANDS.items():
        complete_files(commands.add_parser(name, help=what, module=import_module(f"minunet.{module}")))
    script: str = shtab.complete(whole, shell)
    return script


if __name__ == "__main__":
    sys.exit(main())
