"""How an array differs from the one that is wanted, in a sentence or two: what it is instead, where it is wrong, by how much.

Nothing is guessed: every sentence was checked on the numbers, and what holds of them by chance is not said. The first of
these that holds is taken (for what is no such array, or has another shape, see form.py):

all numbers        a factor, a sign, a sum, the same for each channel (image, row ...); flipped, exchanged, shifted, reordered
some numbers       in which image, row, column, channel; at which edge; every other one; and what stands there instead

"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations, product
from math import prod

import numpy as np

from .whereabouts import where
from .words import LAST_DIGITS, beside, exchanged, factor, listed, many, number

NAMES = {4: ("image", "row", "column", "channel"), 3: ("row", "column", "channel"), 2: ("row", "column")}
KERNEL = ("kernel row", "kernel column", "input channel", "output channel")
MOST = 64  # slices along an axis that are compared with each other
CLOSE = 1e-6  # of the largest number: what counts as equal when arrays are compared in another way
MUCH_CLOSER = 1e-3  # of the distance to the right one: what explains an output is that much nearer to it
SINGLE = 1e-5  # of the largest right number: errors of float32 are below
FUNCTIONS = {
    "square": np.square,
    "square root": np.sqrt,
    "exponential": np.exp,
    "logarithm": np.log,
    "reciprocal": np.reciprocal,
}


@dataclass
class Pair:
    """What came back and what is right, as floats; the names of the axes, and the shapes of what was handed over."""

    got: np.ndarray
    wanted: np.ndarray
    names: tuple[str, ...]
    given: Sequence[tuple[int, ...]] = ()
    scale: float = field(init=False)
    margin: float = field(init=False)

    def __post_init__(self) -> None:
        self.scale = float(np.abs(self.wanted).max(initial=0.0)) or 1.0
        self.margin = margin(self.got, self.wanted)

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether two arrays have one shape and the same numbers."""
        return a.shape == b.shape and bool((np.abs(a - b) <= self.margin).all())


def margin(got: np.ndarray, wanted: np.ndarray) -> float:
    """How far numbers may lie apart that count as equal: little beside both arrays, and beside what lies between them."""
    largest = [float(np.abs(a).max(initial=0.0)) for a in (got, wanted)]
    apart = float(np.abs(got - wanted).max(initial=0.0)) if got.shape == wanted.shape else np.inf
    return min(CLOSE * min(filter(None, largest), default=1.0), MUCH_CLOSER * apart)


def describe(
    got: np.ndarray,
    wanted: np.ndarray,
    tolerance: float = 1e-9,
    names: Sequence[str] = (),
    given: Sequence[tuple[int, ...]] = (),
) -> str:
    """How finite numbers differ from those that are wanted, of the same shape; "" if they do not.

    Parameters
    ----------
    got, wanted : arrays of one shape
    tolerance : float
        Largest error of a right number, as a share of the largest of all.
    names : sequence of str, optional
        Of the axes, in the singular; by default those of images, or of a matrix.
    given : shapes, optional
        Of the arrays from which it was made: they tell what a factor counts.
    """
    pair = Pair(np.asarray(got, np.float64), np.asarray(wanted, np.float64), axes(wanted.ndim, names), given)
    wrong = np.abs(pair.got - pair.wanted) > tolerance * pair.scale
    if not wrong.any():
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    values = beside(pair.got[first], pair.wanted[first])
    if not pair.wanted.ndim:
        said = compared(pair.got, pair.wanted, given) or (LAST_DIGITS if imprecise(pair) else "")
        if np.asarray(wanted).dtype.kind in "iu":
            said = said.partition(" (a mean")[0]
        return f"{values}: {said}" if said else values
    whole = as_a_whole(pair)
    if whole:
        return f"{whole}; at {list(first)}: {values}"
    if imprecise(pair):
        return f"{LAST_DIGITS}; the first at {list(first)}: {values}"
    count = int(wrong.sum())
    head = f"{count} of {wrong.size} numbers are wrong" if count < wrong.size else "all numbers are wrong"
    there = compared(pair.got[wrong], pair.wanted[wrong], given) if not wrong.all() else ""
    at = f"the first at {list(first)}: {values}"
    return "; ".join(filter(None, [head + where(wrong, pair.names), there and f"there {there}", at]))


