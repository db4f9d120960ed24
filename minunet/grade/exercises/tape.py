"""The exercise on a tape: in which order a graph is walked back, and how gradients add up."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import later_answers as answers
from ..exercise import Exercise
from ..later_answers import Line
from ..sheet import Raised, Sheet

PLAIN = "grade/later_answers.py"

tape = Exercise(
    "tape",
    "Walk a graph back",
    lesson=12,
    minutes=60,
    task="""A tape is written in the order of the run, so its lines can be read from the end. Here the lines come in any order,
as in a file of a network: first find an order. Write `walk_order`, and with it `walk_back`, which walks the lines and adds up
the gradients. Values have the numbers 0, 1, 2, ...; no two lines have the same output.

A gradient that `local_gradients` gives may be handed to two inputs at once, as one array: change none of them in place. And a
graph of 40 lines may have 2^40 ways through it: each line is walked once.""",
    write=((PLAIN, "walk_order"), (PLAIN, "walk_back")),
    given=((PLAIN, "Line"), (PLAIN, "local_gradients")),
)


def run(lines: list[Line], leaves: np.ndarray) -> np.ndarray:
    """All values, of lines in the order of the run: (V, H, W)."""
    values = dict(enumerate(leaves))
    for op, inputs, output in lines:
        x = [values[n] for n in inputs]
        values[output] = x[0] + x[1] if op == "add" else x[0] * x[1] if op == "multiply" else np.tanh(x[0])
    return np.stack([values[n] for n in range(len(values))])


def graph(rng: np.random.Generator) -> tuple[list[Line], int]:
    """Lines in the order of the run, over three leaves, with uses near and far and with side branches; and the end."""
    numbers = [int(n) for n in rng.permutation(np.arange(3, 12))]  # of outputs: they tell nothing of the order
    a, b, c, d, e, f, g, h, i = numbers
    binary = [str(op) for op in rng.permutation(["add", "multiply", "multiply", "add"])]
    lines: list[Line] = [
        ("tanh", (0,), a),
        (binary[0], (a, 1), b),
        ("tanh", (b,), c),
        ("multiply", (a, 0), h),  # aside: the end does not depend on it
        (binary[1], (c, 2), d),
        ("add", (d, b), e),  # b again, by a shorter way
        ("tanh", (d,), i),  # aside
        (binary[2], (e, d), f),  # d again
        (binary[3], (a, f), g),  # a again, by the shortest way
    ]
    return lines, g


def shuffled(lines: list[Line], end: int, rng: np.random.Generator) -> list[Line]:
    """The lines in an order in which neither they nor those from behind can be walked."""
    while True:
        mixed = [lines[n] for n in rng.permutation(len(lines))]
        if all(fault(list(order), mixed, end) for order in (range(len(lines)), reversed(range(len(lines))))):
            return mixed


def fault(order: Any, lines: list[Line], end: int) -> str:
    """What is wrong with an order, in words; "" if nothing is."""
    if isinstance(order, Raised):
        return str(order)
    if order is None:
        return "None came back: is a `return` missing?"
    if not isinstance(order, (list, tuple, np.ndarray)) or np.ndim(order) != 1:
        return "it is no list of whole numbers"
    if any(isinstance(n, (str, bool, np.bool_)) or int(n) != n for n in order):
        return "it is no list of whole numbers"
    order = [int(n) for n in order]
    needed = set(answers.walk_order(lines, end))
    for place, n in enumerate(order):
        if not 0 <= n < len(lines):
            return f"there is no line {n}: numbers go from 0 to {len(lines) - 1}"
        if n in order[:place]:
            return f"line {n} is walked twice"
        op, _, output = lines[n]
        users = [m for m in needed if output in lines[m][1]]
        late = [m for m in users if m not in order[:place]]
        if n in needed and late:
            return (
                f"line {n} ({op}) comes before line {late[0]}, which uses its output: its gradient is not complete yet"
            )
    missing = needed - set(order)
    return f"line {min(missing)} is missing" if missing else ""


@tape.check("order", "left out", times=4)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    lines, end = graph(rng)
    lines = shuffled(lines, end, rng)
    order = sheet.call("walk_order", lines, end)
    wrong = fault(order, lines, end)
    sheet.holds("order", f"lines {lines}, from value {end}", not wrong, order, f"it is {_short(order)}: {wrong}")
    needed = answers.walk_order(lines, end)
    extra = [] if isinstance(order, Raised) or np.ndim(order) != 1 else sorted({*map(int, order)} - {*needed})
    known = bool(order is not None and len(order)) and not isinstance(order, Raised)
    said = f"value {end} does not depend on line {extra[0]}: leave it out" if extra else "no lines came back"
    sheet.holds("left out", f"from value {end}", known and not extra, order, said)


def _short(order: Any) -> str:
    return (
        str(list(map(int, order)))[:100]
        if isinstance(order, (list, tuple, np.ndarray)) and np.ndim(order) == 1
        else "none"
    )


@tape.check("used by several lines", "not used", "dend unchanged")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    lines, end = graph(rng)
    values = run(lines, rng.uniform(0.5, 1.5, (3, 2, 2)))
    lines, dend = shuffled(lines, end, rng), rng.standard_normal((2, 2))
    got, after = sheet.call("walk_back", lines, values, end, dend, changes=(3,))
    wanted = answers.walk_back(lines, values, end, dend)
    none = ~wanted.any((1, 2))
    fits = np.shape(got) == wanted.shape
    sheet.same(
        "used by several lines", f"from value {end}", got[~none] if fits else got, wanted[~none] if fits else wanted
    )
    sheet.same(
        "not used",
        f"values {np.flatnonzero(none).tolist()}",
        got[none] if fits else got,
        wanted[none] if fits else wanted,
    )
    sheet.same("dend unchanged", "", after[3] if fits else got, dend if fits else wanted, 0.0)


@tape.check("used twice by a line", "handed to two inputs", "long chain", times=1)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x, dend = rng.uniform(0.5, 1.5, (1, 2, 2)), rng.standard_normal((2, 2))
    chain: list[Line] = [("add", (n, n), n + 1) for n in range(40)]
    cases: dict[str, tuple[str, list[Line], int]] = {
        "used twice by a line": ("x * x", [("multiply", (0, 0), 1)], 1),
        "handed to two inputs": (
            "(a + b) + a * a",
            [("add", (0, 1), 2), ("multiply", (0, 0), 3), ("add", (2, 3), 4)],
            4,
        ),
        "long chain": ("40 times x + x", chain, 40),
    }
    for part, (asked, lines, end) in cases.items():
        values = run(lines, np.concatenate([x, x + 1]) if len(lines) == 3 else x)
        lines = [lines[n] for n in rng.permutation(len(lines))]
        wanted = answers.walk_back(lines, values, end, dend)
        sheet.same(part, asked, sheet.call("walk_back", lines, values, end, dend), wanted)


_REACHED = "for n in reached for number"
_SUM = "grads[number] = grads[number] + grad if number in grads else grad"
_ORDER = "return order\n"
tape.wrong(
    "overwritten",
    "the last gradient to come overwrites the others: those of a value that is used again add up",
    (_SUM, "grads[number] = grad"),
)
tape.wrong(
    "first_kept",
    "only the first gradient to come counts: those of a value that is used again add up",
    (_SUM, "grads.setdefault(number, grad)"),
)
tape.wrong(
    "in_place",
    "gradients are added in place, and an array that two inputs share changes for both: make a new one",
    (
        _SUM,
        "if number in grads:\n                grads[number] += grad\n            else:\n                grads[number] = grad",
    ),
)
tape.wrong(
    "averaged",
    "the gradients of a value that is used again are averaged: they add up",
    (_SUM, "grads[number] = (grads[number] + grad) / 2 if number in grads else grad"),
)
tape.wrong("dend_ignored", "dend is ignored: the walk begins with it", ("{end: dend}", "{end: np.ones_like(dend)}"))
tape.wrong(
    "gradients_not_passed_on", "a line is given dend, whichever it is: it wants the gradient of its own output",
    ("local_gradients(op, grads[output]", "local_gradients(op, dend"),
)  # fmt: skip
tape.wrong(
    "gradients_for_values", "a line's backward is given gradients of its inputs: it wants their values",
    ("values[number] for number in inputs", "grads.get(number, dend) for number in inputs"),
)  # fmt: skip
tape.wrong("output_for_inputs", "a line's backward is given its output: it wants the values of its inputs",
           ("values[number] for number in inputs", "values[output] for number in inputs"))  # fmt: skip
tape.wrong(
    "forward_order",
    "this is the order of the run: backwards it is the other way round",
    (_ORDER, "return order[::-1]\n"),
)
tape.wrong("as_they_stand", "the lines are walked from the last to the first, but they do not stand in the order of the run",
           (_ORDER, "return sorted(order, reverse=True)\n"))  # fmt: skip
tape.wrong(
    "as_they_come",
    "the lines are walked as they stand, but they do not stand in the order of the run",
    (_ORDER, "return sorted(order)\n"),
)
_DEPTH = """    found, look = [], [end]
    while look:
        n = maker.get(look.pop({}))
        if n is not None and n not in found:
            found.append(n)
            look.extend(lines[n][1])
    return found
