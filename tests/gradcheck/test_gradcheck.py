"""The checker itself: it passes what is right, and catches every planted bug."""

import numpy as np
import pytest

from minunet import ops
from minunet.gradcheck import GradientError, check, draw
from minunet.gradcheck.bugs import BUGS
from minunet.gradcheck.cases import CASES, case
from minunet.gradcheck.command import main
from minunet.nn import Conv2d, Dropout, Module, Sequential

RELU = (ops.relu, ops.relu_backward)


def test_the_collection_is_large_enough():
    assert len(BUGS) >= 12
    assert len({b.name for b in BUGS}) == len(BUGS)
    assert all(b.case in {c.name for c in CASES} for b in BUGS)


@pytest.mark.drawn(quick=10)
@pytest.mark.parametrize("bug", BUGS, ids=[b.name for b in BUGS])
def test_every_planted_bug_is_caught(bug):
    """The case itself is right (see test_gradients.py); with the bug in it, the check must fail."""
    with pytest.raises(GradientError) as caught:
        bug.run()
    assert "WRONG" in str(caught.value)


def test_ones_upstream_would_not_see_a_batch_norm_that_lacks_a_term():
    """Why dy is random: with dy = 1 the right and the wrong dx are both about 0."""
    right, wrong = (
        ops.batch_norm_backward,
        next(b for b in BUGS if b.name == "batch_norm_forgets_the_variance").backward,
    )
    x, gamma, beta = case("batch_norm").inputs(np.random.default_rng(0))
    y, cache, _ = ops.batch_norm(x, gamma, beta)
    ones = np.ones_like(y)
    assert abs(right(ones, cache)[0]).max() < 1e-12
    assert abs(wrong(ones, cache)[0]).max() < 1e-12


@pytest.mark.parametrize("mode", ["full", "projected"])
def test_a_thousandth_is_enough(mode, rng):
    def backward(dy, cache):
        dx, dw, db = ops.conv2d_backward(dy, cache)
        return dx, dw * 1.001, db

    x, w = draw((1, 4, 4, 2), rng), draw((3, 3, 2, 2), rng)
    report = check((ops.conv2d, backward), x, w, mode=mode, raises=False)
    assert [r.ok for r in report.rows] == [True, False]
    assert "1.001 times" in report.rows[1].note


def test_adjoint_catches_it_too(rng):
    x, w = draw((1, 4, 4, 2), rng), draw((3, 3, 2, 2), rng)
    check((ops.conv2d, ops.conv2d_backward), x, w, mode="adjoint")
    with pytest.raises(GradientError):
        check((ops.conv2d, lambda dy, c: ops.conv2d_backward(np.roll(dy, 1, 1), c)), x, w, mode="adjoint")


def test_the_report_names_op_argument_index_values_and_seed(rng):
    def backward(dy, cache):
        dx = ops.relu_backward(dy, cache)
        dx[0, 1] += 0.5
        return dx

    with pytest.raises(GradientError) as caught:
        check((ops.relu, backward), draw((2, 3), rng), seed=7)
    (row,) = caught.value.report.rows
    assert (row.argument, row.index) == ("x", (0, 1))
    assert abs(row.analytic - row.numeric - 0.5) < 1e-6
    text = str(caught.value)
    assert "relu" in text and "[0, 1]" in text and "seed 7" in text and "1 of 6 are wrong" in text


def test_kinks_are_rejected_and_counted():
    x = np.array([1.0, 1e-7, -1.0, 2.0])  # the second lies within h of the kink
    (row,) = check(RELU, x).rows
    assert (row.checked, row.rejected) == (3, 1)
    with pytest.raises(GradientError, match="kink"):
        check(RELU, np.full(4, 1e-7))


def test_draw_keeps_away_from_kinks_and_ties(rng):
    for n in (1, 5, 5000):
        x = np.sort(abs(draw(n, rng)))
        assert x[0] >= 1e-4 and (n == 1 or np.diff(x).min() >= 1e-4)


