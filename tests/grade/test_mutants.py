"""Mutants of the answers: the machine that makes them, and that the grader sees them."""

import ast
import functools
import random

from helpers.mutate import mutants
from mutants import all_mutants, first_loss, reasons

from minunet.grade.exercises import EXERCISES

TEXT = '''
def other(x):
    return x + 1

def f(x, axes=(1, 2), *, flip=False):
    """Not this: 1 + 1."""
    if x is None:
        raise ValueError("3 < 4")
    total = 0
    for n in range(3):
        total += x[n : n + 2].sum(axes)
    y = total if flip else -total
    y[..., 0] = np.maximum(y, 0) * 2.5
    return y, total
'''


def test_a_mutant_is_one_change():
    found = list(mutants(TEXT, ("f",)))
    keys = [m.key for m in found]
    assert len(set(keys)) == len(keys) == len({m.text for m in found}) > 30
    for m in found:
        ast.parse(m.text)
        assert "return x + 1\n" in m.text and "Not this: 1 + 1." in m.text and "3 < 4" in m.text
    for change in (
        "total += x[n:n + 2].sum(axes) -> total = x[n:n + 2].sum(axes)",
        "total += x[n:n + 2].sum(axes) -> total -= x[n:n + 2].sum(axes)",
        "total += x[n:n + 2].sum(axes) -> total = total + x[n:n + 2].sum(axes)",
        "total += x[n:n + 2].sum(axes) -> total += x[n:n + 2].mean(axes)",
        "total += x[n:n + 2].sum(axes) -> total += x[n:n + 3].sum(axes)",
        "total += x[n:n + 2].sum(axes) -> total += x[:n + 2].sum(axes)",
        "total += x[n:n + 2].sum(axes) -> total += x[n:n + 2].sum()",
        "total += x[n:n + 2].sum(axes) -> (nothing)",
        "for n in range(3): -> for n in range(4):",
        "for n in range(3): -> for n in list(range(3))[1:]:",
        "y = total if flip else -total -> y = -total if flip else total",
        "y = total if flip else -total -> y = total if flip else total",
        "y[..., 0] = np.maximum(y, 0) * 2.5 -> y[..., 0] += np.maximum(y, 0) * 2.5",
        "y[..., 0] = np.maximum(y, 0) * 2.5 -> y[..., 0] = np.minimum(y, 0) * 2.5",
        "y[..., 0] = np.maximum(y, 0) * 2.5 -> y[..., 0] = np.maximum(y, 0) / 2.5",
        "y[..., 0] = np.maximum(y, 0) * 2.5 -> y[..., 1] = np.maximum(y, 0) * 2.5",
        "return (y, total) -> return (total, y)",
    ):
        assert f"f: {change}" in keys, change


@functools.cache
def texts():
    """Every mutant's exercise and text, by what stands for it in tests/grade/survivors.toml."""
    return {f"{name}: {m.key}": (e, m.text) for name, e in EXERCISES.items() for m in all_mutants(e)}


def test_answers_have_thousands_of_mutants_and_every_reason_is_for_one():
    known = reasons()
    assert len(texts()) > 2500 and len(known) < 0.1 * len(texts())
    assert not set(known) - set(texts())
    assert all(len(reason) > 20 for reason in known.values())


def test_drawn_mutants_lose_points(pytestconfig):
    """A hundred in the size `ci`; what fails is a mistake that the checks do not see, or a reason that is not written down."""
    size = {"quick": 12, "ci": 100, "whole": 300}[pytestconfig.option.size]
    drawn = random.Random(pytestconfig.option.draw).sample(sorted(set(texts()) - set(reasons())), size)
    assert [key for key in drawn if first_loss(*texts()[key], 20) is None] == []


def test_reasons_hold_for_drawn_ones(pytestconfig):
    """What is said to be the same function gets all points."""
    for key in random.Random(pytestconfig.option.draw).sample(sorted(reasons()), 6):
        assert first_loss(*texts()[key], 1) is None, key
