"""Run one lesson as a script; each `plt.show()` writes its figures to a folder: `python tutorials/execute.py LESSON FOLDER`.

`build.py` starts this in a process of its own, with a limit on time. The exit status is 0 only if nothing was raised, no
warning was given, and every figure was shown.
"""

from __future__ import annotations

import runpy
import sys
import warnings
from pathlib import Path

import matplotlib


def main(lesson: str, folder: str) -> None:
    """Run the lesson, with its pictures as 01.png, 02.png, ... in the folder."""
    warnings.simplefilter("error")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pictures = Path(folder)
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("[0-9][0-9].png"):
        old.unlink()
    shown = 0

    def show() -> None:
        nonlocal shown
        for number in plt.get_fignums():
            shown += 1
            plt.figure(number).savefig(pictures / f"{shown:02}.png", dpi=110)
        plt.close("all")

    plt.show = show
    runpy.run_path(lesson, run_name="__main__")
    if plt.get_fignums():
        raise SystemExit(f"{lesson}: the last {len(plt.get_fignums())} figures were never shown: plt.show() is missing")


if __name__ == "__main__":
    main(*sys.argv[1:])
