"""From a detector's outputs to objects (`minunet.models.instance_net`), which it finds one by one.

    score      every location's: its class times its centre-ness (Tian et al. 2019, FCOS, arXiv:1904.01355)
    suppress   of the locations above the threshold the best one is taken; those whose boxes share more than `nms` with its box
               (intersection over union) are the same object; then the best that is left is taken, and so on
    mask       the sum of the prototypes, each times the location's coefficient, cut to the box, and enlarged to the image's
               pixels; what is likelier than not is the object (Bolya et al. 2019, YOLACT, arXiv:1904.02689)

Where objects overlap, a pixel is the more probable one's.

A large image goes through the network by windows that overlap. A window finds the objects whose locations lie in its middle,
and sees all of them unless they are larger than the overlap; what two windows find at their seam is suppressed as one object.
The towers have a group norm, which takes its statistics from a whole map, so that windows and whole image differ a little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from ..array import get_array_module, to_numpy
from ..data.boxes import boxes_at, places
from ..data.files.windows import Windows
from ..data.objects import Separation
from ..data.preprocess import mirrored
from ..models.instance_net import BESIDES, STRIDES
from ..nn import Module
from ..ops import sigmoid
from .tta import SYMMETRIES, Symmetry

STEP = STRIDES[-1]  # windows start at multiples of it, so that all have the same locations
OVERLAP = 128  # pixels of the network's image, at least
MOST = 1 << 17  # locations that are looked at, in a window


class Seen(NamedTuple):
    """What the network gives for a window of an image.

    Attributes
    ----------
    heads : list of (h, w, channels) arrays
    size : (int, int)
        Rows and columns of the image that the objects are drawn into.
    corner : (int, int)
        The first row and column of the window, in pixels of the network's image.
    factor : (float, float)
        Pixels of the image for one of the network's, along rows and columns.
    """

    heads: list[np.ndarray]
    size: tuple[int, int]
    corner: tuple[int, int] = (0, 0)
    factor: tuple[float, float] = (1.0, 1.0)


class Detections(NamedTuple):
    """Objects as boxes and masks, the most probable one first.

    Attributes
    ----------
    scores : (n,) array
    edges : (n, 4) float array
        Top, left, bottom and right of the boxes as they were found, in pixels.
    boxes : (n, 4) int64 array
        The rows and columns of the masks, the last two not included.
    masks : list of (h, w) bool arrays
    dropped : int
        Locations that were too many to be looked at.
    """

    scores: np.ndarray
    edges: np.ndarray
    boxes: np.ndarray
    masks: list[np.ndarray]
    dropped: int = 0

    def draw(self, rows: slice, columns: slice) -> np.ndarray:
        """A part of the image with the objects' numbers, from 1 in their order: (h, w) int32, 0 for background."""
        labels = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.int32)
        top, left, bottom, right = self.boxes.T
        touching = (top < rows.stop) & (bottom > rows.start) & (left < columns.stop) & (right > columns.start)
        for n in np.flatnonzero(touching)[::-1]:
            first = np.maximum(self.boxes[n, :2], (rows.start, columns.start))
            last = np.minimum(self.boxes[n, 2:], (rows.stop, columns.stop))
            own = self.masks[n][cut(first, last, self.boxes[n, :2])]
            labels[cut(first, last, (rows.start, columns.start))][own] = n + 1
        return labels


Part = tuple[slice, slice, Any]  # with a list of Seen


def cut(first: np.ndarray, last: np.ndarray, corner: Any) -> tuple[slice, slice]:
    """Rows and columns from `first` to `last` in an array that begins at `corner`."""
    (top, left), (bottom, right) = first - corner, last - corner
    return slice(top, bottom), slice(left, right)


def find_detections(parts: Iterable[Part], how: Separation) -> Detections:
    """The objects of an image from its parts: rows, columns, and what the network sees of each, in one or several ways."""
    return join_parts([in_part(part, how) for part in parts], how)


def join_parts(found: list[Detections], how: Separation) -> Detections:
    """The objects of an image from those of its parts, in the parts' order: what two parts have found is one object."""
    joined = Detections(
        np.concatenate([f.scores for f in found]), np.concatenate([f.edges for f in found]),
        np.concatenate([f.boxes for f in found]), [mask for f in found for mask in f.masks],
    )  # fmt: skip
    kept = suppress(joined.edges, joined.scores, how.nms)
    return Detections(
        joined.scores[kept], joined.edges[kept], joined.boxes[kept], [joined.masks[i] for i in kept],
        sum(f.dropped for f in found),
    )  # fmt: skip


