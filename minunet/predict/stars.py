"""From a network's star-convex polygons to separate objects (Schmidt et al. 2018, arXiv:1806.03535).

Every pixel with a probability above the threshold proposes a polygon: the ends of its rays. Of the many that one object gets,
the most probable one is taken, and those that lie in it to more than the share `nms` (the pixels of both over those of the
smaller one) are *its* polygons and no objects of their own; then the next that is left is taken, and so on: non-maximum
suppression. As the smaller one counts, a small polygon inside of a large one is always suppressed.

    proposals   pixels above the threshold, the most probable one in each cell of the CELLS-th part of an object's width
    suppress    who is an object, and whose polygons the others are
    draw        an object's pixels are those inside of more than half of its polygons, each with its probability as its weight;
                where objects overlap, the pixel is the more probable object's

The vote makes outlines that no single polygon has, and that err less: the best polygon sees its object from one pixel only.
A polygon holds the pixels whose middles lie in it. Overlaps are exact counts of pixels, by kernels/cpu/stars.py; the functions
here that begin with plain_ compute the same in NumPy, in the same order.

Cells lie in the image, not in a tile, so an image by tiles has the proposals of the whole, and an object that crosses from one
tile into another is found once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..array import Array, get_array_module
from ..data.objects import Rays, Separation
from ..data.stars import directions
from ..errors import UserError
from ..ops import sigmoid
from ..ops.dispatch import are_fast

CELLS = 6  # a cell is this part of the width of a typical object
Part = tuple[slice, slice, np.ndarray]

MOST = 1 << 22  # proposals; if there are more, the least probable ones are dropped
LEAST = 1e-3  # pixels: a distance below this counts as this
LARGEST = 10  # typical radii: one above this, which only a network at a loss gives, counts as this


class Polygons(NamedTuple):
    """Star-convex polygons, the most probable one first.

    Attributes
    ----------
    centres : (M, 2) float64 array of rows and columns
    distances : (M, R) float64 array, in pixels
    scores : (M,) float64 array of probabilities
    """

    centres: np.ndarray
    distances: np.ndarray
    scores: np.ndarray

    @property
    def reach(self) -> np.ndarray:
        """The longest ray of each, (M,)."""
        return self.distances.max(1, initial=0)


class Objects(NamedTuple):
    """Objects as groups of polygons.

    Attributes
    ----------
    polygons : Polygons
    starts, members : integer arrays
        Object n, from 0, has the polygons ``members[starts[n] : starts[n + 1]]``, its own one first.
    boxes : (n, 4) int64 array
        The rows and columns outside of which an object has no pixel: top, left, bottom, right, the last two not included.
    dropped : int
        Polygons that were too many to be looked at.
    """

    polygons: Polygons
    starts: np.ndarray
    members: np.ndarray
    boxes: np.ndarray
    dropped: int = 0

    def draw(self, rows: slice, columns: slice) -> np.ndarray:
        """As the function `draw`."""
        return draw(self, rows, columns)


def star_maps(logits: Array, unit: float) -> Array:
    """Probability and distances in pixels, (..., 1 + R), from the network's outputs, whose distances count in `unit` pixels."""
    xp = get_array_module(logits)
    distances = xp.minimum(logits[..., 1:], LARGEST) * logits.dtype.type(unit)
    return xp.concatenate([sigmoid(logits[..., :1])[0], distances], axis=-1)


def cell_of(rays: Rays, scale: float) -> int:
    """The side of a cell in pixels of the image."""
    return max(1, int(2 * rays.unit / scale / CELLS))


# ---- proposals -------------------------------------------------------------------------------------------------------


def propose(maps: np.ndarray, threshold: float, cell: int, top: int = 0, left: int = 0) -> Polygons:
    """The polygons of the maps (h, w, 1 + R) of a part of an image that begins at row `top` and column `left`."""
    rows, columns = np.nonzero(maps[..., 0] > threshold)
    chosen = maps[rows, columns].astype(np.float64)
    centres = np.stack([rows + top, columns + left], axis=1).astype(np.float64)
    return best_of_cells(Polygons(centres, np.maximum(chosen[:, 1:], LEAST), chosen[:, 0]), cell)


