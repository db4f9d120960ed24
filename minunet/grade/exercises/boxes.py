"""The exercise on the suppression of boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import answers
from ..exercise import Exercise
from ..sheet import Raised, Sheet

PLAIN = "grade/answers.py"

nms = Exercise(
    "nms",
    "Non-maximum suppression of boxes",
    lesson=14,
    minutes=40,
    task="""Write `box_iou` and with it `suppress_boxes`. A detector finds an object many times. From the best score to the
worst, a box is kept unless it overlaps one that has been kept: an IoU above the threshold. A box that is suppressed suppresses
no other. Boxes that do not meet have the IoU 0. No box is empty, no two scores are equal, and there may be no boxes at all.""",
    write=((PLAIN, "box_iou"), (PLAIN, "suppress_boxes")),
    axes={"iou": ("box", "other box")},
)


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes that often meet."""
    begin = rng.uniform(0, 10, (count, 2))
    return np.concatenate([begin, begin + rng.uniform(2, 8, (count, 2))], axis=1)


def _row(rng: np.random.Generator, shift: float, count: int) -> np.ndarray:
    """Boxes in a row, each moved by a share of its size from the one before, in an image far from 0."""
    place, extent, axis = rng.uniform(50, 90, 2), rng.uniform(5, 20, 2), int(rng.integers(2))
    begin = place + np.arange(count)[:, None] * np.eye(2)[axis] * extent * shift
    return np.concatenate([begin, begin + extent], axis=1)


@nms.check("iou")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    boxes, others = _boxes(rng, 6), _boxes(rng, 4)
    sheet.same("iou", "6 boxes, 4 others", sheet.call("box_iou", boxes, others), answers.box_iou(boxes, others))


@nms.check("iou, apart")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    box = _boxes(rng, 1)
    far = 30.0 + np.array([[20.0, 20, 20, 20], [20, 0, 20, 0], [0, 20, 0, 20]]) * rng.uniform(1, 2)
    others = box + np.concatenate([far, -far])
    sheet.same("iou, apart", "boxes that do not meet", sheet.call("box_iou", box, others), np.zeros((1, 6)))


@nms.check("iou, inside")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    box = _boxes(rng, 1)
    size = (box[:, 2:] - box[:, :2])[0]
    small = np.concatenate([box[0, :2] + 0.2 * size, box[0, 2:] - rng.uniform(0.1, 0.4, 2) * size])[None]
    wanted = (small[:, 2:] - small[:, :2]).prod(-1, keepdims=True) / size.prod()
    sheet.same("iou, inside", "a box in a box", sheet.call("box_iou", box, small), wanted)


def _suppress(sheet: Sheet, part: str, asked: str, boxes: np.ndarray, scores: np.ndarray, **how: Any) -> None:
    got = sheet.call("suppress_boxes", boxes, scores, **how)
    if isinstance(got, (tuple, list)) and all(np.ndim(n) == 0 and not isinstance(n, (Raised, str)) for n in got):
        got = np.array(got)  # a list of numbers will do
    sheet.same(part, asked, got, answers.suppress_boxes(boxes, scores, **how))


@nms.check("kept")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    objects = np.concatenate([_row(rng, 0.1, 3) + 100 * n for n in range(3)])[rng.permutation(9)]
    scores = np.sort(rng.uniform(0.1, 0.9, 9))  # the best last, so that nobody is right without looking at them
    _suppress(sheet, "kept", "three objects, found three times each", objects, scores)


@nms.check("best first")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    apart = np.concatenate([_row(rng, 0.1, 1) + 100 * n for n in range(5)])
    scores = rng.uniform(0.2, 0.8, 5)
    scores[2], scores[3] = 0.1, 0.9
    _suppress(sheet, "best first", "five objects, found once each", apart, scores)


@nms.check("chain")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    # neighbours have an IoU of 0.54, those next to them 0.25: the second and the fourth go, and with them nobody else
    shuffled = rng.permutation(5)
    boxes, scores = _row(rng, 0.3, 5)[shuffled], np.array([0.9, 0.8, 0.7, 0.6, 0.5])[shuffled]
    _suppress(sheet, "chain", "boxes in a row, the first the best", boxes, scores)


@nms.check("threshold")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    boxes, scores = _boxes(rng, 12), rng.permutation(np.linspace(0.1, 0.9, 12))
    pair, two = _row(rng, 0.3, 2), np.array([0.3, 0.6])
    row, column = rng.integers(9, size=2)
    half = np.array([[0, 0, 2, 4], [0, 0, 2, 2]]) + np.array([row, column, row, column], float)
    _suppress(sheet, "threshold", "an IoU of just 0.5, threshold 0.5", half, rng.permutation(two), threshold=0.5)
    for threshold in (0.15, 0.7):
        _suppress(sheet, "threshold", f"threshold {threshold}", pair, two, threshold=threshold)
        _suppress(sheet, "threshold", f"threshold {threshold}", boxes, scores, threshold=threshold)


