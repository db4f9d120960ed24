"""How long it takes to get going.

* The CPU time (user and system) of each command's --help, the least of several runs.
* With --training, the time from the start of Python until the first training step of the default job is done (8 patches of
  128 x 128, base width 16): cold, with nothing compiled, and then warm, the median of several runs.

python bench/startup.py
python bench/startup.py --training
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from report import machine

from minunet.__main__ import COMMANDS

LIMIT = 0.4  # seconds, for --help
COLD, WARM = 45, 4  # seconds, for the first step
FIRST_STEP = """
import numpy as np
import minunet
from minunet import ops, optim
from minunet.kernels.cpu.warm_up import warm_up

warm_up()
model = minunet.UNet(1, 2, base_width=16, seed=0)
x, labels = np.zeros((8, 128, 128, 1), np.float32), np.zeros((8, 128, 128), np.int64)
logits, cache = model.forward(x, rng=np.random.default_rng(0))
loss, loss_cache = ops.softmax_cross_entropy(logits, labels)
model.backward(ops.softmax_cross_entropy_backward(1.0, loss_cache), cache)
optim.Adam(model, 1e-3).step()
"""


def cpu_seconds(*args: str, runs: int = 5) -> float:
    """The least CPU time of a Python with these arguments. A run before those that count writes the byte code."""
    taken = []
    for _ in range(runs + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken[1:])


def first_step(runs: int) -> tuple[float, float]:
    """Seconds until the first training step is done: in an empty cache, and the median of the runs that follow."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs + 1):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", FIRST_STEP], check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder}
            )
            taken.append(time.perf_counter() - start)
    return taken[0], statistics.median(taken[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: 5)")
    parser.add_argument("--training", action="store_true", help="time the first training step instead, cold and warm")
    args = parser.parse_args()
    runs = args.runs
    print(machine())
    if args.training:
        cold, warm = first_step(runs)
        print(f"first step of training: cold {cold:.1f} s (limit {COLD}), warm {warm:.2f} s (limit {WARM})")
        return int(cold > COLD or warm > WARM)
    for name in ("pass", "import numpy", "import minunet"):
        print(f"{name:<24}{cpu_seconds('-c', name, runs=runs):>7.3f}")
    helped = {name: cpu_seconds("-m", f"minunet.{name}", "--help", runs=runs) for name in COMMANDS}
    helped["minunet"] = cpu_seconds("-m", "minunet", "--help", runs=runs)
    for name, seconds in helped.items():
        print(f"{name + ' --help':<24}{seconds:>7.3f}{'  more than ' + str(LIMIT) if seconds > LIMIT else ''}")
    return int(max(helped.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
