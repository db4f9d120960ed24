"""``pytest --impl my_conv.py``: a test for every part of the exercises that a file answers.

The file is never imported here: it runs in a process of its own, as with ``python -m minunet.grade``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --impl and --impl-seed."""
    group = parser.getgroup("minunet")
    group.addoption("--impl", metavar="FILE", help="grade the exercises that this file answers")
    group.addoption("--impl-seed", type=int, metavar="N", help="for shapes and numbers (default: others every time)")


def pytest_configure(config: pytest.Config) -> None:
    """With --impl nothing else is collected, unless it is named too."""
    if impl := config.getoption("--impl"):
        if config.args_source != config.ArgsSource.ARGS:
            config.args = []
        config.args = [*config.args, impl]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the file that --impl names as graded parts."""
    impl = parent.config.getoption("--impl")
    if impl and file_path == Path(impl).resolve():
        return Graded.from_parent(parent, path=file_path)
    return None


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    """And not as a module of tests, which would import it."""
    impl = parent.config.getoption("--impl")
    if impl and module_path == Path(impl).resolve():
        return Nothing.from_parent(parent, path=module_path)
    return None


class Nothing(pytest.File):
    """Stands for the file as a module."""

    def collect(self) -> list[pytest.Item]:
        """No tests."""
        return []


class Graded(pytest.File):
    """A student's file."""

    def collect(self) -> Iterator[pytest.Item]:
        """Grade the file, and make a test for every part."""
        from ..errors import UserError
        from .submissions import grade_file

        try:
            grades = grade_file(self.path, seed=self.config.getoption("--impl-seed"))
        except UserError as e:
            raise self.CollectError(str(e)) from e
        for grade in grades:
            for part in grade.parts:
                name = f"{grade.exercise.name}[{part.name}]"
                yield GradedPart.from_parent(self, name=name, part=part, grade=grade)


class GradedPart(pytest.Item):
    """One scored part."""

    def __init__(self, *, part: Any, grade: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part, self.grade = part, grade

    def runtest(self) -> None:
        """Fail with what was found."""
        if not self.part.ok:
            likely = f"\nlikely: {self.part.hint}" if self.part.hint else ""
            how = f"(seed {self.grade.seed}, isolation: {self.grade.isolation})"
            pytest.fail(f"{self.part.message}{likely}\n{how}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands."""
        return self.path, None, self.name
