"""What a GPU lacks, or is odd about it, in one sentence each; on the stand-in, which has what every case needs."""

import sys
import types
from importlib import metadata

import numpy as np
import pytest
from helpers import pretend_cupy, pretend_gpu

from minunet.errors import UserError
from minunet.kernels import cuda, device, gpu
from minunet.kernels.cuda import build, start
from minunet.kernels.device import select_device
from minunet.kernels.gpu import gpu_status

DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
BUSY = "cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable"
FULL = "cudaErrorMemoryAllocation: out of memory"
H200 = {"name": b"NVIDIA H200", "major": 9, "minor": 0}
T4 = {"name": b"Tesla T4", "major": 7, "minor": 5}


@pytest.fixture
def cupy(monkeypatch):
    found = pretend_cupy.install(monkeypatch)
    runtime = types.SimpleNamespace(**vars(found.cuda.runtime))
    monkeypatch.setattr(found.cuda, "runtime", runtime)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu.platform, "release", lambda: "6.8.0-45-generic")
    return found


def failing(error):
    def fail(*args):
        raise error

    return fail


def has(cupy, *gpus):
    """Let there be these GPUs, and the first of them the current one."""
    runtime = cupy.cuda.runtime
    runtime.getDevice, runtime.getDeviceCount = lambda: 0, lambda: len(gpus)
    runtime.getDeviceProperties = lambda n: gpus[n]
    cupy.cuda.Device = lambda n=0: types.SimpleNamespace(compute_capability="{major}{minor}".format(**gpus[n]))


@pytest.fixture(autouse=True)
def device_stays(monkeypatch):
    monkeypatch.setattr(pretend_cupy.cuda, "Device", pretend_cupy.cuda.Device)


# ---- what is missing -------------------------------------------------------------------------------------------------


def test_cupy_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert not gpu_status() and "CuPy is not installed: pip install '.[cuda13]'" in gpu_status().reason


def test_two_cupys(cupy, monkeypatch):
    names = [types.SimpleNamespace(name=n) for n in ("numpy", "cupy-cuda12x", "cupy-cuda13x", "cupyd")]
    monkeypatch.setattr(metadata, "distributions", lambda: names)
    assert not gpu_status() and "pip uninstall cupy-cuda12x cupy-cuda13x" in gpu_status().reason


OLD = "the NVIDIA driver is for CUDA {} and older than this CuPy, which is for CUDA 13.2: update the driver"
FOR_ITSELF = (
    "in use by a process that has it for itself (its mode is exclusive): `nvidia-smi` lists the processes on it"
)
MEMORY = "the GPU's memory is full: `nvidia-smi` lists the processes on it; end one, or choose another GPU"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"driverGetVersion": lambda: 0}, "there is no NVIDIA driver: install it; `nvidia-smi` shows whether it works"),
        (
            {"getDeviceCount": lambda: 0},
            "the driver sees no GPU: check `nvidia-smi -L` (where MIG is on, a GPU needs an",
        ),
        ({"getDeviceCount": failing(RuntimeError("cudaErrorNoDevice: no device"))}, "the driver sees no GPU"),
        ({"getDeviceCount": failing(RuntimeError(DRIVER))}, "does not work with this CuPy"),
        (
            {"driverGetVersion": lambda: 12040, "runtimeGetVersion": lambda: 13020},
            OLD.format("12.4") + ", or pip install '.[cuda12]' in a clone of minunet in place of [cuda13]",
        ),
        ({"driverGetVersion": lambda: 11080, "runtimeGetVersion": lambda: 13020}, OLD.format("11.8")),
        ({"memGetInfo": failing(RuntimeError(BUSY))}, FOR_ITSELF),
        ({"memGetInfo": failing(RuntimeError(FULL))}, MEMORY),
        (
            {"memGetInfo": failing(RuntimeError("cudaErrorUnknown: unknown"))},
            "the GPU does not answer (cudaErrorUnknown",
        ),
    ],
)
def test_no_driver_no_gpu_none_free(cupy, change, said):
    vars(cupy.cuda.runtime).update(change)
    assert not gpu_status() and said in gpu_status().reason
    with pytest.raises(UserError, match="--device cuda: "):
        select_device("cuda")
    assert select_device("auto") is np


def test_a_driver_that_is_too_old_for_cuda_12_too(cupy):
    cupy.cuda.runtime.driverGetVersion = lambda: 11080
    assert gpu_status().reason.endswith("update the driver")


def test_in_wsl_the_driver_is_windows(cupy, monkeypatch):
    monkeypatch.setattr(gpu.platform, "release", lambda: "5.15.153.1-microsoft-standard-WSL2")
    assert gpu_status().reason == "Pretended GPU"
    cupy.cuda.runtime.driverGetVersion = lambda: 0
    assert gpu_status().reason == "there is no NVIDIA driver: install it in Windows, not in WSL, then `wsl --update`"
    cupy.cuda.runtime.driverGetVersion = lambda: 12040
    assert "update the driver in Windows, not in WSL, or pip install '.[cuda12]'" in gpu_status().reason


def test_nvrtc_is_missing(cupy, monkeypatch):
    monkeypatch.setattr(pretend_cupy.nvrtc, "getVersion", failing(ImportError("libnvrtc.so.13: no such\nfile")))
    said = "the run-time compiler NVRTC is missing or does not load (libnvrtc.so.13: no such file): pip install"
    assert not gpu_status() and gpu_status().reason.startswith(said)


