"""A student's page: the points, every part with what was found and what is likely wrong, and how to see it again."""

from __future__ import annotations

from ..exercise import EXERCISES
from ..grading import POINTS, Grade, Part
from ..process.calls import UNWRITTEN
from ..report import again, said_once
from .document import Block, Bold, Code, Heading, Items, Text


def student_page(label: str, grades: list[Grade], notes: list[str]) -> list[Block]:
    """The page's content, for one whose name is written `label`."""
    total = f"{sum(g.score for g in grades):.1f} of {POINTS * len(grades):.0f} points" if grades else "no points"
    blocks: list[Block] = [Heading(1, ["Feedback for ", Code(label)], total)]
    if notes:
        blocks.append(Items([[Text(Code(note))] for note in notes]))
    for grade in sorted(grades, key=lambda g: list(EXERCISES).index(g.exercise.name)):
        blocks += of_exercise(grade)
    return blocks


def of_exercise(grade: Grade) -> list[Block]:
    """What an exercise got."""
    e = grade.exercise
    about = Text(f"{e.title} (lesson {e.lesson:02d}), from the file ", Code(grade.file), kind="soft")
    blocks: list[Block] = [Heading(2, [e.name], f"{grade.score:.1f} of {POINTS:.0f}"), about]
    if grade.forbidden:
        return [*blocks, Text(Bold("No points: "), Code(grade.forbidden))]
    if all(p.ok for p in grade.parts):
        return [*blocks, Text("; ".join(p.name for p in grade.parts), kind="ok")]
    each = POINTS / len(grade.parts)
    blocks.append(Items([of_part(*said, each) for said in said_once(grade.parts)], "parts"))
    return [*blocks, Text("The same numbers again: ", Code(again(grade)), kind="soft")]


def of_part(part: Part, message: str, hint: str, each: float) -> list[Text]:
    """What a part got, of `each` points."""
    unwritten = part.message.startswith(UNWRITTEN)
    kind = "ok" if part.ok else "todo" if unwritten else "bad"
    lines = [Text(Bold(part.name), f"  {each if part.ok else 0:.1f} of {each:.1f}", kind=kind)]
    if message:
        lines.append(Text(Code(message), kind="message"))
    if hint:
        lines.append(Text(Bold("Likely: "), hint, kind="hint"))
    return lines
