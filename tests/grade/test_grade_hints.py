"""Hints: every known mistake gets its own, and mistakes made in other words get the right ones."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import (
    family_submissions,
    later_submissions,
    told_submissions,
    wrong_shape_submissions,
    wrong_submissions,
)
from helpers.grading import ALL, QUICK, whole_file
from helpers.workers import once

from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import POINTS, grade, judge
from minunet.grade.hints import ENOUGH, evidence, same_error
from minunet.grade.process.runner import Local
from minunet.grade.sheet import Raised
from minunet.grade.words import LAST_DIGITS

SHAPES = wrong_shape_submissions.SUBMISSIONS
SUBMISSIONS = wrong_submissions.SUBMISSIONS | family_submissions.WRONG | later_submissions.WRONG | SHAPES


def handed_in(exercise, source):
    """The exercise, and a submission to it."""
    return EXERCISES[exercise], whole_file(exercise, source)


def grade_submission(name):
    """A submission, graded in a process of its own."""
    exercise, source, words = SUBMISSIONS[name]
    found = grade(*handed_in(exercise, source), "submission.py", 11, QUICK)
    parts = [SimpleNamespace(hint=p.hint, message=p.message) for p in found.parts]  # what workers can send each other
    return SimpleNamespace(score=found.score, forbidden=found.forbidden, parts=parts), words


@pytest.fixture
def graded(shared_folder):
    """A function that grades a wrong submission, once for all workers."""
    return functools.cache(lambda name: once(shared_folder, f"submission {name}", lambda: grade_submission(name)))


@pytest.fixture
def all_graded(graded):
    """All wrong submissions; the last first, since other workers have begun with the first."""
    return {name: graded(name) for name in reversed(SUBMISSIONS)}


def test_there_are_enough_wrong_submissions():
    assert len(SUBMISSIONS) >= 30
    for name in EXERCISES:
        assert sum(exercise == name for exercise, _, _ in SUBMISSIONS.values()) >= 2, name


@pytest.mark.drawn(quick=16)
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_wrong_submissions_fail(graded, name):
    found, _ = graded(name)
    assert found.score < POINTS and not found.forbidden


@pytest.mark.slow
def test_hints_name_the_mistake(all_graded):
    named = {name: any(words in p.hint for p in found.parts) for name, (found, words) in all_graded.items()}
    assert sum(named.values()) >= 0.8 * len(named), [name for name, ok in named.items() if not ok]


@pytest.mark.slow
def test_hints_that_are_given_are_the_right_ones(all_graded):
    """No part of a submission with one mistake is told of another."""
    others = {
        name: {p.hint for p in found.parts if p.hint and words not in p.hint}
        for name, (found, words) in all_graded.items()
    }
    misled = {name: hints for name, hints in others.items() if hints}
    assert len(misled) <= 0.1 * len(others), misled


@pytest.mark.drawn(quick=2, ci=8)
@ALL
def test_known_mistakes_fail_and_get_their_hint(name):
    e = EXERCISES[name]
    for wrong in e.wrongs:
        for seed in (1, 2):
            parts = judge(e, Local(e.mistaken(wrong), wrong.name), seed)
            assert not all(p.ok for p in parts), wrong.name
            assert wrong.hint in {p.hint for p in parts}, (wrong.name, seed, parts)


@pytest.mark.drawn(quick=1, ci=4)
@ALL
def test_right_parts_get_no_hint(name):
    e = EXERCISES[name]
    for wrong in e.wrongs:
        assert not any(p.hint for p in judge(e, Local(e.mistaken(wrong), wrong.name), 3) if p.ok)


def test_two_mistakes_get_two_hints():
    e = EXERCISES["conv_backward"]
    by_name = {w.name: w for w in e.wrongs}
    first, second = by_name["dx_overwrites"], by_name["db_of_one_image"]
    text = e.mistaken(first)
    for right, instead in second.changes:
        text = text.replace(right, instead)
    hints = {p.name: p.hint for p in grade(e, text, "a.py", 1, QUICK).parts}
    assert hints["dx"] == first.hint and hints["db"] == second.hint


ROUNDED = """
def rounded(f):
    def g(*args, **options):
        found = f(*args, **options)
        each = [a.astype(np.float32).astype(float) if isinstance(a, np.ndarray) and a.dtype == float else a
                for a in (found if isinstance(found, tuple) else [found])]
        return tuple(each) if isinstance(found, tuple) else each[0]
    return g
"""


@ALL
def test_what_is_rounded_to_float32_is_told_so_and_nothing_else(name):
    """Mistakes that are right for some inputs explain no last digits."""
    e = EXERCISES[name]
    parts = judge(e, Local(e.reference + ROUNDED + "".join(f"{f} = rounded({f})\n" for f in e.functions), name), 1)
    assert not any(p.hint for p in parts), parts
    assert all(LAST_DIGITS in p.message for p in parts if "adjoint" in p.name), parts


def changed_answer(exercise, right, instead):
    """The parts of an answer in which a text is another one."""
    e = EXERCISES[exercise]
    assert right in e.reference
    return judge(e, Local(e.reference.replace(right, instead), exercise), 1)


def test_a_hint_is_about_the_parts_that_are_wrong():
    """One gradient of several is a mean: nothing is said of the others; one that the hint names may have it."""
    [dbias] = [
        p for p in changed_answer("attention_gate", "dz.sum((0, 1, 2))", "dz.sum((0, 1, 2)) / len(dy)") if not p.ok
    ]
    assert dbias.name == "dbias" and "a mean where a sum should be" in dbias.message and not dbias.hint
    e = EXERCISES["batch_norm"]
    text = (
        e.reference
        + """
