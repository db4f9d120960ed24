"""What it costs to grade: of each exercise the CPU seconds for a right answer and for a wrong one, whose hint is looked for.

They are seconds of the grader and of the student's process together, without those that the grader takes to start, which is
once for a folder of submissions. The result is written to docs/teaching.md.

python bench/grading.py
"""

from __future__ import annotations

import os
import statistics
import textwrap

from report import machine, write_between

from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import grade


def main() -> None:
    right, wrong = {}, {}
    for name, e in EXERCISES.items():
        right[name] = seconds(name, e.reference)
        wrong[name] = seconds(name, e.mistaken(e.wrongs[0]))
        print(f"{name:<20} {right[name]:5.2f} {wrong[name]:5.2f}", flush=True)
    text = (
        f"Grading a right answer takes {in_words(right)}, and a wrong one, whose hint is looked for, {in_words(wrong)}; "
        f"to this comes what the student's code takes beyond ours. ({machine()}; `python bench/grading.py`.)"
    )
    write_between("grading", "\n".join(textwrap.wrap(text, 128, break_on_hyphens=False)), "docs/teaching.md")


def seconds(name: str, source: str, times: int = 2) -> float:
    """The least CPU time of some gradings; not with bubblewrap, which does not tell what the process in it took."""
    taken = []
    for seed in range(times):
        before = os.times()
        grade(EXERCISES[name], source, f"{name}.py", seed, isolation="hook")
        taken.append(sum(os.times()[:4]) - sum(before[:4]))
    return min(taken)


def in_words(of: dict[str, float]) -> str:
    """The median, and the largest with whose it is."""
    name = max(of, key=lambda name: of[name])
    middle = statistics.median(of.values())
    return f"{middle:.1f} s of CPU time (the median of {len(of)} exercises; {of[name]:.1f} s for `{name}`)"


if __name__ == "__main__":
    main()
