"""A little of `python tests/fuzz.py`, and that it notices every kind of failure."""

import os
import sys
import time
from functools import partial

import fuzz
import numpy as np
import pytest

from minunet.errors import UserError

GOOD = [b"a file of no interest"]


def refuse(folder):
    raise UserError("a.txt: is not what was wanted; use another")


def stumble(folder):
    raise KeyError("a traceback")


def ramble(folder):
    raise UserError("a.txt: is not what\nwas wanted")


def linger(folder):
    time.sleep(60)


def grab(folder):
    return np.empty(int(1e9), np.uint8).size  # never touched


def fail_to_grab(folder):
    try:
        return np.empty(int(1e15), np.uint8)
    except MemoryError as e:
        raise UserError(f"a.txt: damaged ({e})") from e


def die(folder):
    os.abort()


def planted(read):
    return [fuzz.Target("a.txt", read, GOOD, [lambda data, rng: data], {})]


@pytest.mark.slow
@pytest.mark.drawn(quick=3)
@pytest.mark.parametrize(
    ("read", "outcome"),
    [(refuse, "UserError"), (stumble, "exception"), (ramble, "exception"), (linger, "hang"), (grab, "memory"),
     (fail_to_grab, "memory"), (die, "crash")],
)  # fmt: skip
def test_every_failure_is_noticed(read, outcome, monkeypatch):
    if outcome == "memory" and not sys.platform.startswith("linux"):
        pytest.skip("what a process takes is measured on Linux only")
    counts, failures = fuzz.fuzz(2, workers=1, make_targets=partial(planted, read), limit=0.5, quiet=True)
    assert counts == {outcome: 2}, failures
    assert len(failures) == (0 if outcome == "UserError" else 2)


@pytest.mark.slow
def test_some_broken_files():
    counts, failures = fuzz.fuzz(150, seed=1, workers=1, quiet=True)
    assert not failures and counts.total() == 150 and min(counts["UserError"], counts["result"]) > 10
