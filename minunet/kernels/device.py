"""The GPU: whether there is one, and if not, what is missing; and how much memory is free.

Only `train`, `predict`, `gradcheck` and the loader know about devices; all other code looks at the type of its arrays.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shutil import which
from types import ModuleType

import numpy as np

from ..errors import UserError, extra
from .cuda import LEAST_CAPABILITY

GIB = 2**30


@dataclass
class GpuStatus:
    """Whether a GPU can be used; `reason` says what is missing and what to do, or names the GPU."""

    usable: bool
    reason: str

    def __bool__(self) -> bool:
        return self.usable


def gpu_status() -> GpuStatus:
    """Look for what a GPU needs, in this order: CuPy, just one CuPy, a driver, a GPU, NVRTC, cuBLAS.

    Examples
    --------
    >>> import minunet
    >>> status = minunet.gpu_status()
    >>> print("yes" if status else "no", status.reason)  # doctest: +SKIP
    no CuPy is not installed: pip install '.[cuda13]' in a clone of minunet (or [cuda12], by the driver's CUDA version)
    """
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as e:
        detail = "CuPy is not installed" if isinstance(e, ModuleNotFoundError) else f"CuPy does not load ({e})"
        return GpuStatus(False, f"{detail}: {extra('cuda13')} (or [cuda12], by the driver's CUDA version)")
    several = sorted({name for d in metadata.distributions() if _is_cupy(name := (d.name or "").lower())})
    if len(several) > 1:
        keep = " ".join(several)
        return GpuStatus(False, f"several CuPys are installed ({keep}), which overwrite each other: pip uninstall {keep}, "
                                f"then {extra('cuda13')} (or [cuda12])")  # fmt: skip
    runtime = cupy.cuda.runtime
    try:
        if runtime.driverGetVersion() == 0:
            return GpuStatus(False, "there is no NVIDIA driver: install it; `nvidia-smi` shows whether it works")
        if runtime.getDeviceCount() == 0:
            return GpuStatus(False, "the driver sees no GPU: check `nvidia-smi` and CUDA_VISIBLE_DEVICES")
    except Exception as e:  # CUDARuntimeError, whose import would need what is being looked for
        if "NoDevice" in str(e):
            return GpuStatus(False, "the driver sees no GPU: check `nvidia-smi` and CUDA_VISIBLE_DEVICES")
        return GpuStatus(False, f"the NVIDIA driver does not work with this CuPy ({e}): update the driver, or "
                                f"{extra('cuda12')} in place of [cuda13]")  # fmt: skip
    for library, check in (("the run-time compiler NVRTC", _use_nvrtc), ("the library cuBLAS", _use_cublas)):
        try:
            check(cupy)
        except Exception as e:
            reason = " ".join(str(e).split())[:160]
            return GpuStatus(False, f"{library} is missing or does not load ({reason}): {extra('cuda13')} "
                                    f"(or [cuda12]) brings it")  # fmt: skip
    found = runtime.getDeviceProperties(0)
    name, capability = found["name"].decode(), 10 * found["major"] + found["minor"]
    if capability < LEAST_CAPABILITY:
        least = LEAST_CAPABILITY / 10
        name += f" (compute capability {capability / 10}; minunet's kernels need {least}, the slower plain ops run)"
    return GpuStatus(True, name)


def _is_cupy(name: str) -> bool:
    """Whether a distribution is CuPy: cupy, cupy-cuda13x, cupy-rocm-5-0."""
    return re.fullmatch(r"cupy(-(cuda|rocm)[\w-]*)?", name) is not None


def _use_nvrtc(cupy: ModuleType) -> None:
    importlib.import_module("cupy_backends.cuda.libs.nvrtc").getVersion()


def _use_cublas(cupy: ModuleType) -> None:
    cupy.cuda.device.get_cublas_handle()


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


def has_nvidia_gpu() -> bool:
    """Whether the system has an NVIDIA GPU, no matter whether Python can use it."""
    if Path("/proc/driver/nvidia/gpus").is_dir():
        return any(Path("/proc/driver/nvidia/gpus").iterdir())
    if not which("nvidia-smi"):
        return False
    import subprocess

    try:
        return b"GPU 0" in subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return False


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
    """Turn a MemoryError into a UserError of one line: what was tried, how much it needs, how much is free, what to do.

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
    except MemoryError as e:  # of NumPy's or CuPy's
        left = free_memory(xp)
        here = "the GPU" if xp is not np else "this computer"
        free = f", {left / GIB:.2f} GiB of {here}'s are free now" if left is not None else ""
        try:
            needed = f"about {need() / GIB:.2f} GiB"
        except UserError:  # a layer without a description
            needed = "more than there is"
        raise UserError(f"out of memory: {what} needs {needed}{free}. {advice}") from e