def batch_norm_backward(dy, cache, right=batch_norm_backward):
    dx, dgamma, dbeta = right(dy, cache)
    return dx, (dy * cache[0]).sum((0, 1, 2)), dbeta
"""
    )
    [dgamma] = [p for p in judge(e, Local(text, "a"), 1) if not p.ok]
    assert dgamma.hint.startswith("dgamma multiplies dy by x")


def test_axes_of_size_1_are_called_so_alone():
    parts = changed_answer("filter_image", "return y", "return y[..., None]")
    assert all("left over (keepdims?)" in p.message and not p.hint for p in parts), parts


def test_hints_do_not_contradict_each_other():
    """The last gradient overwrites the others, which in one part looks as if the first were kept."""
    e, text = handed_in("tape", told_submissions.LAST_GRADIENT)
    hints = {p.hint for p in judge(e, Local(text, "a"), 1)} - {""}
    assert len(hints) == 1 and "overwrites" in hints.pop()


def test_an_odd_type_of_numbers_is_named():
    text = EXERCISES["filter_image"].reference.replace("return y", "return y.astype(np.float16)")
    said = {p.message.partition(" (")[0] for p in grade(EXERCISES["filter_image"], text, "a.py", 1, QUICK).parts}
    assert said == {"it returned an array of float16: make it float64, or int64 where its numbers are whole"}


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.drawn(quick=3, ci=16)
@pytest.mark.parametrize("name", SHAPES)
def test_what_raises_gets_the_hint_that_names_the_mistake(graded, name):
    found, words = graded(name)
    draws = (found.parts, *(judge(*local(name), seed) for seed in (1, 2, 3, 4)))
    assert any("Error: " in p.message or "its shape is" in p.message for parts in draws for p in parts)
    for parts in draws:
        hints = {p.hint for p in parts if p.hint}
        assert hints and all(words in hint for hint in hints), (name, parts)


def local(name, submissions=SHAPES):
    """A submission, to be run here."""
    e, text = handed_in(*submissions[name][:2])
    return e, Local(text, name)


# ---- differences, and evidence ---------------------------------------------------------------------------------------

TOLD = told_submissions.SUBMISSIONS


@pytest.mark.parametrize("exercise", told_submissions.ALL)
def test_what_told_submissions_change_is_right(exercise):
    e, text = handed_in(exercise, told_submissions.ALL[exercise])
    assert all(p.ok for p in judge(e, Local(text, exercise), 3))


@pytest.mark.drawn(quick=4, ci=20)
@pytest.mark.parametrize("name", TOLD)
def test_the_hint_or_the_difference_tells(name):
    for seed in (1, 2):
        wrong = [p for p in judge(*local(name, TOLD), seed) if not p.ok]
        assert any(TOLD[name][2] in p.hint or TOLD[name][2] in p.message for p in wrong), wrong


def checker(verdict):
    """A gradient checker with a verdict of its own."""
    e = EXERCISES["gradient_check"]
    right = "return bool(np.abs(dx - wanted).max() <= 1e-5 * scale)"
    assert right in e.reference
    return e, Local(e.reference.replace(right, verdict), "a checker")


def test_true_and_false_are_no_evidence():
    """A checker gets no hint, but is told what it took for right, or that it gave no verdict."""
    told = {
        "return bool(np.abs(dx - wanted).flat[:5].max() <= 1e-5 * scale)": "a wrong backward passes: ",
        "return 1 if np.abs(dx - wanted).max() <= 1e-5 * scale else 0": "True or False",
        "return bool(np.abs(dx - wanted).max() <= 1e-5)": "where all elements are about 1e-08",
    }
    for verdict, words in told.items():
        wrong = [p for p in judge(*checker(verdict), 1) if not p.ok]
        assert any(words in p.message for p in wrong) and not any(p.hint for p in wrong), wrong


def test_evidence_is_needed():
    assert evidence(np.array([0.5])) >= ENOUGH and evidence((np.zeros(3), np.array([0.5]))) >= ENOUGH
    for weak in (True, 1, np.zeros(9), np.array([1, 2, 3]), None, "text", Raised("ValueError: shape-mismatch for sum")):
        assert evidence(weak) < ENOUGH
    assert evidence(Raised(SAME[0])) >= ENOUGH and evidence(np.arange(9)) >= ENOUGH


def test_channels_that_are_unpacked_first_are_not_called_padding():
    source = told_submissions.CHANNELS_FIRST
    e, text = handed_in("conv_forward", source)
    for seed in range(4):
        hints = {p.hint for p in judge(e, Local(text, "a"), seed)} - {""}
        assert all("channels are last" in hint for hint in hints), hints


UNRELATED = {
    "a number for an array": "return 1 + w[99], None",
    "too many values": "N, H, W = x.shape",
    "an error of its own": "raise ValueError('the shapes (2, 3) and (4, 3) are not mine')",
    "a name": "return y, None",
    "channels": "return x + np.zeros(x.shape[-1] + 1), None",
    "images": "return x + np.zeros((x.shape[0] + 2, 1, 1, 1)), None",
    "a product of something else": "return x @ np.zeros((x.shape[2] + 1, 2)), None",
    "a reshape of something else": "return x.reshape(x.shape[0], 5, 17), None",
}


@pytest.mark.drawn(quick=2, ci=12)
@pytest.mark.parametrize("how", UNRELATED)
@pytest.mark.parametrize("exercise", ["conv_forward", "max_pool", "conv_transpose"])
def test_other_errors_get_no_hint(exercise, how):
    e, text = handed_in(exercise, "")
    for name in e.functions:
        given = "x, cache" if name.endswith("_backward") else "x, w=None, b=None, size=2, **options"
        text += f"\ndef {name}({given}):\n    {UNRELATED[how]}\n"
    for seed in (1, 2, 3):
        parts = judge(e, Local(text, how), seed)
        assert not any(p.ok or p.hint for p in parts), parts


RIGHT = {
    "conv_forward, to the padded map's end": (
        "conv_forward",
        wrong_shape_submissions.CONV
        + """
    xp = pad_spatial(x, pads)
    reach = (KH - 1) * dilation, (KW - 1) * dilation
    y = np.zeros((N, OH, OW, K))
    for i, j in np.ndindex(KH, KW):
        rows = slice(i * dilation, xp.shape[1] - reach[0] + i * dilation, stride)
        cols = slice(j * dilation, xp.shape[2] - reach[1] + j * dilation, stride)
        y += xp[:, rows, cols] @ w[i, j]
