"""``minunet train``: train a U-Net on generated cells or on your own images.

Everything goes into a run folder: history.csv, curves.png, predictions.png, best.safetensors, last.safetensors, config.toml.
"""

from __future__ import annotations

from ..cli import run
from ..errors import UserError
from .arguments import make_parser as make_parser
from .arguments import parse


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""

    def body() -> int:
        args, given = parse(argv)
        from .distributed.mpi import launched
        from .session import train  # slow to load, so --help does without it

        world = launched()
        try:
            return train(args, given, world)
        except UserError:
            world.let_first_speak()
            raise

    return run(body)
