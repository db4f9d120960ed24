"""No verdict is by luck: what is wrong never gets everything, whatever the numbers, and what is right always does.

Every known mistake with 50 seeds: ``python -m pytest tests/grade/test_verdicts.py --size whole``; other sizes draw some.
"""

import functools

import numpy as np
import pytest
from helpers import (
    family_submissions,
    fooling_submissions,
    later_submissions,
    unusual_submissions,
    wrong_shape_submissions,
    wrong_submissions,
)
from helpers.grading import ALL, QUICK, whole_file

from minunet import ops
from minunet.grade.exercises import EXERCISES
from minunet.grade.grading import POINTS, grade, judge
from minunet.grade.process import wire
from minunet.grade.process.calls import Changed
from minunet.grade.process.runner import Local, Student

SEEDS = 50
UNUSUAL = unusual_submissions.UNUSUAL | family_submissions.RIGHT | later_submissions.RIGHT
FOOLING = fooling_submissions.FOOLING


@functools.cache
def mistakes(exercise):
    """All that is known to be wrong, ours and students'."""
    e = EXERCISES[exercise]
    found = {w.name: e.mistaken(w) for w in e.wrongs}
    for helper in (wrong_submissions.SUBMISSIONS, wrong_shape_submissions.SUBMISSIONS, family_submissions.WRONG,
                   later_submissions.WRONG, FOOLING):  # fmt: skip
        found |= {name: whole_file(exercise, s[1]) for name, s in helper.items() if s[0] == exercise}
    return {name: Local(text, name) for name, text in found.items()}


def fault(exercise, impl, seed):
    """The first mark that is wrong; None if everything is right."""
    e = EXERCISES[exercise]
    with ops.dispatch.use("reference"), np.errstate(all="ignore"):
        for number, (_, _, times) in enumerate(e.checks):
            for time in range(times):
                [(_, marks)] = e.run_check(number, impl, seed, only=time)
                wrong = next((m for m in marks if not m.ok), None)
                if wrong:
                    return wrong
    return None


# ---- wrong ones ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.drawn(quick=4, ci=40)
@pytest.mark.parametrize("seed", range(1000, 1000 + SEEDS))
@ALL
def test_no_mistake_ever_gets_everything(name, seed):
    assert not [wrong for wrong, impl in mistakes(name).items() if fault(name, impl, seed) is None]


@pytest.mark.drawn(quick=2, ci=8)
@pytest.mark.parametrize("name", FOOLING)
def test_nor_in_a_process_of_its_own(name):
    exercise, source = FOOLING[name]
    found = grade(EXERCISES[exercise], whole_file(exercise, source), "wrong.py", 11, QUICK)
    assert found.score < POINTS and not found.forbidden


