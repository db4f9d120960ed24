"""Words for numbers, lists, and places along an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import prod

SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LAST_DIGITS = "right but for the last digits, as if computed in float32 (where does the precision go?)"


def number(value: float) -> str:
    """A number in a few letters."""
    return f"{value:.4g}"


def beside(yours: float, right: float) -> str:
    """Two numbers, with as many digits as it takes to tell them apart."""
    if yours == int(yours) and right == int(right) and max(abs(yours), abs(right)) < 1e15:
        return f"yours is {int(yours)}, right is {int(right)}"
    mine, theirs = apart(yours, right)
    return f"yours is {mine}, right is {theirs}"


def apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers, with as many digits as it takes to tell them apart."""
    digits = next((d for d in (6, 9, 12) if f"{a:.{d}g}" != f"{b:.{d}g}"), 17)
    return f"{a:.{digits}g}", f"{b:.{digits}g}"


def many(name: str, count: int = 2) -> str:
    """A name in the plural, unless it is one."""
    return name if count == 1 else f"{name}es" if name.endswith(("x", "ch")) else f"{name}s"


def listed(texts: Iterable[str], most: int = 4) -> str:
    """a, b and c."""
    found = list(texts)
    if len(found) > most:
        return f"{', '.join(found[:most])}, ..."
    return " and ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))


def places(name: str, indices: Sequence[int], n: int) -> str:
    """Some of the n indices along an axis: "the last row", "channels 0 and 2"; "" if there is no short way to say it."""
    first, last, k = indices[0], indices[-1], len(indices)
    steps = {b - a for a, b in pairwise(indices)}
    if k == 1:
        return f"the first {name}" if not first else f"the last {name}" if first == n - 1 else f"{name} {first}"
    if steps == {1}:
        if not first:
            return f"the first {SMALL[k] if k < len(SMALL) else k} {many(name)}"
        if last == n - 1:
            return f"the last {SMALL[k] if k < len(SMALL) else k} {many(name)}"
        return f"{many(name)} {first} to {last}"
    if steps == {2} and first < 2 and last >= n - 2 and n > 4:
        return f"every {'odd' if first else 'even'} {name}"
    if k > 2 and len(steps) == 1:
        (step,) = steps
        return f"{many(name)} {first} to {last} in steps of {step}"
    return f"{many(name)} {listed(map(str, indices))}" if k < 5 else ""


def factor(k: float, given: Sequence[tuple[int, ...]] = ()) -> str:
    """How many times too large or too small something is, and what that number counts, if it counts one thing."""
    sign = "" if k > 0 else ", with the wrong sign"
    for n, word in ((abs(k), "large"), (1 / abs(k), "small")):
        if n > 1.5 and abs(n - round(n)) < 1e-6 * n:
            what = counted(round(n), given)
            mean = " (a mean where a sum should be?)" if word == "small" and n > 2.5 and not sign else ""
            return f"it is {round(n)} times too {word}{sign}{f', and {what}' if what else ''}{mean}"
    size = number(abs(k)) if number(abs(k)) != "1" else apart(abs(k), 1)[0]
    return f"it is {size} times the right one{sign}"


def counted(n: int, given: Sequence[tuple[int, ...]]) -> str:
    """What a number counts, by the shapes (N, H, W, C) of what was handed over; "" if it may be several things."""
    maps = [s for s in given if len(s) == 4]
    meanings = {
        "there are {n} images": {s[0] for s in maps},
        "an image has {n} pixels": {s[1] * s[2] for s in maps},
        "all images have {n} pixels": {prod(s[:3]) for s in maps},
        "there are {n} channels": {s[3] for s in maps},
        "there are {n} numbers": {prod(s) for s in maps},
    }
    found = [text for text, counts in meanings.items() if n in counts]
    return found[0].format(n=n) if len(found) == 1 and n > 5 else ""  # a small one may be a slip of its own


def exchanged(order: Sequence[int], names: Sequence[str]) -> str:
    """Which axes stand in each other's place."""
    moved = [a for a in range(len(order)) if order[a] != a]
    if len(moved) == 2:
        return f"{many(names[moved[0]])} and {many(names[moved[1]])} are exchanged"
    return f"the axes are in another order: it is right after .transpose({', '.join(map(str, order))})"
