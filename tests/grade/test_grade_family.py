"""The exercises of lessons 13 and 14: their answers are the package's. (Verdicts are in test_verdicts.py.)"""

import numpy as np
import pytest

from minunet import ops
from minunet.data.objects import Rays
from minunet.data.stars import star_targets
from minunet.gradcheck import check
from minunet.grade import answers
from minunet.nn import Conv2d, GlobalAvgPool2d, ReLU, Resize

ROUNDING = 1e-12

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