def in_part(part: Part, how: Separation) -> Detections:
    """The objects whose locations lie in a part of the image."""
    rows, columns, views = part
    proposed = [propose(seen, how.threshold, rows, columns) for seen in views]
    scores, edges, coefficients = (np.concatenate(arrays) for arrays in zip(*proposed))
    view = np.repeat(np.arange(len(views)), [len(p[0]) for p in proposed])
    order = np.argsort(-scores, kind="stable")[:MOST]
    kept = order[suppress(edges[order], scores[order], how.nms)]
    drawn = [mask_of(views[view[i]], edges[i], coefficients[i]) for i in kept]
    boxes = np.array([box for box, _ in drawn], np.int64).reshape(-1, 4)
    return Detections(scores[kept], edges[kept], boxes, [mask for _, mask in drawn], max(0, len(scores) - MOST))


def propose(
    seen: Seen, threshold: float, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Scores (M,), boxes (M, 4) in pixels of the image, and coefficients (M, k) of the locations above the threshold."""
    *levels, prototypes = seen.heads
    flat = np.concatenate([y.reshape(-1, y.shape[-1]) for y in levels]).astype(np.float32, copy=False)
    n = flat.shape[1] - BESIDES - prototypes.shape[-1]
    score = sigmoid(flat[:, :n].max(1))[0] * sigmoid(flat[:, n + 4])[0]
    at, stride = places([y.shape[:2] for y in levels], STRIDES)
    image = (at + seen.corner) * seen.factor
    here = (image >= (rows.start, columns.start)) & (image < (rows.stop, columns.stop))
    chosen = np.flatnonzero((score > threshold) & here.all(1))
    edges = boxes_at(flat[chosen, n : n + 4].astype(float), at[chosen] + seen.corner, stride[chosen, None])
    edges = np.clip(edges * (*seen.factor, *seen.factor), 0, (*seen.size, *seen.size))
    return score[chosen], edges, flat[chosen, n + BESIDES :]


def suppress(edges: np.ndarray, scores: np.ndarray, share: float) -> np.ndarray:
    """Indices of the boxes that are objects, the best first: greedy non-maximum suppression by intersection over union."""
    order = np.argsort(-scores, kind="stable")
    by_left = np.argsort(edges[:, 1], kind="stable")
    sorted_edges, place = edges[by_left], np.empty(len(edges), np.int64)
    place[by_left] = np.arange(len(edges))
    lefts, widest = sorted_edges[:, 1], (edges[:, 3] - edges[:, 1]).max(initial=0)
    gone, kept = np.zeros(len(edges), bool), []
    for i in order:
        if gone[place[i]]:
            continue
        kept.append(i)
        near = slice(*np.searchsorted(lefts, (edges[i, 1] - widest, edges[i, 3])))  # others do not meet it
        gone[near] |= iou(edges[i], sorted_edges[near]) > share
    return np.array(kept, np.int64)


def iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with others (M, 4): (M,); 0 for boxes without an area.

    >>> iou(np.array([0, 0, 2, 2]), np.array([[0, 0, 2, 2], [0, 1, 2, 3], [5, 5, 6, 6]])).round(3).tolist()
    [1.0, 0.333, 0.0]
    """
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    both = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
    return shared / np.maximum(both, 1e-9)


def mask_of(seen: Seen, edges: np.ndarray, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An object's mask (h, w) bool, and its rows and columns in the image: those pixels whose middles lie in the box."""
    prototypes = seen.heads[-1]
    box = np.floor(edges + 0.5).astype(np.int64)  # a middle is at + 1/2
    parts, weights = [], []
    for axis in (0, 1):
        middle = (np.arange(box[axis], box[axis + 2]) + 0.5) / seen.factor[axis] - seen.corner[axis]
        at = np.clip(middle / (STRIDES[0] // 2) - 0.5, 0, prototypes.shape[axis] - 1)
        first, last = (int(at.min()), int(np.ceil(at.max())) + 1) if len(at) else (0, 1)
        apart = np.abs(at[:, None] - np.arange(first, last))
        parts.append(slice(first, last))
        weights.append(np.maximum(1 - apart, 0))
    p = sigmoid(prototypes[parts[0], parts[1]] @ coefficients)[0]
    return box, weights[0] @ p @ weights[1].T > 0.5


def separate_detections(seen: Seen, how: Separation) -> np.ndarray:
    """The objects of an image that was seen whole: (H, W) int32 numbers in any order, 0 for background."""
    whole = slice(0, seen.size[0]), slice(0, seen.size[1])
    return find_detections([(*whole, [seen])], how).draw(*whole)


# ---- the network on windows ------------------------------------------------------------------------------------------


def heads_of(model: Module, x: Any) -> list:
    """The network's outputs for images x (N, h, w, C) of any size; below the least size they are mirrored at their ends."""
    xp = get_array_module(x, *model.named_params().values())
    return model(padded(xp.asarray(x), [model.fit_size(n) for n in x.shape[1:3]]))  # type: ignore[no-any-return]


def padded(x: Any, size: list[int]) -> Any:
    """Images (N, h, w, C), larger at the bottom and the right, where they are mirrored."""
    margins = [(0, m - n) for n, m in zip(x.shape[1:3], size)]
    return mirrored(x, margins) if any(after for _, after in margins) else x


def look(model: Module, image: np.ndarray) -> Seen:
    """What the network sees of a prepared image (h, w, C)."""
    return Seen([to_numpy(y)[0] for y in heads_of(model, image[None])], image.shape[:2])


def turned_heads(model: Module, x: np.ndarray, symmetry: Symmetry) -> list[np.ndarray]:
    """The outputs for an image (h, w, C) as the network sees it turned, turned back."""
    if symmetry == SYMMETRIES[0]:
        return [to_numpy(y)[0] for y in heads_of(model, x[None])]
    x = padded(x[None], [-(-n // STEP) * STEP for n in x.shape[:2]])[0]  # the maps' pixels then lie where they did
    *levels, prototypes = (to_numpy(y)[0] for y in heads_of(model, np.ascontiguousarray(symmetry.turn(x))[None]))
    n = levels[0].shape[-1] - BESIDES - prototypes.shape[-1]
    sides = [*range(n), *(n + symmetry.rays_back(4)), *range(n + 4, levels[0].shape[-1])]
    return [*(symmetry.back(y)[..., sides] for y in levels), symmetry.back(prototypes)]


class DetectingTiles:
    """An image in windows, or in one; iterate to get each part with what the network sees of it. As `tiles.Tiles`.

    Parameters
    ----------
    model : Module
    windows : Windows
        The prepared image.
    tile : int
        Rows and columns of a window without its overlap, in pixels of the prepared image; 0 for the whole image at once.
    overlap : int, optional
        Pixels of a window around its tile; by default twice the size of the objects that it was trained on, at least `OVERLAP`.
    tta : int
        In how many of the `SYMMETRIES` it is seen.
    """

    def __init__(
        self, model: Module, windows: Windows, tile: int = 0, overlap: int | None = None, tta: int = 1
    ) -> None:  # fmt: skip
        known = model.preprocessing
        self.model, self.windows, self.symmetries = model, windows, SYMMETRIES[:tta]
        self.size = (int(windows.image.shape[0]), int(windows.image.shape[1]))
        self.factor = (self.size[0] / windows.size[0], self.size[1] / windows.size[1])
        self.overlap = max(OVERLAP, 2 * known.objects.extent if known.objects else 0) if overlap is None else overlap
        self.tile = -(-tile // STEP) * STEP or -(-max(windows.size) // STEP) * STEP
        self.note = "group norm takes in all of its map, here each window" if len(self) > 1 else ""

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.parts(0)) * len(self.parts(1))

    def __iter__(self) -> Iterator[Part]:
        return self.blocks()

    def blocks(self, done: Callable[[], Any] = lambda: None) -> Iterator[Part]:
        """The same iterator, which also calls ``done`` after every window."""
        for i, j in product(*(range(len(self.parts(axis))) for axis in (0, 1))):
            yield from self.group(slice(i, i + 1), slice(j, j + 1))
            done()

    def group(self, i: slice, j: slice) -> Iterator[Part]:
        """The windows of some rows and columns of windows."""
        for rows, columns in product(self.parts(0)[i], self.parts(1)[j]):
            (top, bottom), (left, right) = (self._window(s, n) for s, n in zip((rows, columns), self.windows.size))
            x = self.windows(slice(top, bottom), slice(left, right))
            views = [
                Seen(turned_heads(self.model, x, symmetry), self.size, (top, left), self.factor)
                for symmetry in self.symmetries
            ]
            yield self._in_image(rows, 0), self._in_image(columns, 1), views

    def parts(self, axis: int) -> list[slice]:
        """The rows, or the columns, of the prepared image that the windows keep."""
        n = self.windows.size[axis]
        return [slice(start, min(n, start + self.tile)) for start in range(0, n, self.tile)]

    def _in_image(self, core: slice, axis: int) -> slice:
        """A part in pixels of the image, which need not be whole: parts share their ends, so a location lies in one of them."""
        last = self.size[axis] if core.stop == self.windows.size[axis] else core.stop * self.factor[axis]
        return slice(core.start * self.factor[axis], last)

    def _window(self, core: slice, n: int) -> tuple[int, int]:
        start = max(0, core.start - self.overlap) // STEP * STEP
        stop = min(n, core.stop + self.overlap)
        return max(0, min(start, (n - STEP) // STEP * STEP)), stop
