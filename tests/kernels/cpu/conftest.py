"""What the tests of the CPU kernels share."""

import pytest
from helpers import guards


@pytest.fixture(scope="module", autouse=True)
def within_guards(request):
    """But for the quick size, arrays of kernels have guard zones, except where a test counts their memory."""
    options = request.config.option
    if options.size == "quick" or options.guards or request.module.__name__.endswith("memory"):
        yield
    else:
        with guards.around_kernels():
            yield
