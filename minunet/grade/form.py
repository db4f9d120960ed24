"""What came back is no array as it should be: another container, dtype or shape, or numbers that are not finite.

A shape says more than that it is another: which rows are missing, which axis was summed over, and whether the right numbers are
all there. As in difference.py, only what the numbers show is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations, product
from math import prod
from typing import Any

import numpy as np

from .difference import Pair, axes
from .words import SMALL, exchanged, listed, many

ARRAY = "where one array should: return np.array(...), or write into an array"


def unfit(got: Any, wanted: np.ndarray, names: Sequence[str] = ()) -> str:
    """Why what came back cannot be compared with the array that is wanted; "" if it can."""
    if isinstance(got, (bool, str)) and wanted.dtype != bool:
        return f"{got!r} came back, where {'a number' if not wanted.ndim else 'an array of numbers'} should"
    if isinstance(got, list):
        return (
            f"a list came back, {ARRAY}" if wanted.ndim else f"a list of {len(got)} came back, where one number should"
        )
    if isinstance(got, tuple):
        return f"a tuple of {len(got)} came back, where one {'array' if wanted.ndim else 'number'} should"
    if not isinstance(got, (int, float, np.ndarray, np.generic)):
        return f"a {type(got).__name__} came back, where one {'array' if wanted.ndim else 'number'} should"
    found = np.asarray(got)
    if found.shape != wanted.shape:
        dtype = other_dtype(found, wanted) if found.dtype != np.float32 else ""
        return f"{other_shape(found, wanted, names)}{f'; and {dtype}' if dtype else ''}"
    return other_dtype(found, wanted) or not_finite(found, wanted)


def other_dtype(got: np.ndarray, wanted: np.ndarray) -> str:
    """What is wrong with the type of numbers; "" if it is the wanted one, or the same up to its length."""
    kind = got.dtype.kind
    if wanted.dtype == np.float64 and kind == "f" and got.dtype != np.float64:
        return f"it is {got.dtype}, where NumPy's float64 is expected, as the inputs are: where does the precision go?"
    if wanted.dtype.kind == "f" and kind in "iu" and got.ndim:
        return f"it is {got.dtype}, which has no places after the point: make the array with the dtype of the inputs"
    if wanted.dtype.kind != "b" and kind == "b":
        return f"it is {got.dtype}, True or False, where numbers should be"
    if wanted.dtype.kind in "iu" and kind == "f" and got.ndim:
        return f"it is {got.dtype}, where whole numbers should be"
    return ""


def not_finite(got: np.ndarray, wanted: np.ndarray) -> str:
    """Which numbers are none."""
    wrong = ~np.isfinite(got) & np.isfinite(wanted)
    if got.dtype.kind != "f" or not wrong.any():
        return ""
    first = tuple(int(i) for i in np.argwhere(wrong)[0])
    if not wrong.ndim:
        return f"it is {got}, not finite; right is {wanted:.6g}"
    count = f"{int(wrong.sum())} of {wrong.size}" if not wrong.all() else f"all {wrong.size}"
    return f"it is not finite: {count} numbers are nan or inf, the first at {list(first)}, where {wanted[first]:.6g} is right"


# ---- another shape ---------------------------------------------------------------------------------------------------


def other_shape(got: np.ndarray, wanted: np.ndarray, names: Sequence[str] = ()) -> str:
    """That a shape is another one, by how much, and what the numbers show of why."""
    if got.dtype.kind not in "fiub":
        return f"its shape is {got.shape}, not {wanted.shape}"
    pair = Pair(got.astype(float), wanted.astype(float), axes(wanted.ndim, names))
    why = ""
    if np.isfinite(pair.got).all() and max(got.size, wanted.size) < 1 << 16:
        why = regrouped(pair) or reduced(pair) or cut_out(pair)
    what = f"one number came back, not an array of the shape {wanted.shape}" if not got.ndim and wanted.ndim else ""
    said = what or f"its shape is {got.shape}, not {wanted.shape}"
    why = why or by_how_much(got.shape, pair)
    return f"{said}: {why}" if why else said


def regrouped(pair: Pair) -> str:
    """Whether it has the right numbers, with axes exchanged, of size 1, or taken together."""
    got, wanted = pair.got, pair.wanted
    if got.size != wanted.size or not got.size:
        return ""
    squeezed = [tuple(n for n in a.shape if n > 1) for a in (got, wanted)]
    if squeezed[0] == squeezed[1] and pair.same(got.reshape(wanted.shape), wanted):
        more = got.ndim > wanted.ndim
        return f"the numbers are right, but axes of size 1 are {'left over (keepdims?)' if more else 'missing'}"
    for order in permutations(range(got.ndim)):
        if pair.same(got.transpose(order).reshape(wanted.shape), wanted):
            if got.ndim == wanted.ndim:
                return exchanged(order, pair.names)
            return "the numbers are right: give them their shape" + (
                "" if order == tuple(sorted(order)) else ", after .transpose"
            )
    return ""


def reduced(pair: Pair) -> str:
    """Whether it was summed or averaged over an axis too many, or not over one that should have gone."""
    for of_mine, much, few in ((True, pair.got, pair.wanted), (False, pair.wanted, pair.got)):
        for k in range(1, much.ndim + 1):
            for gone in combinations(range(much.ndim), k):
                for name, f in (("sum", np.sum), ("mean", np.mean)):
                    if prod(much.shape[a] for a in gone) < 2:
                        continue
                    for kept in (False, True):
                        if pair.same(f(much, axis=gone, keepdims=kept), few):
                            return in_words(of_mine, name, gone, much.ndim, pair)
    return ""


def in_words(of_mine: bool, name: str, gone: tuple[int, ...], ndim: int, pair: Pair) -> str:
    """That axes should go, or should have stayed."""
    which = f"axis {gone[0]}" if len(gone) == 1 else f"axes {listed(map(str, gone))}"
    if of_mine:
        return f"its {name} over {which} is right: take it over {'that' if len(gone) == 1 else 'those'}, too"
    if len(gone) == ndim:
        return f"it is the {name} of all the right numbers"
    return f"it is the {name} of the right one over {which} ({listed(many(pair.names[a]) for a in gone)}), which should stay"


def cut_out(pair: Pair) -> str:
    """Whether it is a part of the right one, or the right one a part of it; with gaps, too."""
    got, wanted = pair.got, pair.wanted
    if got.ndim != wanted.ndim or not got.size or not wanted.size:
        return ""
    for small, large, mine in ((got, wanted, True), (wanted, got, False)):
        if any(s > n for s, n in zip(small.shape, large.shape)):
            continue
        starts = [range(n - s + 1) for s, n in zip(small.shape, large.shape)]
        for start in product(*starts) if prod(map(len, starts)) < 5000 else ():
            if pair.same(large[tuple(slice(a, a + s) for a, s in zip(start, small.shape))], small):
                ends = [n - a - s for a, s, n in zip(start, small.shape, large.shape)]
                rest = edges(start, ends, pair.names)
                return f"it is the right one without {rest}" if mine else f"without {rest} it would be right"
        for step in (2, 3):
            for axis in range(small.ndim):
                part = large[(slice(None),) * axis + (slice(None, None, step),)]
                if part.shape == small.shape and pair.same(part, small):
                    return f"it has {'only ' if mine else ''}every {SMALL[step]} {many(pair.names[axis])}"
            if small.ndim > 2:
                part = large[:, ::step, ::step]
                if part.shape == small.shape and pair.same(part, small):
                    one = "one" if step == 2 else "two"
                    return (
                        f"it skips {one} row and column after each" if mine
                        else f"it is right at every {step}. row and column: the others are too many"
                    )  # fmt: skip
    return ""


def edges(start: Sequence[int], ends: Sequence[int], names: Sequence[str]) -> str:
    """What lies around a part, on all sides."""
    found = []
    for name, before, after in zip(names, start, ends):
        for word, n in (("first", before), ("last", after)):
            if n:
                found.append(f"the {word} {name}" if n == 1 else f"the {word} {SMALL[n] if n < 10 else n} {many(name)}")
    return listed(found)


def by_how_much(shape: tuple[int, ...], pair: Pair) -> str:
    """How many rows, columns ... are missing, or too many."""
    if len(shape) != pair.wanted.ndim:
        return ""
    found = []
    for name, n, right in zip(pair.names, shape, pair.wanted.shape):
        if n != right:
            k = abs(n - right)
            found.append(f"{SMALL[k] if k < 10 else k} {many(name, k)} too {'many' if n > right else 'few'}")
    same = sorted(shape) == sorted(pair.wanted.shape)
    return listed(found) if not same else "sides are exchanged"
