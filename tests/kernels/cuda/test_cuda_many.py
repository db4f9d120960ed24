"""The CUDA kernels that work on many arrays at once: one start for all parameters, and the results of array by array."""

import numpy as np
import pytest
from helpers import cuda_many_checks as check
from helpers.cuda_map_checks import DTYPES

from minunet import nn, optim
from minunet.array import to_numpy
from minunet.kernels.cuda import launch_many, start


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"weight_decay": 0.1}, {"momentum": 0.0}], ids=str)
def test_sgd(cuda, rng, options):
    check.sgd(cuda, rng, **options)


@pytest.mark.parametrize("decay, decoupled", [(0.0, False), (0.1, False), (0.1, True)])
def test_adam(cuda, rng, decay, decoupled):
    check.adam(cuda, rng, weight_decay=decay, decoupled=decoupled)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"momentum": 0.0}], ids=str)
def test_rmsprop(cuda, rng, options):
    check.rmsprop(cuda, rng, **options)


@pytest.mark.parametrize("share", [0.25, 2.0])
def test_clip(cuda, rng, share):
    check.clip(cuda, rng, share)


def test_averages(cuda, rng):
    check.averages(cuda, rng)


@pytest.mark.parametrize("odd", [None, np.inf, -np.inf, np.nan])
def test_unscale(cuda, rng, odd):
    check.unscale(cuda, rng, odd)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cast(cuda, rng, dtype):
    check.cast(cuda, rng, dtype)


@pytest.mark.parametrize("left_out", [False, True])
def test_numbers_in_memory(cuda, rng, left_out):
    """As a recorded step finds them: the rate, and whether to leave everything as it is; Adam's are in `check.adam`."""
    columns = check.numbers(rng, 3)
    for steps, more in ((launch_many.sgd_steps, []), (launch_many.rmsprop_steps, [[a**2 for a in columns[0]]])):
        before, results = [*columns[:2], *more, columns[2]], []
        for lr in (0.1, cuda.array(np.array([0.1, left_out], np.float32))):
            results.append([check.on(cuda, column) for column in before])
            steps(*results[-1], lr)
        check.same(results[1], before if left_out else results[0])
    (g, _, _), broken = columns, cuda.array(np.zeros(1, np.float32))
    given = check.on(cuda, g)
    launch_many.unscale(given, cuda.array(np.array([0.25], np.float32)), broken)
    check.same([given], [[a / 4 for a in g]])


def many_layers(arrays):
    """A network of so many parameters."""
    rng = np.random.default_rng(0)
    return nn.Sequential(**{f"conv{i}": nn.Conv2d(1 + i % 3, 2, 1, rng=rng) for i in range(arrays // 2)})


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop])
def test_one_start_for_all_parameters(gpu, kind, monkeypatch):
    """And for more than a table holds two; each parameter becomes what it becomes alone, to the last bit."""
    started, run = [], start.run
    monkeypatch.setattr(launch_many, "run", lambda *a, **k: [started.append(a[1]), run(*a, **k)])
    for arrays, rates, starts in (
        (launch_many.ARRAYS, {}, 1),
        (launch_many.ARRAYS + 2, {}, 2),
        (6, {"conv0.w": 0.1}, 2),
    ):
        together, alone = (many_layers(arrays).convert(gpu.asarray) for _ in range(2))
        optimizers = [kind(m, 0.1, weight_decay=0.1) for m in (together, alone)]
        for optimizer in optimizers:
            optimizer.rates = rates
            for path, m in optimizer.model.modules():
                rng = np.random.default_rng(len(path))
                m.accumulate(**{n: gpu.asarray(rng.standard_normal(p.shape, np.float32)) for n, p in m.params.items()})
        started.clear()
        optimizers[0].step()
        assert len(started) == starts
        optimizers[1].steps, grads = 1, optimizers[1].gradients()
        for path in grads:
            monkeypatch.setattr(optimizers[1], "gradients", lambda one={path: grads[path]}: one)
            optimizers[1].apply()
        for path, p in together.named_params().items():
            np.testing.assert_array_equal(to_numpy(p), to_numpy(alone.named_params()[path]), path)
            assert np.isfinite(to_numpy(p)).all()


def test_a_table_fits_into_a_kernels_arguments():
    """4 KB, and the numbers of the longest argument list besides; tables.cuh compares with the same size."""
    assert launch_many.TABLE.itemsize == 3848 <= 4096 - 8 - 8 * 4


def test_what_a_table_cannot_hold_is_for_the_plain_rule(gpu):
    """Another dtype, another order in memory, a list too short."""
    from minunet.kernels import cuda as kernels

    p, g, v = ([gpu.asarray(np.ones((3, 4), np.float32)) for _ in range(2)] for _ in range(3))
    find = kernels.kernel_for
    assert find("sgd_steps", p, g, v, 0.1) and find("unscale", g, 0.5, gpu.asarray(np.zeros(1, np.float32)))
    assert not find("sgd_steps", [p[0], p[1].T], g, v, 0.1)
    assert not find("sgd_steps", p, g[:1], v, 0.1) and not find("sgd_steps", [], [], [], 0.1)
    assert not find("sgd_steps", [a.astype(np.float64) for a in p], g, v, 0.1)
    assert not find("adam_steps", p, g, v, v, None, 0.1) and find("adam_steps", p, g, v, v, 1, 0.1)
