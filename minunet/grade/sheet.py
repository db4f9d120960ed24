"""The sheet that a check fills in: what was asked, what came back, and whether it is right.

A check is a function of a sheet and a random generator. It calls the implementation through `sheet.call` and hands the result
to `same` or `gradients`. Run on a known mistake with the same random numbers, it leaves a sheet whose outputs are compared
with the student's: equal outputs mean the same mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import form
from .difference import SINGLE, describe
from .process import wire
from .process.calls import UNWRITTEN, Changed, Forbidden, Trouble
from .words import LAST_DIGITS, apart

LARGEST = 1 << 20  # bytes of an output that is kept: ten times what any exercise asks for


@dataclass
class Mark:
    """One comparison: which part of the score it belongs to, what was asked, the output, whether it is right, and why not.

    The output is kept for the hints; None stands for one that is too large to be any known mistake's. What was wanted, and the
    arrays that were handed over, say more of a wrong one where there is no message yet: see `said`.
    """

    part: str
    asked: str
    output: Any
    ok: bool
    message: str = ""
    wanted: np.ndarray | None = None
    tolerance: float = np.inf
    given: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if wire.size(self.output) > LARGEST:
            self.message = self.message or f"it is too large, {wire.size(self.output):,} bytes" * (not self.ok)
            self.output = None

    def said(self, names: Sequence[str] = ()) -> str:
        """Why it is wrong, for the student; `names` are those of the axes of what is wanted."""
        if self.message or self.wanted is None:
            return self.message
        text = form.unfit(self.output, self.wanted, names)
        if text:
            return text
        got = np.asarray(self.output)
        for number, array in enumerate(self.given, 1):
            if array.shape == got.shape and got.ndim and np.array_equal(array, got):
                return f"it is what was handed over (argument {number}), unchanged"
        given = [a.shape for a in self.given]
        return describe(got, self.wanted, self.tolerance, names, given) or "it is not exact enough"


Run = tuple[tuple[int, int], list[Mark]]  # which check, which time, and its marks


class Raised(str):
    """Stands for an output, or a part of one, where an error was raised instead; it is the error's message."""

    def __getitem__(self, index: Any) -> Raised:  # type: ignore[override]
        return self


class Spoilt(Raised):
    """Stands for an output where what was handed out was changed."""


