"""All that a GPU is to be asked, in one command: are the kernels right on it, how fast is each, and the table beside PyTorch.

    python bench/gpu.py [PART...] [--out DIR] [--minutes M] [--sizes N...]

The parts, in this order:

    tests      the kernels' tests, on this GPU
    kernels    every kernel's time, convolutions in all ways, float32 and float16
    table      the published table: minunet, as a CUDA graph too, and PyTorch
    mixed      the same in mixed precision
    compiled   the table once more with PyTorch compiled, which takes minutes a case

What a part says is kept in DIR/PART.txt, and the table's numbers as bench/published.py keeps them. After M minutes what runs is
interrupted; the same command goes on from there, with the sizes that are missing. Then write the tables into docs/gpu.md:
python bench/published.py --device cuda --sizes --table, and the same with --amp fp16.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from published import make_parser, setting_of
from record import Record, gpu_apart
from report import RESULTS, ROOT
from talk import SECONDS, WHATS

from minunet import cli
from minunet.errors import UserError

PATIENCE = 30.0
"""Seconds after which what does not hear an interrupt is ended: who waits for a kernel that never ends does not."""

Command = list[str]
Commands = Callable[[Path, list[int]], list[Command]]
"""What is still to be run, given DIR and sizes; nothing where all is done."""


def script(name: str, *flags: str) -> Command:
    """A script beside this one."""
    return [sys.executable, str(Path(__file__).with_name(name)), *flags]


def once(part: str, *commands: Command) -> Commands:
    """Commands that have nothing to do with sizes: until they have gone well on this machine."""

    def left(out: Path, sizes: list[int]) -> list[Command]:
        log = out / f"{part}.txt"
        return [] if log.exists() and log.read_text().startswith(gpu_apart().reason) else list(commands)

    return left


def table(flags: str, who: str = "minunet") -> Commands:
    """The published table at the sizes at which a contestant has not been measured to the end on this machine."""

    def left(out: Path, sizes: list[int]) -> list[Command]:
        words = ["--device", "cuda", "--out", str(out), *flags.split()]
        rows = Record(out, setting_of(make_parser().parse_args(words))).earlier
        done = {(row["size"], row["what"]) for row in rows if row["who"] == who and row["peak_mib"]}
        missing = [str(n) for n in sizes if any((n, what) not in done for what in WHATS)]
        return [script("published.py", *words, "--sizes", *missing)] if missing else []

    return left


PARTS: dict[str, Commands] = {
    "tests": once(
        "tests",
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "--continue-on-collection-errors", str(ROOT / "tests")],
    ),
    "kernels": once("kernels", *(script("cuda_kernels.py", "--ways", "--dtype", d) for d in ("float32", "float16"))),
    "table": table("--peer graph --peer torch"),
    "mixed": table("--amp fp16 --peer graph --peer torch"),
    "compiled": table("--peer graph --peer torch --peer torch-compile", "PyTorch compiled"),
}


def run(part: str, out: Path, sizes: list[int], until: float) -> str:
    """Run what is left of a part, but no longer than until a time; returns what became of it."""
    commands = PARTS[part](out, sizes)
    if not commands:
        return "was done before"
    log = out / f"{part}.txt.part"
    with log.open("w") as file:
        file.write(f"{gpu_apart().reason}\n")
        for command in commands:
            if time.monotonic() >= until:
                return "not finished"
            status, late = follow(command, file, until - time.monotonic())
            if late or status:
                return "not finished" if late else "FAILED"
    log.replace(log.with_suffix(""))
    return "done"


def follow(command: Command, log: TextIO, seconds: float) -> tuple[int, bool]:
    """Run a command, its lines also to a file; interrupted after so many seconds. Returns its status, and whether it was."""
    log.write(f"$ {shlex.join(command)}\n")
    late = threading.Event()

    def interrupt() -> None:
        late.set()
        process.send_signal(signal.SIGINT)  # what has been measured is kept

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        timers = [threading.Timer(seconds, interrupt), threading.Timer(seconds + PATIENCE, process.kill)]
        for timer in timers:
            timer.start()
        try:
            for line in process.stdout or ():
                print(line, end="", flush=True)
                log.write(line)
        finally:
            for timer in timers:
                timer.cancel()
    return process.returncode, late.is_set()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python bench/gpu.py", description=__doc__, formatter_class=cli.HelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"only these: {', '.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of the results")
    parser.add_argument("--minutes", type=cli.number(float, 0), default=1e6, metavar="M", help="stop after so many")
    parser.add_argument("--sizes", type=cli.number(int, 16), nargs="+", default=list(SECONDS["cuda"]["inference"]),
                        metavar="N", help="rows and columns of the images (default: the published ones)")  # fmt: skip
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background jobs, and theirs, start with it ignored
    options = parser.parse_args(argv)
    for name in set(options.parts) - set(PARTS):
        raise UserError(f"{name}: no such part; there are {', '.join(PARTS)}")
    if not gpu_apart():
        raise UserError(gpu_apart().reason)
    options.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    outcomes = {}
    for part in PARTS:
        if not options.parts or part in options.parts:
            print(f"== {part}", flush=True)
            outcomes[part] = run(part, options.out, options.sizes, until)
    print("\n" + "\n".join(f"{part:<10}{outcome}" for part, outcome in outcomes.items()))
    return int("FAILED" in outcomes.values())


if __name__ == "__main__":
    sys.exit(cli.run(main))
