"""The page of a class: which part fails most, which hints were given, and what failed without one.

A teacher writes one sentence for a cluster, and grades again with --hints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..exercise import EXERCISES
from ..grading import POINTS, Grade, Part
from ..process.calls import UNWRITTEN
from .document import Block, Bold, Code, Heading, Items, Lines, Link, Picture, Piece, Table, Text
from .picture import Bar, draw

Graded = dict[str, tuple[list[Grade], list[str]]]  # by how a submission's name is written: its grades, and notes
MOST = 15  # rows of "which part fails most"
NAMED = 6  # students that are named beside a hint or a cluster


@dataclass
class Cluster:
    """Parts of an exercise that failed alike for the same students: the parts' clusters, the students, and one example."""

    names: list[str]
    parts: list[str]
    students: list[str]
    grade: Grade
    part: Part


@dataclass
class Told:
    """A hint: to whom, for which exercise, and whether it is the teacher's."""

    exercise: str
    students: dict[str, None] = field(default_factory=dict)
    own: bool = False


def class_page(graded: Graded, links: dict[str, str]) -> list[Block]:
    """The page's content; `links` lead to the students' pages."""
    without = sum(not grades for grades, _ in graded.values())
    about = f"{len(graded)} submissions" + f", {without} of them without a grade" * (without > 0)
    blocks: list[Block] = [Heading(1, ["The class"]), Text(about, kind="soft"), *overview(graded)]
    blocks += weak_parts(graded)
    blocks += hints_given(graded, links)
    blocks += clusters_left(graded, links)
    blocks += not_graded(graded, links)
    rows: list[list[Piece]] = []
    for label, (grades, _) in graded.items():
        wrong = sum(not p.ok for g in grades for p in g.parts)
        rows.append([Link(Code(label), links[label]), f"{sum(g.score for g in grades):.1f}", str(wrong or "")])
    return [*blocks, Heading(2, ["Everybody"]), Table(["", "points", "parts that are not right"], rows)]


def each(graded: Graded) -> Iterator[tuple[str, Grade]]:
    """Every grade with its submission's name, in the exercises' order."""
    for name in EXERCISES:
        for label, (grades, _) in graded.items():
            yield from ((label, g) for g in grades if g.exercise.name == name)


def overview(graded: Graded) -> list[Block]:
    """The points by exercise, and the picture."""
    of: dict[str, list[Grade]] = {}
    for _, g in each(graded):
        of.setdefault(g.exercise.name, []).append(g)
    if not of:
        return []
    rows = []
    for name, grades in of.items():
        scores = [g.score for g in grades]
        rows.append([name, str(len(scores)), f"{sum(scores) / len(scores):.1f}", str(scores.count(POINTS))])
    head = ["exercise", "answers", f"mean, of {POINTS:.0f}", "with full points"]
    about = "Of every part: how many have it right, wrong with a hint, wrong without one, or not yet written"
    return [Table(head, rows), Picture(draw(bars(of)), "parts.svg", about)]


def bars(of: dict[str, list[Grade]]) -> list[Bar]:
    """The picture's bars; a file that does what it must not is in none of them."""
    found = []
    for name, grades in of.items():
        counted = [g for g in grades if not g.forbidden]
        for n, part in enumerate(EXERCISES[name].parts):
            kinds = [kind(g.parts[n]) for g in counted]
            found.append(Bar(name, part, (kinds.count(0), kinds.count(1), kinds.count(2), kinds.count(3))))
    return found


def is_apart(part: Part) -> bool:
    """Whether there was no output that could be compared with others', as of a call that takes too long."""
    return kind(part) == 2 and not part.cluster


def kind(part: Part) -> int:
    """Which of the picture's kinds a part is of."""
    return 0 if part.ok else 3 if part.message.startswith(UNWRITTEN) else 1 if part.hint else 2


def weak_parts(graded: Graded) -> list[Block]:
    """Which parts fail most."""
    wrong: dict[tuple[str, str], list[str]] = {}
    answers: dict[str, int] = {}
    for _, g in each(graded):
        if not g.forbidden:
            answers[g.exercise.name] = answers.get(g.exercise.name, 0) + 1
            for p in g.parts:
                if kind(p) in (1, 2):
                    wrong.setdefault((g.exercise.name, p.name), []).append(p.hint)
    if not wrong:
        return []
    order = sorted(wrong, key=lambda key: -len(wrong[key]))[:MOST]
    rows = [
        [f"{exercise}, {part}", f"{len(found)} of {answers[exercise]}", str(sum(map(bool, found)))]
        for exercise, part in order
        for found in [wrong[exercise, part]]
    ]
    more = [Text(f"The {MOST} that fail most, of {len(wrong)}.", kind="soft")] * (len(wrong) > MOST)
    return [Heading(2, ["Which part fails most"]), Table(["part", "wrong", "with a hint"], rows), *more]


