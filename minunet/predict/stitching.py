"""Instances of an image that is labelled block by block: joined where they cross from one block into the next.

Every block is labelled together with a halo around its core, and only the core's labels are kept:

      |-------- block 0 --------|
      |  core 0          | halo |
                  | halo |          core 1  |
                  |-------- block 1 --------|
                  |-- shared --|

The *face* of two neighbours is the line between their cores; both see the pixels within a halo on either side of it. An
instance of one block and an instance of the other are the same (`face_pairs`) if they touch across the face, if each shares
more pixels with the other than with any third, and if these are more than half of the smaller one. Such pairs are joined by
connected components, and numbered in the order of their first pixels (`merge`). No step depends on the results of earlier ones,
so blocks and faces may be done in any order, in any process, with the same result.

An instance that reaches no farther than the halo beyond a face is seen whole by both blocks, and comes out whole, across any
number of faces. A larger one comes out whole if both blocks divide the pixels that they share in the same way; if not, it comes
out as several instances that end at the face. Without a halo all instances that touch across a face are joined; for connected
components that gives exactly the result of the whole image, however large they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np

Part = tuple[slice, slice]  # rows and columns of the image
Index = tuple[int, int]  # a block's place: row and column of a block among the blocks
Census = tuple[np.ndarray, np.ndarray, np.ndarray]  # (k,) integers: numbers of objects, their first pixels, their areas

BLOCK = 2048  # rows and columns of a block of a large image, in which objects are separated at once
NEVER = np.iinfo(np.int64).max  # the first pixel of an instance that has none in the core


class Block(NamedTuple):
    """Where a block lies.

    Attributes
    ----------
    core, seen : rows and columns of the image
        The part whose labels are kept, and the same with the halo.
    shared : by neighbour, rows and columns of the image
        The part that both see.
    edges : by neighbour, rows and columns of the image
        The core's row or column of pixels at the face.
    """

    place: Index
    core: Part
    seen: Part
    shared: dict[Index, Part]
    edges: dict[Index, Part]


class Face(NamedTuple):
    """A block's labels at the face to a neighbour, at `Block.edges` and at `Block.shared`."""

    edge: np.ndarray
    shared: np.ndarray


class BlockInstances(NamedTuple):
    """What `merge` needs of a block's instances 1 to n; entry i belongs to instance i + 1.

    Attributes
    ----------
    first : (n,) int64 array
        Place in the image of their first pixel in the core, ``row << 32 | column``; `NEVER` if they have none there.
    area : (n,) int64 array
        Pixels in the core.
    faces : by neighbour
    """

    first: np.ndarray
    area: np.ndarray
    faces: dict[Index, Face]


def lay_blocks(size: tuple[int, int], side: int, halo: int) -> dict[Index, Block]:
    """Blocks of side x side pixels that cover an image; halos end at the image's edges."""
    if side < 1 or not 0 <= halo <= side:
        raise ValueError(f"blocks of {side} pixels with a halo of {halo}: a halo ends within the next block")
    parts = [[slice(start, min(n, start + side)) for start in range(0, n, side)] for n in size]
    cores = {(i, j): (parts[0][i], parts[1][j]) for i, j in product(*(range(len(p)) for p in parts))}
    seen = {index: (grown(r, halo, size[0]), grown(c, halo, size[1])) for index, (r, c) in cores.items()}
    blocks = {}
    for (i, j), (rows, columns) in cores.items():
        sides = {
            (i - 1, j): (slice(rows.start, rows.start + 1), columns),
            (i + 1, j): (slice(rows.stop - 1, rows.stop), columns),
            (i, j - 1): (rows, slice(columns.start, columns.start + 1)),
            (i, j + 1): (rows, slice(columns.stop - 1, columns.stop)),
        }
        edges = {other: edge for other, edge in sides.items() if other in cores}
        shared = {other: in_common(seen[i, j], seen[other]) for other in edges}
        blocks[i, j] = Block((i, j), (rows, columns), seen[i, j], shared, edges)
    return blocks


def grown(part: slice, halo: int, n: int) -> slice:
    """A part of n pixels with so many more on both sides."""
    return slice(max(0, part.start - halo), min(n, part.stop + halo))


def in_common(a: Part, b: Part) -> Part:
    """The rows and columns of two parts of an image that overlap."""
    rows, columns = (slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b))
    return rows, columns


def within(part: Part, whole: Part) -> Part:
    """The rows and columns of a part, counted from where a larger one begins."""
    rows, columns = (slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole))
    return rows, columns


def label_block(
    block: Block, seen: np.ndarray, label: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, BlockInstances]:
    """Label one block.

    Parameters
    ----------
    block : Block
    seen : (h, w, ...) array
        The data to be labelled, at ``block.seen``.
    label : function
        Takes (h, w, ...) data and returns (h, w) labels: instances from 1, 0 for background. Must depend on nothing else.

    Returns
    -------
    core : (h, w) integer array
        The labels at ``block.core``.
    found : BlockInstances
    """
    labels = label(seen)

    def at(part: Part) -> np.ndarray:
        return labels[within(part, block.seen)]

    core, n = at(block.core), int(labels.max(initial=0))
    numbers, places, counts = census(core, block.core)
    first, area = np.full(n, NEVER), np.zeros(n, np.int64)
    first[numbers - 1], area[numbers - 1] = places, counts
    faces = {other: Face(at(block.edges[other]).ravel(), at(part)) for other, part in block.shared.items()}
    return core, BlockInstances(first, area, {other: Face(*(a.copy() for a in face)) for other, face in faces.items()})