def axes(ndim: int, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of an array's axes."""
    if len(names) == ndim:
        return tuple(names)
    return NAMES.get(ndim) or (("number",) if ndim == 1 else tuple(f"axis-{a} index" for a in range(ndim)))


def imprecise(pair: Pair) -> bool:
    """Whether errors are of float32's size, in most of the large numbers."""
    errors, large = np.abs(pair.got - pair.wanted) / pair.scale, np.abs(pair.wanted) > 0.1 * pair.scale
    return bool(errors.max() <= SINGLE and large.any() and (errors[large] > 1e-9).mean() >= 0.75)


# ---- all numbers -----------------------------------------------------------------------------------------------------


def as_a_whole(pair: Pair) -> str:
    """What the whole array is instead, if one sentence says it of all its numbers."""
    if pair.got.size < 2:
        return compared(pair.got, pair.wanted, pair.given)
    return (
        compared(pair.got, pair.wanted, pair.given)
        or by_slices(pair)
        or in_another_order(pair)
        or averaged(pair)
        or shifted(pair)
        or scattered(pair)
    )


def compared(got: np.ndarray, wanted: np.ndarray, given: Sequence[tuple[int, ...]] = ()) -> str:
    """A rule that turns every right number into the one that came back, in words; "" if there is none."""
    g, w = np.ravel(got), np.ravel(wanted)
    scale, near = float(np.abs(w).max(initial=0.0)) or 1.0, margin(g, w)

    def same(a: np.ndarray) -> bool:
        return bool((np.abs(a - g) <= near).all())

    if np.abs(g).max(initial=0.0) <= 1e-15 * min(scale, 1.0):
        return "it is 0" if g.size == 1 else "all are 0"
    if not w.any():
        return "it should be 0"
    if same(-w):
        return "the sign is wrong"
    at = int(np.abs(w).argmax())
    k = g[at] / w[at]
    whole = k and any(abs(n - round(n)) < 1e-6 * n and 1.5 < n < 1e6 for n in (abs(k), 1 / abs(k)))
    if k and same(k * w) and (g.size > 1 or whole):
        return factor(k, given)
    if g.size < 4 or np.ptp(w) < CLOSE * scale:
        return ""
    if np.ptp(g) < near:
        return f"all are {number(g[0])}"
    if same(w + (g - w).mean()):
        return f"each is {number(abs((g - w).mean()))} too {'large' if (g - w).mean() > 0 else 'small'}"
    for said, how in (
        ("the minus signs are lost", np.abs),
        ("what should be negative is 0", lambda w: np.maximum(w, 0)),
        ("what should be positive is 0", lambda w: np.minimum(w, 0)),
        ("what comes after the point is cut off", np.trunc),
        ("they are rounded", np.rint),
    ):
        if same(how(w)):
            return said
    with np.errstate(all="ignore"):
        for name, f in FUNCTIONS.items():
            if same(np.nan_to_num(f(w), nan=np.inf)):
                return f"each is the {name} of the right one"
    slope, shift = np.polyfit(w, g, 1)
    if len(np.unique(w)) > 3 and abs(slope) > 1e-3 and same(slope * w + shift):
        if abs(slope + 1) < 1e-6:
            return f"each is {number(shift)} minus the right one"
        return f"each is {number(slope)} times the right one, plus {number(shift)}"
    return ""


def by_slices(pair: Pair) -> str:
    """Whether each image, row, column or channel is right but for a factor of its own, or for a number added to it."""
    for axis in reversed(range(pair.got.ndim)):
        n = pair.got.shape[axis]
        if n < 2 or pair.got.size < 4 * n:
            continue
        g, w = (np.moveaxis(a, axis, 0).reshape(n, -1) for a in (pair.got, pair.wanted))
        largest = np.abs(w).argmax(1)
        tops = np.take_along_axis(w, largest[:, None], 1)[:, 0]
        if (np.abs(tops) > CLOSE * pair.scale).all():
            factors = np.take_along_axis(g, largest[:, None], 1)[:, 0] / tops
            if len(set(factors.round(6)) - {1, 0}) > 1 and pair.same(g, factors[:, None] * w):
                return f"each {pair.names[axis]} is right but for a factor: {listed(map(number, factors))}"
        added = (g - w).mean(1)
        if len(set((added / pair.scale).round(6)) - {0}) > 1 and pair.same(g, w + added[:, None]):
            return f"each {pair.names[axis]} is right but for a number added to it: {listed(map(number, added))}"
    return ""


def in_another_order(pair: Pair) -> str:
    """Whether axes are exchanged, or the slices along one axis stand in another order, or repeat each other."""
    got, wanted, names = pair.got, pair.wanted, pair.names
    for order in list(permutations(range(got.ndim)))[1:]:
        if pair.same(got.transpose(order), wanted):
            return exchanged(order, names)
    for axis, name in enumerate(names):
        n = got.shape[axis]
        if pair.same(np.flip(got, axis), wanted):
            return f"the {many(name)} are in reverse order"
        if n > MOST:
            continue
        sources = [[k for k in range(n) if pair.same(got.take(i, axis), wanted.take(k, axis))] for i in range(n)]
        if n > 1 and all(len(s) == 1 for s in sources):
            right = [s[0] for s in sources]
            i = next(i for i in range(n) if right[i] != i)
            what = "are in another order" if len(set(right)) == n else "repeat each other"
            return f"the {many(name)} are right but {what}: your {name} {i} is the right {name} {right[i]}"
    for pair_of_axes in ((a, b) for a in range(got.ndim) for b in range(a)):
        if pair.same(np.flip(got, pair_of_axes), wanted):
            return f"the {many(names[pair_of_axes[1]])} and the {many(names[pair_of_axes[0]])} are in reverse order"
    return ""


def averaged(pair: Pair) -> str:
    """Whether every number is the mean, the sum, the largest or the smallest of the right ones along some axes."""
    got, wanted = pair.got, pair.wanted
    flat = [
        a for a in range(got.ndim) if got.shape[a] > 1 and pair.same(got, np.broadcast_to(got.take([0], a), got.shape))
    ]
    flat = [a for a in flat if not pair.same(wanted, np.broadcast_to(wanted.take([0], a), wanted.shape))]
    if not flat:
        return ""
    over = listed(many(pair.names[a]) for a in flat)
    for name, f in (("mean", np.mean), ("sum", np.sum), ("largest", np.max), ("smallest", np.min)):
        if pair.same(got, np.broadcast_to(f(wanted, axis=tuple(flat), keepdims=True), got.shape)):
            return f"every number is the {name} of the right ones over the {over}"
    return f"the numbers are the same for all {over}: they should differ"


def shifted(pair: Pair) -> str:
    """Whether the right numbers stand some rows or columns further on, where most of both arrays overlap."""
    got, wanted = pair.got, pair.wanted
    ranges = [range(-(n // 2), n // 2 + 1) if n > 3 else (0,) for n in got.shape]
    if prod(map(len, ranges)) > 2000:
        return ""
    steps = sorted(product(*ranges), key=lambda step: sum(map(abs, step)))
    for step in steps[1:]:
        mine = got[tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(step, got.shape))]
        theirs = wanted[tuple(slice(max(-s, 0), n + min(-s, 0)) for s, n in zip(step, got.shape))]
        if mine.size >= 4 and np.ptp(theirs) > 0 and pair.same(mine, theirs):
            moves = [
                f"{abs(s)} {many(n, abs(s))} too {'late' if s > 0 else 'early'}" for s, n in zip(step, pair.names) if s
            ]
            return f"the right numbers stand {listed(moves)}"
    return ""


def scattered(pair: Pair) -> str:
    """Whether the right numbers are all there, in other places."""
    if pair.got.size > 3 and pair.same(np.sort(pair.got, None), np.sort(pair.wanted, None)):
        return "the right numbers are all there, but in other places"
    return ""
