"""Whether there is a GPU that can be used; if not, what is missing and what to do, and if so, what is odd about it.

Everything is said in one sentence, which `--device cuda`, `doctor` and `minunet.gpu_status` print.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from shutil import which
from types import ModuleType

from ..errors import extra, out_of_memory
from . import cuda
from .cuda import LEAST_CAPABILITY

GIB = 2**30
INSTALL = f"{extra('cuda13')} (or [cuda12], by the driver's CUDA version)"
LOOK = "`nvidia-smi` lists the processes on it"
CHOOSE = "CUDA_VISIBLE_DEVICES"
BUSY = ("cudaErrorDevicesUnavailable", "cudaErrorDeviceAlreadyInUse", "busy or unavailable")
CUBLAS_TAKES = GIB // 2
"""Bytes that are enough for cuBLAS, its workspace and its kernels. With less it may say only that it is not initialized."""


@dataclass
class GpuStatus:
    """Whether a GPU can be used; `reason` says what is missing and what to do, or names the GPU."""

    usable: bool
    reason: str

    def __bool__(self) -> bool:
        return self.usable


def gpu_status() -> GpuStatus:
    """Look for what a GPU needs, in this order: CuPy, just one CuPy, a driver, a GPU that is free, NVRTC, cuBLAS.

    It looks at CuPy's current GPU, the first one unless you choose. If that can be used, `reason` names it, and says if it is
    one of several, a part of one, full of other processes' data, or if the kernels do not run on it.

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
        return GpuStatus(False, f"{detail}: {INSTALL}")
    for trouble in (_several_cupys, _driver_trouble, _memory_trouble, _nvrtc_trouble, _cublas_trouble):
        if said := trouble():
            return GpuStatus(False, said)
    device = cupy.cuda.runtime.getDevice()
    name = cupy.cuda.runtime.getDeviceProperties(device)["name"].decode()
    notes = [note for look in (_kernels, _neighbours, _part, _other_processes) if (note := look(cupy, device, name))]
    return GpuStatus(True, name + (f" ({'; '.join(notes)})" if notes else ""))


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


# ---- what can be missing: a sentence, or None ------------------------------------------------------------------------


def _several_cupys() -> str | None:
    several = sorted({name for d in metadata.distributions() if _is_cupy(name := (d.name or "").lower())})
    if len(several) < 2:
        return None
    keep = " ".join(several)
    return (f"several CuPys are installed ({keep}), which overwrite each other: pip uninstall {keep}, "
            f"then {extra('cuda13')} (or [cuda12])")  # fmt: skip


def _is_cupy(name: str) -> bool:
    """Whether a distribution is CuPy: cupy, cupy-cuda13x, cupy-rocm-5-0."""
    return re.fullmatch(r"cupy(-(cuda|rocm)[\w-]*)?", name) is not None


def _driver_trouble() -> str | None:
    runtime, windows = importlib.import_module("cupy").cuda.runtime, "in Windows, not in WSL" if _in_wsl() else ""
    try:
        driver, toolkit = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if driver == 0:
            shows = f"it {windows}, then `wsl --update`" if windows else "it; `nvidia-smi` shows whether it works"
            return f"there is no NVIDIA driver: install {shows}"
        if driver // 1000 < toolkit // 1000:
            else_ = f", or {extra('cuda12')} in place of [cuda13]" if driver >= 12000 else ""
            return (f"the NVIDIA driver is for CUDA {_version(driver)} and older than this CuPy, which is for CUDA "
                    f"{_version(toolkit)}: update the driver{windows and ' '}{windows}{else_}")  # fmt: skip
        if runtime.getDeviceCount():
            return None
    except Exception as e:  # CUDARuntimeError, whose import would need what is being looked for
        if "NoDevice" not in str(e):
            return (f"the NVIDIA driver does not work with this CuPy ({e}): update the driver{windows and ' '}{windows}, or "
                    f"{extra('cuda12')} in place of [cuda13]")  # fmt: skip
    return f"the driver sees no GPU: check `nvidia-smi -L` (where MIG is on, a GPU needs an instance) and {CHOOSE}"


def _version(number: int) -> str:
    """CUDA's version in words: 12.4 for 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _in_wsl() -> bool:
    """Whether this is Linux inside Windows, where Windows' driver serves."""
    return "microsoft" in platform.release().lower()


def _memory_trouble() -> str | None:
    """Whether this process gets a share of the GPU at all: the first question about memory makes the context."""
    try:
        importlib.import_module("cupy").cuda.runtime.memGetInfo()
    except Exception as e:
        return _taken(e) or f"the GPU does not answer ({_line(e)}): `nvidia-smi` shows whether it works"
    return None


def _taken(error: Exception) -> str | None:
    """What an error says of other processes: that one has the GPU for itself, or that they have filled its memory."""
    if any(sign in str(error) for sign in BUSY):
        why = "the GPU is in use by a process that has it for itself (its mode is exclusive)"
        return f"{why}: {LOOK}; wait, or choose another GPU by {CHOOSE}"
    if out_of_memory(error):
        return f"the GPU's memory is full: {LOOK}; end one, or choose another GPU by {CHOOSE}"
    return None


def _nvrtc_trouble() -> str | None:
    from .cuda import build

    return build.nvrtc_missing()


def _cublas_trouble() -> str | None:
    cupy = importlib.import_module("cupy")
    try:
        cupy.cuda.device.get_cublas_handle()
    except Exception as e:
        if said := _taken(e):
            return said
        if "CUBLAS_STATUS" not in str(e):
            return f"the library cuBLAS is missing or does not load ({_line(e)}): {extra('cuda13')} (or [cuda12]) brings it"
        if cupy.cuda.runtime.memGetInfo()[0] < CUBLAS_TAKES:
            return _taken(MemoryError())
        return f"the library cuBLAS does not start ({_line(e)}): `nvidia-smi` shows whether the GPU works"
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


# ---- what can be odd about a GPU that works: a note, or None ---------------------------------------------------------


def _kernels(cupy: ModuleType, device: int, name: str) -> str | None:
    why = cuda.hindrance(cupy, device)
    return why and f"{why}, the slower plain ops run"


def _neighbours(cupy: ModuleType, device: int, name: str) -> str | None:
    """Of several GPUs it says which one this is; and if this one runs no kernels, which one does."""
    runtime = cupy.cuda.runtime
    count = runtime.getDeviceCount()
    if count == 1:
        return None
    found = [runtime.getDeviceProperties(n) for n in range(count)]
    fit = [10 * f["major"] + f["minor"] >= LEAST_CAPABILITY for f in found]
    which_ = f"GPU {device} of {count}, counted from 0"
    if fit[device] or True not in fit:
        return f"{which_}; {CHOOSE} chooses another"
    better = fit.index(True)
    visible = os.environ.get(CHOOSE, "").split(",")
    number = visible[better] if len(visible) == count else better
    return f"{which_}; {CHOOSE}={number} chooses {found[better]['name'].decode()}, which runs them"


def _part(cupy: ModuleType, device: int, name: str) -> str | None:
    return "a part of a GPU, by MIG: a share of its multiprocessors and memory" if " MIG " in name else None


def _other_processes(cupy: ModuleType, device: int, name: str) -> str | None:
    """How much memory is free, if more than a quarter of all is others'."""
    free, total = cupy.cuda.runtime.memGetInfo()
    others = total - free - cupy.get_default_memory_pool().total_bytes()
    if others <= total / 4:
        return None
    return f"{free / GIB:.1f} of {total / GIB:.1f} GiB are free, the rest is other processes': {LOOK}"
