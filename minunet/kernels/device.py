"""The device that computes: its choice, its name, and its memory; gpu.py says what a GPU lacks.

Only `train`, `predict`, `gradcheck` and the loader know about devices; all other code looks at the type of its arrays.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np

from ..errors import UserError, out_of_memory
from .gpu import GIB, gpu_status, has_nvidia_gpu


def select_device(name: str) -> ModuleType:
    """The array library of --device: NumPy for "cpu", CuPy for "cuda", for "auto" CuPy if it can be used.

    Raises
    ------
    UserError
        For "cuda" without a usable GPU, saying what is missing.
    """
    if name == "cpu":
        return np
    status = gpu_status()
    if status:
        return importlib.import_module("cupy")
    if name == "cuda":
        raise UserError(f"--device cuda: {status.reason}")
    return np


def device_name(xp: ModuleType, asked: str = "auto") -> str:
    """The device in words; if there is a GPU that cannot be used, with the reason."""
    if xp is not np:
        return f"GPU, {gpu_status().reason}"
    if asked == "auto" and has_nvidia_gpu():
        return f"CPU. There is an NVIDIA GPU, but {gpu_status().reason}"
    return "CPU"


# ---- memory ----------------------------------------------------------------------------------------------------------


def free_memory(xp: ModuleType) -> int | None:
    """Free bytes of the GPU's memory, or of the computer's; None if the system does not say."""
    if xp is not np:
        return int(xp.cuda.runtime.memGetInfo()[0]) + int(xp.get_default_memory_pool().free_bytes())
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return 1024 * int(found[1]) if found else None


@contextmanager
def memory_explained(xp: ModuleType, what: str, need: Callable[[], int], advice: str) -> Iterator[None]:
    """Turn an error of full memory into a UserError of one line: what was tried, how much it needs, what is free, what to do.

    Parameters
    ----------
    what : str
        Such as "a training step on 8 images of 512 x 512".
    need : function
        Returns the bytes that it needs, predicted by `minunet.summary`.
    advice : str
        The flags that make it need less.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as e:
        if not out_of_memory(e):
            raise
        left = free_memory(xp)
        here = "the GPU" if xp is not np else "this computer"
        free = f", {left / GIB:.2f} GiB of {here}'s are free now" if left is not None else ""
        try:
            needed = f"about {need() / GIB:.2f} GiB"
        except UserError:  # a layer without a description
            needed = "more than there is"
        raise UserError(f"out of memory: {what} needs {needed}{free}. {advice}") from e
