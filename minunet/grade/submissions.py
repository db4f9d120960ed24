"""What students hand in: read with care, since it may be anything, and each graded by itself."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..errors import UserError
from .grading import Grade, grade_source
from .process.calls import Trouble
from .process.runner import Limits

LARGEST = 1 << 18  # bytes of a file: the exercises' own have 10 KB
LARGEST_NOTEBOOK = 1 << 22  # which may hold pictures
SUFFIXES = (".py", ".ipynb")
FILES = 50  # Python files of a submission that are graded, at most
ENTRIES = 10_000  # files and folders of a submission that are looked at, at most
LEFT_BEHIND = ("__pycache__", "__MACOSX", ".ipynb_checkpoints")  # folders, by Python, by macOS, and by Jupyter
TIMES = 10  # as long as all parts of an exercise may take, a submission may


def read(path: Path) -> str:
    """A file's text.

    Raises
    ------
    UserError
        If it is a link, a device or a pipe, too large, or no UTF-8, or cannot be read.
    """
    largest = LARGEST_NOTEBOOK if path.suffix.lower() == ".ipynb" else LARGEST
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            raise UserError(f"{path} is a link to another file: hand in the file itself")
        if stat.S_ISREG(found.st_mode):
            # if it has become something else by now: no link is followed, and nothing waits for a pipe's other end
            flags = (
                os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
            )
            with open(os.open(path, flags), "rb") as f:
                found = os.fstat(f.fileno())
                content = f.read(largest + 1) if stat.S_ISREG(found.st_mode) else b""
    except OSError as e:
        raise UserError(f"cannot read {path}: {e.strerror or e}; give a Python file") from e
    if not stat.S_ISREG(found.st_mode):
        kind = "folder" if stat.S_ISDIR(found.st_mode) else "device, a pipe or a socket"
        raise UserError(f"{path} is a {kind}: give a Python file")
    if len(content) > largest:
        how = "clear its outputs" if largest == LARGEST_NOTEBOOK else "shorten it"
        raise UserError(f"{path} has {found.st_size:,} bytes, more than the {largest:,} that are read: {how}")
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not text in UTF-8: give a Python file, saved as UTF-8") from e


def grade_file(
    path: Path | str,
    names: list[str] | None = None,
    seed: int | None = None,
    limits: Limits | None = None,
    isolation: str = "auto",
) -> list[Grade]:
    """Grade every exercise whose functions the file defines, or those named.

    Raises
    ------
    UserError
        If the file cannot be read, is not Python, or defines none of the exercises' functions, or if the system does not offer
        the isolation that is asked for.
    """
    path = Path(path)
    source = read(path)
    try:
        return grade_source(path, source, names, seed, limits, isolation)
    except UserError:
        raise
    except Exception as e:  # whatever a file is the reason of: it costs nobody else
        why = e if isinstance(e, Trouble) else f"{type(e).__name__}: {e}"
        raise UserError(f"{path} cannot be graded: {why}") from e


def submissions(folder: Path) -> dict[str, list[Path]]:
    """The Python files of every submission: those of each subfolder, even if none, and each file beside them.

    What calls itself a Python file, or is no ordinary file or folder, counts as one: reading it says what is wrong. UserError
    without any file. Hidden folders, and those of `LEFT_BEHIND`, are none of a student's.
    """
    found = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith(".") and entry.name not in LEFT_BEHIND:
                found[entry.name] = python_files(entry.path)
        elif entry.name.endswith(SUFFIXES) if entry.is_file(follow_symlinks=False) else not entry.name.startswith("."):
            found[entry.name] = [Path(entry.path)]
    if not any(found.values()):
        raise UserError(f"{folder} holds no Python file or notebook; give the folder with the submissions")
    return found


def python_files(folder: str) -> list[Path]:
    """The Python files in a folder and those below, sorted; no link is followed, and only the first `ENTRIES` are looked at.

    A folder that cannot be looked into counts as a file: reading it says what is wrong.
    """
    found: list[Path] = []
    folders, seen = [folder], 0
    while folders and seen < ENTRIES:
        place = folders.pop()
        try:
            with os.scandir(place) as entries:
                for entry in islice(entries, ENTRIES - seen):
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        folders += [entry.path] * (entry.name not in LEFT_BEHIND)
                    elif entry.name.endswith(SUFFIXES):
                        found.append(Path(entry.path))
        except OSError:  # it is closed to us, or lies too deep
            found.append(Path(place))
    return sorted(found)


def hard_links(found: dict[str, list[Path]]) -> dict[Path, str]:
    """Of files that are in more than one submission (hard links), what is to be said.

    All of them are graded, and all rows say so: times of files and folders can be set by their owners, so nothing here tells
    who made the link, and nobody is to lose by it.
    """
    names: dict[tuple[int, int], list[tuple[str, Path]]] = {}
    for submission, files in found.items():
        for path in files:
            with suppress(OSError):
                status = os.lstat(path)
                if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                    names.setdefault((status.st_dev, status.st_ino), []).append((submission, path))
    said = {}
    for group in names.values():
        if len({submission for submission, _ in group}) > 1:
            for _, path in group:
                others = ", ".join(str(other) for _, other in group if other != path)
                said[path] = f"{path} is the same file as {others} (a hard link): see whose it is"
    return said


def grade_submission(
    files: list[Path],
    names: list[str] | None,
    seed: int | None,
    limits: Limits | None,
    isolation: str = "auto",
    links: dict[Path, str] | None = None,
) -> tuple[list[Grade], list[str]]:
    """All grades of a submission's files, the better of two for the same exercise, and what could not be graded.

    `links` is of `hard_links`. It raises nothing that a submission could be the reason of.
    """
    best: dict[str, Grade] = {}
    notes = [] if files else ["no Python file or notebook was handed in"]
    if len(files) > FILES:
        notes.append(f"of {len(files)} Python files only the first {FILES} were graded")
    begun, most = time.monotonic(), TIMES * (limits or Limits()).total
    for number, file in enumerate(files[:FILES]):
        if time.monotonic() - begun > most:
            notes.append(f"after {most:g} seconds {len(files) - number} Python files were left out")
            break
        if links and file in links:
            notes.append(links[file])
        try:
            grades = grade_file(file, names, seed, limits, isolation)
        except UserError as e:
            said = str(e)  # in which a path may be as long as a system allows
            notes.append(said if len(said) <= 1000 else f"{said[:450]} ... {said[-450:]}")
            continue
        for g in grades:
            known = best.get(g.exercise.name)
            best[g.exercise.name] = g if known is None or g.score > known.score else known
    return list(best.values()), notes