def test_mistakes_of_form_are_findings_too(rng):
    x = draw((3, 4), rng)

    def raises(dy, cache):
        raise IndexError("no such axis")

    for backward, words in (
        (lambda dy, c: dy.T * c[0].T, r"shape \(4, 3\)"),
        (lambda dy, c: None, "no gradient"),
        (raises, "IndexError: no such axis"),
        (lambda dy, c: np.full_like(dy, np.nan), "not finite"),
        (lambda dy, c: np.zeros_like(dy), "zero everywhere"),
    ):
        with pytest.raises(GradientError, match=words):
            check((ops.relu, backward), x)


def test_what_cannot_be_checked_is_said(rng):
    x = draw((2, 3), rng)
    for call, words in (
        (lambda: check((lambda x: x, ops.relu_backward), x), r"must return \(y, cache\)"),
        (lambda: check(ops.relu, x), "a pair"),
        (lambda: check(RELU, x, mode="half"), "mode must be one of"),
        (lambda: check(RELU, x, wrt=["q"]), "'q'"),
        (lambda: check(RELU, np.arange(3)), "no float argument"),
        (lambda: check((lambda x: (x.astype("f4"), (x > 0,)), ops.relu_backward), x), "gave float32"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()
    pair = (ops.conv2d, lambda dy, c: list(ops.conv2d_backward(dy, c)))  # a list will do
    check(pair, draw((1, 3, 3, 1), rng), draw((3, 3, 1, 1), rng))


def test_a_curved_function_is_not_a_wrong_one():
    """exp(200 x) differs from its tangent by 2e-6 at h = 1e-5; with a smaller h it agrees."""
    x = np.array([0.01, 0.02])
    check((lambda x: (np.exp(200 * x), (x,)), lambda dy, c: dy * 200 * np.exp(200 * c[0])), x)
    with pytest.raises(GradientError):
        check((lambda x: (np.exp(200 * x), (x,)), lambda dy, c: dy * 200.0002 * np.exp(200 * c[0])), x)


def test_modified_inputs_are_found(rng):
    def forward(x):
        y, cache = ops.relu(x)
        x *= 2
        return y, cache

    with pytest.raises(GradientError):
        check((forward, ops.relu_backward), draw(5, rng))


def test_float32_inputs_are_checked_in_float64(rng):
    check(RELU, draw((3, 3), rng).astype(np.float32))


def test_a_module_is_not_disturbed(rng):
    net = Sequential(conv=Conv2d(2, 3), drop=Dropout(0.5))
    before = {path: p.copy() for path, p in net.state().items()}
    report = check(net, draw((1, 4, 4, 2), rng))
    assert [r.argument for r in report.rows] == ["x", "conv.w", "conv.b"]
    assert all((p == before[path]).all() and p.dtype == np.float32 for path, p in net.state().items())
    assert not net.named_grads()


def test_a_module_that_forgets_a_parameter_is_caught(rng):
    class Scale(Module):
        def __init__(self):
            super().__init__()
            self.params["s"] = np.full(1, 3.0)

        def forward(self, x, train=True, rng=None, keep=True):
            return x * self.params["s"], ()

        def backward(self, dy, cache):
            return dy * self.params["s"]

    with pytest.raises(GradientError, match="no gradient"):
        check(Scale(), draw((2, 2), rng))


@pytest.mark.slow
def test_the_command_prints_a_table(capsys):
    assert main(["relu", "--bugs"]) == 0
    out = capsys.readouterr().out
    assert "leaky_relu" in out and "all gradients are right" in out
    assert out.count("caught") == len(BUGS) and "MISSED" not in out


def test_the_command_fails_when_something_is_wrong(monkeypatch, capsys):
    broken = case("relu")
    monkeypatch.setattr(broken, "target", (ops.relu, lambda dy, c: dy))
    assert main(["relu"]) == 1
    assert "WRONG" in capsys.readouterr().out
