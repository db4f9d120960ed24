"""Separate objects of an image that is labelled strip by strip: joined where they cross the seams.

    strip 1   |===================|
    strip 2               |===================|
                          |- overlap -|
    kept      |===============|===============|

Every strip is labelled with some rows of the strip above, so that both labellings see an object at the seam whole if it is no
taller than half the overlap. There an object below is the object above if each is the other's largest partner, and they
share more than half of the smaller. Above the middle of the overlap the upper labelling is kept, below it the lower one.

Objects much taller than the overlap may come out as several, where the two labellings disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np


def label_strips(
    strips: Iterable[np.ndarray], label: Callable[[np.ndarray], np.ndarray], overlap: int
) -> Iterator[np.ndarray]:
    """Label an image that comes in strips from the top.

    Parameters
    ----------
    strips : (h, W, ...) arrays
        One below the other, without overlap; at least `overlap` rows each, but for the last.
    label : function
        Numbers the objects of a strip: (h, W, ...) to (h, W) integers from 1, 0 for background.
    overlap : int
        Rows that neighbouring strips are labelled with in common.

    Yields
    ------
    (h, W) int64 arrays, one below the other, that make up the labelled image
        Objects are numbered from 1 without gaps, in the order in which they are first seen.
    """
    above: _Labelled | None = None
    seen: np.ndarray | None = None  # the last rows of the strip above
    count = 0
    for strip in strips:
        shown = strip if seen is None else np.concatenate([seen, strip])
        below = _Labelled(label(shown))
        zone = len(shown) - len(strip)
        if above is not None:
            count = above.name(above.local[-zone : -zone + zone // 2], count)
            yield above.named(above.local[-zone : -zone + zone // 2])
            above.hand_on(above.local[-zone:], below, below.local[:zone])
        end = len(shown) - min(overlap, len(shown))
        kept = below.local[zone // 2 : max(zone // 2, end)]
        count = below.name(kept, count)
        if len(kept):
            yield below.named(kept)
        above, seen = below, shown[max(zone // 2, end) :]
    if above is not None and seen is not None and len(seen):
        count = above.name(above.local[-len(seen) :], count)
        yield above.named(above.local[-len(seen) :])


class _Labelled:
    """A labelled strip, and the names that its objects have in the whole image, 0 for none yet."""

    def __init__(self, local: np.ndarray) -> None:
        self.local = local
        self.names = np.zeros(int(local.max(initial=0)) + 1, np.int64)

    def name(self, part: np.ndarray, count: int) -> int:
        """Number the nameless objects in a part, in the order of their first pixels; returns how many there are in all."""
        found, first = np.unique(part, return_index=True)
        found = found[np.argsort(first)]
        new = found[(found > 0) & (self.names[found] == 0)]
        self.names[new] = np.arange(count + 1, count + 1 + len(new))
        return count + len(new)

    def named(self, part: np.ndarray) -> np.ndarray:
        return self.names[part]

    def hand_on(self, zone: np.ndarray, below: _Labelled, below_zone: np.ndarray) -> None:
        """Give names to objects of the strip below, from how the two label the rows that they have in common."""
        for a, b in partners(zone, below_zone):
            below.names[b] = self.names[a]


def partners(above: np.ndarray, below: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of objects in two labellings (h, W) of the same rows that are the same object."""
    both = (above > 0) & (below > 0)
    width = int(below.max(initial=0)) + 1
    code, shared = np.unique(above[both].astype(np.int64) * width + below[both], return_counts=True)
    a, b = code // width, code % width
    areas_a, areas_b = np.bincount(above.ravel()), np.bincount(below.ravel())
    order = np.argsort(-shared, kind="stable")
    best_a = dict(zip(a[order][::-1].tolist(), order[::-1].tolist()))  # the last one written is the largest
    best_b = dict(zip(b[order][::-1].tolist(), order[::-1].tolist()))
    return [
        (int(a[i]), int(b[i]))
        for i in range(len(code))
        if best_a[int(a[i])] == i == best_b[int(b[i])] and 2 * shared[i] > min(areas_a[a[i]], areas_b[b[i]])
    ]
