"""How many threads compute."""

from __future__ import annotations

import importlib
import os


def set_threads(n: int) -> int:
    """Compute on n threads from now on: the kernels, and NumPy's matrix products, called from any Python thread.

    By default the environment variables decide: NUMBA_NUM_THREADS for the kernels, OPENBLAS_NUM_THREADS or OMP_NUM_THREADS for
    NumPy. If they are not set, all cores are used.

    Parameters
    ----------
    n : int
        At least 1.

    Returns
    -------
    int
        The number of threads: n, but not more than there are cores, or than NUMBA_NUM_THREADS says.

    Raises
    ------
    ValueError
        If n is less than 1.
    """
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, not {n}")
    used: int = importlib.import_module("minunet.kernels.cpu.launch").set_threads(n)
    importlib.import_module("threadpoolctl").threadpool_limits(used)
    return used


def own_cores() -> set[int]:
    """The cores that this process may use."""
    return set(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
