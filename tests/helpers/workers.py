"""Several workers (pytest-xdist): how many threads each has, what is compiled before they start, and what one does for all."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest

SECONDS = 1800  # to wait for what another worker does
TOGETHER = (
    "kernels/cpu",
    "bench/test_conv_ladder.py",
    "bench/test_bench.py",
    "docs/test_site.py",
    "look/test_look_page.py",
    "train/test_polygons_training.py",
)
"""Folders and files of whose tests each goes to one worker: they need the same kernels, which are compiled at their first call,
or a fixture that takes long."""

# A thread of the kernels that has nothing to do sleeps. By default it spins for a while, and two workers with two threads each
# on two cores spin away ten times what they compute. OpenMP reads this when numba loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One more than there are cores: tests that wait for a process, a browser or a limit of time leave theirs idle."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config, specs):
    """Before the workers start: they inherit what is set here."""
    for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(library, "1")
    # a worker is busy with tests on small arrays, most of them on one thread; two are what tests of threads need
    os.environ.setdefault(
        "NUMBA_NUM_THREADS", str(min(os.cpu_count() or 1, max(2, (os.cpu_count() or 1) // len(specs))))
    )
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:  # all tests: else each worker would compile the same
        code = "from minunet.kernels.cpu.warm_up import warm_up; warm_up('float32')"
        if config.option.size != "quick":
            code += "; warm_up('float64')"
        path = os.pathsep.join(p for p in sys.path if p)
        subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, check=False)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """The marks of xdist's own `loadgroup` reach no scheduler under pytest 9.2, whose ids of tests cannot be changed."""
    if config.option.dist != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = PurePath(nodeid.split("::")[0])
            places = ("/".join(path.parts[-2:]) for path in (file, file.parent))
            return next((place for place in places if place in TOGETHER), nodeid)

    return Scheduling(config, log)


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of one run of pytest have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def once(folder: Path, name: str, make: Callable[[], Any]) -> Any:
    """What `make` returns: whoever asks first makes it, and all others, in any worker, get a copy or the same error."""
    place = folder / hashlib.sha256(name.encode()).hexdigest()[:16]
    kept = place / "made.pickle"
    try:
        place.mkdir()
    except FileExistsError:
        stop = time.monotonic() + SECONDS
        while not kept.exists():
            if time.monotonic() > stop:
                raise TimeoutError(f"{name}: another worker has been at it for {SECONDS} seconds") from None
            time.sleep(0.05)
    else:
        try:
            made = pickle.dumps((make(), None))
        except Exception as e:
            made = pickle.dumps((None, repr(e)))
        (place / "being written").write_bytes(made)
        (place / "being written").rename(kept)
    result, problem = pickle.loads(kept.read_bytes())
    if problem:
        raise RuntimeError(f"{name}: {problem}")
    return result
