"""The number of threads: the same results on any, and no deadlock from several Python threads or processes.

Everything runs in processes of its own, since the number of threads is one for a whole process.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.datasets import make_data
from helpers.training import SMALL
from safetensors.numpy import load_file

from minunet.predict.command import main as predict
from minunet.train.command import main as train

MINUTES = 5  # how long a process may take until it counts as stuck: its kernels may have to be compiled first


def run(*args, **env):
    """Run Python with these arguments; fail if it does, or if it has warned. Returns what it printed."""
    done = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=60 * MINUTES, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower(), done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_same_network_on_one_and_two_threads(tmp_path):
    data = make_data(tmp_path / "data", size=(140, 130))
    options = [*SMALL, "--crop", "128", "--base-width", "4", "-e", "1"]
    runs = []
    for n in ("1", "2"):
        out = str(tmp_path / n)
        printed = run("-m", "minunet.train", "--data", str(data), *options, "--out", out, "--threads", n)
        assert "note: --threads" not in printed or n > str(os.cpu_count())
        runs.append(load_file(f"{out}/last.safetensors"))
    assert runs[0].keys() == runs[1].keys()
    for path, a in runs[0].items():
        np.testing.assert_array_equal(runs[1][path], a, err_msg=path)
    run("-m", "minunet.train", "--resume", f"{tmp_path}/1/last.safetensors", "-e", "2", "--threads", "2")
    for n in ("1", "2"):
        model, image = f"{tmp_path}/1/best.safetensors", str(data / "imgs" / "0.png")
        run("-m", "minunet.predict", "-m", model, "-i", image, "-o", str(tmp_path / f"masks{n}"), "--threads", n)
    masks = [(tmp_path / f"masks{n}" / "0_mask.png").read_bytes() for n in ("1", "2")]
    assert masks[0] == masks[1]


@pytest.mark.parametrize("n", ["0", "-1", "two"])
@pytest.mark.parametrize("command", [train, predict])
def test_a_number_that_is_none(command, n, capsys):
    with pytest.raises(SystemExit, match="2"):
        command(["--threads", n, *(["-m", "x", "-i", "y"] if command is predict else [])])
    assert "--threads: " in capsys.readouterr().err.splitlines()[-1]


def test_more_threads_than_cores_are_noted():
    assert "note: --threads 9999" in run("-m", "minunet.gradcheck", "leaky", "--threads", "9999")
    assert "computing on 1," in run("-m", "minunet.gradcheck", "leaky", "--threads", "2", NUMBA_NUM_THREADS="1")


FOLLOW = """
import threading, numba, threadpoolctl, numpy as np
from minunet import ops
from minunet.kernels import threads
from minunet.kernels.cpu import launch
x, seen = np.ones((1, 64, 64, 32), np.float32), []

def work():
    for _ in range(50):
        ops.relu(x), ops.max_pool2d(x)
    seen.append(numba.get_num_threads())

def of_threads():
    seen.clear()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join(100)
    return seen

every = launch.workers()
assert every == numba.config.NUMBA_NUM_THREADS
assert of_threads() == [every] * 4, seen
assert threads.set_threads(1) == launch.workers() == 1
assert of_threads() == [1] * 4, seen
assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"} <= {1}
assert threads.set_threads(every) == every
assert of_threads() == [every] * 4, seen
try:
    threads.set_threads(0)
except ValueError:
    print("done")
"""


def test_every_python_thread_follows():
    assert run("-c", FOLLOW) == "done\n"


PROCESSES = """
import multiprocessing, sys, threading, warnings, numpy as np
from minunet import ops
warnings.simplefilter("ignore")  # Python warns of a fork while there are threads, which is what we do here
x = np.ones((1, 64, 64, 32), np.float32)

def work(results):
    results.put(float(ops.relu(x)[0].sum() + ops.max_pool2d(x)[0].sum()))

def until_over():
    while not over.is_set():
        ops.relu(x)

if __name__ == "__main__":
    ops.relu(x), ops.max_pool2d(x)
    over = threading.Event()
    threading.Thread(target=until_over).start()
    context = multiprocessing.get_context(sys.argv[1])
    for _ in range(5):
        results = context.SimpleQueue()
        process = context.Process(target=work, args=(results,), daemon=True)
        process.start()
        process.join(50)
        if process.exitcode != 0 or results.get() != x.size * 1.25:
            print("exit code", process.exitcode)
            process.kill()
    over.set()
    print("done")
"""


@pytest.mark.drawn(quick=1, ci=1)
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_other_processes_compute_while_a_kernel_runs(how, tmp_path):
    if how == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    (tmp_path / "processes.py").write_text(PROCESSES)
    assert run(str(tmp_path / "processes.py"), how) == "done\n"
