"""The sheet that a check fills in: what was asked, what came back, and whether it is right.

A check is a function of a sheet and a random generator. It asks the implementation through `sheet.call` and hands what
comes back to `same` or `gradients`. Run once more on a known-wrong version with the same random numbers, it leaves a sheet
whose outputs can be laid beside the student's: equal outputs, equal mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..gradcheck import check


@dataclass
class Mark:
    """One comparison: of which part of the score, what was asked, what came back, and whether it is right."""

    part: str
    asked: str
    output: Any
    ok: bool
    message: str = ""


Run = tuple[tuple[int, int], list[Mark]]  # which check, which time, and its marks


class Raised(str):
    """Stands for an output where there was an error instead."""


class Sheet:
    """Marks of one run of one check.

    Parameters
    ----------
    impl : Student or Local
        What answers calls.
    judge : bool
        False to note outputs only.
    """

    def __init__(self, impl: Any, judge: bool = True) -> None:
        self.impl, self.judge = impl, judge
        self.marks: list[Mark] = []

    def call(self, function: str, *args: Any, **how: Any) -> Any:
        """Ask the implementation, see `runner.Student.call`."""
        return self.impl.call(function, *args, **how)

    def same(self, part: str, asked: str, got: Any, wanted: Any, tolerance: float = 1e-9) -> None:
        """Is it what the package's own op gives, to a share of its largest element?"""
        wanted = np.asarray(wanted)
        message = unlike(got, wanted, tolerance) if self.judge else ""
        self.marks.append(Mark(part, asked, got, not message, message))

    def holds(self, part: str, asked: str, ok: bool, output: Any, message: str) -> None:
        """Is something true of it?"""
        self.marks.append(Mark(part, asked, output, bool(ok), "" if ok else message))

    def gradients(
        self,
        parts: Sequence[str],
        asked: str,
        forward: Callable[..., Any],
        backward: str,
        inputs: Sequence[Any],
        rng: np.random.Generator,
        alter: Callable[[tuple], tuple] = lambda cache: cache,
        **options: Any,
    ) -> None:
        """Check the implementation's backward(dy, cache) by differences of our forward, for a random dy.

        `parts` are those of the score, in the order of forward's arguments; a gradient that is None has not been written.
        """
        seed = int(rng.integers(1 << 31))
        y, cache, *_ = forward(*inputs, **options)
        dy = np.random.default_rng(seed).standard_normal(np.shape(y))[()]
        got = self.call(backward, dy, alter(cache))
        grads = got if isinstance(got, tuple) else (got,)
        if len(parts) == 1 and len(grads) > 1:
            grads = grads[:1]
        grads = (*grads, *[None] * len(parts))[: len(parts)]
        for part, dx, x in zip(parts, grads, inputs):
            message = "" if not self.judge else unwritten(dx) or unlike(dx, np.zeros_like(x), np.inf)
            self.marks.append(Mark(part, asked, dx, not message, message))
        if not self.judge:
            return
        fine = [m.output if m.ok else np.zeros_like(x) for m, x in zip(self.marks[-len(parts) :], inputs)]
        report = check(
            (lambda *a, **k: forward(*a, **k)[:2], lambda *_: tuple(fine)), *inputs, seed=seed, raises=False, **options
        )
        for mark, row in zip(self.marks[-len(parts) :], report.rows):
            if mark.ok and not row.ok:
                at = "" if row.index is None else f"; at {list(row.index)} {row.analytic:.6g} for {row.numeric:.6g}"
                mark.ok, mark.message = False, f"{mark.part}: {row.note}{at}"


def unwritten(dx: Any) -> str:
    """Said of a gradient that is None."""
    return "not written yet" if dx is None else ""


def unlike(got: Any, wanted: np.ndarray, tolerance: float) -> str:
    """How an output differs from what it should be, in words; nothing if it does not."""
    if got is None:
        return "not written yet"
    if isinstance(got, (tuple, dict, str)):
        return f"a {type(got).__name__} came back where one array should"
    got = np.asarray(got)
    if got.shape != wanted.shape:
        return f"its shape is {got.shape}, not {wanted.shape}"
    if not np.isfinite(got).all():
        return "it is not finite"
    if tolerance == np.inf:
        return ""
    scale = float(np.abs(wanted).max(initial=0.0)) or 1.0
    error = np.abs(got.astype(np.float64) - wanted)
    if error.max(initial=0.0) <= tolerance * scale:
        return ""
    if got.dtype == np.float32 and error.max() < 1e-4 * scale:
        return "it is float32: keep the dtype of the inputs"
    at = np.unravel_index(int(error.argmax()), error.shape)
    wrong = int((error > tolerance * scale).sum())
    where = f" at {[int(i) for i in at]}" if error.ndim else ""
    return f"{wrong} of {error.size} numbers are wrong, the worst{where}: {got[at]:.6g} for {wanted[at]:.6g}"
