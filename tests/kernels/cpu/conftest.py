"""What the tests of the CPU kernels share."""

from pathlib import Path

import pytest

from minunet.kernels.cpu import rules


@pytest.fixture(scope="module")
def small_arrays_too():
    """Even the smallest array is worth a kernel."""
    before, rules.SMALLEST = rules.SMALLEST, 0
    yield
    rules.SMALLEST = before


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """A file's tests go to one worker: they need the same kernels, which are compiled at their first call."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
