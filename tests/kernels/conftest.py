"""What the tests of the kernels share."""

import pytest

from minunet.kernels.cpu import rules


@pytest.fixture(scope="module")
def small_arrays_too():
    """Even the smallest array is worth a kernel."""
    before, rules.SMALLEST = rules.SMALLEST, 0
    yield
    rules.SMALLEST = before
