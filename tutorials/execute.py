"""Run one lesson as a script; each `plt.show()` writes its figures to a folder: `python tutorials/execute.py LESSON FOLDER`.

`build.py` starts this in a process of its own, with a limit on time. The exit status is 0 only if nothing was raised, no
warning was given, and every figure was shown. What the cells hold and what came out of them goes to lesson.json in the folder,
for the site: a list of {"kind": "markdown" or "code", "text": ..., "outputs": [{"text": ...} or {"picture": "01.png"}, ...]}.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import matplotlib

MARK = "# %%"


class Tee:
    """Standard output that is also kept, in the outputs of a cell."""

    def __init__(self, screen: Any) -> None:
        self.screen, self.outputs = screen, []

    def write(self, text: str) -> int:
        if not self.outputs or "text" not in self.outputs[-1]:
            self.outputs.append({"text": ""})
        self.outputs[-1]["text"] += text
        return self.screen.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.screen, name)


def read_cells(source: str) -> list[tuple[str, int, str]]:
    """The cells of a lesson: kind, number of its first line counted from 0, and text; markdown without its "# "."""
    lines = source.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if line.startswith(MARK)]
    cells = [("code", 0, "".join(lines[: starts[0]] if starts else lines))]
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        body = lines[start + 1 : end]
        if "[markdown]" in lines[start]:
            text = "".join(line.removeprefix("#").removeprefix(" ") for line in body)
            cells.append(("markdown", start + 1, text))
        else:
            cells.append(("code", start + 1, "".join(body)))
    return [cell for cell in cells if cell[2].strip()]


def main(lesson: str, folder: str) -> None:
    """Run the lesson, with its pictures as 01.png, 02.png, ... in the folder."""
    warnings.simplefilter("error")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pictures = Path(folder)
    pictures.mkdir(parents=True, exist_ok=True)
    for old in [*pictures.glob("[0-9][0-9].png"), pictures / "lesson.json"]:
        old.unlink(missing_ok=True)
    shown, out = 0, Tee(sys.stdout)

    def show() -> None:
        nonlocal shown
        for number in plt.get_fignums():
            shown += 1
            plt.figure(number).savefig(pictures / f"{shown:02}.png", dpi=110)
            out.outputs.append({"picture": f"{shown:02}.png"})
        plt.close("all")

    plt.show = show
    module = types.ModuleType("__main__")
    module.__file__ = lesson
    sys.modules["__main__"], sys.argv = module, [lesson]
    cells = []
    with contextlib.redirect_stdout(out):
        for kind, first, text in read_cells(Path(lesson).read_text()):
            out.outputs = []
            if kind == "code":
                exec(compile("\n" * first + text, lesson, "exec"), module.__dict__)  # empty lines keep the line numbers
            cells.append({"kind": kind, "text": text.strip("\n"), "outputs": out.outputs})
    if plt.get_fignums():
        raise SystemExit(f"{lesson}: the last {len(plt.get_fignums())} figures were never shown: plt.show() is missing")
    (pictures / "lesson.json").write_text(json.dumps(cells, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
