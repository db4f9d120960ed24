"""Peaks of memory, and how much is free."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

MIB, GIB = 2**20, 2**30


def process_peak() -> int:
    """Most bytes that this process has had in physical memory so far.

    From /proc where there is one: getrusage's ru_maxrss also remembers the process that started this one.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return 1024 * int(found[1])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def peak(who: str, device: str) -> Iterator[Callable[[], int]]:
    """A function that gives the peak so far, in bytes: of the process, or on a GPU of the contestant's own allocator."""
    if device == "cpu":
        yield process_peak
    elif who.startswith("minunet"):
        with _pool_counter() as counter:
            yield lambda: counter.most
    else:
        import torch

        yield torch.cuda.max_memory_allocated


def _pool_counter():
    """A CuPy hook that follows the bytes which its memory pool has handed out, as PyTorch does by itself."""
    import cupy

    class Counter(cupy.cuda.MemoryHook):
        name = "Counter"
        used = most = 0

        def malloc_postprocess(self, **call):
            self.used += call["mem_size"]
            self.most = max(self.most, self.used)

        def free_postprocess(self, **call):
            self.used -= call["mem_size"]

    return Counter()


def free() -> int | None:
    """Bytes of the computer's memory that can still be had; None if the system does not say."""
    import numpy as np

    from minunet.kernels.device import (
        free_memory,  # here, so that a peer's process loads it only when it is measured already
    )

    return free_memory(np)


def gpu() -> tuple[int, int]:
    """Bytes in use on the GPU, with nothing allocated its context (and what other programs hold), and bytes free."""
    import cupy

    left, total = cupy.cuda.runtime.memGetInfo()
    return total - left, left


def in_words(mib: float) -> str:
    """Such as "312 MiB" or "2.41 GiB"."""
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.2f} GiB"
