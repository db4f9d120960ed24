"""Data sets that are divided already: train/ beside val/, and test/, which no training may see.

    PATH/train/LAYOUT, PATH/val/LAYOUT, PATH/test/LAYOUT     any layout in each, as StarDist, Cellpose and Roboflow write them
    PATH/images/train/X.png + PATH/masks/train/X.png         the other way round

Images in val/ are for validation, unless the user says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...errors import UserError
from .source import Entry, Source, some

TRAIN = ("train", "training", "trn")
VALIDATION = ("val", "valid", "validation", "dev")
TEST = ("test", "testing", "tst")
GIVEN = "division    the data set holds val/ out; --val-files, or -v with another share than 10, divides it anew"


def part_folders(path: Path) -> dict[str, Path]:
    """The folders of a division, by "train", "val" and "test"; empty if there is none to train on."""
    found: dict[str, Path] = {}
    for folder in sorted(p for p in path.iterdir() if p.is_dir()):
        kind = part_of(folder.name)
        if kind and kind in found:
            raise UserError(f"{path}: holds both {found[kind].name}/ and {folder.name}/; keep one")
        if kind:
            found[kind] = folder
    return found if "train" in found else {}


def part_of(name: str) -> str | None:
    """Which part a folder of that name is: "train", "val", "test" or None."""
    kinds = {"train": TRAIN, "val": VALIDATION, "test": TEST}
    return next((kind for kind, names in kinds.items() if name.lower() in names), None)


def join_parts(path: Path, folders: dict[str, Path], open_part: Callable[[Path], Source]) -> Source:
    """The images to train and to validate on; those of test/ are left out."""
    sources = {folder.name: open_part(folder) for kind, folder in folders.items() if kind != "test"}
    first = next(iter(sources.values()))
    classes = {s.classes.describe() if s.classes else None for s in sources.values()}
    if len(classes) > 1:
        raise UserError(f"{path}: its parts have different classes: {' and '.join(map(str, classes))}")
    entries = [replace(e, name=f"{name}/{e.name}") for name, s in sources.items() for e in s.entries]
    left_out = [f"{name}/: {text}" for name, s in sources.items() for text in s.left_out]
    if "test" in folders:
        left_out.append(f"{folders['test'].name}/, which is for testing")
    notes = [note for s in sources.values() for note in s.notes]
    if "val" in folders:
        notes.append(GIVEN)
    held = [e.name for e in entries if "val" in folders and e.name.startswith(f"{folders['val'].name}/")]
    layouts = " and ".join(dict.fromkeys(s.layout for s in sources.values()))
    ordered = any(s.ordered for s in sources.values())
    return Source(layouts, entries, first.classes, ordered, list(dict.fromkeys(notes)), left_out, held or None)


def divided(source: Source) -> Source:
    """A source whose images lie in folders train/, val/ and test/, divided as these say."""

    def kind(entry: Entry) -> str | None:
        return part_of(entry.name.partition("/")[0]) if "/" in entry.name else None

    kinds = {kind(entry) for entry in source.entries}
    if source.validation is not None or "train" not in kinds or not kinds & {"val", "test"}:
        return source
    test = [entry for entry in source.entries if kind(entry) == "test"]
    kept = [entry for entry in source.entries if kind(entry) != "test"]
    held = [entry.name for entry in kept if kind(entry) == "val"]
    notes = [GIVEN] * bool(held)
    left_out = [f"{len(test)} images in test/, which is for testing ({some(e.image.name for e in test)})"] * bool(test)
    return replace(
        source, entries=kept, validation=held or None, left_out=[*source.left_out, *left_out],
        notes=[*source.notes, *notes],
    )  # fmt: skip
