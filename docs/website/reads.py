"""The page "What minunet reads", from what the readers say of themselves: their docstrings, constants and flags.

python docs/website/reads.py      prints it as Markdown
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from minunet.data import LAYOUTS
from minunet.data.files.axes import LETTERS
from minunet.data.files.images import SUFFIXES
from minunet.data.layouts.listing import UNREAD
from minunet.doctor import make_parser as doctor
from minunet.evaluate import make_parser as evaluate
from minunet.predict.arguments import make_parser as predict
from minunet.train.arguments import make_parser as train

TITLE = "What minunet reads"
COMMANDS = {"train": train, "predict": predict, "evaluate": evaluate, "doctor": doctor}
SECTIONS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {  # by title: a sentence, modules of data, flags
    "Layouts that any other may have around it": (
        "Found by the names of folders; what lies in a data set and is not used is counted and named in the report.",
        ("layouts.parts", "layouts.stacks", "layouts.listing"), ("--val-files", "--validation"),
    ),
    "Formats and bit depths": (
        "The content of a file decides, not its ending.",
        (
            "files.images", "files.tiff", "files.tiff_planes", "files.pillow", "files.npy", "files.large_zarr", "files.limits",
        ), (),
    ),
    "Axes, pages and channels": (
        "A file's own description decides; where there is none, and two readings are possible, the command asks for a flag.",
        ("files.axes",), ("--axes", "--channels"),
    ),
    "Orientation and pixel size": (
        "Both are those of the file.", ("files.turn", "files.pixel_size"), ("--pixel-size",),
    ),
    "Intensity": ("What is done to every image before the network sees it.", ("preprocess",), ("--normalise", "--scale")),
    "Masks": (
        "What a value means is told, or found by rules that the report names.",
        ("mask_kinds", "mask_noise", "mask_regions", "classes", "layouts.annotated", "layouts.shapes"),
        ("--masks", "--ignore", "--truth-kind", "--classes"),
    ),
}  # fmt: skip


def page() -> str:
    """The page as Markdown."""
    parts = [f"# {TITLE}", "Made from what the readers say of themselves, and so true of this version.", "## Layouts"]
    parts += ["`--layout NAME` of `train`, `evaluate` and `doctor` takes another one than is recognised.", layouts()]
    for title, (sentence, modules, flags) in SECTIONS.items():
        parts += [f"## {title}", sentence]
        if title.startswith("Formats"):
            parts += [f"Endings that are looked for in folders: {listed(SUFFIXES)}; folders of OME-Zarr."]
            parts += [f"Endings of pictures that are not read, but counted and named: {listed(UNREAD)}."]
        if title.startswith("Axes"):
            parts += [f"Letters: {listed(LETTERS)}."]
        parts += [said(import_module(f"minunet.data.{name}")) for name in modules]
        if flags:
            parts += ["What overrides it:", *(told_flag(flag) for flag in flags)]
    return "\n\n".join(part for part in parts if part) + "\n"


def layouts() -> str:
    """A table of the layouts, and what each module says."""
    rows = [f"| `{name}` | `{module.EXPECTS.replace('|', ' ')}` |" for name, module in LAYOUTS.items()]
    table = "\n".join(["| layout | what PATH holds |", "| --- | --- |", *rows])
    return "\n\n".join([table, *(said(module) for module in LAYOUTS.values())])


def said(module: ModuleType) -> str:
    """A module's docstring: its first sentence as text, the rest as it stands."""
    first, _, rest = (inspect.getdoc(module) or "").partition("\n\n")
    block = f"\n\n```text\n{rest.rstrip()}\n```" if rest.strip() else ""
    return f"**{module.__name__.rpartition('.')[2]}**: {' '.join(first.split())}{block}"


def told_flag(flag: str) -> str:
    """What the commands' help says of a flag, and which commands have it."""
    texts: dict[str, list[str]] = {}
    for name, make in COMMANDS.items():
        action = next((a for a in make()._actions if flag in a.option_strings), None)
        if action and action.help:
            choices = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
            texts.setdefault(" ".join((action.help + choices).split()), []).append(name)
    return "\n".join(f"* `{flag}` of {', '.join(names)}: {text}" for text, names in texts.items())


def listed(things: Iterable[str]) -> str:
    """Things as code, with commas."""
    return ", ".join(f"`{thing}`" for thing in things)


if __name__ == "__main__":
    print(page(), end="")
