"""The folder that a class's pages are written to."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ...atomic import write_atomically
from ...errors import UserError
from ..grading import Grade
from ..report import labels
from .class_page import class_page
from .document import MARK, Block, Picture, as_html, as_markdown
from .student import student_page

DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # no names of files on Windows
LONGEST = 120  # bytes of a name


class Feedback:
    """Writes a folder: ``students/NAME.html`` and ``.md`` for each; of the class ``summary.html``, ``.md``, ``parts.svg``.

    Every file is written whole or not at all. A page of an earlier run whose student is no longer there is deleted at the end;
    what else lies in the folder is left alone.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    submissions : path
        The folder that is graded, in which this one must not lie, as it would be graded next time.
    names : iterable of str
        Of all submissions.

    Raises
    ------
    UserError
        If the folder cannot be made.
    """

    def __init__(self, folder: Path, submissions: Path, names: Iterable[str]) -> None:
        names = list(names)
        if folder.resolve().is_relative_to(submissions.resolve()):
            raise UserError(f"--feedback {folder} lies in {submissions}, which is graded: choose a folder outside")
        self.folder, self.students, self.submissions = folder, folder / "students", submissions
        try:
            self.students.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"--feedback {folder}: {e.strerror or e}; choose another folder") from e
        self.labels = dict(zip(names, labels(names)))
        self.stems = dict(zip(names, safe_names(names)))

    def add(self, name: str, grades: list[Grade], notes: list[str]) -> None:
        """Write a student's page."""
        notes = self.shorter(notes)
        self.write(self.students / self.stems[name], self.labels[name], student_page(self.labels[name], grades, notes))

    def finish(self, graded: dict[str, tuple[list[Grade], list[str]]]) -> None:
        """Write the class's page, when all are graded."""
        of_label = {self.labels[name]: (grades, self.shorter(notes)) for name, (grades, notes) in graded.items()}
        links = {self.labels[name]: f"students/{quote(stem)}" for name, stem in self.stems.items()}
        blocks = class_page(of_label, {label: f"{link}.html" for label, link in links.items()})
        for block in blocks:
            if isinstance(block, Picture):
                write_atomically(self.folder / block.file, block.svg.encode())
        self.write(self.folder / "summary", "The class", blocks)
        mine = {f"{stem}{ending}" for stem in self.stems.values() for ending in (".md", ".html")}
        for path in self.students.iterdir():
            if path.name not in mine and path.suffix in (".md", ".html") and is_ours(path):
                path.unlink(missing_ok=True)

    def shorter(self, notes: list[str]) -> list[str]:
        """Notes without where the teacher keeps the submissions."""
        return [note.replace(f"{self.submissions}{os.sep}", "") for note in notes]

    def write(self, path: Path, title: str, blocks: list[Block]) -> None:
        """Write a page in both formats."""
        write_atomically(path.with_name(f"{path.name}.html"), as_html(title, blocks).encode("utf-8", "replace"))
        write_atomically(path.with_name(f"{path.name}.md"), as_markdown(blocks).encode("utf-8", "replace"))


def is_ours(path: Path) -> bool:
    """Whether a page was written by an earlier run."""
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, "rb") as f:
        return MARK.encode() in f.read(200)


def safe_names(names: Iterable[str]) -> list[str]:
    """Names of files that stand for submissions: letters, digits and ``_-.`` alone, and no two alike on any system.

    A name that had to be changed, or that differs from another only in what systems do not tell apart, ends in digits that
    follow from it alone, and so is the same in every run.
    """
    names = list(names)
    plain = [plain_name(name) for name in names]
    alike = Counter(p.casefold() for p in plain)
    found: dict[str, str] = {}
    for name, p in zip(names, plain):
        same = p == stem_of(name) and alike[p.casefold()] == 1
        stem = p if same else f"{p}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:10]}"
        while stem.casefold() in found:  # somebody's name ends in another's digits
            stem += "_"
        found[stem.casefold()] = stem
    return list(found.values())


def stem_of(name: str) -> str:
    """A submission's name without what says that it is a file."""
    return re.sub(r"\.(py|ipynb)$", "", name)


def plain_name(name: str) -> str:
    """A submission's name with an underscore for whatever is no letter, digit, dot or dash."""
    stem = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", stem_of(name))).lstrip(".-")
    stem = stem.encode()[:LONGEST].decode("utf-8", "ignore").rstrip(".")
    return f"_{stem}" if not stem or DEVICES.fullmatch(stem) else stem
