"""Hints: every known mistake gets its own, and mistakes made in other words get the right ones."""

import pytest
import wrong_submissions
from test_grade import ALL, QUICK

from minunet.grade import cut
from minunet.grade.collection import EXERCISES
from minunet.grade.grading import POINTS, grade, judge
from minunet.grade.runner import Local

SUBMISSIONS = wrong_submissions.SUBMISSIONS


def grade_submission(name):
    """A submission with what its exercise gives, in a process of its own."""
    exercise, source, words = SUBMISSIONS[name]
    e = EXERCISES[exercise]
    given = "\n\n".join(cut.taken(*place) for place in e.given)
    text = cut.imports(given + "Any", e.extras) + given + source
    return grade(e, text, "submission.py", 11, QUICK), words


@pytest.fixture(scope="module")
def graded():
    """All wrong submissions, graded once."""
    return {name: grade_submission(name) for name in SUBMISSIONS}


def test_there_are_enough_wrong_submissions():
    assert len(SUBMISSIONS) >= 30
    for name in EXERCISES:
        assert sum(exercise == name for exercise, _, _ in SUBMISSIONS.values()) >= 2, name


@pytest.mark.parametrize("name", SUBMISSIONS)
def test_wrong_submissions_fail(graded, name):
    found, _ = graded[name]
    assert found.score < POINTS and not found.forbidden


def test_hints_name_the_mistake(graded):
    named = {name: any(words in p.hint for p in found.parts) for name, (found, words) in graded.items()}
    assert sum(named.values()) >= 0.8 * len(named), [name for name, ok in named.items() if not ok]


def test_hints_that_are_given_are_the_right_ones(graded):
    """No part of a submission with one mistake is told of another."""
    others = {
        name: {p.hint for p in found.parts if p.hint and words not in p.hint} for name, (found, words) in graded.items()
    }
    misled = {name: hints for name, hints in others.items() if hints}
    assert len(misled) <= 0.1 * len(others), misled


@ALL
def test_known_mistakes_fail_and_get_their_hint(name):
    e = EXERCISES[name]
    for wrong in e.wrongs:
        for seed in (1, 2):
            parts = judge(e, Local(e.mistaken(wrong), wrong.name), seed)
            assert not all(p.ok for p in parts), wrong.name
            assert wrong.hint in {p.hint for p in parts}, (wrong.name, seed, parts)


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
