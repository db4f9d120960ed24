"""What the documentation says runs: the examples in docstrings, and the README's links and flags."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import minunet
from minunet.evaluate import make_parser as evaluate_flags
from minunet.predict.arguments import make_parser as predict_flags
from minunet.train.arguments import make_parser as train_flags

ROOT = Path(__file__).resolve().parents[2]
MODULES = [m.name for m in pkgutil.walk_packages(minunet.__path__, "minunet.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    assert sum(bool(t.examples) for name in MODULES for t in finder.find(importlib.import_module(name))) >= 4


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    if not (ROOT / page).exists():
        pytest.skip("the package is not in its repository")
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_commands_in_the_readme_have_known_flags():
    text = (ROOT / "README.md").read_text()
    for module, parser in (("train", train_flags()), ("predict", predict_flags()), ("evaluate", evaluate_flags())):
        known = {flag for action in parser._actions for flag in action.option_strings}
        for command in re.findall(rf"-m minunet\.{module}([^\n`]*)", text):
            assert set(re.findall(r"(?<= )--?[a-z][a-z0-9-]*", command.split("#")[0])) <= known, command