def find_objects(parts: Iterable[Part], how: Separation, cell: int) -> Objects:
    """The objects of an image from its parts: rows, columns, and the maps (h, w, 1 + R) there."""
    proposed = [propose(maps, how.threshold, cell, rows.start, columns.start) for rows, columns, maps in parts]
    return join_parts(proposed, how, cell)


def join_parts(proposed: list[Polygons], how: Separation, cell: int) -> Objects:
    """The objects of an image from the proposals of its parts, in any order."""
    joined = best_of_cells(Polygons(*(np.concatenate(arrays) for arrays in zip(*proposed))), cell)
    found = suppress(Polygons(*(a[:MOST] for a in joined)), how.nms)
    return found._replace(dropped=max(0, len(joined.scores) - MOST))


def best_of_cells(polygons: Polygons, cell: int) -> Polygons:
    """The most probable polygon of each cell; of equals the first, row by row."""
    (rows, columns), scores = polygons.centres.T.astype(np.int64), polygons.scores
    order = np.lexsort((columns, rows, -scores))
    width = int(columns.max(initial=0)) // cell + 1
    _, first = np.unique((rows // cell * width + columns // cell)[order], return_index=True)
    kept = order[np.sort(first)]
    return Polygons(*(a[kept] for a in polygons))


# ---- suppression -----------------------------------------------------------------------------------------------------


def suppress(polygons: Polygons, share: float) -> Objects:
    """Which polygons are objects, and which are theirs.

    Parameters
    ----------
    polygons : Polygons
    share : float
        A polygon that shares more than this with a more probable one, of the smaller of the two, is no object.
    """
    owner = np.full(len(polygons.scores), -1, np.int64)
    if are_fast():
        from ..kernels.cpu import stars as kernels

        areas, rays = np.zeros(len(owner), np.int64), directions(polygons.distances.shape[1])
        kernels.areas(polygons.centres, polygons.distances, *rays, areas)
        side, starts, members = by_place(polygons.centres)
        kernels.suppress(
            polygons.centres, polygons.distances, *rays, polygons.reach, areas, starts, members, side, share, owner
        )
    else:
        plain_suppress(polygons, share, owner)
    members = np.argsort(owner, kind="stable")
    members = members[np.searchsorted(owner[members], 0) :]  # without what has no pixel
    _, starts = np.unique(owner[members], return_index=True)
    boxes = np.zeros((len(starts), 4), np.int64)
    if len(starts):
        middle, reach = polygons.centres[members], polygons.reach[members, None]
        boxes[:, :2] = np.floor(np.minimum.reduceat(middle - reach, starts))
        boxes[:, 2:] = np.ceil(np.maximum.reduceat(middle + reach, starts)) + 1
    return Objects(polygons, np.append(starts, len(members)), members, boxes)


def by_place(centres: np.ndarray, side: int = 16) -> tuple[int, np.ndarray, np.ndarray]:
    """The polygons by the squares of `side` pixels that their centres lie in: that side, starts and members.

    Those of square (i, j) are members[starts[i, j] : starts[i, j + 1]], in their order.
    """
    i, j = (centres // side).T.astype(np.int64)
    rows, columns = int(i.max(initial=0)) + 1, int(j.max(initial=0)) + 1
    square = i * (columns + 1) + j  # with an empty one at the end of each row, which is only a stop
    members = np.argsort(square, kind="stable")
    starts = np.searchsorted(square[members], np.arange(rows * (columns + 1)))
    return side, starts.reshape(rows, columns + 1), members


def plain_suppress(polygons: Polygons, share: float, owner: np.ndarray) -> None:
    """Write into `owner` (M,) which polygon takes each; -1 stays where one has no pixel. What the kernel computes, too."""
    centres, reach = polygons.centres, polygons.reach
    edges = [crossings(c, d) for c, d in zip(centres, polygons.distances)]
    areas = np.array([abs(int((sign * column).sum())) for _, column, sign in edges])
    for i in range(len(owner)):
        if owner[i] >= 0 or not areas[i]:
            continue
        owner[i] = i
        top, left = np.floor(centres[i] - reach[i]).astype(int)
        size = 2 * int(np.ceil(reach[i])) + 3
        before = np.zeros((size, size + 1), int)
        before[:, 1:] = (toggled(edges[i], 1, top, left, (size, size)) != 0).cumsum(1)
        for j in range(i + 1, len(owner)):
            dy, dx = centres[j] - centres[i]
            if owner[j] >= 0 or not areas[j] or dy * dy + dx * dx > (reach[i] + reach[j]) ** 2:
                continue
            seen = (edges[j][0] >= top) & (edges[j][0] < top + size)
            row, column, sign = (a[seen] for a in edges[j])
            shared = abs(int((sign * before[row - top, np.clip(column - left, 0, size)]).sum()))
            if shared > share * min(areas[i], areas[j]):
                owner[j] = i


# ---- drawing ---------------------------------------------------------------------------------------------------------


def draw(objects: Objects, rows: slice, columns: slice) -> np.ndarray:
    """A part of the image with the objects' numbers, from 1 in their order: (h, w) int32, 0 for background."""
    labels = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
    polygons, (top, left, bottom, right) = objects.polygons, objects.boxes.T
    chosen = np.flatnonzero((top < rows.stop) & (bottom > rows.start) & (left < columns.stop) & (right > columns.start))
    if are_fast():
        from ..kernels.cpu import stars as kernels

        kernels.draw(polygons.centres, polygons.distances, *directions(polygons.distances.shape[1]), polygons.scores,
                     objects.starts, objects.members, objects.boxes, chosen, rows.start, columns.start, labels)  # fmt: skip
    else:
        plain_draw(objects, chosen, rows.start, columns.start, labels)
    return labels


def plain_draw(objects: Objects, chosen: np.ndarray, top: int, left: int, labels: np.ndarray) -> None:
    """Draw chosen objects into labels (h, w) that begin at row `top` and column `left`, the last one first; as the kernel."""
    polygons = objects.polygons
    for n in reversed(chosen.tolist()):
        own = objects.members[objects.starts[n] : objects.starts[n + 1]]
        field, total = np.zeros(labels.shape), 0.0
        for j in own:
            edges = crossings(polygons.centres[j], polygons.distances[j])
            toggled(edges, polygons.scores[j], top, left, labels.shape, field)
            total += polygons.scores[j]
        labels[np.abs(field.cumsum(1)) > 0.5 * total] = n + 1


def crossings(centre: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a polygon's edges cross the rows of pixels: rows, the first columns that lie behind, and +1 up or -1 down."""
    sines, cosines = directions(len(distances))
    y0, x0 = centre[0] + distances * sines, centre[1] + distances * cosines
    y1, x1 = np.roll(y0, -1), np.roll(x0, -1)
    first, last = np.ceil(np.minimum(y0, y1)).astype(int), np.ceil(np.maximum(y0, y1)).astype(int)
    edge = np.repeat(np.arange(len(y0)), last - first)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    slope = (x1 - x0)[edge] / (y1 - y0)[edge]
    return row, np.ceil(x0[edge] + (row - y0[edge]) * slope).astype(int), np.where(y1 < y0, 1, -1)[edge]


def toggled(
    edges: tuple[np.ndarray, ...], amount: float, top: int, left: int, size: tuple[int, ...], field: np.ndarray | None = None
) -> np.ndarray:  # fmt: skip
    """Sums along rows: how often a pixel of a window lies inside, times plus or minus the amount; added to a field of toggles.

    With `field` the toggles are added to it, and not summed.
    """
    row, column, sign = edges
    toggles = np.zeros(size) if field is None else field
    seen = (row >= top) & (row < top + size[0]) & (column < left + size[1])
    np.add.at(toggles, (row[seen] - top, np.maximum(column[seen] - left, 0)), sign[seen] * amount)
    return toggles.cumsum(1) if field is None else toggles


# ---- all of it -------------------------------------------------------------------------------------------------------


def separate_stars(maps: np.ndarray, how: Separation, cell: int = 1) -> np.ndarray:
    """The objects of an image, from its maps (H, W, 1 + R): (H, W) int32 numbers in any order, 0 for background."""
    rows, columns = slice(0, maps.shape[0]), slice(0, maps.shape[1])
    return draw(find_objects([(rows, columns, maps)], how, cell), rows, columns)


def check_split(split: bool) -> None:
    """UserError if connected regions are asked for, which polygons are not."""
    if not split:
        raise UserError(
            "--no-split: this network finds objects one by one, and there is nothing to split: leave it out"
        )
