"""The exercises of lessons 13 and 14: their answers are the package's, and no mistake passes by luck."""

import functools

import numpy as np
import pytest
from helpers.family_submissions import RIGHT, WRONG
from helpers.grading import QUICK

from minunet import ops
from minunet.data.objects import Rays
from minunet.data.stars import star_targets
from minunet.gradcheck import check
from minunet.grade import answers, cut
from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import POINTS, grade
from minunet.grade.process.runner import Local
from minunet.nn import Conv2d, GlobalAvgPool2d, ReLU, Resize

NAMES = ("attention_gate", "unpool", "image_pooling", "nms", "star_distances")
ROUNDING = 1e-12


def whole_file(exercise, source):
    """A submission with what its exercise gives."""
    e = EXERCISES[exercise]
    given = "\n\n".join(cut.taken(*place) for place in e.given)
    return cut.imports(given + "Any", e.extras) + given + source


@functools.cache
def mistakes():
    """Everything that is wrong, ours and students': name, exercise, and the file."""
    known = [(w.name, name, EXERCISES[name].mistaken(w)) for name in NAMES for w in EXERCISES[name].wrongs]
    return known + [(name, exercise, whole_file(exercise, source)) for name, (exercise, source, _) in WRONG.items()]


def wrong_parts(name, code, seed):
    """The parts of an exercise that a file gets wrong."""
    e, ran = EXERCISES[name], []
    with ops.dispatch.use("reference"):
        for number in range(len(e.checks)):
            ran += e.run_check(number, Local(code, name), seed)
    return {m.part for _, marks in ran for m in marks if not m.ok}


@pytest.mark.drawn(quick=1, ci=2)
@pytest.mark.parametrize("seed", range(100, 130))
def test_no_mistake_passes_by_luck(seed):
    assert not [(name, exercise) for name, exercise, code in mistakes() if not wrong_parts(exercise, code, seed)]


@pytest.mark.drawn(quick=1, ci=2)
@pytest.mark.parametrize("seed", range(200, 230))
def test_unusual_answers_are_right(seed):
    for name, (exercise, source) in RIGHT.items():
        assert not wrong_parts(exercise, whole_file(exercise, source), seed), name


@pytest.mark.drawn(quick=2, ci=4)
@pytest.mark.parametrize("name", RIGHT)
def test_unusual_answers_are_right_in_a_process_of_their_own(name):
    exercise, source = RIGHT[name]
    found = grade(EXERCISES[exercise], whole_file(exercise, source), "right.py", 11, QUICK)
    assert found.score == POINTS and not any(p.hint for p in found.parts)


# ---- the answers -----------------------------------------------------------------------------------------------------


def test_gate_and_image_pooling_are_gradients(rng):
    skip, signal = rng.standard_normal((2, 3, 4, 2)), rng.standard_normal((2, 3, 4, 3))
    theta, phi, bias, psi = (rng.standard_normal(s) for s in ((2, 4), (3, 4), (4,), (4, 1)))
    pair = (answers.attention_gate, answers.attention_gate_backward)
    assert check(pair, skip, signal, theta, phi, bias, psi)
    pair = (answers.image_pooling, answers.image_pooling_backward)
    assert check(pair, skip, rng.standard_normal((2, 4)), np.array([2.0, -2.0, 1.0, -1.0]))


def test_image_pooling_is_the_pyramids(rng):
    """That of `DeepLabV3Plus`, but for the norm."""
    x = rng.standard_normal((2, 5, 4, 3))
    conv = Conv2d(3, 4, 1)
    conv.params["w"], conv.params["b"] = rng.standard_normal((1, 1, 3, 4)), rng.standard_normal(4)
    y = x
    for layer in (GlobalAvgPool2d(), conv, ReLU()):
        y, _ = layer.forward(y)
    y, _ = Resize().forward((y, x))
    got, _ = answers.image_pooling(x, conv.params["w"][0, 0], conv.params["b"])
    np.testing.assert_allclose(got, y, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("count", [4, 8, 32])
def test_star_distances_are_the_targets(rng, count):
    numbers = np.kron(rng.integers(0, 3, (4, 5)), np.ones((3, 4), int))
    wanted = star_targets(numbers, Rays(count, unit=1.0))[..., 1:]
    np.testing.assert_allclose(answers.star_distances(numbers, count), wanted, rtol=1e-6)


def test_box_iou_is_that_of_the_loss(rng):
    """GIoU is IoU less the share of the hull that neither covers: for boxes in boxes there is none."""
    inner = np.sort(rng.uniform(2, 5, (6, 2, 2)), axis=1).reshape(6, 4)
    outer = np.array([0.0, 1.0, 6.0, 7.0])
    for box, iou in zip(inner, answers.box_iou(inner, outer[None])[:, 0]):
        loss, _ = ops.giou(box, outer)
        assert loss == pytest.approx(1 - iou, abs=ROUNDING)


def test_suppression_keeps_the_best_and_no_two_that_overlap(rng):
    begin = rng.uniform(0, 20, (60, 2))
    boxes, scores = np.concatenate([begin, begin + rng.uniform(2, 9, (60, 2))], 1), rng.permutation(60) / 60
    kept = answers.suppress_boxes(boxes, scores, 0.3)
    iou = answers.box_iou(boxes, boxes)
    assert kept[0] == scores.argmax() and (np.diff(scores[kept]) < 0).all()
    assert (iou[np.ix_(kept, kept)] - np.eye(len(kept))).max() <= 0.3
    for lost in set(range(60)) - set(kept.tolist()):
        assert any(iou[lost, k] > 0.3 and scores[k] > scores[lost] for k in kept)
