"""The tests' own rules: what a size leaves out, which skips are failures, and what one worker makes for all."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.workers import once

TESTS = """
import pytest
from hypothesis import given, strategies as st
from helpers.sizes import examples

ORDERS = [pytest.param((s, e), id=f"{s}, {'eager' if e else 'late'}") for s in ("up", "warps up") for e in (True, False)]
drawn = {"plain": 0, "most": 0}

@pytest.fixture(params=[*ORDERS, "gpu"])
def cuda(request):
    return request.param

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.drawn(quick=2, ci=3)
@pytest.mark.parametrize("n", range(9))
def test_some(n): pass

@pytest.mark.parametrize("n", range(9))
def test_kernel(cuda, n): pass

@given(st.integers())
def test_plain(n): drawn["plain"] += 1

@examples(40)
@given(st.integers())
def test_most(n): drawn["most"] += 1

def test_counts():
    print(f"examples: {drawn['plain']}, {drawn['most']}")

def test_skips(): pytest.skip("REASON")
"""


def run(folder, *flags, reason="no Chromium is installed"):
    """The outcome of TESTS with these flags: exit status and everything printed."""
    (folder / "test_it.py").write_text(TESTS.replace("REASON", reason))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    drawn\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "helpers.sizes", "-p", "helpers.skips", "-p", "no:cacheprovider", "-v", "-s",
         *flags], capture_output=True, text=True, cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *(p for p in sys.path if p)])},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def ran(said, test):
    return [line.split()[0] for line in said.splitlines() if f"::{test}" in line and "PASSED" in line]


@pytest.mark.drawn(quick=2)
@pytest.mark.parametrize(
    "flags, slow, some, kernels, examples",
    [
        ([], 0, 2, 6, "25, 10"),
        (["--size", "ci"], 1, 3, 9 * 2, "50, 20"),
        (["--size", "whole"], 1, 9, 9 * 4, "100, 40"),
        (["test_it.py::test_some"], 0, 9, 0, None),
    ],
    ids=["quick", "ci", "whole", "by its name"],
)
def test_what_a_size_runs(tmp_path, flags, slow, some, kernels, examples):
    status, said = run(tmp_path, *flags)
    assert status == 0
    assert len(ran(said, "test_slow")) == slow and len(ran(said, "test_some")) == some
    assert len(ran(said, "test_kernel")) == kernels + 9 * (examples is not None)  # and each case on the GPU
    assert examples is None or f"examples: {examples}" in said


@pytest.mark.slow
def test_a_draw_is_repeated_and_another_number_draws_otherwise(tmp_path):
    draws = [ran(run(tmp_path, "--draw", n)[1], "test_some") for n in ("0", "0", "1")]
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.slow
def test_a_skip_needs_an_excuse(tmp_path):
    assert run(tmp_path, "--skips-fail", "test_it.py::test_skips")[0] == 0
    assert run(tmp_path, "test_it.py::test_skips", reason="torch is not installed")[0] == 0
    status, said = run(tmp_path, "--skips-fail", "test_it.py::test_skips", reason="torch is not installed")
    assert status == 1 and "no excuse to skip: " in said and "torch is not installed" in said


def test_what_one_makes_for_all_is_made_once(tmp_path):
    made = []
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: once(tmp_path, "a list", lambda: made.append(1) or [1, 2]), range(8)))
    assert got == [[1, 2]] * 8 and made == [1]
    with pytest.raises(RuntimeError, match="a failure: ZeroDivisionError"):
        once(tmp_path, "a failure", lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="a failure: ZeroDivisionError"):  # and for everybody else
        once(tmp_path, "a failure", list)