def hints_given(graded: Graded, links: dict[str, str]) -> list[Block]:
    """Which hints were given, to how many."""
    told: dict[tuple[str, str], Told] = {}
    for label, g in each(graded):
        for p in g.parts:
            if p.hint:
                entry = told.setdefault((g.exercise.name, p.hint), Told(g.exercise.name, own=bool(p.cluster)))
                entry.students[label] = None
    items = []
    for (exercise, hint), entry in sorted(told.items(), key=lambda item: -len(item[1].students)):
        own = " (yours)" if entry.own else ""
        head = Text(Bold(f"{len(entry.students)}"), f" in {exercise}{own}: ", hint)
        items.append([head, Text(*people(list(entry.students), links), kind="soft")])
    return [Heading(2, ["Hints that were given"]), Items(items)] if items else []


def clusters_left(graded: Graded, links: dict[str, str]) -> list[Block]:
    """What failed without a hint, and the lines with which that can be changed."""
    found = clusters(graded)
    if not found:
        return []
    about = Text(
        "Outputs that are the same for the same inputs stand together. Write a sentence between the quotes of a line below, "
        "put such lines into a file, and grade again with ", Code("--hints FILE.toml"),
        ": whoever belongs there is told it, in later runs, too.",
    )  # fmt: skip
    blocks: list[Block] = [Heading(2, ["Wrong, and without a hint"]), about]
    for cluster in found:
        g, part = cluster.grade, cluster.part
        place: list[Piece] = [", in ", Code(g.file)] if g.file != cluster.students[0] else []
        where = f" (seed {g.seed}), {part.name}: "
        blocks += [
            Heading(3, [f"{g.exercise.name}: {'; '.join(cluster.parts)}"], counted(len(cluster.students))),
            Text(*people(cluster.students, links), kind="soft"),
            Text("For example, ", Code(cluster.students[0]), *place, where, Code(part.message)),
            Lines(f'"{" ".join(cluster.names)}" = ""'),
        ]
    return blocks


def clusters(graded: Graded) -> list[Cluster]:
    """The clusters without a hint, the largest first. Those of the same exercise and the same students are one."""
    members: dict[str, dict[str, tuple[Grade, Part]]] = {}
    for label, g in each(graded):
        for p in g.parts:
            if p.cluster and not p.hint:
                members.setdefault(p.cluster, {})[label] = (g, p)
    joined: dict[tuple[str, tuple[str, ...]], Cluster] = {}
    for name, of in members.items():
        students = sorted(of)
        grade, part = of[students[0]]
        entry = joined.setdefault((grade.exercise.name, tuple(students)), Cluster([], [], students, grade, part))
        entry.names.append(name)
        entry.parts.append(part.name)
    return sorted(joined.values(), key=lambda c: (-len(c.students), min(c.names)))


def not_graded(graded: Graded, links: dict[str, str]) -> list[Block]:
    """Whose files could not be graded, get no points for what they do, or gave no output."""
    items = []
    for label, (grades, notes) in graded.items():
        said = [*notes, *(f"{g.exercise.name}: {g.forbidden}" for g in grades if g.forbidden)]
        said += [f"{g.exercise.name}: {p.message}" for g in grades for p in g.parts if is_apart(p)]
        if said:
            items.append([Text(Link(Code(label), links[label])), *(Text(Code(s)) for s in dict.fromkeys(said))])
    return [Heading(2, ["To be looked at"]), Items(items)] if items else []


def counted(students: int) -> str:
    """How many students."""
    return "1 student" if students == 1 else f"{students} students"


def people(students: list[str], links: dict[str, str]) -> list[Piece]:
    """Some of the students, each with a link to their page."""
    pieces: list[Piece] = []
    for student in students[:NAMED]:
        pieces += [", "] * bool(pieces) + [Link(Code(student), links[student])]
    return [*pieces, f" and {len(students) - NAMED} more"] if len(students) > NAMED else pieces
