"""The CUDA kernels beside the convolutions, against the plain ops in float64, emulated in every order, and on a GPU."""

import numpy as np
import pytest
from helpers import cuda_map_checks as check
from helpers.cuda_device import EPS, near, stored, values
from helpers.cuda_map_checks import DTYPES, empty_half, in_half

from minunet import ops, optim
from minunet.array import to_numpy
from minunet.kernels.cuda import launch, launch_norm
from minunet.train.amp import unscale

SHAPES = [(1, 17, 16, 36), (2, 5, 3, 7), (1, 1, 1, 4)]  # more than a tile of pixels and of channels; odd; tiny


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm(cuda, rng, shape, dtype, relu):
    check.batch_norm(cuda, rng, shape, dtype, relu)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_norm_with_given_statistics(cuda, rng, shape, dtype):
    C = shape[-1]
    x, dy = (stored(rng.standard_normal(shape), dtype) for _ in range(2))
    gamma, beta, mean, var = (rng.standard_normal((4, C)) ** 2 + 0.5).astype(np.float32).astype(float)
    y, cache, _ = ops.batch_norm.plain(x, gamma, beta, mean, var)
    dx, *_ = ops.batch_norm_backward.plain(dy, cache)
    rstd = cuda.array(1 / np.sqrt(var + 1e-5), np.float32)
    given = [cuda.array(mean, np.float32), rstd, *(cuda.array(a, np.float32) for a in (gamma, beta))]
    out = cuda.empty(shape, dtype)
    launch_norm.norm(cuda.array(x, dtype), *given, out, False)
    near(out, y, EPS["exact"], 16, dtype)
    launch_norm.norm_back(cuda.array(dy, dtype), cuda.array(x, dtype), *given, out, False, from_batch=False)
    near(out, dx, EPS["exact"], 16, dtype)


@pytest.mark.parametrize("C", [3, 300])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_norm_folded_into_a_convolution(cuda, rng, C, has_bias):
    check.norm_folded_into_a_convolution(cuda, rng, C, has_bias)


@pytest.mark.parametrize("C", [3, 300])
def test_running_average(cuda, rng, C):
    mean, var, batch_mean, batch_var = (rng.standard_normal((4, C)) ** 2 + 0.5).astype(np.float32)
    on = [cuda.array(a) for a in (mean, var, batch_mean, batch_var)]
    wanted = [a.astype(float) for a in (mean, var)]
    ops.running_average.plain(*wanted, batch_mean, batch_var, 6, momentum=0.3)
    launch_norm.running_average(*on, 0.3, 6 / 5)
    near(on[0], wanted[0], EPS["exact"], 4)
    near(on[1], wanted[1], EPS["exact"], 4)


