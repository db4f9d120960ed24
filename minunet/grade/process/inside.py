"""A student's file in the grader's own process, for where there are no others: a browser's Python has only one.

It answers as `Student` does, by the same code, and inputs and outputs are copied as if they went over a pipe. But nothing
isolates it, and nothing limits its time and memory.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from typing import Any

from . import wire
from .callbacks import call_back
from .cells import Notebook
from .child import Server
from .guard import ANSWERS
from .runner import Limits, Student

ALONE = ("emscripten", "wasi")
"""The platforms, as `sys.platform` calls them, on which no process can start another."""
LEVEL = "none"


class Inside(Student):
    """A student's file, in this process."""

    def start(self) -> None:
        """Make what answers."""
        self.sent: list[Any] = []
        self.given: dict[str, Callable[..., Any]] = {}
        self.server = Server(self.reply, lambda m: self.sent.append(copied(m)), ANSWERS, Notebook, wire.copied)
        self.pipes: Any = self.server
        self.level, self.kept = LEVEL, 0

    def reply(self) -> list:
        """What a function of ours returns to the student's code, which has just called it."""
        return list(copied(call_back(self.given, self.sent.pop(), self.limits.called_with)))

    def ask(self, message: tuple, functions: dict[str, Callable[..., Any]], more: float = 0) -> tuple:
        """Hand over a message and take the answer."""
        begun, self.given = time.monotonic(), functions
        self.server.respond(list(copied(message)))
        self.spent += time.monotonic() - begun
        return self.sent.pop()

    def end(self, dying: bool = False) -> tuple[int, str]:
        """Let it go."""
        self.pipes, self.loaded = None, False
        return 0, ""


def copied(message: Any) -> Any:
    """A message as it comes out of a pipe."""
    return wire.unpack(io.BytesIO(wire.pack(message)).read)


def student(
    source: str, name: str, extras: tuple[str, ...] = (), limits: Limits | None = None, isolation: str = "auto"
) -> Student:
    """The student's file in a process of its own, where there are any."""
    return (Inside if sys.platform in ALONE else Student)(source, name, extras, limits, isolation)
