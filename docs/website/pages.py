"""The sources of all pages, in one folder for Sphinx: texts of the repository, lessons, reference, benches."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import benches
import lessons
import lite
import reads
import reference

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    "README.md": "index",
    "docs/learning.md": "learning",
    "docs/using.md": "using",
    "docs/family.md": "family",
    "docs/tuning.md": "tuning",
    "docs/accuracy.md": "accuracy",
    "docs/speed.md": "speed",
    "docs/gpu.md": "gpu",
    "docs/scale.md": "scale",
    "docs/teaching.md": "teaching",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "SECURITY.md": "security",
    "tutorials/exercises/README.md": "exercises",
}
FOLDERS = {"tutorials": "lessons/index", "tutorials/exercises": "exercises"}
LANGUAGES = {
    ".py": "python",
    ".cu": "cuda",
    ".cuh": "cuda",
    ".h": "c++",
    ".json": "json",
    ".toml": "toml",
    ".cff": "yaml",
    ".md": "markdown",
}


class Pages:
    """The pages so far, and where each file of the repository has its own; a file that only a link names gets one, too."""

    def __init__(self, folder: Path, modules: list[str], lite: bool = False) -> None:
        self.folder, self.modules, self.lite = folder, modules, lite
        self.home = {**TEXTS, **FOLDERS}
        self.sources: list[str] = []  # files and folders that are shown as they are

    def write(self, name: str, text: str) -> None:
        """Write the page `name`, Markdown; reStructuredText if it ends in ".rst"."""
        path = self.folder / (name if name.endswith(".rst") else f"{name}.md")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def copy(self, file: Path, name: str) -> str:
        """Copy a picture or a file to offer; how pages call it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, path)
        return f"/{name}"

    def text(self, markdown: str, here: str) -> str:
        """Markdown of the repository, from the folder `here`, with links and pictures that lead to the site's pages."""

        def follow(match: re.Match[str]) -> str:
            words, target, anchor = match[1], match[2], match[3] or ""
            path = (ROOT / here / target).resolve()
            if not path.is_relative_to(ROOT):
                return match[0]
            if words.startswith("!"):
                return f"{words}({self.copy(path, f'pictures/{path.name}')})"
            if path.suffix == ".ipynb":  # to keep, not to read here
                return f"{words}({self.copy(path, f'files/{path.name}')})"
            return f"{words}({self.address(path)}{anchor})"

        markdown = re.sub(r"(!?\[[^]]*\])\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)", follow, markdown)
        return re.sub(r"(?<!\[)`((?:minunet|bench|tutorials|docs)/[\w/.]+)`(?!\])", self.name, markdown)

    def name(self, match: re.Match[str]) -> str:
        """A file's name in a text, `minunet/ops/conv.py`, as a link to its page."""
        path = ROOT / match[1]
        return f"[{match[0]}]({self.address(path)})" if path.exists() else match[0]

    def address(self, path: Path) -> str:
        """The page of a file or a folder."""
        name = path.relative_to(ROOT).as_posix()
        if name in self.home:
            page = self.home[name]
        elif (module := reference.module_of(name)) in self.modules:
            return f"/reference/{module}.rst"
        else:
            page = f"source/{name.replace('/', '-')}"
            if name not in self.sources:
                self.sources.append(name)
        return f"/{page}.md"

    def write_sources(self) -> None:
        """The pages of files as they are, and of folders as lists of them; these may name others."""
        for name in self.sources:  # grows while it is read
            path, page = ROOT / name, f"source/{name.replace('/', '-')}"
            if path.is_dir():
                files = sorted(f for f in path.iterdir() if f.suffix in LANGUAGES)
                body = "\n".join(f"* [{file.name}]({self.address(file)})" for file in files)
            else:
                body = fence(path.read_text(), LANGUAGES.get(path.suffix, "text"))
            self.write(page, f"---\norphan: true\n---\n# {name}\n\n{body}\n")


def fence(text: str, language: str, *options: str) -> str:
    """A block of code."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return "\n".join([f"{ticks}{{code-block}} {language}", *options, "", text.strip("\n"), ticks])


def contents(pages: list[str], *options: str) -> str:
    """A table of contents."""
    return "\n".join(["```{toctree}", *options, "", *pages, "```"])


def write_pages(runs: Path, folder: Path, only: list[str] | None = None, with_lite: bool = False) -> None:
    """Write the sources of all pages into a folder; of the reference `only` these modules and what is in them."""
    pages = Pages(folder, reference.modules(tuple(only or ())), with_lite)
    found = lessons.write(pages, runs)
    if with_lite:
        lite.write_page(pages, found)
    reference.write(pages, pages.modules)
    benches.write(pages)
    pages.write("reads", reads.page())
    for name, page in TEXTS.items():
        text = pages.text((ROOT / name).read_text(), str(Path(name).parent))
        if page == "exercises" and with_lite:
            text += "\n\nThose of lessons 01 to 07 [run in the browser](/browser.md), too.\n"
        if page == "index":
            learn = ["Start <self>", "lessons/index", "exercises", *["browser"] * with_lite, "learning", "teaching"]
            text += "\n\n" + contents(learn, ":hidden:", ":caption: Learn")
            text += "\n\n" + contents(
                ["using", "family", "tuning", "accuracy", "speed", "gpu", "scale", "reads"], ":hidden:", ":caption: Use"
            )
            text += "\n\n" + contents(["reference/index", "benches"], ":hidden:", ":caption: Look up")
            text += "\n\n" + contents(["contributing", "changelog", "security"], ":hidden:", ":caption: Take part")
        pages.write(page, text)
    pages.write_sources()
