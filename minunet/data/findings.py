"""What `minunet.doctor` finds: each finding with its name, severity and advice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..cli import printable


@dataclass
class Finding:
    """The result of a check.

    Attributes
    ----------
    name : str
        What was checked, or the trouble: "mask values".
    severity : "ok", "note" (the user should know) or "trouble" (the user must change something)
    files : list of str
        Images that it is about, by the names that --val-files takes; empty where it is not about single images.
    text, advice : str
        What was found, and what to do about it.
    """

    name: str
    severity: str
    files: list[str]
    text: str
    advice: str = ""

    def __str__(self) -> str:
        text, advice = printable(self.text), printable(self.advice)
        return f"{self.severity:<8} {self.name}: {text}" + (f"\n         -> {advice}" if advice else "")


class Findings(list[Finding]):
    """Findings in the order in which they were made."""

    def ok(self, name: str, text: str) -> None:
        """Add what is as it should be."""
        self.append(Finding(name, "ok", [], text))

    def note(self, name: str, text: str, advice: str = "", files: Iterable[str] = ()) -> None:
        """Add what the user should know but need not change."""
        self.append(Finding(name, "note", list(files), text, advice))

    def trouble(self, name: str, text: str, advice: str = "", files: Iterable[str] = ()) -> None:
        """Add what the user must change."""
        self.append(Finding(name, "trouble", list(files), text, advice))

    def count_of(self, name: str) -> int:
        """How many findings have this name."""
        return sum(finding.name == name for finding in self)

    @property
    def troubles(self) -> int:
        """How many of them the user must do something about."""
        return sum(finding.severity == "trouble" for finding in self)
