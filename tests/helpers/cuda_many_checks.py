"""Checks of the kernels that work on many arrays at once, for their tests and for planted bugs.

They compare with the plain rules, array by array, in float64.
"""

from unittest import mock

import numpy as np

from minunet import optim
from minunet.array import to_numpy
from minunet.kernels.cuda import launch_many
from minunet.train import amp

from .cuda_device import EPS, near, stored

SHAPES = [(3, 2, 5), (1,), (launch_many.CHUNK + 1,), (7, 400), (2, launch_many.CHUNK // 2), (9,)]
"""Of several chunks, of exactly one, of one number."""

few_blocks = mock.patch.multiple(launch_many, BLOCKS=3, ARRAYS=4)
"""Fewer than there are chunks, as with large arrays; and two tables, as with many."""


def numbers(rng, count=1):
    """Random arrays of all shapes, in float32: lists of them, one for each of `count` columns."""
    return [[rng.standard_normal(shape).astype(np.float32) for shape in SHAPES] for _ in range(count)]


def on(device, arrays):
    return [device.array(a) for a in arrays]


def agree(found, wanted, terms):
    for a, b in zip(found, wanted, strict=True):
        near(a, b, EPS["exact"], terms)


def _step(device, columns, start, rule, terms):
    """Start a kernel on columns of arrays; the plain rule on each row, in float64, must leave the same."""
    given = [on(device, column) for column in columns]
    start(*given)
    wanted = [[a.astype(float) for a in column] for column in columns]
    for row in zip(*wanted):
        rule(*row)
    for found, exact in zip(given, wanted):
        agree(found, exact, terms)
    return given


@few_blocks
def sgd(device, rng, **options):
    full = {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0} | options
    _step(
        device, numbers(rng, 3), lambda *c: launch_many.sgd_steps(*c, 0.1, *full.values()),
        lambda *row: optim.sgd_step.plain(*row, 0.1, **full), 4,
    )  # fmt: skip


@few_blocks
def adam(device, rng, **options):
    """With its numbers given, in memory, and with the flag in memory that leaves the step out."""
    full = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False} | options
    p, g, m, s = numbers(rng, 4)
    columns = [p, g, m, [a**2 + np.float32(1e-4) for a in s]]
    computed = _step(
        device, columns, lambda *c: launch_many.adam_steps(*c, 3, 0.01, *full.values()),
        lambda *row: optim.adam_step.plain(*row, 3, lr=0.01, **full), 16,
    )  # fmt: skip
    for left_out in (0, 1):
        given = [on(device, column) for column in columns]
        held = device.array(np.array([0.01, 1 - 0.9**3, 1 - 0.999**3, left_out], np.float32))
        launch_many.adam_steps(*given, None, held, *full.values())
        same(given, columns if left_out else computed)


@few_blocks
def rmsprop(device, rng, **options):
    full = {"momentum": 0.9, "decay": 0.99, "eps": 1e-8, "weight_decay": 0.0} | options
    p, g, s, v = numbers(rng, 4)
    _step(
        device, [p, g, [a**2 + np.float32(1e-4) for a in s], v],
        lambda *c: launch_many.rmsprop_steps(*c, 0.01, *full.values()),
        lambda *row: optim.rmsprop_step.plain(*row, lr=0.01, **full), 16,
    )  # fmt: skip


def same(columns, wanted):
    """To the last bit."""
    for column, exact in zip(columns, wanted, strict=True):
        for a, b in zip(column, exact, strict=True):
            np.testing.assert_array_equal(to_numpy(a), to_numpy(b))


@few_blocks
def clip(device, rng, share):
    """To this share of the norm; from 1 on nothing changes."""
    (grads,) = numbers(rng)
    norm = np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads))
    given = on(device, grads)
    found = launch_many.clip(given, float(norm * share))
    assert found.shape == () and abs(float(found) - norm) < 1e-6 * norm
    agree(given, [g.astype(float) * min(share, 1) for g in grads], 4)


@few_blocks
def averages(device, rng):
    columns = numbers(rng, 2)
    _step(
        device, columns, lambda a, p: launch_many.move_averages(a, p, 0.9),
        lambda a, p: optim.move_averages.plain([a], [p], 0.9), 4,
    )  # fmt: skip


@few_blocks
def unscale(device, rng, odd):
    """It multiplies, and one number that is not finite shows, wherever it stands."""
    (grads,) = numbers(rng)
    if odd is not None:
        g = grads[rng.integers(len(grads))].reshape(-1)
        g[rng.integers(g.size)] = odd
    given, broken = on(device, grads), device.array(np.zeros(1, np.float32))
    launch_many.unscale(given, 2.0**-16, broken)
    plain, said = [g.copy() for g in grads], np.zeros(1, np.float32)
    amp.unscale.plain(plain, 2.0**-16, said)
    same([given], [plain])
    assert float(broken[0]) == said[0] == (odd is not None)


@few_blocks
def cast(device, rng, dtype):
    (arrays,) = numbers(rng)
    halves = [device.empty(a.shape, dtype) for a in arrays]
    launch_many.cast(on(device, arrays), halves)
    for half, a in zip(halves, arrays):
        near(half, stored(a, dtype), 0, dtype="float32" if dtype == "float32" else dtype)