class Sheet:
    """Marks of one run of one check.

    Parameters
    ----------
    impl : Student or Local
        What answers calls.
    judge : bool
        False to note outputs only.
    time : int
        Which of the runs of the check it is. Every run has inputs of another kind, the numbers alone are random: so whatever
        kind tells right from wrong, it is there. In the second one arrays' numbers do not lie next to each other in memory.
    names : dict
        By function, the names of its arguments, for messages.
    """

    def __init__(
        self, impl: Any, judge: bool = True, time: int = 0, names: dict[str, tuple[str, ...]] | None = None
    ) -> None:
        self.impl, self.judge, self.time, self.names = impl, judge, time, names or {}
        self.marks: list[Mark] = []
        self.calls: list[tuple[Any, tuple[np.ndarray, ...]]] = []  # what came back, and the arrays for which

    def call(self, function: str, *args: Any, **how: Any) -> Any:
        """Call the implementation, see `runner.Student.call`; an error gives `Raised`, and the other parts still count.

        Whoever changes what was handed out has given no answer, unless `changes` allows it.
        """
        try:
            lost = next((a for a in args if isinstance(a, Raised)), None)
            if lost is not None:
                raise Trouble(lost)
            result = self.impl.call(function, *args, **{"spread": self.time == 1} | how)
            self.calls.append((result, tuple(a for a in args if isinstance(a, np.ndarray))))
            return result
        except Forbidden:
            raise
        except Trouble as e:
            raised = Spoilt(self.changed(e)) if isinstance(e, Changed) else Raised(e)
            return (raised, raised) if how.get("keep") or how.get("changes") else raised

    def changed(self, e: Changed) -> str:
        """What was changed that must not be, by its name."""
        place, names = e.place, self.names.get(e.function, ())
        if isinstance(place, int):
            place = names[place] if place < len(names) else f"argument {place}"
        what = "an array of the cache" if place == "cache" else place or f"what {e.function} returned"
        return f"{what} is changed in place, which others still hold: work on a copy"

    def pairs(
        self, names: tuple[str, str], cases: Sequence[tuple[tuple, dict[str, Any], Any]]
    ) -> list[tuple[Any, Any]]:
        """For every case (arguments, options, dy) what the forward gives and what the backward gives for its cache.

        The backwards come when all forwards have run, as in a network: what one of them keeps, no other may overwrite.
        """
        begun = [self.call(names[0], *args, keep=2, **options) for args, options, _ in cases]
        return [(y, self.call(names[1], dy, cache)) for (y, cache), (_, _, dy) in zip(begun, cases)]

    def same(self, part: str, asked: str, got: Any, wanted: Any, tolerance: float = 1e-9) -> None:
        """Mark whether `got` equals `wanted`, up to `tolerance` times its largest element."""
        wanted = np.asarray(wanted)
        message = str(got) if isinstance(got, Raised) else ""
        if got is None:
            message = "None came back: is a `return` missing?"
        ok = not self.judge or fits(got, wanted, tolerance)
        self.marks.append(Mark(part, asked, got, ok, message, wanted, tolerance, self.given_for(got)))

    def given_for(self, got: Any) -> tuple[np.ndarray, ...]:
        """The arrays for which an output came back."""
        for result, given in reversed(self.calls):
            if result is got or (isinstance(result, (tuple, list)) and any(r is got for r in result)):
                return given
        return ()

    def holds(self, part: str, asked: str, ok: bool, output: Any, message: str) -> None:
        """Mark whether a condition on the output holds."""
        message = output if isinstance(output, Raised) else message
        self.marks.append(Mark(part, asked, output, bool(ok), "" if ok else message))

    def adjoint(self, part: str, x: np.ndarray, y: Any, dy: np.ndarray, dx: Any, wanted: np.ndarray) -> None:
        """Mark whether <y, dy> = <x, dx> for the implementation's own pair; y must have the shape of `wanted` and not be 0."""
        message = misfit(y, wanted) or misfit(dx, x)
        if not message:
            left, right = float((y * dy).sum()), float((x * dx).sum())
            error, size = abs(left - right), float(np.abs(y * dy).sum())
            if error > 1e-9 * size or not np.any(y):
                a, b = apart(left, right)
                close = (
                    LAST_DIGITS if error <= SINGLE * size and size else "your backward is not your forward's transpose"
                )
                message = f"<y, dy> = {a}, <x, dx> = {b}: {close}"
        both = dx if fits(y, wanted, 1e-9) else (y, dx)  # a wrong y is a part of what is wrong
        self.marks.append(Mark(part, "", both, not message, message))

    def gradients(self, parts: Sequence[str], asked: str, got: Any, wanted: Sequence[Any]) -> None:
        """Mark several gradients that come back as a tuple, each by itself.

        Parameters
        ----------
        parts : sequence of str
            Parts of the score, one for each gradient.
        asked : str
            What the message says of the inputs.
        got
            What the backward returned. A gradient of None counts as not written; more than are wanted are all wrong.
        wanted : sequence of arrays or None
            None for what nobody looks at, such as the gradient of a bias that there is not.
        """
        found = list(got) if isinstance(got, (tuple, list)) else [got] * (len(parts) if isinstance(got, Raised) else 1)
        if len(found) > len(parts):
            found = [Raised(f"{len(found)} arrays came back, not {len(parts)}")] * len(parts)
        for part, dx, right in zip(parts, [*found, *[None] * len(parts)], wanted):
            if right is not None:
                self.same(part, asked, dx, right)

    def backward(
        self,
        parts: Sequence[str],
        asked: str,
        names: tuple[str, str],
        ours: tuple[Callable[..., Any], Callable[..., Any]],
        inputs: Sequence[Any],
        dy: Any,
        **options: Any,
    ) -> None:
        """Mark the gradients of a backward whose forward is not asked for: for the cache that the task describes.

        If the file has the forward, too, its cache may be another one. So what is wrong for the cache of the task is tried
        with that of the file's own forward, and counts if it is right.

        Parameters
        ----------
        parts, asked : as for `gradients`
        names : pair of str
            The forward and the backward.
        ours : pair of callables
            Of the package; the forward's cache is that of the task.
        inputs, **options
            Of the forward.
        dy : array or float
        """
        cache = ours[0](*inputs, **options)[1]
        wanted = ours[1](dy, cache)

        def marked(cache: Any) -> tuple[list[Mark], Any]:
            sheet = Sheet(self.impl, self.judge, self.time, self.names)
            got = sheet.call(names[1], dy, cache)
            if isinstance(wanted, tuple):
                sheet.gradients(parts, asked, got, wanted)
            else:
                sheet.same(parts[0], asked, got, wanted)
            return sheet.marks, got

        marks, got = marked(cache)
        if self.judge and not all(m.ok for m in marks) and not isinstance(got, Spoilt):
            again, _ = marked(self.call(names[0], *inputs, keep=3, **options)[1])
            marks = again if all(m.ok for m in again) else marks
        self.marks += marks


def misfit(got: Any, wanted: np.ndarray) -> str:
    """Why an output is no array of finite numbers in the shape of `wanted`; "" if it is."""
    if got is None or isinstance(got, Raised):
        return UNWRITTEN if got is None else str(got)
    return "" if fits(got, wanted, np.inf) else form.unfit(got, wanted)


def fits(got: Any, wanted: np.ndarray, tolerance: float) -> bool:
    """Whether an output has the form of what is wanted, and its numbers up to `tolerance` times the largest of them."""
    if got is None or isinstance(got, (list, tuple, dict, str)):
        return False
    got = np.asarray(got)
    if got.shape != wanted.shape or got.dtype.kind not in "fiub":
        return False
    if np.array_equal(got, wanted):
        return got.dtype.kind != "b" or wanted.dtype.kind == "b"
    if form.other_dtype(got, wanted) or not np.isfinite(got).all():
        return False
    scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
    return tolerance == np.inf or float(np.abs(got.astype(np.float64) - wanted).max(initial=0.0)) <= tolerance * scale
