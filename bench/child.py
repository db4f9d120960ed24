"""The measurements, each in a process of its own, so that what one leaves in memory does not disturb the next.

    python bench/child.py '{"task": "time", "size": 256, ...}'

prints what happens as JSON, an object a line; `attend` starts such a process and hears it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memory import free, gpu, peak, process_peak
from peers import BUILD, LAYOUTS, MODULES, Runner, Setting, family

WARM_UP = 3
LEAST = 3  # turns that count, if --repeats allows as many
CLEARLY = 1.15  # a layout that takes longer than the other by this factor is out
LONG = 2.0  # seconds from which on a single call shows which layout is slower: starting up takes less

REST = 0.01  # seconds; OpenMP's threads wait actively for a few milliseconds
MEMORY_STEPS = 3  # the first allocates what stays; the worst moment comes in each
Say = Callable[..., None]

# ---- in the child ----------------------------------------------------------------------------------------------------


def seconds_of(run: Runner) -> float:
    """How long a call takes, started when the threads of the one before have gone to sleep."""
    time.sleep(REST)
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def slower_layout(tried: dict[str, list[float]], warm: bool) -> str | None:
    """The one of PyTorch's two layouts that is clearly slower, its best against the other's median, once that can be told."""
    best = {who: min(tried[who]) for who in LAYOUTS if tried.get(who)}
    if len(best) < 2 or not (warm or min(best.values()) > LONG):
        return None
    slow, fast = sorted(best, key=best.__getitem__, reverse=True)
    return slow if best[slow] > CLEARLY * statistics.median(tried[fast]) else None


def take_turns(runners: dict[str, Runner], repeats: int, seconds: float, say: Say) -> None:
    """Time all runners in turns; what fails, and the slower layout, drops out.

    After the warm-up as many turns follow as fit in `seconds`, but LEAST at least and `repeats` at most.
    """
    tried: dict[str, list[float]] = {who: [] for who in runners}
    turn, turns = 0, WARM_UP + repeats
    while turn < turns and runners:
        for place, who in enumerate(list(runners), 1):
            try:
                tried[who].append(seconds_of(runners[who]))
            except Exception as e:  # most likely out of memory, which every library says in its own way
                del runners[who], tried[who]
                say(lost=who, reason=first_line(e))
                continue
            left = (turns - turn) * len(runners) - place
            say(who=who, seconds=tried[who][-1], counts=turn >= WARM_UP, left=max(left, 0))
        turn += 1
        slow = slower_layout({who: tried[who] for who in runners}, turn >= WARM_UP)
        if slow:
            del runners[slow]
            gc.collect()
            say(dropped=slow)
        if turn == WARM_UP:
            one = sum(min(tried[who]) for who in runners)
            turns = WARM_UP + min(repeats, max(LEAST, int(seconds / max(one, 1e-9))))


def first_line(e: BaseException) -> str:
    """An exception in a line."""
    text = str(e).strip().splitlines()
    return f"{type(e).__name__}: {text[0][:160]}" if text else type(e).__name__


def task_time(say: Say, setting: Setting, size: int, what: str, whos: list[str], repeats: int, seconds: float) -> None:
    """Time contestants at a size."""
    runners = {}
    for who in whos:
        try:
            runners[who] = BUILD[who](setting, size, what)
        except Exception as e:
            say(lost=who, reason=first_line(e))
    say(ready=True)
    take_turns(runners, repeats, seconds, say)


def task_memory(say: Say, setting: Setting, size: int, what: str, who: str) -> None:
    """The peak of one contestant at a size."""
    with peak(who, setting.device) as so_far:
        run = BUILD[who](setting, size, what)
        say(ready=True)
        for i in range(MEMORY_STEPS):
            run()
            if i == 0 and setting.device == "cuda" and MODULES[family(who)] == "torch":
                importlib.import_module("torch").cuda.reset_peak_memory_stats()  # cuDNN's trials are not its training
            say(left=MEMORY_STEPS - 1 - i)
        say(peak=so_far())


def task_base(say: Say, setting: Setting, who: str) -> None:
    """What a contestant takes before it has built anything: its libraries and kernels; on a GPU the context."""
    importlib.import_module(MODULES[family(who)])
    if who == "minunet" and setting.device == "cpu":
        # our kernels are loaded when they are first called, PyTorch's when it is imported
        importlib.import_module("minunet.kernels.cpu.warm_up").warm_up()
    used, left = gpu() if setting.device == "cuda" else (process_peak(), free())
    say(peak=used, free=left)


def task_warm_up(say: Say, setting: Setting) -> None:
    """Compile our kernels into numba's cache, so that no later process compiles any."""
    if setting.device == "cpu":
        importlib.import_module("minunet.kernels.cpu.warm_up").warm_up()
    for what in ("inference", "training"):
        BUILD["minunet"](setting, 64, what)()


TASKS: dict[str, Callable[..., None]] = {
    "time": task_time,
    "memory": task_memory,
    "base": task_base,
    "warm_up": task_warm_up,
}


def main() -> None:
    task = json.loads(sys.argv[1])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no message of ours
    with contextlib.suppress(OSError):  # if memory runs out, the system is to end this process and no other
        Path("/proc/self/oom_score_adj").write_text("1000")

    def say(**message: Any) -> None:
        print(json.dumps(message), file=out, flush=True)

    TASKS[task.pop("task")](say, Setting(**task.pop("setting")), **task)


# ---- in the parent ---------------------------------------------------------------------------------------------------


def attend(task: str, setting: Setting, hear: Callable[[dict[str, Any]], None], **given: Any) -> str | None:
    """Run a task in a process of its own; `hear` gets its messages as they come.

    Returns
    -------
    str or None
        Why it failed, or None.
    """
    given = {"task": task, "setting": asdict(setting), **given}
    libraries = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    environment = os.environ | {f"{name}_NUM_THREADS": str(setting.threads) for name in libraries}
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, __file__, json.dumps(given)],
            stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, which keeps what it has heard
        )  # fmt: skip
        assert child.stdout is not None
        try:
            for line in child.stdout:
                hear(json.loads(line))
            if child.wait() < 0:
                return f"ended by signal {-child.returncode}, most likely because memory ran out"
            errors.seek(0)
            said = errors.read().strip().splitlines()
            return (said[-1] if said else f"exit status {child.returncode}") if child.returncode else None
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


if __name__ == "__main__":
    main()
