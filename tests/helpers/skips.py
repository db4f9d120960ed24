"""`--skips-fail`: a test that skips fails, but for want of what a machine may lack; for .ci/run, which installs the rest."""

import re

import pytest

MAY_LACK = (
    r"GPU|NVIDIA",  # CuPy's devices, and tests for machines that have none
    r"Chromium",
    r"bubblewrap",  # which containers often do not allow
    r"set MINUNET_DATA to the folder",  # real images
    r"\.ci/run also runs this with",
    r"second oracle",  # torchvision's and others' classes: the tests have twins of their own, too
    r"cudaErrorNoDevice|no CUDA-capable device|CUDA driver",
)


def pytest_addoption(parser):
    parser.addoption(
        "--skips-fail",
        action="store_true",
        help="fail where a test skips, but for a GPU, Chromium, bubblewrap, real images",
    )


def judge(report, config):
    """Make a failure of a skip that has no excuse."""
    if config.option.skips_fail and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not re.search("|".join(MAY_LACK), reason):
            report.outcome, report.longrepr = "failed", f"--skips-fail: it has no excuse to skip: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return judge((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return judge((yield), collector.config)
