"""Ranks that are threads of one process, for trainings on several ranks without MPI; and trainings to compare them with."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from minunet.train.distributed.world import Ranks, World
from minunet.train.trainer import Trainer


class Meeting:
    """Where all ranks put down a value, and take those of all."""

    def __init__(self, size: int) -> None:
        self.barrier, self.values = threading.Barrier(size, timeout=60), [None] * size

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self.values[rank] = value
        self.barrier.wait()
        found = copy.deepcopy(self.values)  # as through a wire
        self.barrier.wait()
        return found


class ThreadRanks(Ranks):
    """A rank that is a thread."""

    def __init__(self, rank: int, size: int, meetings: list[Meeting]) -> None:
        self.rank, self.size, self.meetings = rank, size, meetings

    def add(self, a: np.ndarray) -> None:
        a[...] = sum(self.meetings[0].exchange(self.rank, a.copy()))

    def add_gradients(self, a: np.ndarray) -> None:
        a[...] = sum(self.meetings[1].exchange(self.rank, a.copy()))

    def gather(self, value: Any) -> list[Any]:
        return self.meetings[0].exchange(self.rank, value)

    def wait(self) -> None:
        self.gather(None)


def on_ranks(size: int, function: Callable[[World], Any], kind: type[ThreadRanks] = ThreadRanks) -> list[Any]:
    """What a function returns on each of so many ranks; the first error of theirs is raised."""
    meetings, results, errors = [Meeting(size), Meeting(size)], [None] * size, []

    def run(rank: int) -> None:
        try:
            results[rank] = function(kind(rank, size, meetings))
        except BaseException as error:
            errors.append(error)
            for meeting in meetings:
                meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for error in errors:
        if not isinstance(error, threading.BrokenBarrierError):
            raise error
    return results


class Wide(Trainer):
    """A trainer in float64, which keeps the losses of its steps."""

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        self.losses: list[float] = []
        super().__init__(model.convert(np.float64), *args, **options)

    def step(self, images: Any, *rest: Any) -> float:
        self.losses.append(super().step(images.astype(np.float64), *rest))
        return self.losses[-1]
