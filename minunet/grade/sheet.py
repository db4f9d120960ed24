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

from ..gradcheck import check
from .process import wire
from .process.runner import UNWRITTEN, Forbidden, Trouble

LARGEST = 1 << 20  # bytes of an output that is kept: ten times what any exercise asks for


@dataclass
class Mark:
    """One comparison: which part of the score it belongs to, what was asked, the output, whether it is right, and why not.

    The output is kept for the hints; None stands for one that is too large to be any known mistake's.
    """

    part: str
    asked: str
    output: Any
    ok: bool
    message: str = ""

    def __post_init__(self) -> None:
        if wire.size(self.output) > LARGEST:
            self.output = None


Run = tuple[tuple[int, int], list[Mark]]  # which check, which time, and its marks


class Raised(str):
    """Stands for an output, or a part of one, where an error was raised instead; it is the error's message."""

    def __getitem__(self, index: Any) -> Raised:  # type: ignore[override]
        return self


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
        """Call the implementation, see `runner.Student.call`; an error gives `Raised`, and the other parts still count."""
        try:
            lost = next((a for a in args if isinstance(a, Raised)), None)
            if lost is not None:
                raise Trouble(lost)
            return self.impl.call(function, *args, **how)
        except Forbidden:
            raise
        except Trouble as e:
            raised = Raised(e)
            return (raised, raised) if how.get("keep") or how.get("after") else raised

    def same(self, part: str, asked: str, got: Any, wanted: Any, tolerance: float = 1e-9) -> None:
        """Mark whether `got` equals `wanted`, up to `tolerance` times its largest element."""
        wanted = np.asarray(wanted)
        message = unlike(got, wanted, tolerance) if self.judge else ""
        if message == UNWRITTEN and got is None:
            message = "None came back: is a `return` missing?"
        self.marks.append(Mark(part, asked, got, not message, message))

    def holds(self, part: str, asked: str, ok: bool, output: Any, message: str) -> None:
        """Mark whether a condition on the output holds."""
        message = output if isinstance(output, Raised) else message
        self.marks.append(Mark(part, asked, output, bool(ok), "" if ok else message))

    def adjoint(self, part: str, x: np.ndarray, y: Any, dy: np.ndarray, dx: Any, wanted: np.ndarray) -> None:
        """Mark whether <y, dy> = <x, dx> for the implementation's own pair; y must have the shape of `wanted` and not be 0."""
        message = unlike(y, wanted, np.inf) or unlike(dx, x, np.inf)
        if not message:
            left, right = float((y * dy).sum()), float((x * dx).sum())
            if abs(left - right) > 1e-9 * float(np.abs(y * dy).sum()) or not np.any(y):
                message = f"<y, dy> = {left:.6g}, <x, dx> = {right:.6g}: your backward is not your forward's transpose"
        self.marks.append(Mark(part, "", dx, not message, message))

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
        """Check the implementation's backward(dy, cache) against finite differences of our forward, for a random dy.

        Parameters
        ----------
        parts : sequence of str
            Parts of the score, one for each argument of forward.
        asked : str
            What the message says of the inputs.
        forward : callable
            Ours; returns (y, cache, ...).
        backward : str
            Name of the implementation's function. A gradient of None counts as not written.
        inputs : sequence of arrays
        rng : numpy.random.Generator
        alter : callable, optional
            Applied to our cache before the implementation gets it.
        **options
            Of forward.
        """
        seed = int(rng.integers(1 << 31))
        y, cache, *_ = forward(*inputs, **options)
        dy = np.random.default_rng(seed).standard_normal(np.shape(y))[()]
        got = self.call(backward, dy, alter(cache))
        grads = got if isinstance(got, tuple) else (got,) * (len(parts) if isinstance(got, Raised) else 1)
        if len(parts) == 1 and len(grads) > 1:
            grads = grads[:1]
        grads = (*grads, *[None] * len(parts))[: len(parts)]
        for part, dx, x in zip(parts, grads, inputs):
            message = unlike(dx, x, np.inf) if self.judge else ""
            self.marks.append(Mark(part, asked, dx, not message, message))
        if not self.judge:
            return
        fine = [m.output if m.ok else np.zeros_like(x) for m, x in zip(self.marks[-len(parts) :], inputs)]
        report = check(
            (lambda *a, **k: forward(*a, **k)[:2], lambda *_: tuple(fine)), *inputs, seed=seed, raises=False, **options
        )
        for mark, row in zip(self.marks[-len(parts) :], report.rows):
            if mark.ok and not row.ok:
                where, values = row.index, f"yours is {row.analytic:.6g}, right is {row.numeric:.6g}"
                at = "" if where is None else f"; at {list(where)}: {values}"
                mark.ok, mark.message = False, f"{mark.part}: {row.note}{at}"


def unlike(got: Any, wanted: np.ndarray, tolerance: float) -> str:
    """How an output differs from what is wanted, in words; "" if it does not."""
    if isinstance(got, Raised):
        return str(got)
    if got is None:
        return UNWRITTEN
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
    return f"{wrong} of {error.size} numbers are wrong, the worst{where}: yours is {got[at]:.6g}, right is {wanted[at]:.6g}"
