"""The grader's end of the student's process: starts it, sends calls, takes arrays, and ends it.

One process serves all the calls of an exercise; if it dies or takes too long, the next check gets a fresh one.
See `child` for what the student's code may not do there, and docs/teaching.md for what remains possible.
"""

from __future__ import annotations

import ast
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import wire
from .child import ANSWERS, FORBIDDEN

CHILD = Path(__file__).with_name("child.py")
UNWRITTEN = "not written yet"


class Trouble(Exception):
    """A call gave no answer; the message says why, to the student."""


class Forbidden(Trouble):
    """The student's file does what it must not: it gets no points at all."""


@dataclass
class Limits:
    """Limits of one student's process: seconds for a call and for all calls, bytes of memory, calls back to the grader."""

    call: float = 10.0
    total: float = 60.0
    memory: int = 2 << 30
    callbacks: int = 20_000

    @property
    def used_up(self) -> str:
        """The message when the time for all calls is over."""
        return f"the {self.total:g} seconds for all parts are used up"


class Student:
    """A student's file, in a process of its own; a context manager.

    Parameters
    ----------
    source : str
        The file's text. It is sent over the pipe: the process reads no file of the student's.
    name : str
        The file's name, for messages.
    extras : tuple of str
        Libraries that may be imported beside NumPy: "scipy".
    """

    def __init__(self, source: str, name: str, extras: tuple[str, ...] = (), limits: Limits | None = None) -> None:
        self.source, self.name, self.extras, self.limits = source, name, extras, limits or Limits()
        self.process: subprocess.Popen[bytes] | None = None
        self.spent, self.kept = 0.0, 0
        self.broken = ""  # why the file cannot be loaded
        refuse_imports(source)

    def __enter__(self) -> Student:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def call(self, function: str, *args: Any, keep: bool = False, after: bool = False, **options: Any) -> Any:
        """What the student's function returns.

        Callables among the arguments run here, whenever the student's code calls them. With `keep` the function returns
        (y, cache), and what comes back is (y, handle): the cache stays there, and the handle stands for it in a later
        call. With `after` what comes back is (result, arguments as they are after the call).

        Raises
        ------
        Trouble
            If the function is missing, unwritten, raises, takes too long, or returns no arrays.
        Forbidden
            If the student's code does what it must not.
        """
        fresh = self.process is None
        if fresh and any(isinstance(a, Handle) for a in args):
            raise Trouble("the forward of the pair gave no answer")
        if self.spent >= self.limits.total:
            self.end()
            raise Trouble(f"not run: {self.limits.used_up}")
        functions = {f"function {i}": a for i, a in enumerate(args) if callable(a)}
        sent = [f"function {i}" if callable(a) else a.where if isinstance(a, Handle) else a for i, a in enumerate(args)]
        if fresh:
            self.start()
        answer = self.ask((function, sent, options, list(functions), keep, after), functions, first=False)
        kind, *content = answer
        if kind != "result" or len(content) != 2:
            raise Trouble(in_words(kind, content, function))
        result, changed = content
        if after:
            return result, changed
        if keep:
            self.kept += 1
            return result, Handle({"kept": self.kept - 1})
        return result

    def start(self) -> None:
        """Start the process and let it run the student's file; if that fails it is not tried again, as it would fail again."""
        if self.broken:
            raise Trouble(self.broken)
        site = Path(np.__file__).parents[1]
        cpu = int(self.limits.total) + 5
        command = [sys.executable, "-I", "-S", "-B", CHILD, site, str(self.limits.memory), str(cpu), *self.extras]
        one = {f"{lib}_NUM_THREADS": "1" for lib in ("OPENBLAS", "OMP", "MKL")}
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "TMPDIR")}
        self.process = subprocess.Popen(
            [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=kept | one, cwd=tempfile.gettempdir(), start_new_session=True,
        )  # fmt: skip
        self.tail = b""
        self.listener = threading.Thread(target=self.listen, args=(self.process,), daemon=True)
        self.listener.start()
        self.kept = 0
        kind, *content = self.ask((self.source, self.name), {}, first=True)
        if kind != "loaded":
            self.end()
            self.broken = in_words(kind, content, "the file")
            raise Trouble(self.broken)

    def listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keep the end of what the process prints, so that it never waits for us."""
        assert process.stderr is not None
        while data := os.read(process.stderr.fileno(), 1 << 16):
            self.tail = (self.tail + data)[-4096:]

    def ask(self, message: tuple, functions: dict[str, Callable[..., Any]], first: bool) -> tuple:
        """Send a message, answer its calls back, and return its answer."""
        process, begun = self.process, time.monotonic()
        assert process is not None and process.stdin is not None and process.stdout is not None
        seconds, left = self.limits.call + 5 * first, self.limits.total - self.spent
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(max(min(seconds, left), 0.0), stop)
        timer.start()
        try:
            process.stdin.write(wire.pack(("message", *message)))
            process.stdin.flush()
            for _ in range(self.limits.callbacks):
                answer = wire.unpack(self.read)
                if not isinstance(answer, tuple) or not answer or not isinstance(answer[0], str):
                    raise wire.Garbled("not an answer")
                if answer[0] != "call":
                    return answer
                process.stdin.write(wire.pack(("value", *call_back(functions, answer))))
                process.stdin.flush()
            raise Trouble(f"it called back more than {self.limits.callbacks:,} times")
        except (wire.Garbled, EOFError, OSError) as e:
            self.end()
            if late.is_set():
                raise Trouble(
                    f"it took longer than {seconds:g} seconds" if seconds < left else self.limits.used_up
                ) from None
            raise self.obituary(process.returncode, e) from None
        except BaseException:
            self.end()
            raise
        finally:
            timer.cancel()
            self.spent += time.monotonic() - begun

    def read(self, n: int) -> bytes:
        """Exactly n bytes of the process's answer."""
        assert self.process is not None and self.process.stdout is not None
        data = self.process.stdout.read(n)
        if len(data) < n:
            raise EOFError
        return data

    def obituary(self, status: int | None, e: Exception) -> Trouble:
        """Why the process ended, as an error to raise."""
        if status == FORBIDDEN:
            lines = self.tail.decode("utf-8", "replace").splitlines()
            why = next((s.removeprefix("forbidden: ") for s in reversed(lines) if s.startswith("forbidden: ")), "")
            return Forbidden(f"the file does what it must not: {why or 'it was stopped'}")
        if isinstance(e, wire.Garbled):
            return Trouble("its process sent something that is no answer")
        return Trouble("its process ended before it answered (out of memory, sys.exit or a crash)")

    def end(self) -> None:
        """End the process, if it runs."""
        if self.process is None:
            return
        process, self.process = self.process, None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        try:  # its end is at hand if it died by itself: its own status tells why
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.listener.join(1)
        assert process.stderr is not None
        if not self.listener.is_alive():
            process.stderr.close()


@dataclass
class Handle:
    """Refers to a cache that stays in the student's process."""

    where: dict[str, int]


class Local:
    """The same interface for code of our own, run here: the reference and the known-wrong versions."""

    def __init__(self, source: str, name: str) -> None:
        self.namespace: dict[str, Any] = {"__name__": name}
        exec(compile(source, name, "exec", dont_inherit=True), self.namespace)

    def call(self, function: str, *args: Any, keep: bool = False, after: bool = False, **options: Any) -> Any:
        """As `Student.call`."""
        args = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in args)
        try:
            result = self.namespace[function](*args, **options)
        except Exception as e:
            raise Trouble(f"{type(e).__name__}: {e}".splitlines()[0][:300]) from e
        return (result, args) if after else result


def call_back(functions: dict[str, Callable[..., Any]], answer: tuple) -> tuple[str, Any]:
    """Run one of our functions for the student's process."""
    try:
        _, name, args = answer
        value = functions[name](*args)
        wire.pack(value)
        return "value", value
    except Exception as e:  # whatever the student hands over
        return "failed", f"{type(e).__name__}: {e}"


def in_words(kind: str, content: list, what: str) -> str:
    """Why there is no result."""
    if kind == "unwritten":
        return UNWRITTEN
    if kind == "missing":
        return f"the file defines no {what}"
    text = content[0] if content and isinstance(content[0], str) else "no answer"
    return text[:500]


def refuse_imports(source: str) -> None:
    """Forbidden if the text imports a library that holds the answers; what cannot be parsed fails later."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            if name.partition(".")[0] in ANSWERS:
                raise Forbidden(f"line {node.lineno} imports {name}, which holds the answer")  # type: ignore[attr-defined]
