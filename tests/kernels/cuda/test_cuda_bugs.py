"""Mistakes planted in the CUDA kernels' sources: the emulator's tests must catch each one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import cuda_bugs

from minunet.kernels.cuda import build, emulator

pytestmark = pytest.mark.skipif(emulator.missing() is not None, reason=emulator.missing() or "")


def copied(folder: Path) -> Path:
    """The kernels' sources in a folder that may be written to."""
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    return shutil.copytree(build.FOLDER, folder / "cuda", ignore=ignored)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, shared_folder):
    """A function of a folder of sources and a check: what cuda_bugs.py, one process for all, says of them.

    They all compile into one folder: what a bug leaves as it is is compiled once.
    """
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "MINUNET_CACHE": str(shared_folder / "compiled"),
    }
    errors = tmp_path_factory.mktemp("errors") / "stderr.txt"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, cuda_bugs.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=env,
        ) as process,
    ):  # fmt: skip

        def ask(sources: Path, check: str) -> str:
            process.stdin.write(json.dumps([str(sources), check]) + "\n")
            process.stdin.flush()
            said = process.stdout.readline().strip()
            assert said and said != "failed", errors.read_text()  # what does not compile is nobody's catch
            return said

        yield ask
        process.stdin.close()


@pytest.mark.drawn(quick=1, ci=20)
@pytest.mark.parametrize("bug", cuda_bugs.BUGS, ids=lambda b: b.name)
def test_caught(outcome, bug, tmp_path):
    sources = copied(tmp_path)
    text = (sources / bug.file).read_text()
    assert text.count(bug.old) == 1, f"{bug.file} has {text.count(bug.old)} places for: {bug.name}"
    (sources / bug.file).write_text(text.replace(bug.old, bug.new))
    assert outcome(sources, bug.check).startswith("caught"), bug.name


@pytest.mark.slow
@pytest.mark.drawn(ci=6)
@pytest.mark.parametrize("check", cuda_bugs.checks())
def test_without_a_bug_a_check_passes(outcome, check, tmp_path):
    assert outcome(copied(tmp_path), check) == "passed"
