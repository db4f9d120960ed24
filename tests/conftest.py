"""What all tests share: the backends, the lessons, and how much runs."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

import minunet
from minunet.kernels.gpu import gpu_status

pytest.register_assert_rewrite("helpers")  # their asserts, too, say what they compared
from helpers import cuda_device, pretend_cupy, workers  # noqa: E402

QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytest_plugins = ["helpers.guards", "helpers.sizes", "helpers.skips", "helpers.workers"]


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
def shared_folder(tmp_path_factory):
    """A folder that all workers have in common, for `helpers.workers.once`."""
    return workers.shared_folder(tmp_path_factory)


@pytest.fixture(scope="session")
def run_lesson(shared_folder):
    """A function that executes a lesson, once for all workers: (what it left behind, what went wrong)."""
    path = Path(__file__).resolve().parents[1] / "tutorials" / "build.py"
    spec = importlib.util.spec_from_file_location("tutorials_build", path)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder = shared_folder / "lessons"

    def run(lesson):
        left = folder / lesson.stem
        return left, workers.once(shared_folder, f"lesson {lesson.stem}", lambda: build.run(lesson, left)[1])

    return run


@pytest.fixture(scope="module")
def chromium():
    """Headless Chromium with a new, empty profile; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()
