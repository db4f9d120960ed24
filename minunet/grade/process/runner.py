"""The grader's end of the student's process: starts it, sends calls, takes arrays, and ends it.

One process serves all the calls of an exercise; if it dies or takes too long, the next check gets a fresh one.
See `isolation` and `guard` for what the student's code may not do there, and docs/teaching.md for what remains possible.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import isolation as isolations
from . import wire
from .callbacks import call_back
from .calls import Forbidden, Handle, Trouble, in_words, obituary
from .child import pair
from .pipes import Late, Pipes


@dataclass
class Limits:
    """Limits of one student's process: seconds for a call and for all, bytes of memory, and what calls back may take.

    Of calls back, during one call: how many, the bytes given to each, and the bytes that come back from all.
    """

    call: float = 10.0
    total: float = 60.0
    memory: int = 2 << 30
    callbacks: int = 20_000
    called_with: int = 1 << 16
    called_for: int = 1 << 28

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
    limits : Limits, optional
    isolation : str
        One of `isolation.CHOICES`. Which level is in force is in `level` once the process has started.
    """

    def __init__(
        self,
        source: str,
        name: str,
        extras: tuple[str, ...] = (),
        limits: Limits | None = None,
        isolation: str = "auto",
    ) -> None:
        self.source, self.name, self.extras, self.limits = source, name, extras, limits or Limits()
        self.isolation, self.level = isolation, ""
        self.functions: tuple[str, ...] = ()  # those that will be called: of a notebook only what they need is run
        self.pipes: Pipes | None = None
        self.loaded = self.started = False
        self.spent, self.kept = 0.0, 0  # caches that are kept there
        self.broken = self.refused = ""  # why the file cannot, or must not, be loaded

    def __enter__(self) -> Student:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def outline(self) -> tuple[tuple[str, ...], str]:
        """The names of the functions that the file defines, and what is wrong with it: "not Python: ..." Nothing of it runs.

        Trouble if its process ends over it, or takes too long.
        """
        self.start()
        try:
            kind, *content = self.ask(("source", np.frombuffer(self.source.encode(), np.uint8), self.name), {}, more=5)
            if kind != "outline" or len(content) != 3 or not all(isinstance(text, str) for text in content[1:]):
                raise Trouble("its process gave no answer")
        except Trouble as e:
            self.broken = str(e)
            raise
        functions, problem, self.refused = content
        return tuple(functions), problem

    def call(
        self,
        function: str,
        *args: Any,
        keep: int = 0,
        changes: tuple[int, ...] = (),
        spread: bool = False,
        **options: Any,
    ) -> Any:
        """What the student's function returns.

        Parameters
        ----------
        function : str
        *args, **options
            Arrays, numbers, lists; handles, which stand for caches; callables, which run here when the student's code calls.
        keep : int
            If not 0, the function returns a tuple (y, cache) of at most so many things, and what comes back is (y, handle):
            the cache stays there, and the handle stands for it in a later call.
        changes : tuple of int
            Numbers of arguments that the function may change. If there are any, what comes back is (result, arguments as
            they are after the call).
        spread : bool
            The function gets arrays whose numbers do not lie next to each other in memory.

        Raises
        ------
        Trouble
            If the function is missing, unwritten, raises, takes too long, or returns no arrays.
        Changed
            If an array is no longer what it was when it was handed over: an argument, or what the forward of a pair got and
            gave, whose cache was handed over.
        Forbidden
            If the student's code does what it must not.
        """
        if not self.loaded and any(isinstance(a, Handle) for a in args):
            raise Trouble("the forward of the pair gave no answer")
        if self.spent >= self.limits.total:
            self.end()
            raise Trouble(f"not run: {self.limits.used_up}")
        functions = {f"function {i}": a for i, a in enumerate(args) if callable(a)}
        sent = [f"function {i}" if callable(a) else a.where if isinstance(a, Handle) else a for i, a in enumerate(args)]
        self.load()
        answer = self.ask(("call", function, tuple(sent), options, tuple(functions), keep, spread), functions)
        kind, *content = answer
        if kind != "result" or len(content) != 3:
            raise Trouble(in_words(kind, content, function))
        result, after, place = content
        self.kept += bool(keep)
        given = Handle({"kept": place}, function, args, options, result)
        given.compare(after, changes)
        given = given.copied() if keep else given
        return (result, given) if keep else (result, after[0]) if changes else result

    def forget(self) -> None:
        """Let the process drop the caches that it keeps; their handles are worth nothing afterwards."""
        if self.loaded and self.kept:
            self.ask(("forget",), {})
            self.kept = 0

    def load(self) -> None:
        """Let the process run the student's file, once; if that fails it is not tried again, as it would fail again."""
        if self.loaded:
            return
        if self.broken:
            raise Trouble(self.broken)
        if self.pipes is None:
            self.outline()
        if self.refused:
            raise Forbidden(self.refused)
        kind, *content = self.ask(("load", list(self.functions)), {}, more=5)
        if kind == "refused" and content and isinstance(content[0], str):
            self.refused = content[0]
            raise Forbidden(self.refused)
        if kind != "loaded":
            self.end()
            self.broken = in_words(kind, content, "the file")
            raise Trouble(self.broken)
        self.loaded = True

    def start(self) -> None:
        """Start the process, at the strongest level that is wanted and works here. UserError if none does.

        The process says what is in force before it gets the student's file. Starting it again, after it died, costs it time.
        """
        begun = time.monotonic()
        try:
            if not any(map(self.start_at, isolations.levels(self.isolation))):
                raise isolations.none_works(self.isolation)
        finally:
            self.spent += (time.monotonic() - begun) * self.started
            self.started = True

    def start_at(self, level: str) -> bool:
        """Start the process at a level; False if that does not work here, and is not tried again."""
        bare, cpu = self.isolation == "hook", int(self.limits.total) + 5
        command = isolations.command(level, bare, self.limits.memory, cpu, self.extras)
        for _ in range(2 * (command is not None)):  # a second time, as the machine may have been busy
            self.pipes, self.level, self.kept = Pipes(command or [], isolations.environment()), level, 0
            try:
                hello = self.answer(time.monotonic() + 30)
            except (Late, EOFError, wire.Garbled):
                self.end()
                continue
            isolations.known[level] = hello[0] == "ready" and (level != isolations.LEVELS[1] or hello[1] == level)
            if not isolations.known[level]:
                self.end()
            return isolations.known[level]
        if isolations.known.get(level):
            raise Trouble("its process could not be started: the machine may be out of memory")
        if command is not None:
            print(
                f"warning: isolation by {level} did not start, tried twice; it is not used in this run", file=sys.stderr
            )
        isolations.known[level] = False
        return False

    def ask(self, message: tuple, functions: dict[str, Callable[..., Any]], more: float = 0) -> tuple:
        """Send a message, answer its calls back, and return its answer."""
        begun = time.monotonic()
        seconds, left = self.limits.call + more, self.limits.total - self.spent
        deadline = begun + max(min(seconds, left), 0.0)
        assert self.pipes is not None
        try:
            self.pipes.send(wire.pack(message), deadline)
            handed = 0
            for _ in range(self.limits.callbacks):
                answer = self.answer(deadline)
                if answer[0] != "call":
                    return answer
                if time.monotonic() > deadline:  # calls that were sent ahead may all be here
                    raise Late
                reply = wire.pack(call_back(functions, answer, self.limits.called_with))
                handed += len(reply)
                if handed > self.limits.called_for:
                    raise Trouble(f"what it called gave it more than {self.limits.called_for:,} bytes")
                self.pipes.send(reply, deadline)
            raise Trouble(f"it called back more than {self.limits.callbacks:,} times")
        except (wire.Garbled, EOFError, Late) as e:
            late = f"it took longer than {seconds:g} seconds" if seconds < left else self.limits.used_up
            raise obituary(*self.end(isinstance(e, EOFError)), e, late) from None
        except BaseException:
            self.end()
            raise
        finally:
            self.spent += time.monotonic() - begun

    def answer(self, deadline: float) -> tuple:
        """The next message, which is a tuple that begins with a word."""
        assert self.pipes is not None
        answer = wire.unpack(functools.partial(self.pipes.read, deadline=deadline))
        if not isinstance(answer, tuple) or not answer or not isinstance(answer[0], str):
            raise wire.Garbled("not an answer")
        return answer

    def end(self, dying: bool = False) -> tuple[int, str]:
        """End the process, if it runs; its status, and the end of what it printed."""
        pipes, self.pipes, self.loaded = self.pipes, None, False
        if pipes is None:
            return 0, ""
        status = pipes.end(dying)
        return status, pipes.tail.decode("utf-8", "replace")


class Local:
    """The same interface for code of our own, run here: the reference and the known-wrong versions."""

    def __init__(self, source: str, name: str) -> None:
        self.namespace: dict[str, Any] = {"__name__": name}
        exec(compile(source, name, "exec", dont_inherit=True), self.namespace)

    def call(
        self,
        function: str,
        *args: Any,
        keep: int = 0,
        changes: tuple[int, ...] = (),
        spread: bool = False,
        **options: Any,
    ) -> Any:
        """As `Student.call`."""
        if function not in self.namespace:
            raise Trouble(f"the file defines no {function}")
        held = [a.where[1] if isinstance(a, Handle) else wire.copied(a, spread) for a in args]
        handed = [a.where[0] if isinstance(a, Handle) else b for a, b in zip(args, held)]
        named = wire.copied(options, spread)
        try:
            result, cache = self.namespace[function](*handed, **named), None
            if keep:
                result, cache = pair(function, result, keep)
        except Exception as e:
            raise Trouble(f"{type(e).__name__}: {e}".splitlines()[0][:300]) from e
        call = Handle((cache, [held, named, result]), function, args, options, result).copied()
        call.compare([held, named], changes)
        return (call.result, call) if keep else (call.result, held) if changes else call.result
