"""The lessons' pages: text, code, and what came out of it."""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import lite
from PIL import Image

if TYPE_CHECKING:
    from pages import Pages

FOLDER = Path(__file__).resolve().parents[2] / "tutorials"


def write(pages: Pages, runs: Path) -> list[str]:
    """A page for every lesson that has run, and the list of them; their names."""
    found = [path for path in sorted(FOLDER.glob("[0-9][0-9]_*.py")) if (runs / path.stem / "lesson.json").exists()]
    pages.home |= {f"tutorials/{path.name}": f"lessons/{path.stem}" for path in found}
    lines = []
    for path in found:
        cells = json.loads((runs / path.stem / "lesson.json").read_text())
        title, goals = opening(cells[0]["text"])
        lines += [f"## [{title}]({path.stem}.md)", "", pages.text(goals, "tutorials"), ""]
        pages.write(f"lessons/{path.stem}", page(pages, path, cells, runs / path.stem))
    names = [path.stem for path in found]
    toc = ["```{toctree}", ":hidden:", "", *names, "```"]
    head = ["# Lessons", "", "Each lesson says what you will be able to do. They build on one another.", ""]
    pages.write("lessons/index", "\n".join([*head, *lines, *toc]))
    return names


def opening(text: str) -> tuple[str, str]:
    """A lesson's title, and the list of what one will be able to do."""
    title = text.splitlines()[0].removeprefix("# ")
    goals = re.search(r"^\* .*?(?=\n\n|\Z)", text, re.M | re.S)
    return title, goals[0] if goals else ""


def page(pages: Pages, lesson: Path, cells: list[dict[str, Any]], run: Path) -> str:
    """The Markdown of a lesson."""
    from pages import fence

    title, _, rest = cells[0]["text"].partition("\n")
    parts = [title, f"{{.source}}\n{downloads(pages, lesson)}", pages.text(rest, "tutorials")]
    for cell in cells[1:]:
        if cell["kind"] == "markdown":
            parts.append(pages.text(cell["text"], "tutorials"))
            continue
        parts.append(fence(cell["text"], "python"))
        for output in cell["outputs"]:
            if "text" in output:
                parts.append(fence(output["text"], "text", ":class: output"))
            else:
                parts.append(picture(pages, run / output["picture"], lesson.stem))
    return "\n\n".join(parts) + "\n"


def picture(pages: Pages, file: Path, lesson: str) -> str:
    """A picture, no larger than it is."""
    name = pages.copy(file, f"pictures/{lesson}-{file.name}")
    with Image.open(file) as image:
        width = image.width
    alt = f"Picture {int(file.stem)} of lesson {lesson[:2]}, drawn by the code above"
    return f"```{{image}} {name}\n:alt: {alt}\n:width: {width}px\n:class: output\n```"


def tutorials_build() -> ModuleType:
    """tutorials/build.py, a script, as a module."""
    spec = importlib.util.spec_from_file_location("tutorials_build", FOLDER / "build.py")
    assert spec and spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build


def notebook_of(lesson: Path) -> dict[str, Any]:
    """A lesson as a notebook, Jupyter's JSON."""
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(tutorials_build().write_notebook(lesson, Path(folder)).read_text())


def downloads(pages: Pages, lesson: Path) -> str:
    """Links to the lesson as a script and as a notebook, and to where it runs in the browser."""
    script = pages.copy(lesson, f"files/{lesson.name}")
    tutorials_build().write_notebook(lesson, pages.folder / "files")
    text = (
        f"This lesson as {{download}}`a script <{script}>` and as {{download}}`a notebook </files/{lesson.stem}.ipynb>`"
    )
    if pages.lite and int(lesson.stem[:2]) in lite.LESSONS:
        text += f'; <a href="{lite.address(lesson.stem, "../")}">run it in the browser</a> ([how](/browser.md))'
    return text
