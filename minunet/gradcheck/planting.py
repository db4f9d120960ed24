"""How a bug is planted: a wrong backward stands in for the right one of a case, and the check of the case must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .cases import case
from .report import GradientReport


@dataclass
class Bug:
    """A wrong backward: of which case, what the mistake is (a hint in words), and the code."""

    name: str
    case: str
    story: str
    backward: Any

    def run(self, **how: Any) -> GradientReport:
        """Check the case with the bug in it; of a network dx is enough, every parameter would take long."""
        right = case(self.case).target
        if isinstance(right, tuple):
            return case(self.case).run((right[0], self.backward), **how)
        return case(self.case).run(self.backward, wrt=["x"], **how)


BUGS: list[Bug] = []


def planted(case_name: str, story: str) -> Callable[[Any], Any]:
    def register(wrong: Any) -> Any:
        BUGS.append(Bug(wrong.__name__, case_name, story, wrong))
        return wrong

    return register
