"""The GPU: is there one, and if not, what is missing.

Only `train`, `predict` and the loader know about devices; for everything else the array's type is the device.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .errors import UserError


@dataclass
class GpuStatus:
    """Whether a GPU can be used; `reason` says what is missing and what to do, or names the GPU."""

    usable: bool
    reason: str

    def __bool__(self) -> bool:
        return self.usable


def gpu_status() -> GpuStatus:
    """Look for CuPy, a driver, a GPU and NVRTC, in this order."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as e:
        detail = "CuPy is not installed" if isinstance(e, ModuleNotFoundError) else f"CuPy does not load ({e})"
        return GpuStatus(False, f"{detail}: pip install 'minunet[cuda13]' (or [cuda12], by the driver's CUDA version)")
    try:
        if cupy.cuda.runtime.getDeviceCount() == 0:
            return GpuStatus(False, "the driver sees no GPU: check `nvidia-smi` and CUDA_VISIBLE_DEVICES")
    except Exception as e:  # CUDARuntimeError, whose import would need what is being looked for
        missing = "no GPU" if "NoDevice" in str(e) else "no NVIDIA driver that this CuPy can use"
        return GpuStatus(
            False, f"{missing} ({e}): check `nvidia-smi`, and that the extra fits the driver's CUDA version"
        )
    try:
        nvrtc = importlib.import_module("cupy_backends.cuda.libs.nvrtc")
        nvrtc.getVersion()
    except Exception as e:
        return GpuStatus(False, f"NVRTC, the run-time compiler, is missing ({e}): pip install 'cupy-cuda13x[ctk]'")
    return GpuStatus(True, cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())


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
