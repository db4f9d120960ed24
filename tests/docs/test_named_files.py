"""What the documentation calls by name is there: files, folders, modules, and the rooms of every package."""

import ast
import functools
import importlib
import io
import pkgutil
import re
import tokenize
from fnmatch import fnmatch
from pathlib import Path

import pytest

import minunet

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("minunet", "tests", "bench", "docs", "tutorials")
SKIPPED = ("__pycache__", "build")
PLACEHOLDER = re.compile(r"[A-Z]{2,}|\bmy_")  # NAME.py, YOUR_FILE.py, my_conv.py
WRITTEN = ("config.toml",)  # by a run, into its folder
FILE = re.compile(r"(?<!PyTorch-UNet's )(?<![\w/.*-])(?:[\w-]+/)*\w[\w-]*\.(?:py|cuh?|js|toml|md|yml)\b")
FOLDER = re.compile(rf"`((?:{'|'.join(TOPS)})(?:/[\w-]+)*)/`")
IMPORT = re.compile(r"from (minunet[\w.]*) import (\w+)")
DOTTED = re.compile(r"(?<![\w./-])minunet(?:\.[A-Za-z_]\w*)+(?!\w*[/-])")

if not (ROOT / "CONTRIBUTING.md").exists():
    pytest.skip("the package is not in its repository", allow_module_level=True)


@functools.cache
def everything() -> list[str]:
    """Every file and folder of the repository, "/minunet/ops/conv.py"; folders end in a slash."""
    found = [
        *ROOT.glob("*.*"),
        *ROOT.glob(".github/**/*"),
        *(p for top in TOPS for p in [ROOT / top, *(ROOT / top).rglob("*")]),
    ]
    return [f"/{p.relative_to(ROOT).as_posix()}" + "/" * p.is_dir() for p in found if not {*SKIPPED} & {*p.parts}]


PAGES = [p for p in everything() if p.endswith((".py", ".md", ".cu", ".cuh", ".yml")) and not p.startswith("/tests/")]
PAGES += ["/.ci/run"]


def prose(page: str) -> str:
    """What a person reads in a file: of Python the comments and docstrings, of all else everything."""
    text = (ROOT / page[1:]).read_text(encoding="utf-8")
    if not page.endswith(".py"):
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join(t.string for t in tokens if t.type == tokenize.COMMENT or re.match(r'r?"""', t.string))


@functools.cache
def is_there(dotted: str) -> bool:
    """Whether a name such as "minunet.ops.conv2d" is a module, or something in one."""
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_is_there(page):
    text = prose(page)
    named = [m for m in FILE.findall(text) if not PLACEHOLDER.search(m) and m not in WRITTEN]
    assert [m for m in named if not any(p.endswith("/" + m) for p in everything())] == []
    assert [m for m in FOLDER.findall(text) if f"/{m}/" not in everything()] == []
    dotted = [*DOTTED.findall(text), *map(".".join, IMPORT.findall(text))]
    assert [m for m in dotted if not PLACEHOLDER.search(m) and not is_there(m)] == []


def test_a_file_that_is_not_there_is_noticed():
    named = "see `ops/conv.py`, ops/gone.py and minunet.ops.gone, in `minunet/gone/`"
    assert FILE.findall(named) == ["ops/conv.py", "ops/gone.py"]
    assert not any(p.endswith("/ops/gone.py") for p in everything())
    assert DOTTED.findall(named) == ["minunet.ops.gone"] and not is_there("minunet.ops.gone")
    assert FOLDER.findall(named) == ["minunet/gone"] and "/minunet/gone/" not in everything()


PACKAGES = [m.name for m in pkgutil.walk_packages(minunet.__path__, "minunet.") if m.ispkg]


@pytest.mark.parametrize("name", ["minunet", *PACKAGES])
def test_a_package_lists_what_is_in_it(name):
    package = importlib.import_module(name)
    folder = Path(package.__file__).parent
    inside = [p.name for p in folder.glob("*.py") if not p.name.startswith("_")]
    inside += [f"{p.name}/" for p in folder.iterdir() if (p / "__init__.py").exists()]
    listed = re.findall(r"[\w*]+(?:\.py\b|/(?=\s))", ast.get_docstring(ast.parse((folder / "__init__.py").read_text())))
    assert [p for p in inside if not any(fnmatch(p, pattern) for pattern in listed)] == []


def test_the_reading_path_is_as_long_as_it_says():
    text = (ROOT / "docs" / "learning.md").read_text(encoding="utf-8")
    said, path = re.search(r"A reading path of some ([\d,]+) lines.*?:\n\n(.*?)\n\n", text, re.S).groups()
    files = re.findall(r"\]\(\.\./(minunet/[\w/]+\.py)\)", path)
    lines = sum(bool(line.strip()) for file in files for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    assert len(files) >= 8 and lines <= 2000
    assert abs(lines - int(said.replace(",", ""))) <= 150, lines