SAID = {
    "filter_image, rows of lists": "a list came back",
    "filter_image, packed": "a tuple of 1 came back",
    "filter_image, whole numbers": "int64",
    "filter_image, in single precision": "float32",
    "conv_backward, in single precision": "float32",
    "conv_backward, dy is emptied": "dy is changed in place",
    "conv_backward, w is turned": "an array of the cache is changed in place",
    "conv_transpose, w is turned": "w is changed in place",
    "max_pool, y is emptied": "what max_pool2d returned is changed in place",
    "cross_entropy, weights are shared in place": "weight is changed in place",
    "crop_concat, the arrays are emptied": "arrays is changed in place",
    "crop_concat, one more": "4 arrays came back, not 3",
    "max_pool, one more": "must return (y, cache)",
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_not_a_matter_of_numbers_is_said(name):
    exercise, source = FOOLING[name]
    parts = judge(EXERCISES[exercise], Local(whole_file(exercise, source), name), 3)
    assert all(SAID[name] in p.message for p in parts if not p.ok), parts


@pytest.mark.parametrize("side, axis", [("bottom", 1), ("right", 2)])
def test_every_kind_of_crop_is_in_every_draw(side, axis):
    """x[t:-b] is wrong only where b = 0."""
    text = EXERCISES["crop_concat"].reference.replace(f"x.shape[{axis}] - {side}", f"-{side}")
    assert all(fault("crop_concat", Local(text, side), seed) for seed in range(20))


# ---- right ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", fooling_submissions.ORIGINALS)
def test_what_fools_is_wrong_for_nothing_else(name):
    impl = Local(whole_file(name, fooling_submissions.ORIGINALS[name]), name)
    assert fault(name, impl, 2) is None


@pytest.mark.drawn(quick=3, ci=20)
@pytest.mark.parametrize("seed", range(2000, 2006))
@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_answers_are_right(name, seed):
    exercise, source = UNUSUAL[name]
    wrong = fault(exercise, Local(whole_file(exercise, source), name), seed)
    assert wrong is None, wrong


@pytest.mark.drawn(quick=2, ci=8)
@pytest.mark.parametrize("name", UNUSUAL)
def test_and_in_a_process_of_their_own(name):
    exercise, source = UNUSUAL[name]
    found = grade(EXERCISES[exercise], whole_file(exercise, source), "right.py", 11, QUICK)
    assert found.score == POINTS, found.parts


# ---- calls -----------------------------------------------------------------------------------------------------------

CALLED = """
import numpy as np
def keeps(x, b=None):
    y = x + 1
    return y, (x, b, y)
def spoils(dy, cache):
    x, b, y = cache
    {0}
    return dy
def steps(p, g):
    p -= g
def undoes(x):
    x += 0.1
    x -= 0.1
    return x.copy()
def strides(x):
    return np.array(x.strides)
"""


@pytest.fixture(params=["process", "here"])
def called(request):
    """A function that gives the submission above, with a line of its own, in a process and here."""
    made = []

    def make(line="pass"):
        source = CALLED.format(line)
        made.append(Student(source, "a.py") if request.param == "process" else Local(source, "a"))
        return made[-1]

    yield make
    for impl in made:
        getattr(impl, "end", lambda: None)()


@pytest.mark.parametrize(
    "line, function, place",
    [("x[0] = 9", "keeps", 0), ("b *= 2", "keeps", "b"), ("y[0] = 9", "keeps", ""), ("dy[...] = 0", "spoils", 0)],
)
def test_who_changes_what_is_held_is_named(called, line, function, place):
    impl, x = called(line), np.arange(3.0) + 1
    _, cache = impl.call("keeps", x, b=np.ones(2), keep=2)
    with pytest.raises(Changed) as e:
        impl.call("spoils", np.ones(3), cache)
    assert (e.value.function, e.value.place) == (function, place)
    assert x.tolist() == [1, 2, 3]


def test_what_may_be_changed_comes_back(called):
    impl = called()
    _, (p, g) = impl.call("steps", np.ones(3), np.ones(3), changes=(0,))
    assert p.tolist() == [0, 0, 0] and g.tolist() == [1, 1, 1]
    with pytest.raises(Changed):
        impl.call("steps", np.ones(3), np.ones(3))


def test_a_change_that_is_undone_is_none(called):
    impl, x = called(), np.array([0.3, 1.7, -2.9])
    np.testing.assert_allclose(impl.call("undoes", x), x)


def test_arrays_may_lie_apart(called):
    impl = called()
    near, apart = (impl.call("strides", np.ones((2, 3)), spread=spread) for spread in (False, True))
    assert near.tolist() == [24, 8] and apart.tolist() == [48, 16]


def test_what_lies_between_the_numbers_is_no_number():
    a = wire.copied(np.ones((2, 3)), spread=True)
    assert (a == 1).all() and np.isnan(a.base[:, 1::2]).all()
    assert wire.copied(np.float64(1), spread=True) == 1 and wire.copied(np.ones(()), spread=True).shape == ()