def face_pairs(a: Face, b: Face) -> np.ndarray:
    """Which instances of two neighbours are the same: (k, 2) int64 pairs of labels, of a and of b.

    Without a halo these are the instances that touch across the face; with one they must be `partners`, too.
    """
    touching = np.stack([a.edge, b.edge], axis=1).astype(np.int64)
    touching = np.unique(touching[(touching > 0).all(1)], axis=0)
    if a.shared.size == 0 or len(touching) == 0:
        return touching
    same = partners(a.shared, b.shared)
    return touching[(touching[:, None] == same[None]).all(2).any(1)] if len(same) else same


def partners(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairs of instances in two labellings (h, w) of the same pixels that are the same instance: (k, 2) int64 labels."""
    both = (a > 0) & (b > 0)
    width = int(b.max(initial=0)) + 1
    code, shared = np.unique(a[both].astype(np.int64) * width + b[both], return_counts=True)
    pairs = np.stack([code // width, code % width], axis=1)
    largest, areas = np.ones(len(pairs), bool), []
    for labels, own in zip((a, b), pairs.T):
        order = np.lexsort((-shared, own))  # by instance, the partner with most shared pixels first
        largest[order[1:][own[order[1:]] == own[order[:-1]]]] = False
        areas.append(np.bincount(labels.ravel())[own])
    return pairs[largest & (2 * shared > np.minimum(*areas))]


def merge(
    found: Mapping[Index, BlockInstances], pairs: Mapping[tuple[Index, Index], np.ndarray], min_size: int = 0
) -> tuple[dict[Index, np.ndarray], int]:
    """Join the instances of all blocks.

    Parameters
    ----------
    found : by block
    pairs : by two blocks, (k, 2) integer arrays
        As `face_pairs` gives them, in any order.
    min_size : int
        Instances of fewer pixels are dropped.

    Returns
    -------
    tables : by block, (n + 1,) uint32 arrays
        The numbers that the block's background (0) and its instances 1 to n have in the image.
    count : int
        Number of instances in the image. They are numbered from 1 without gaps in the order of their first pixels, row by row.
    """
    import scipy

    starts, total = {}, 0
    for index in sorted(found):
        starts[index], total = total, total + len(found[index].first)
    nodes = [np.add(edges, (starts[a] - 1, starts[b] - 1)) for (a, b), edges in pairs.items() if len(edges)]
    i, j = np.concatenate(nodes).T if nodes else np.zeros((2, 0), np.int64)
    graph = scipy.sparse.coo_array((np.ones(len(i), bool), (i, j)), shape=(total, total))
    parts, part = scipy.sparse.csgraph.connected_components(graph, directed=False)
    first, area = np.full(parts, NEVER), np.zeros(parts, np.int64)
    if total:
        np.minimum.at(first, part, np.concatenate([found[index].first for index in sorted(found)]))
        np.add.at(area, part, np.concatenate([found[index].area for index in sorted(found)]))
    new, count = in_order(first, area, min_size)
    zero = np.zeros(1, np.uint32)
    tables = {k: np.concatenate([zero, new[part[s : s + len(found[k].first)]]]) for k, s in starts.items()}
    return tables, count


def census(core: np.ndarray, at: Part) -> Census:
    """The objects in the labels (h, w) of a part: their numbers, first pixels as in `BlockInstances`, and areas."""
    numbers, place, counts = np.unique(core, return_index=True, return_counts=True)
    kept = numbers > 0
    row, column = np.divmod(place[kept], core.shape[1])
    return numbers[kept], (row + at[0].start) << 32 | (column + at[1].start), counts[kept]


def in_order(first: np.ndarray, area: np.ndarray, min_size: int) -> tuple[np.ndarray, int]:
    """New numbers (n,) uint32 of objects in the order of their first pixels, 0 for those that are too small; and how many."""
    kept = np.flatnonzero(area >= max(min_size, 1))
    new = np.zeros(len(area), np.uint32)
    new[kept[np.argsort(first[kept])]] = np.arange(1, len(kept) + 1)
    return new, len(kept)


def numbering(n: int, counted: Iterable[Census], min_size: int) -> tuple[np.ndarray, int]:
    """The numbers that objects get: from 1 without gaps, in the order of their first pixels, row by row.

    Parameters
    ----------
    n : int
        Objects, which have the numbers 1 to n in the blocks' labels.
    counted : what `census` gives of blocks that together are the image, each once
    min_size : int
        Objects of fewer pixels are dropped: they get the number 0.

    Returns
    -------
    table : (n + 1,) uint32 array
        For the numbers in the blocks' labels.
    count : int
    """
    area, first = np.zeros(n + 1, np.int64), np.full(n + 1, NEVER)
    for numbers, places, counts in counted:
        area[numbers] += counts
        first[numbers] = np.minimum(first[numbers], places)
    new, count = in_order(first[1:], area[1:], min_size)
    return np.append(np.zeros(1, np.uint32), new), count


class Stitching:
    """The labelled blocks of one image, added in any order; a face's labels are dropped once both of its blocks are there."""

    def __init__(self) -> None:
        self.found: dict[Index, BlockInstances] = {}
        self.pairs: dict[tuple[Index, Index], np.ndarray] = {}

    def add(self, index: Index, found: BlockInstances) -> None:
        """Add a block."""
        self.found[index] = found
        for other in [o for o in found.faces if o in self.found]:
            a, b = sorted((index, other))
            self.pairs[a, b] = face_pairs(self.found[a].faces.pop(b), self.found[b].faces.pop(a))

    def merge(self, min_size: int = 0) -> tuple[dict[Index, np.ndarray], int]:
        """Join all blocks that were added, see the function `merge`."""
        return merge(self.found, self.pairs, min_size)