def test_moments_do_not_cancel(cuda, rng):
    check.moments_do_not_cancel(cuda, rng)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_of_channels(cuda, rng, shape, dtype):
    x = stored(rng.standard_normal(shape) + 1, dtype)
    near(launch_norm.channel_sums(in_half(cuda, x, dtype)), x.sum((0, 1, 2)), EPS["exact"], 64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu(cuda, rng, shape, dtype):
    x, dy = (stored(rng.standard_normal(shape), dtype) for _ in range(2))
    out = empty_half(cuda, shape, dtype)
    launch_norm.relu(in_half(cuda, x, dtype), None, out)
    np.testing.assert_array_equal(values(out, dtype), np.maximum(x, 0))
    launch_norm.relu(in_half(cuda, x, dtype), in_half(cuda, dy, dtype), out)
    np.testing.assert_array_equal(values(out, dtype), dy * (x > 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size, stride", [(2, 2), (3, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("shape", [(1, 9, 8, 36), (2, 5, 3, 7)], ids=str)
def test_max_pool(cuda, rng, dtype, size, stride, shape):
    check.max_pool(cuda, rng, dtype, size, stride, shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale, corners", [(2, True), (2, False), (3, True), (3, False)])
@pytest.mark.parametrize("shape", [(1, 4, 5, 36), (2, 3, 1, 5), (1, 1, 2, 4)], ids=str)
def test_bilinear(cuda, rng, dtype, scale, corners, shape):
    check.bilinear(cuda, rng, dtype, scale, corners, shape)


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(cuda, rng, K, weighted):
    check.cross_entropy(cuda, rng, K, weighted)


def test_cross_entropy_counts_wrong_labels(cuda, rng):
    labels = rng.integers(0, 3, (1, 20, 20)).astype(np.int32)
    labels[0, 0, 0], labels[0, 19, 19], labels[0, 3, 4] = 3, -2, -1
    *_, result = launch.cross_entropy(
        cuda.array(np.zeros((1, 20, 20, 3), np.float32)), cuda.array(labels), None, None, -1
    )
    assert values(result)[2] == 2


def test_all_pixels_ignored(cuda):
    z, labels = cuda.array(np.zeros((1, 2, 2, 3), np.float32)), cuda.array(np.full((1, 2, 2), -1, np.int32))
    p, share, result = launch.cross_entropy(z, labels, None, None, -1)
    out = cuda.empty(z.shape)
    launch.cross_entropy_back(p, labels, share, result, cuda.array(np.float32([1])), out)
    assert values(result)[0] == 0 and (values(out) == 0).all()


@pytest.mark.parametrize("odd", [None, np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("size", [1, 300, 2000])
def test_unscale(cuda, rng, odd, size):
    """It multiplies, and one number that is not finite shows, wherever it stands."""
    g = rng.standard_normal(size).astype(np.float32)
    if odd is not None:
        g[rng.integers(size)] = odd
    on, broken = cuda.array(g), cuda.array(np.zeros(1, np.float32))
    launch.unscale(on, 2.0**-16, broken)
    np.testing.assert_array_equal(to_numpy(on), g * np.float32(2.0**-16))
    assert float(broken[0]) == (odd is not None)
    plain, said = g.copy(), np.zeros(1, np.float32)
    unscale.plain(plain, 2.0**-16, said)
    assert np.array_equal(plain, to_numpy(on), equal_nan=True) and said == to_numpy(broken)


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"weight_decay": 0.1}, {"momentum": 0.0}], ids=str)
def test_sgd(cuda, rng, options):
    p, g, v = rng.standard_normal((3, 1000)).astype(np.float32)
    on, velocity = cuda.array(p), cuda.array(v)
    full = {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0} | options
    launch.sgd(on, cuda.array(g), velocity, 0.1, *full.values())
    p, v = p.astype(float), v.astype(float)
    optim.sgd_step.plain(p, g.astype(float), v, lr=0.1, **full)
    near(on, p, EPS["exact"], 4)
    near(velocity, v, EPS["exact"], 4)


@pytest.mark.parametrize("left_out", [False, True])
def test_numbers_in_memory(cuda, rng, left_out):
    """As a recorded step finds them: the rate, Adam's corrections, the factor, and whether to leave everything as it is."""
    p, g, v, s = rng.standard_normal((4, 300)).astype(np.float32)
    s, said = s**2, [np.float32(left_out)]
    for start, numbers, memory in (
        (lambda arrays, now: launch.sgd(*arrays[:3], now, 0.9, False, 0.0), [0.1], 2),
        (
            lambda arrays, now: launch.adam(*arrays, *now, 0.9, 0.999, 1e-8, 0.0, False),
            [0.01, 1 - 0.9**3, 1 - 0.999**3],
            3,
        ),
    ):
        given = [[cuda.array(a) for a in (p, g, v, s)] for _ in range(2)]
        held = cuda.array(np.array(numbers + said, np.float32))
        start(given[0], held if memory == 2 else (None, held))
        start(given[1], 0.1 if memory == 2 else (3, 0.01))
        for found, computed, before in zip(*given, (p, g, v, s)):
            np.testing.assert_array_equal(to_numpy(found), before if left_out else to_numpy(computed))
    on, broken = cuda.array(g), cuda.array(np.zeros(1, np.float32))
    launch.unscale(on, cuda.array(np.array([0.25], np.float32)), broken)
    np.testing.assert_array_equal(to_numpy(on), g / 4)


@pytest.mark.parametrize("decay, decoupled", [(0.0, False), (0.1, False), (0.1, True)])
def test_adam(cuda, rng, decay, decoupled):
    p, g, m, s = rng.standard_normal((4, 1000)).astype(np.float32)
    s = s**2 + np.float32(1e-4)
    on, means, squares = cuda.array(p), cuda.array(m), cuda.array(s)
    launch.adam(on, cuda.array(g), means, squares, 3, 0.01, 0.9, 0.999, 1e-8, decay, decoupled)
    p, m, s = (a.astype(float) for a in (p, m, s))
    optim.adam_step.plain(p, g.astype(float), m, s, 3, lr=0.01, weight_decay=decay, decoupled=decoupled)
    near(on, p, EPS["exact"], 16)
    near(means, m, EPS["exact"], 4)
    near(squares, s, EPS["exact"], 4)
