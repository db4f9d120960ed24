"""Mistakes planted in the CUDA kernels' sources: the emulator's tests must catch each one."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import cuda_bugs

from minunet.kernels.cuda import build, emulator

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")


def copied(folder: Path) -> Path:
    """The kernels' sources in a folder that may be written to."""
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    return shutil.copytree(build.FOLDER, folder / "cuda", ignore=ignored)


def outcome(sources: Path, check: str, **environment: str) -> str:
    """The last line of cuda_bugs.py, or how it ended if it crashed; "does not compile" is nobody's catch."""
    paths = os.pathsep.join([str(Path(__file__).parent), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, cuda_bugs.__file__, str(sources), check], capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": paths} | environment,
    )  # fmt: skip
    assert "does not compile" not in done.stderr, done.stderr
    assert done.returncode <= 0, done.stderr
    return done.stdout.splitlines()[-1] if done.returncode == 0 else f"caught: crashed with signal {-done.returncode}"


def run_with(bug: cuda_bugs.Bug, folder: Path) -> str:
    sources = copied(folder)
    text = (sources / bug.file).read_text()
    assert text.count(bug.old) == 1, f"{bug.file} has {text.count(bug.old)} places for: {bug.name}"
    (sources / bug.file).write_text(text.replace(bug.old, bug.new))
    return outcome(sources, bug.check, MINUNET_CACHE=str(folder / "cache"))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, request):
    """What became of each planted bug: two at a time, as many as there are cores."""
    asked = {
        item.callspec.params["bug"].name
        for item in request.session.items
        if "outcomes" in getattr(item, "fixturenames", ()) and "bug" in item.callspec.params
    }
    bugs = [b for b in cuda_bugs.BUGS if b.name in asked]
    apart = "PYTEST_XDIST_WORKER" in os.environ  # then other workers have the other cores, and the other tests
    with ThreadPoolExecutor(1 if apart else os.cpu_count()) as pool:
        runs = {}

        def get(bug):
            for b in [bug] if apart else bugs:
                if b.name not in runs:
                    runs[b.name] = pool.submit(run_with, b, tmp_path_factory.mktemp("bug"))
            return runs[bug.name].result()

        yield get
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("bug", cuda_bugs.BUGS, ids=lambda b: b.name)
def test_caught(outcomes, bug):
    assert outcomes(bug).startswith("caught"), bug.name


def test_without_a_bug_all_checks_pass(tmp_path):
    assert outcome(copied(tmp_path), "all") == "passed"