@nms.check("no boxes", times=1)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _suppress(sheet, "no boxes", "none at all", np.zeros((0, 4)), np.zeros(0))


_IOU = "intersection / (area[:, None] + other_area - intersection)"
_KEEP = "if all(iou[number, other] <= threshold for other in kept):"
nms.wrong(
    "negative_extents",
    "boxes that do not meet get an intersection: two negative sides have a positive product; sides are at least 0",
    ("np.maximum(end - begin, 0).prod(-1)", "(end - begin).prod(-1)"),
)
nms.wrong(
    "negative_product",
    "boxes that do not meet get an intersection: two negative sides have a positive product; clip sides, not their product",
    ("np.maximum(end - begin, 0).prod(-1)", "np.maximum((end - begin).prod(-1), 0)"),
)
nms.wrong(
    "pixels_counted",
    "sides are a pixel too long: boxes are places, so a height is bottom - top, without + 1",
    ("np.maximum(end - begin, 0)", "np.maximum(end - begin + 1, 0)"),
    ("b[:, 2:] - b[:, :2]", "b[:, 2:] - b[:, :2] + 1"),
)
nms.wrong(
    "of_the_sum",
    "the intersection is counted twice: the union is both areas less the intersection",
    (_IOU, "intersection / (area[:, None] + other_area)"),
)
nms.wrong(
    "of_the_smaller",
    "it is divided by the smaller area, where the union should be",
    (_IOU, "intersection / np.minimum(area[:, None], other_area)"),
)
nms.wrong(
    "of_the_first",
    "it is divided by the first box's area, where the union should be",
    (_IOU, "intersection / area[:, None]"),
)
_UPPER, _LOWER = "np.minimum(boxes[:, None, :2], others[:, :2])", "np.maximum(boxes[:, None, 2:], others[:, 2:])"
nms.wrong(
    "hull_for_union",
    "it is divided by the box around both: the union is both areas less the intersection",
    (_IOU, f"intersection / ({_LOWER} - {_UPPER}).prod(-1)"),
)
nms.wrong(
    "corner_and_extent",
    "a box is taken for top, left, height, width: its last two numbers are bottom and right",
    (
        "    begin = np",
        "    boxes, others = (np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], 1) for b in (boxes, others))\n    begin = np",
    ),
)
nms.wrong(
    "transposed",
    "the table is transposed: rows are the boxes, columns the others",
    (_IOU, f"({_IOU}).T"),
)
nms.wrong(
    "suppressed_still_suppress",
    "a box that was suppressed still suppresses others: compare only with those that are kept",
    (_KEEP, "if all(iou[number, other] <= threshold for other in np.flatnonzero(scores > scores[number])):"),
)
nms.wrong(
    "worst_first",
    "the worst score is taken first: sort them the other way round",
    ("np.argsort(-scores)", "np.argsort(scores)"),
)
nms.wrong(
    "as_they_come", "boxes are taken as they come: the best score first", ("np.argsort(-scores)", "range(len(scores))")
)
nms.wrong(
    "ranks",
    "what is returned numbers the sorted boxes: return their numbers in the list that was given",
    ("np.array(kept, int)", "np.argsort(np.argsort(-scores))[np.array(kept, int)]"),
)
nms.wrong(
    "sorted_by_number",
    "the right boxes are kept, but not in the order of their scores: the best first",
    ("np.array(kept, int)", "np.array(sorted(kept), int)"),
)
nms.wrong(
    "mask",
    "a mask comes back, where the numbers of the boxes should, the best first",
    ("np.array(kept, int)", "np.isin(np.arange(len(scores)), kept)"),
)
nms.wrong("boxes", "the boxes themselves come back: return their numbers", ("np.array(kept, int)", "boxes[kept]"))
nms.wrong(
    "any_overlap",
    "any overlap suppresses: the IoU must be above the threshold",
    (_KEEP, _KEEP.replace("threshold", "0")),
)
nms.wrong("fixed_threshold", "the threshold is 0.5 whatever is given", (_KEEP, _KEEP.replace("threshold", "0.5")))
nms.wrong(
    "neighbour_only",
    "a box is compared only with the one kept last: it must overlap none of those that are kept",
    (_KEEP, _KEEP.replace("in kept", "in kept[-1:]")),
)
nms.wrong(
    "no_boxes_raise",
    "without boxes there is no best one: return an empty array",
    ("    kept: list", "    scores[np.argmax(scores)]\n    kept: list"),
)