"""
        + wrong_shape_submissions.RETURN,
    ),
    "max_pool, reshaped without the rest": (
        "max_pool",
        """
def max_pool2d(x, size=2, stride=None):
    s = stride or size
    v = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::s, ::s]
    v = v.reshape(*v.shape[:4], -1)
    return v.max(-1), (v.argmax(-1), x.shape, size, s)
def max_pool2d_backward(dy, cache):
    best, shape, size, s = cache
    dx = np.zeros(shape)
    for n, r, c, k in np.ndindex(*dy.shape):
        i, j = divmod(best[n, r, c, k], size)
        dx[n, r * s + i, c * s + j, k] += dy[n, r, c, k]
    return dx
""",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_ones_of_another_style_get_everything_and_no_hint(name):
    found = grade(*handed_in(*RIGHT[name]), "right.py", 11, QUICK)
    assert found.score == POINTS and not any(p.hint for p in found.parts)


SAME = [  # what NumPy says of 2 x 5 x 6 pixels where 2 x 3 x 4 should be
    "ValueError: operands could not be broadcast together with shapes (2,3,4,7) (2,5,6,7) ",
    "ValueError: operands could not be broadcast together with shapes (2,3,4,7) (2,5,6,7) (2,3,4,7) ",
    "ValueError: operands could not be broadcast together with shapes (3,4) (5,6)  in line 7: y[n, ..., k] += (a, b)",
    "ValueError: could not broadcast input array from shape (5,6,7) into shape (3,4,7)",
    "ValueError: non-broadcastable output operand with shape (3,4,7) doesn't match the broadcast shape (5,6,7)",
]
OTHERS = [
    "ValueError: operands could not be broadcast together with shapes (2,3,4,7) (2,5,7,7) ",
    "ValueError: operands could not be broadcast together with shapes (2,3,4,7) (2,3,6,7) ",
    "ValueError: could not broadcast input array from shape (7,6,5) into shape (7,4,3)",
    "ValueError: cannot reshape array of size 61 into shape (7,9)",
    "IndexError: index 5 is out of bounds for axis 1 with size 3",
    "TypeError: 'NoneType' object is not subscriptable",
    "ValueError: shape-mismatch for sum",
]


def test_errors_are_the_same_if_the_same_sizes_do_not_fit():
    for a in SAME:
        assert all(same_error(a, b) for b in SAME) and not any(same_error(a, b) for b in OTHERS)
    for i, a in enumerate(OTHERS):
        assert [same_error(a, b) for b in OTHERS] == [i == k for k in range(len(OTHERS))]
    assert same_error(SAME[0], "ValueError: cannot reshape array of size 420 into shape (2,3,4,7)")
    product, dot = (
        "matmul: Input operand 1 has a mismatch (size 2 is different from 3)",
        "shapes (4,5,3) and (2,3) not aligned",
    )
    assert same_error(f"ValueError: {product}", f"ValueError: {dot}: 3 (dim 2) != 2 (dim 0)")
