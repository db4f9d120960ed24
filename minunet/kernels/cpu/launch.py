"""Compiling and starting the CPU kernels: threads, and numba's cache.

A kernel is a numba function that runs its outermost loop on all threads. Compiling one takes seconds, so numba keeps the
machine code in a cache on disk. numba decides by the time stamp of the file that defines a function whether its code is still
good. But our functions are built from several files, so :func:`kernel` replaces the stamp by a hash of all of them. The hash is
also appended to numba's version, which numba compares first: an entry of other sources is then never unpickled, which could
fail, since it may name types that no longer exist.

The threading layer is OpenMP if numba has it, unless NUMBA_THREADING_LAYER says otherwise. Its threads stay awake for a few
milliseconds after a kernel, so that the next kernel starts in 2 microseconds; with numba's own work queue that takes 130, which
matters in a network with a hundred kernels. The work queue, which always exists, is the second choice. It runs one kernel at a
time, which the lock here ensures. Python's global lock is released meanwhile, so that a thread that reads data goes on.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np

from .memory import renew_lock

if not {"NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY"} & os.environ.keys():
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "workqueue", "tbb"]  # type: ignore[attr-defined]

_FILES = [p for p in sorted(Path(__file__).parent.glob("*.py")) if p.name != "__init__.py"]
SOURCES = hashlib.sha256(b"".join(p.read_bytes() for p in _FILES)).hexdigest()


_one_at_a_time = threading.RLock()
_threads = 0  # as many as numba can have
_kernels: list[Any] = []


def kernel(function: Callable[..., None], parallel: bool = True) -> Callable[..., None]:
    """Compile a function for all threads, or for the caller's alone, cached on disk under a hash of the kernels' sources."""
    compiled: Any = numba.njit(parallel=parallel, nogil=True)(function)
    with contextlib.suppress(RuntimeError, AttributeError):  # no place to keep a cache: compile in each process
        compiled.enable_caching()
        cached = compiled._cache._cache_file
        cached._source_stamp, cached._version = SOURCES, f"{numba.__version__} {SOURCES}"
    _kernels.append(compiled)

    if not parallel:  # which may run beside any other
        return functools.wraps(function)(lambda *args: compiled(*args))

    @functools.wraps(function)
    def launch(*args: Any) -> None:
        with _one_at_a_time:
            if _threads:
                numba.set_num_threads(_threads)  # numba keeps this number for each Python thread
            compiled(*args)

    return launch


def ready(a: np.ndarray) -> np.ndarray:
    """The array as kernels are compiled for it: contiguous, aligned, writable; for other arrays numba would compile anew."""
    a = np.ascontiguousarray(a)
    return a if a.flags.writeable and a.flags.aligned else a.copy()


def alone() -> contextlib.AbstractContextManager[Any]:
    """A block in which no other thread starts a kernel: for kernels that share `scratch`."""
    return _one_at_a_time


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up: how many pieces of b there are in a, the last one possibly smaller."""
    return -(-a // b)


def round_up(n: int, width: int) -> int:
    """n rounded up to whole vectors."""
    return ceil_div(n, width) * width


def workers() -> int:
    """Threads that a kernel runs on."""
    return _threads or numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def set_threads(n: int) -> int:
    """Run kernels on n threads, or on as many as numba can have; returns their number."""
    global _threads
    _threads = min(n, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    return _threads


usable = True
"""False in a process that was forked off while GNU OpenMP ran: kernels cannot run there, so the plain ops run."""


def _after_fork() -> None:
    """Fresh locks for a forked process: the old ones may be held by threads that do not exist there."""
    global _one_at_a_time, usable
    _one_at_a_time = threading.RLock()
    renew_lock()
    with contextlib.suppress(ValueError):  # no kernel has run yet: then nothing is broken
        usable = numba.threading_layer() != "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