@pytest.mark.parametrize(
    ("error", "free", "said"),
    [
        (
            ImportError("libcublas.so.13: no such file"),
            6 << 30,
            "the library cuBLAS is missing or does not load (libcublas",
        ),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), 1 << 20, MEMORY),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), 1 << 20, MEMORY),
        (
            RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"),
            6 << 30,
            "the library cuBLAS does not start (CUBLAS_STATUS_NOT_INIT",
        ),
        (RuntimeError(FULL), 6 << 30, MEMORY),
        (RuntimeError(BUSY), 6 << 30, "the GPU is " + FOR_ITSELF),
    ],
)
def test_cublas_is_missing_or_the_gpu_is_full_or_busy(cupy, monkeypatch, error, free, said):
    """Who is told to install what is there looks in the wrong place."""
    monkeypatch.setattr(cupy.cuda.device, "get_cublas_handle", failing(error))
    cupy.cuda.runtime.memGetInfo = lambda: (free, 8 << 30)
    assert not gpu_status() and gpu_status().reason.startswith(said)
    assert ("pip install" in gpu_status().reason) == isinstance(error, ImportError)


# ---- what is odd -----------------------------------------------------------------------------------------------------


def test_a_gpu(cupy):
    assert gpu_status() and gpu_status().reason == "Pretended GPU"
    assert select_device("auto") is cupy is select_device("cuda")
    assert device.device_name(cupy) == "GPU, Pretended GPU"


def test_a_gpu_that_runs_plain_ops_only_is_said(cupy):
    has(cupy, T4)
    said = "GPU, Tesla T4 (compute capability 7.5; minunet's kernels need 8.0, the slower plain ops run)"
    assert gpu_status() and device.device_name(cupy) == said


def test_the_current_one_of_two_gpus(cupy):
    has(cupy, H200, T4)
    said = "NVIDIA H200 (GPU 0 of 2, counted from 0; CUDA_VISIBLE_DEVICES chooses another)"
    assert gpu_status() and gpu_status().reason == said
    cupy.cuda.runtime.getDevice = lambda: 1
    assert gpu_status() and gpu_status().reason.startswith("Tesla T4 (compute capability 7.5; ")


@pytest.mark.parametrize(("visible", "number"), [(None, "1"), ("3,GPU-5ab", "GPU-5ab")])
def test_the_better_one_of_two_gpus_is_named(cupy, monkeypatch, visible, number):
    has(cupy, T4, H200)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    said = f"GPU 0 of 2, counted from 0; CUDA_VISIBLE_DEVICES={number} chooses NVIDIA H200, which runs them)"
    assert gpu_status() and gpu_status().reason.endswith(said)


def test_kernels_are_asked_for_each_gpu(cupy):
    """What holds for the first GPU that was looked at is not said of another."""
    has(cupy, T4, H200)
    assert cuda.hindrance(cupy, 0) and cuda.hindrance(cupy, 1) is None


def test_a_part_of_a_gpu(cupy):
    has(cupy, {**H200, "name": b"NVIDIA H200 MIG 1g.18gb"})
    assert gpu_status() and gpu_status().reason.endswith(
        "MIG 1g.18gb (a part of a GPU, by MIG: a share of its multiprocessors and memory)"
    )


def test_other_processes_on_the_gpu(cupy, monkeypatch):
    cupy.cuda.runtime.memGetInfo = lambda: (2 << 30, 8 << 30)
    said = (
        "Pretended GPU (2.0 of 8.0 GiB are free, the rest is other processes': `nvidia-smi` lists the processes on it)"
    )
    assert gpu_status() and gpu_status().reason == said
    monkeypatch.setattr(pretend_gpu.default_pool, "held", 5 << 30)  # then they are this process's own
    assert gpu_status().reason == "Pretended GPU"


@pytest.mark.parametrize(
    "error", [RuntimeError("conv.cu for sm_90a:\nclass Tiles has no member out"), OSError("read-only")]
)
def test_kernels_that_do_not_compile_are_said_once(cupy, monkeypatch, error):
    """The plain ops run, and nobody has to guess why everything is slow."""
    monkeypatch.setattr(build, "cached_cubin", failing(error))
    with pytest.warns(UserWarning, match="the slower plain ops run") as told:
        assert cuda.hindrance(cupy, pretend_gpu.NUMBER) and cuda.hindrance(cupy, pretend_gpu.NUMBER)
    assert len(told) == 1
    said = gpu_status()
    assert said and f"Pretended GPU (minunet's kernels do not run: {' '.join(str(error).split())}" in said.reason


def test_one_kernel_is_compiled_once(cupy, monkeypatch):
    compiled = []
    monkeypatch.setattr(build, "cached_cubin", lambda *of: compiled.append(of) or pretend_gpu.pretended_cubin(*of))
    assert cuda.hindrance(cupy, pretend_gpu.NUMBER) is None and cuda.hindrance(cupy, pretend_gpu.NUMBER) is None
    assert compiled == [("conv_patch.cu", (), 81)]


def test_large_blocks_get_the_shared_memory_that_they_need(cupy):
    small, large = (start.load("norm.cu", "moments", (), n, pretend_gpu.NUMBER) for n in (1024, 96 << 10))
    assert (small.max_dynamic_shared_size_bytes, small.preferred_shared_memory_carveout) == (48 << 10, -1)
    assert (large.max_dynamic_shared_size_bytes, large.preferred_shared_memory_carveout) == (96 << 10, 100)


def test_a_gpu_that_is_not_used_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(device, "has_nvidia_gpu", lambda: True)
    assert "There is an NVIDIA GPU, but CuPy is not installed" in device.device_name(np, "auto")
    assert device.device_name(np, "cpu") == "CPU"
