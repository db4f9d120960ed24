"""How long commands take to say what they can do: seconds of CPU time (user and system) of --help, the least of several runs.

python bench/startup.py
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

from report import machine

from minunet.__main__ import COMMANDS

LIMIT = 0.4  # seconds, for --help


def cpu_seconds(*args: str, runs: int = 5) -> float:
    """The least CPU time of a Python with these arguments. A run before those that count writes the byte code."""
    taken = []
    for _ in range(runs + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default: 5)")
    runs = parser.parse_args().runs
    print(machine())
    for name in ("pass", "import numpy", "import minunet"):
        print(f"{name:<24}{cpu_seconds('-c', name, runs=runs):>7.3f}")
    helped = {name: cpu_seconds("-m", f"minunet.{name}", "--help", runs=runs) for name in COMMANDS}
    helped["minunet"] = cpu_seconds("-m", "minunet", "--help", runs=runs)
    for name, seconds in helped.items():
        print(f"{name + ' --help':<24}{seconds:>7.3f}{'  more than ' + str(LIMIT) if seconds > LIMIT else ''}")
    return int(max(helped.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
