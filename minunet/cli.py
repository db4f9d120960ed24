"""What the command lines share: how they begin and end, what they print and write as CSV, checked numbers, common flags."""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError, out_of_memory

FILES, FOLDERS = ("FILE", "PATH", "IMAGE"), ("DIR", "FOLDER")  # metavars of arguments that are files, and folders

# control characters; what turns text around or ends lines, of Unicode; and halves of characters, which stand for bytes of file
# names that are no UTF-8 (PEP 383)
UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MOVES = re.compile("\r|\x1b\\[A")  # with which tqdm redraws its bars
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes a cell that begins so for a formula


def run(body: Callable[[], int]) -> int:
    """Run a command and return its exit status.

    A UserError, and an OSError that nobody expected, becomes one line on stderr and status 2, Ctrl-C status 130. If stdout was
    closed, as by ``| head``, the command ends without a message and with 141, the status of a program that SIGPIPE ended. What
    is printed goes through `Output`.
    """
    with printed_safely():
        try:
            try:
                return _status(body)
            finally:  # also of --help, which leaves by SystemExit
                sys.stdout.flush()
        except BrokenPipeError:
            return 141
        except OSError as e:
            return _failed(f"{e.filename}: {e.strerror or e}")


def _status(body: Callable[[], int]) -> int:
    try:
        return body()
    except UserError as e:
        return _failed(str(e))
    except (MemoryError, RuntimeError) as e:
        if not out_of_memory(e):
            raise
        return _failed("out of memory: use a smaller --batch-size, --crop, --base-width or --scale")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as e:
        if e.errno is None:
            raise
        return _failed(f"{e.filename}: {e.strerror}" if e.filename else os.strerror(e.errno))


def _failed(message: str) -> int:
    """Print an error and return its status."""
    with suppress(OSError):  # nobody reads stderr
        print(f"error: {printable(message)}", file=sys.stderr)
    return 2


# ---- what is printed and written -------------------------------------------------------------------------------------


def printable(text: str, kept: str = "") -> str:
    """A text without what a terminal or a reader could be deceived by.

    Control characters, line ends and tabs among them, are written as escapes, such as ``\\x1b``, unless they are in `kept`.
    U+FFFD stands for every byte of a file name that is no UTF-8.
    """

    def shown(found: re.Match[str]) -> str:
        c = found[0]
        return c if c in kept else "\ufffd" if "\ud800" <= c <= "\udfff" else ascii(c)[1:-1]

    return UNPRINTABLE.sub(shown, text)


def csv_text(rows: Iterable[Iterable[Any]], formulas: bool = False) -> str:
    """Rows as CSV for spreadsheets: floats with six digits, and None and nan as empty cells.

    A text that a spreadsheet would take for a formula gets an apostrophe before it, unless `formulas` allows them, for files
    that programs read. Control characters but line ends and tabs are escaped.
    """

    def cell(value: Any) -> Any:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return ""
        if not isinstance(value, str):
            return f"{value:.6g}" if isinstance(value, float) else value
        text = printable(value, "\n\t")
        return "'" + text if value.startswith(FORMULA) and not formulas else text

    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()


class Output:
    """A stream in place of stdout or stderr that lets no control characters through, and can outlive its reader.

    Attributes
    ----------
    lasting : bool
        Whether to go on if the reader is gone, as a training does whose terminal was closed; stderr says so.
    """

    def __init__(self, stream: Any, moves: bool = False) -> None:
        self._stream, self._moves, self.lasting = stream, moves, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, made `printable`; what the stream's encoding lacks becomes a question mark."""
        moves = MOVES.findall(text) if self._moves else []
        parts = [printable(part, "\n\t") for part in (MOVES.split(text) if moves else [text])]
        safe = parts[0] + "".join(move + part for move, part in zip(moves, parts[1:]))
        encoding = self._stream.encoding or "utf-8"
        self._try(lambda: self._stream.write(safe.encode(encoding, "replace").decode(encoding)))
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        self._try(self._stream.flush)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as e:
            silence(self._stream)  # it is flushed once more when Python ends
            if not self.lasting:
                raise OSError(e.errno, e.strerror, "stderr" if self is sys.stderr else "stdout") from None
            if self is not sys.stderr:
                print(f"note: stdout cannot be written ({e.strerror or e}), going on without it", file=sys.stderr)


def silence(stream: Any) -> None:
    """Let a stream whose reader is gone write to nowhere from now on."""
    with suppress(OSError, ValueError):  # it has no file, or is closed
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def printed_safely() -> Iterator[None]:
    """A block in which stdout and stderr are each an `Output`; where the process has none, what is written goes nowhere."""
    before = sys.stdout, sys.stderr
    while (free := os.open(os.devnull, os.O_RDWR)) < 3:  # so that no file gets the number of a stream that is closed
        pass
    os.close(free)
    nowhere = open(os.devnull, "w")  # noqa: SIM115
    wrapped = Output(before[0] or nowhere), Output(before[1] or nowhere, moves=True)
    sys.stdout, sys.stderr = wrapped  # type: ignore[assignment]
    try:
        yield
    finally:
        if sys.stdout is wrapped[0]:
            sys.stdout = before[0]
        if sys.stderr is wrapped[1]:
            sys.stderr = before[1]
        nowhere.close()


def outlive_readers() -> None:
    """From here to the end of the command, go on if whoever reads stdout or stderr is gone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Output):
            stream.lasting = True


# ---- flags and help --------------------------------------------------------------------------------------------------


def typed(name: str) -> str:
    """How a command was typed: "minunet train", "minunet-train", "python -m minunet train" or "python -m minunet.train"."""
    program = Path(sys.argv[0]).stem
    if program in ("minunet", f"minunet-{name}"):
        return program if program != "minunet" else f"minunet {name}"
    module = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "")
    if module == "minunet.__main__":
        return f"python -m minunet {name}"
    here = module.removesuffix(".__main__")  # that of another command, or of a test: then the name is all that is known
    return f"python -m {here if here.startswith('minunet.') and here.endswith(f'.{name}') else f'minunet.{name}'}"


def quoted(path: object) -> str:
    """A path for a command that is to be copied: in quotes where a shell would take it apart."""
    text = str(path)
    if os.name != "nt":
        return shlex.quote(text)
    from subprocess import list2cmdline

    return list2cmdline([text])


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
