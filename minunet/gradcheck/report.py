"""What a check found: a row for every argument, and the error that carries it."""

from __future__ import annotations

from dataclasses import dataclass, field


class GradientError(AssertionError):
    """A gradient is wrong; `report` says which and where."""

    def __init__(self, report: GradientReport) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass
class ArgumentCheck:
    """What was found for one argument; `index` is where it deviates most (None for a direction or an adjoint)."""

    argument: str
    checked: int
    rejected: int
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    error: float
    ok: bool
    note: str = ""


@dataclass
class GradientReport:
    """The result of a check: a row for each argument. `ok` is True if all are right; print it to see the table."""

    name: str
    mode: str
    seed: int
    tolerance: float
    rows: list[ArgumentCheck] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {'ok' if self.ok else 'WRONG'}   ({self.mode}, tolerance {self.tolerance:g}, seed {self.seed})",
            f"  {'argument':<24}{'checked':>8}{'rejected':>9}  {'worst at':<16}{'analytic':>14}{'numeric':>14}{'error':>10}",
        ]
        for r in self.rows:
            where = "" if r.index is None else "[" + ", ".join(map(str, r.index)) + "]"
            lines.append(
                f"  {r.argument:<24}{r.checked:>8}{r.rejected:>9}  {where:<16}{r.analytic:>14.6g}{r.numeric:>14.6g}"
                f"{r.error:>10.1e}  {'ok' if r.ok else 'WRONG'}{'  ' + r.note if r.note else ''}"
            )
        return "\n".join(lines)
