"""``python -m minunet.predict``: segment images with a trained network."""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ..cli import printable, run, use_threads
from ..errors import UserError
from .arguments import make_parser, options_of
from .progress import Progress

if TYPE_CHECKING:
    import numpy as np

    from ..nn import Module
    from .pipeline import OneProcess
    from .results import ImageResult


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: predict(make_parser().parse_args(argv)))


def predict(args: argparse.Namespace) -> int:
    """Segment every image; those that cannot be read are named at the end, and the status is 2."""
    from ..checkpoint.load import load  # slow to load, so --help does without these
    from ..kernels.device import select_device
    from . import images
    from .files import predict_files

    if args.viz:
        images.check_display()
    with kept_clean(args), ExitStack() as stack:
        many = args.dask or args.workers
        if not many:
            use_threads(args.threads)
        model = load(*args.model)
        by = stack.enter_context(crew(args, model)) if many else None
        model = model if many else model.convert(select_device(args.device).asarray)
        note_scale(args)
        with Terminal(args) as progress:
            out = None if args.no_save else args.output
            made = predict_files(model, args.input, out, options_of(args), progress, by)
    if args.json:
        print(json.dumps(made.to_json(), indent=1))
    elif made.images and not args.no_save and not args.quiet:
        for note in made.notes:
            print(f"note: {note}")
        print(f"{len(made.images)} image{'s' * (len(made.images) != 1)} segmented into {Path(args.output)}")
    if made.failures:
        print("error: " + "\n       ".join(map(printable, made.failures.values())), file=sys.stderr)
    return 2 if made.failures else 0


@contextmanager
def crew(args: argparse.Namespace, model: Module) -> Iterator[OneProcess]:
    """The workers of --dask or --workers."""
    from .distributed.cluster import GO_ON, joined

    if args.no_save and args.dask:
        raise UserError("--no-save with --dask: the workers write what they find; leave one of them out")
    with joined(model, args.model, args.dask, args.workers, args.device, args.threads) as workers:
        try:
            yield workers
        except KeyboardInterrupt:
            print(GO_ON, file=sys.stderr)
            raise


def kept_clean(args: argparse.Namespace) -> AbstractContextManager[object]:
    """Keep notes off stdout: with --quiet drop them, with --json print them on stderr, so that stdout is only the object."""
    if args.quiet:
        return redirect_stdout(io.StringIO())
    return redirect_stdout(sys.stderr) if args.json else nullcontext()


def note_scale(args: argparse.Namespace) -> None:
    """Print a note for files of PyTorch-UNet, which do not hold the scale of their training."""
    from ..checkpoint.pytorch.container import is_torch_file

    for file in filter(is_torch_file, args.model if args.scale is None else []):
        print(f"note: {file} does not tell the scale of its training; 1 is taken, PyTorch-UNet's default is -s 0.5")


EVERY = 60  # seconds between lines on the progress of many processes, where there is no terminal


class Terminal(Progress):
    """Progress bars, notes, and windows for overlays."""

    def __init__(self, args: argparse.Namespace) -> None:
        from tqdm import tqdm

        self.quiet, self.shows_overlays = args.quiet, args.viz
        self.new = tqdm
        self.bars: dict[str, tqdm] = {}
        self.lines = bool(args.dask or args.workers) and not args.quiet and not sys.stderr.isatty()
        self.since: dict[str, list[float]] = {}  # when a step began, from which number, and when a line was printed

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self.bars.values():
            bar.close()

    def step(self, what: str, done: int, total: int) -> None:
        """Move the bars: one for images, and below it one for tiles and one for blocks; none for a single step."""
        self._line(what, done, total)
        if what not in self.bars and total > 1:
            hidden = True if self.quiet else None  # None: hidden unless stderr is a terminal
            self.bars[what] = self.new(total=total, unit=what, disable=hidden, leave=what == "image")
        if what in self.bars:
            self.bars[what].update(done - self.bars[what].n)
        if done == total and what in self.bars:
            self.bars.pop(what).close()

    def _line(self, what: str, done: int, total: int) -> None:
        """Print how far many processes are, and how long it takes to the end of the step: in the log of a job."""
        now = time.monotonic()
        began, first, last = self.since.setdefault(what, [now, done, now])
        if self.lines and first < done < total and now - last >= EVERY:
            self.since[what][2] = now
            left = (now - began) / (done - first) * (total - done) / 60
            print(f"{done} of {total} {what}s, about {left:.0f} minutes to the last", file=sys.stderr)
        if done == total:
            del self.since[what]

    def plan(self, text: str) -> None:
        """Print how many processes will do the work."""
        self.new.write(printable(text))

    def image(self, result: ImageResult) -> None:
        """Print the notes on an image."""
        for note in result.notes:
            self.new.write(printable(f"note: {result.source}: {note}"))

    def overlay(self, path: Path, picture: np.ndarray) -> None:
        """Show the overlay in a window, with --viz."""
        if self.shows_overlays:
            from .images import show

            show([picture], path.name)
