"""Signs of life: how the trial of a worker that was killed is told from one that still runs.

Optuna leaves a killed worker's trial running for ever, and has heartbeats for databases only. So here, with every storage, a
trial says which process runs it, and a thread of that process writes the time into it every `BEAT` seconds. A trial is lost if
its process is of this machine and gone, or if for `GRACE` seconds, as the observer's own clock counts them, nothing new came.
So clocks of other machines need not be right.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ...atomic import is_alive

BEAT = 20.0  # seconds
GRACE = 120.0  # seconds
ALIVE = "alive"  # the attribute of a trial


@cache
def machine() -> str:
    """A mark of this machine and, where containers number their own processes, of this container; not only its name, as
    containers share names."""
    mark = f"{uuid.getnode()}"
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        mark = f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    return f"{zlib.crc32(mark.encode()):08x}"


class Pulse:
    """A block in which a thread writes signs of life into a trial.

    Parameters
    ----------
    trial : optuna.Trial
    orphaned : callable
        Called once if the process that started this one is gone.
    """

    def __init__(self, trial: Any, orphaned: Callable[[], None]) -> None:
        self.trial, self.orphaned, self.parent, self.began = trial, orphaned, os.getppid(), time.time()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.beat, daemon=True)

    def __enter__(self) -> Pulse:
        self.sign()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        with suppress(Exception):
            self.sign()  # when the trial ended

    def sign(self) -> None:
        """Write a sign of life."""
        told = {"machine": machine(), "process": os.getpid(), "began": self.began, "time": time.time()}
        self.trial.set_user_attr(ALIVE, told)

    def beat(self) -> None:
        """Write until the block ends."""
        watched, last = True, time.monotonic()
        while not self.ended.wait(min(BEAT, 1.0)):
            if watched and os.getppid() != self.parent:
                watched = False
                self.orphaned()
            if time.monotonic() - last >= BEAT:
                last = time.monotonic()
                with suppress(Exception):  # the trial was given to another, or the storage is away for a moment
                    self.sign()


class Watch:
    """Finds the trials whose workers are gone; keep one, as it remembers since when a trial has been silent."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Any, float]] = {}

    def is_lost(self, trial: Any) -> bool:
        """Whether a running trial's worker is gone."""
        last, now = trial.user_attrs.get(ALIVE), time.monotonic()
        if last and last["machine"] == machine() and not is_alive(last["process"]):
            return True
        before, since = self.seen.get(trial.number, (None, now))
        if trial.number not in self.seen or before != last:
            self.seen[trial.number] = (last, now)
            return False
        return now - since > GRACE
