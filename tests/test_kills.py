"""`tests/kills.py` in a small form: trainings that are killed while they write, and go on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = {"quick": 2, "ci": 10, "whole": 200}  # by --size


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_killed_trainings_lose_nothing(request):
    kills, script = KILLS[request.config.option.size], Path(__file__).with_name("kills.py")
    one = {
        f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")
    }  # a process that forks has no threads
    run = [sys.executable, str(script), "--kills", str(kills)]
    path = os.pathsep.join([str(script.parents[1]), str(script.parent)])
    done = subprocess.run(run, capture_output=True, text=True, env={**os.environ, **one, "PYTHONPATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} of {kills} trials ended as if nothing had happened" in done.stdout