"""
tape.wrong("breadth_first", "the lines nearest to the end are walked first: one that a longer way uses, too, comes too early",
           ("    return order\n", _DEPTH.format(0)))  # fmt: skip
tape.wrong("depth_first", "a line is walked as soon as one of its users has been: it must wait for all of them",
           ("    return order\n", _DEPTH.format("")))  # fmt: skip
tape.wrong("by_number", "the lines are walked by the numbers of their outputs, which say nothing of the order",
           (_ORDER, "return sorted(order, key=lambda n: -lines[n][2])\n"))  # fmt: skip
tape.wrong(
    "nothing_left_out", "lines on which the end does not depend are walked, too: leave them out",
    (_ORDER, "return order + [n for n in range(len(lines)) if n not in order]\n"),
    ("grads[output], *", "grads.get(output, np.zeros_like(dend)), *"),
)  # fmt: skip
tape.wrong("awaited_in_vain", "lines on which the end does not depend are waited for: what they use is never walked",
           (_REACHED, "for n in range(len(lines)) for number"))  # fmt: skip
tape.wrong("values_for_lines", "the numbers of the outputs come back: return those of the lines",
           ("order.append(n)", "order.append(lines[n][2])"),
           ("n in walk_order(lines, end)", "n in [[x[2] for x in lines].index(m) for m in walk_order(lines, end)]"),
)  # fmt: skip
tape.wrong(
    "walked_twice", "a line is walked once for each of its users: once, with the sum of what they give",
    ("if number not in awaited:", "if True:"),
)  # fmt: skip
