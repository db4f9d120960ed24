"""What the documentation says runs: the examples in docstrings, and the README's links and flags."""

import argparse
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import minunet
from minunet.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = [f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))]
MODULES = [m.name for m in pkgutil.walk_packages(minunet.__path__, "minunet.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert sum(bool(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name))) >= 4


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", *DOCS])
def test_links_lead_somewhere(page):
    if not (ROOT / page).exists():
        pytest.skip("the package is not in its repository")
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert link.startswith("http") or (ROOT / page).parent.joinpath(link).exists(), link


def flags(parser):
    """Every flag of a command and of what it divides into."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from flags(inner)


@pytest.mark.parametrize("page", ["README.md", "docs/teaching.md", "docs/using.md", "docs/scale.md"])
def test_commands_in_documentation_have_known_flags(page):
    if not (ROOT / page).exists():
        pytest.skip("the package is not in its repository")
    text, seen = (ROOT / page).read_text(), 0
    for name, (module, _) in COMMANDS.items():
        known = set(flags(importlib.import_module(f"minunet.{module}").make_parser()))
        for command in re.findall(rf"(?:-m minunet[. ]|\bminunet |\bminunet-){name}\b([^\n`]*)", text):
            seen += 1
            assert set(re.findall(r"(?<= )--?[a-z][a-z0-9-]*", command.split("#")[0])) <= known, command
    assert seen
