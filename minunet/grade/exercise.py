"""What an exercise is: functions cut out of the package, checks, and known mistakes, each with its hint."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from . import cut
from .process.calls import Forbidden
from .sheet import Mark, Run, Sheet

Check = Callable[[Sheet, np.random.Generator], None]
Place = tuple[str, str]  # a file of the package, and a name in it


@dataclass(frozen=True)
class Wrong:
    """A known mistake: the replacements in the reference's text that make it, and the hint for students who make it.

    The hint is "" for one that the check's message tells.
    """

    name: str
    hint: str
    changes: tuple[tuple[str, str], ...]


@dataclass
class Exercise:
    """One exercise.

    Parameters
    ----------
    name, title, lesson, minutes
        The file is tutorials/exercises/NAME.py; the lesson is the one that it belongs to.
    task : str
        What to write; stands at the head of the file.
    write : places
        The functions to write; given in the file as stubs.
    given : places
        Functions and constants that stand in the file with their bodies.
    hidden : places
        Functions and constants that only the reference needs.
    docstrings : dict
        By name, docstrings for stubs in place of those that give the answer away.
    extras : names
        Libraries allowed beside NumPy.
    needs : names
        Exercises that should have been done before.
    axes : dict
        By the first word of a part, the names of its output's axes, if they are not those of images: see `difference.NAMES`.
    """

    name: str
    title: str
    lesson: int
    minutes: int
    task: str
    write: tuple[Place, ...]
    given: tuple[Place, ...] = ()
    hidden: tuple[Place, ...] = ()
    docstrings: dict[str, str] = field(default_factory=dict)
    extras: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    axes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    checks: list[tuple[tuple[str, ...], Check, int]] = field(default_factory=list)
    wrongs: list[Wrong] = field(default_factory=list)

    def __post_init__(self) -> None:
        EXERCISES[self.name] = self

    def check(self, *parts: str, times: int = 3) -> Callable[[Check], Check]:
        """Register a check: the parts of the score that it decides, and how many times to run it.

        Every time the numbers are others and the inputs of another kind, see `Sheet.time`.
        """

        def register(f: Check) -> Check:
            self.checks.append((parts, f, times))
            return f

        return register

    def wrong(self, name: str, hint: str, *changes: tuple[str, str]) -> None:
        """Register a known mistake."""
        self.wrongs.append(Wrong(name, hint, changes))

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions to write."""
        return tuple(name for _, name in self.write)

    @property
    def parts(self) -> tuple[str, ...]:
        """What is scored, a point each."""
        return tuple(dict.fromkeys(p for parts, _, _ in self.checks for p in parts))

    def axes_of(self, part: str) -> tuple[str, ...]:
        """The names of the axes of a part's output; () stands for those of images."""
        return self.axes.get(part.replace(",", " ").split()[0], ())

    @property
    def stubs(self) -> list[str]:
        """The functions to write, without their bodies."""
        return [
            cut.stub(file, name, self.docstrings.get(name), name.removesuffix("_backward") not in self.functions)
            if name.endswith("_backward")
            else cut.stub(file, name, self.docstrings.get(name))
            for file, name in self.write
        ]

    @property
    def introduction(self) -> str:
        """Lesson, minutes, what may be imported, and the task."""
        allowed = " and ".join(["NumPy", *(e.replace("scipy", "SciPy") for e in self.extras)])
        before = f" Do {' and '.join(self.needs)} first." if self.needs else ""
        first = (
            f"Lesson {self.lesson:02d}, about {self.minutes} minutes.{before} {allowed} may be imported, nothing else."
        )
        return f"{first}\n\n{_wrapped(self.task)}"

    @property
    def opening(self) -> str:
        """The imports of what students get, and what is given."""
        given = [cut.taken(*place) for place in self.given]
        return cut.imports("\n".join([*given, *self.stubs]), self.extras) + "\n\n".join(given)

    @cached_property
    def text(self) -> str:
        """The exercise's file, as students get it."""
        return self._file([cut.taken(*place) for place in self.given], self.stubs)

    @cached_property
    def reference(self) -> str:
        """The same file with the answer in place."""
        given = [cut.taken(*place) for place in (*self.given, *self.hidden)]
        return self._file(given, [cut.taken(*place) for place in self.write])

    @cached_property
    def arguments(self) -> dict[str, tuple[str, ...]]:
        """By function of the answer, the names of its arguments."""
        functions = [node for node in ast.parse(self.reference).body if isinstance(node, ast.FunctionDef)]
        return {f.name: tuple(a.arg for a in f.args.args) for f in functions}

    def run_check(self, number: int, impl: Any, seed: int, judge: bool = True, only: int | None = None) -> list[Run]:
        """Run one check on a student's code or on a known mistake.

        Parameters
        ----------
        number : int
            Of the check, in the order in which they were registered.
        impl : Student or Local
        seed : int
            Together with the check's number and the time, it decides shapes and numbers.
        judge : bool
            False to note outputs only.
        only : int, optional
            Run it this time only, rather than as often as the check asks for.

        Returns
        -------
        list of ((check, time), marks)
        """
        parts, body, times = self.checks[number]
        runs = []
        for time in range(times) if only is None else [only]:
            sheet = Sheet(impl, judge, time, self.arguments)
            try:
                body(sheet, np.random.default_rng([seed, number, time]))
            except Forbidden:
                raise
            except Exception as e:  # the output has another form than agreed
                text = f"what it returns cannot be used: {e}"  # the rest of the check did not run: no part of it counts
                sheet.marks += [Mark(p, "", None, False, text) for p in parts]
            runs.append(((number, time), sheet.marks))
        return runs

    def mistaken(self, wrong: Wrong) -> str:
        """The reference with a mistake in it."""
        text = self.reference
        for right, instead in wrong.changes:
            if right not in text:
                raise ValueError(f"{self.name}: {wrong.name}: the reference has no {right!r}")
            text = text.replace(right, instead)
        return text

    def _file(self, given: list[str], written: list[str]) -> str:
        how = f"Grade it with:  python -m minunet.grade {self.name}.py"
        head = f'"""{self.title}\n\n{self.introduction}\n\n{how}\n"""\n\n'
        blocks = [*[_rule("given")] * bool(given), *given, _rule("yours"), *written]
        code = "\n\n".join(block.rstrip() + "\n" for block in blocks)
        return head + cut.imports(code, self.extras) + code


def _wrapped(text: str) -> str:
    """Paragraphs as lines of at most 120 letters; what is indented stays."""
    parts = text.strip("\n").split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else textwrap.fill(p, 120) for p in parts)


def _rule(name: str) -> str:
    return f"# ---- {name} ".ljust(120, "-")


EXERCISES: dict[str, Exercise] = {}
