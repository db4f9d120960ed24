"""Ranks that are processes of MPI: they train as one, stop together, and none survives the others."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.datasets import make_data
from helpers.training import SMALL, go, history

from minunet.checkpoint.load import read_checkpoint
from minunet.train.distributed.mpi import threads_of

pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install '.[mpi]'")
LAUNCHER = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
if not LAUNCHER:
    pytest.skip("there is no mpiexec: pip install '.[mpi]'", allow_module_level=True)
TESTS = Path(__file__).resolve().parents[1]
ONE_THREAD = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
LIMIT = 300  # seconds


def start(n, *args):
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": paths}
    command = [LAUNCHER, "-n", str(n), sys.executable, "-u", "-m", "mpi4py", *map(str, args)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL
    )


def made(folder):
    make_data(folder / "data", n=5)
    return folder / "data"


def train(n, data, out, *flags):
    return start(n, "-m", "minunet.train", "--data", data, "--out", out, *SMALL, "--device", "cpu", *flags)


def until(run, path):
    """Wait for a file that a run writes."""
    for _ in range(10 * LIMIT):
        if path.exists():
            return
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.1)
    run.kill()
    pytest.fail(f"no {path} after {LIMIT} s")


def test_cores_are_divided_among_the_ranks_that_may_use_them():
    assert [threads_of([{0, 1, 2, 3}] * 3, rank) for rank in range(3)] == [1, 1, 1]
    assert [threads_of([{0, 1, 2, 3}, {4, 5}], rank) for rank in range(2)] == [4, 2]
    assert threads_of([{0, 1, 2}, {2}], 0) == 2


@pytest.mark.slow
def test_all_stop_together_and_another_number_goes_on(tmp_path):
    data, out = made(tmp_path), tmp_path / "run"
    run = train(3, data, out, "-e", "500", "--schedule", "constant")
    until(run, out / "history.csv")
    run.send_signal(signal.SIGUSR1)
    told = run.communicate(timeout=LIMIT)[0]
    assert run.returncode == 130, told
    assert told.count("everything is saved") == told.count("ranks       3") == 1
    assert "mpiexec -n 3 python -m mpi4py -m minunet.train --resume" in told

    epochs = len(history(out)) + 1
    run = train(2, data, out, "-e", epochs, "--schedule", "constant", "--resume", "auto")
    told = run.communicate(timeout=LIMIT)[0]
    assert run.returncode == 0, told
    assert told.count("best epoch") == 1
    assert not (out / ".lock").exists()

    assert go(data, tmp_path / "one", "-e", str(epochs), "--schedule", "constant", "-q") == 0
    for row, its in zip(history(tmp_path / "one"), history(out), strict=True):
        assert float(its["train_loss"]) == pytest.approx(float(row["train_loss"]), rel=1e-3)


@pytest.mark.slow
def test_a_rank_that_is_killed_leaves_a_whole_checkpoint(tmp_path):
    data, out = made(tmp_path), tmp_path / "run"
    run = train(2, data, out, "-e", "500", "-q")
    until(run, out / "history.csv")
    first = re.fullmatch(r"process (\d+) on \S+", (out / ".lock").read_text())
    os.kill(int(first[1]), signal.SIGKILL)
    run.communicate(timeout=LIMIT)
    assert run.returncode != 0
    assert read_checkpoint(out / "last.safetensors").train["state"]["epoch"] >= 1


SCRIPT = """
import numpy as np, minunet
from helpers.ranks import Wide
from minunet.data import SyntheticCells
from minunet.models import UNetOptions, build
from minunet.train.config import TrainingConfig
from minunet.train.distributed import launched
from minunet.train.distributed.world import ALONE
cells, world = SyntheticCells(4, size=32), launched()
def losses(world):
    model = build(UNetOptions(1, 2, base_width=2, depth=1, dropout=0.2))
    model.preprocessing = cells.preprocessing
    config = TrainingConfig(epochs=5, batch_size=3, crop=16, clip=1.0)
    trainer = Wide(model, cells, [0, 1, 2], [3], config, world=world)
    trainer.run()
    return np.array(trainer.losses)
with minunet.use("reference"):
    one, all_ = losses(ALONE), losses(world)
within = bool(abs(all_ / one - 1).max() < 1e-6)
print(f"{len(all_)} steps of {world.size} ranks are within: {within}\\n", end="")
world.wait()
if world.rank == 1:
    raise ValueError("planted on rank 1")
world.wait()
"""


@pytest.mark.slow
def test_losses_are_those_of_one_and_a_rank_that_raises_ends_all():
    run = start(2, "-c", SCRIPT)
    told = run.communicate(timeout=LIMIT)[0]
    assert told.count("20 steps of 2 ranks are within: True") == 2, told
    assert run.returncode != 0 and "ValueError: planted on rank 1" in told
