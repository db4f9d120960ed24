"""Where in an array the wrong numbers lie: in which slices, or at which edges."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from .words import listed, places


def where(wrong: np.ndarray, names: Sequence[str]) -> str:
    """In which slices, or at which edges, all the wrong numbers lie, to be put behind their count; "" if that says little."""
    count = int(wrong.sum())
    if count == wrong.size:
        return ""
    touched = [np.unique(i) for i in np.nonzero(wrong)]
    box = prod(map(len, touched))
    few = [places(name, t.tolist(), n) for name, t, n in zip(names, touched, wrong.shape) if len(t) < n]
    if any(few) and count == box and all(few):
        return f": the whole of {', in '.join(few)}" if wrong.ndim > len(few) else f": {', in '.join(few)}"
    if any(few) and count >= 0.5 * box:
        return f", only in {', in '.join(filter(None, few))}"
    edges = at_edges(wrong, names)
    if edges:
        return f", {edges}"
    narrow = [places(name, t.tolist(), n) for name, t, n in zip(names, touched, wrong.shape) if len(t) <= n // 2]
    return f", only in {', in '.join(filter(None, narrow))}" if any(narrow) else ""


def at_edges(wrong: np.ndarray, names: Sequence[str]) -> str:
    """The edges that hold all the wrong numbers, if what they surround is right."""
    for thick in (1, 2):
        slabs = []
        inside = [slice(None)] * wrong.ndim
        for axis, n in enumerate(wrong.shape):
            if n > 2 * thick:
                slabs += [(axis, slice(0, thick)), (axis, slice(n - thick, n))]
                inside[axis] = slice(thick, n - thick)
        if not slabs or wrong[tuple(inside)].any():
            continue
        for slab in sorted(slabs, key=lambda s: int(wrong[_slab(wrong.ndim, *s)].sum())):
            if not _outside(wrong, [s for s in slabs if s != slab]).any():
                slabs.remove(slab)
        said = [places(names[a], list(range(wrong.shape[a]))[s], wrong.shape[a]) for a, s in slabs]
        return f"only at the edges: in {listed(filter(None, said))}"
    return ""


def _slab(ndim: int, axis: int, part: slice) -> tuple[slice, ...]:
    return tuple(part if a == axis else slice(None) for a in range(ndim))


def _outside(wrong: np.ndarray, slabs: list[tuple[int, slice]]) -> np.ndarray:
    """The wrong ones that lie in none of the slabs."""
    left = wrong.copy()
    for axis, part in slabs:
        left[_slab(wrong.ndim, axis, part)] = False
    return left
