"""What all tests share: the backends, and how hypothesis runs."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import minunet
from minunet.kernels.device import gpu_status

pytest.register_assert_rewrite("helpers")  # their asserts, too, say what they compared
from helpers import cuda_device, pretend_cupy  # noqa: E402

settings.register_profile(
    "minunet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("minunet")


@pytest.fixture(params=["reference", "fast", "pretended cuda", "cuda"])
def xp(request, monkeypatch):
    """The array library to test with: NumPy with the plain ops, NumPy with the kernels, CuPy (skipped without a GPU), and
    what stands in for CuPy everywhere."""
    if request.param == "pretended cuda":
        yield pretend_cupy.install(monkeypatch)
        return
    if request.param == "cuda":
        status = gpu_status()
        if not status:
            pytest.skip(status.reason)
        import cupy

        yield cupy
        return
    with minunet.use(request.param):
        yield np


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(params=cuda_device.PARAMS)
def cuda(request):
    """What the CUDA kernels run on: the emulator, in every order of its threads and its copies; and a GPU, if there is one."""
    with cuda_device.device(request.param) as found:
        yield found


@pytest.fixture(params=cuda_device.PARAMS)
def exact_cuda(request):
    """The same, but emulated products of float32 are not rounded to TF32, so that small mistakes show."""
    with cuda_device.device(request.param, exact=True) as found:
        yield found


@pytest.fixture
def gpu(monkeypatch):
    """What stands in for CuPy, with the CUDA kernels running on its arrays, in the emulator."""
    return pretend_cupy.install(monkeypatch, kernels=True)


@pytest.fixture(scope="session")
def run_lesson(tmp_path_factory):
    """A function that executes a lesson, once a session: (what it left behind, what went wrong)."""
    path = Path(__file__).resolve().parents[1] / "tutorials" / "build.py"
    spec = importlib.util.spec_from_file_location("tutorials_build", path)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder, problems = tmp_path_factory.mktemp("lessons"), {}

    def run(lesson):
        if lesson.stem not in problems:
            _, problems[lesson.stem] = build.run(lesson, folder / lesson.stem)
        return folder / lesson.stem, problems[lesson.stem]

    return run
