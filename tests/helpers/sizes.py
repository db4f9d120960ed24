"""How much of the tests runs: `--size quick` (as a rule), `ci` or `whole`.

What a smaller size runs less of is drawn, and `--draw N` draws otherwise. .ci/run passes the day of the year, so that in the
course of some days it runs all cases and all orders. Only hypothesis' examples are the same with every N, so that what failed
once fails again.

* A test marked `slow` is left out of `quick`.
* Of a test marked `drawn(quick=n, ci=m)` so many cases run.
* A CUDA kernel runs in one order of its threads and copies, drawn for each case, in two, or in all ten; of a test's cases,
  6 run in `quick`, and 12 in `ci`.
* hypothesis draws a quarter of the examples, a half, or all.
* The CPU's kernels are for float32 alone in `quick`, and float64 runs the plain ops: compiling for both takes twice as long.
  Tests of kernels in float64 are `slow`.

A test that is named by its id ("file.py::test") runs whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from minunet.kernels.cpu import rules


class Size(NamedTuple):
    """What a size runs."""

    examples: int  # hypothesis' of a test that says nothing else
    orders: int | None  # of a CUDA kernel's threads and copies; None: all
    kernels: int | None  # cases of a CUDA kernel's test


SIZES = {"quick": Size(25, 1, 6), "ci": Size(50, 2, 12), "whole": Size(100, None, None)}


def examples(most: int) -> settings:
    """Hypothesis' settings for a test of `most` examples in the whole size, and a part of them in the others."""
    number = max(1, most * settings().max_examples // SIZES["whole"].examples)
    return settings(max_examples=number, suppress_health_check=list(HealthCheck))


def unless_quick(*values: Any) -> list[Any]:
    """The values in the sizes `ci` and `whole`, none in `quick`: for what takes long to compile."""
    return [] if settings().max_examples == SIZES["quick"].examples else list(values)


def only_whole(*values: Any) -> list[Any]:
    """The values in the size `whole`, none in the others: for what no network uses, and takes long to compile."""
    return list(values) if settings().max_examples == SIZES["whole"].examples else []


def pytest_addoption(parser):
    parser.addoption(
        "--size", choices=SIZES, default="quick", help="how much of the tests to run: see tests/helpers/sizes.py"
    )
    parser.addoption("--draw", type=int, default=0, help="another number: other cases where a size runs some only")


def pytest_report_header(config):
    return f"size: {config.option.size}, draw {config.option.draw}"


def pytest_configure(config):
    for name, size in SIZES.items():
        settings.register_profile(
            name,
            max_examples=size.examples,
            deadline=None,
            derandomize=True,
            suppress_health_check=[HealthCheck.function_scoped_fixture],
        )
    settings.load_profile(config.option.size)
    if config.option.size == "quick":
        rules.FLOATS = rules.FLOATS[:1]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    size = config.option.size
    if size == "whole" or any("::" in name for name in config.args):
        return
    left_out = {item for item in items if size == "quick" and item.get_closest_marker("slow")}
    left_out |= set(not_drawn(items, size, config.option.draw))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def not_drawn(items: Iterable[pytest.Item], size: str, draw: int) -> Iterable[pytest.Item]:
    """What a size leaves out of the cases of tests of which it draws some."""

    def place(item: pytest.Item) -> int:
        return zlib.crc32(f"{draw} {item.nodeid}".encode())

    drawn: dict[tuple, list[pytest.Item]] = {}
    kernels: dict[str, dict[str, list[pytest.Item]]] = {}
    for item in items:
        test, mark = item.nodeid.split("[")[0], item.get_closest_marker("drawn")
        if mark and size in mark.kwargs:
            drawn.setdefault((mark.kwargs[size], test), []).append(item)
        elif order := order_of(item):
            # what is left of the case's name without its order is the case
            kernels.setdefault(test, {}).setdefault(item.callspec.id.replace(order, ""), []).append(item)
    for (most, _), cases in drawn.items():
        yield from sorted(cases, key=place)[most:]
    for of_a_test in kernels.values():
        cases = [sorted(orders, key=place) for orders in of_a_test.values()]
        for i, case in enumerate(sorted(cases, key=lambda case: place(case[0]))):
            yield from case[SIZES[size].orders if i < SIZES[size].kernels else 0 :]


def order_of(item: pytest.Item) -> str | None:
    """The name of the order in which a test has the emulator run its kernels, if it does."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    order = next((parameters[name] for name in ("cuda", "exact_cuda") if name in parameters), "gpu")
    return None if order == "gpu" else f"{order[0]}, {'eager' if order[1] else 'late'}"
