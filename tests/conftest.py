"""What all tests share: the backends, and how hypothesis runs."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import minunet
from minunet.device import gpu_status

settings.register_profile(
    "minunet", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("minunet")


@pytest.fixture(params=["reference", "fast", "cuda"])
def xp(request):
    """The array library to test with: NumPy with the plain ops, NumPy with the kernels, CuPy (skipped without a GPU)."""
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
