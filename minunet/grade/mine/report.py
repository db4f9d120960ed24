"""What is known of a student's network when it has been trained: what the terminal and the page tell."""

from __future__ import annotations

from dataclasses import dataclass, field

from .astray import Astray
from .parts import PARTS
from .training import Cells, History


@dataclass
class Report:
    """All that the page tells.

    Attributes
    ----------
    files : dict
        By exercise the file that answers it.
    answered : list of str
        The exercises whose answers run in the network.
    failed : dict
        By exercise how much of it is right, of answers that are not right yet.
    left_out : dict
        By exercise why an answer that is right does not run here.
    shares : dict
        By exercise its share of the arithmetic; None is what is ours.
    seconds : dict
        By exercise what its calls took.
    mine, ours : History or None
        Of the training with the student's functions, and with ours.
    judged : Cells
        The images to judge by, the first of which are shown.
    notes : list of str
    astray : list of Astray
    wrong : set of (function, path)
    """

    files: dict[str, str]
    answered: list[str]
    failed: dict[str, str]
    left_out: dict[str, str]
    shares: dict[str | None, float]
    judged: Cells
    seconds: dict[str, float] = field(default_factory=dict)
    mine: History | None = None
    ours: History | None = None
    notes: list[str] = field(default_factory=list)
    astray: list[Astray] = field(default_factory=list)
    wrong: set[tuple[str, str]] = field(default_factory=set)
    looked: bool = False

    @property
    def whole(self) -> bool:
        """Whether every part is the student's."""
        return len(self.answered) == len(PARTS)

    @property
    def share(self) -> float:
        """Of the arithmetic that is the student's."""
        return sum(share for name, share in self.shares.items() if name)

    def summary(self) -> str:
        """How far it is, in a sentence or two."""
        if self.whole:
            return "All of it is yours: every layer, every gradient, and every step of the training."
        left = [name for name in PARTS if name not in {*self.answered, *self.failed, *self.left_out}]
        count = f"{len(self.answered)} of {len(PARTS)} parts are yours, {percent(self.share)} of the arithmetic"
        wrong = f" Not right yet: {', '.join(self.failed)}." if self.failed else ""
        slow = f" Right, but left out here: {', '.join(self.left_out)}." if self.left_out else ""
        return f"{count}.{wrong}{slow}" + (f" Missing: {', '.join(left)}." if left else "")

    def compared(self) -> str:
        """How far the losses are from those of a training with our functions alone."""
        assert self.mine and self.ours
        apart = max(abs(a - b) for a, b in zip(self.mine.losses, self.ours.losses))
        same = "to the last digit or so" if apart < 1e-12 else f"to {apart:.0e}"
        return f"every loss is the same, {same}."

    def unseen(self) -> str:
        """Of answers that are wrong, but not with what they get here; or that there are none, if nothing goes astray."""
        hidden = [name for name in self.failed if name not in {a.exercise for a in self.astray}]
        if hidden:
            return (
                f"The mistake in {' and in '.join(hidden)} does not show in this network, which does not ask for what goes "
                "wrong: see minunet grade."
            )
        if not self.astray:
            return "Each of your functions was called with what ours get in a step of the training, and gave what ours give."
        return ""


def percent(share: float) -> str:
    """A share in percent; not 100 % for what is less, and not 0 % for what is more."""
    if 0 < share < 0.01:
        return "less than 1 %"
    return f"{min(round(100 * share), 99) if share < 0.9999 else 100} %"
