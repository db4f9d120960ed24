"""The CUDA kernels beside the convolutions, against the plain ops in float64, emulated in every order, and on a GPU."""

import numpy as np
import pytest
from helpers.cuda_device import EPS, near, stored, values

from minunet import ops, optim
from minunet.array import to_numpy
from minunet.kernels.cuda import launch, launch_norm
from minunet.train.amp import unscale

DTYPES = ["float32", "float16", "bfloat16"]
SHAPES = [(1, 17, 16, 36), (2, 5, 3, 7), (1, 1, 1, 4)]  # more than a tile of pixels and of channels; odd; tiny


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


def half(cuda, wide, C):
    """The second half of a buffer with twice as many channels."""
    return wide[..., C:]


def in_half(cuda, a, dtype):
    """A map in the second half of a concatenation whose first half is NaN."""
    return half(cuda, cuda.array(np.concatenate([np.full(a.shape, np.nan), a], -1), dtype), a.shape[-1])


def empty_half(cuda, shape, dtype):
    *pixels, C = shape
    return half(cuda, cuda.empty((*pixels, 2 * C), dtype), C)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm(cuda, rng, shape, dtype, relu):
    C = shape[-1]
    x, dy = (stored(rng.standard_normal(shape) + offset, dtype) for offset in (3, 0))
    gamma, beta = rng.standard_normal((2, C)).astype(np.float32).astype(float)
    y, cache, (mean, var) = ops.batch_norm.plain(x, gamma, beta)
    clip = y > 0 if relu else np.ones(y.shape, bool)
    dx, dgamma, dbeta = ops.batch_norm_backward.plain(dy * clip, cache)

    on, scale, shift = in_half(cuda, x, dtype), cuda.array(gamma, np.float32), cuda.array(beta, np.float32)
    found = launch_norm.merge_moments(launch_norm.moments(on), launch.pixels(on), launch_norm.TILE)
    near(found[0], mean, EPS["exact"])
    near(found[1], var, EPS["exact"], 64)
    out = empty_half(cuda, shape, dtype)
    launch_norm.norm(on, found[0], found[2], scale, shift, out, relu)
    rounding = EPS["exact"] * (1 + 3 / np.sqrt(var.min() + 1e-5))  # x is off by its own last place before it is scaled
    near(out, y * clip, rounding, 4, dtype)
    if np.prod(shape[:3]) == 1:
        return  # xhat is 0, and so are the gradients
    sharp = np.abs(y).min() > 1e-5 or not relu
    out = empty_half(cuda, shape, dtype)
    sums = launch_norm.norm_back(in_half(cuda, dy, dtype), on, found[0], found[2], scale, shift, out, relu)
    assert sharp
    near(out, dx, rounding, 16, dtype)
    near(sums[0], dbeta, EPS["exact"], x.size // C)
    near(sums[1], dgamma, rounding, x.size // C)


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
    """sum * scale + shift is the norm of sum + bias."""
    gamma, beta, mean, var, bias, x = (rng.standard_normal((6, C)) ** 2 + 0.5).astype(np.float32)
    y, _, _ = ops.batch_norm.plain((x + bias * has_bias)[None, None, None].astype(float), gamma, beta, mean, var)
    on = [cuda.array(a) for a in (mean, var, gamma, beta)]
    scale, shift, rstd = map(values, launch_norm.fold_norm(*on, cuda.array(bias) if has_bias else None, 1e-5))
    near(x * scale + shift, y.reshape(C), EPS["exact"], 16)
    near(rstd, 1 / np.sqrt(var.astype(float) + 1e-5), EPS["exact"], 4)


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
    x = (rng.standard_normal((1, 23, 29, 5)) + 4096).astype(np.float32)
    _, var, _ = launch_norm.merge_moments(launch_norm.moments(cuda.array(x)), 23 * 29, launch_norm.TILE)
    np.testing.assert_allclose(values(var), x.astype(float).var((0, 1, 2)), rtol=1e-5)


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
    x = stored(rng.integers(-3, 4, shape), dtype)  # many ties
    y, cache = ops.max_pool2d.plain(x, size, stride)
    dy, before = stored(rng.standard_normal(y.shape), dtype), stored(rng.standard_normal(shape), dtype)
    dx = ops.max_pool2d_backward.plain(dy, cache)
    out, winner = empty_half(cuda, y.shape, dtype), cuda.empty(y.shape, np.uint8)
    launch.max_pool(in_half(cuda, x, dtype), out, winner, size, stride)
    np.testing.assert_array_equal(values(out, dtype), y)
    np.testing.assert_array_equal(values(winner, "uint8"), cache[0])
    out = empty_half(cuda, shape, dtype)
    launch.max_pool_back(in_half(cuda, dy, dtype), winner, out, size, stride)
    near(out, dx, EPS["exact"], size**2, dtype)
    plus = in_half(cuda, before, dtype)
    for out in (empty_half(cuda, shape, dtype), plus):  # plus another map, plus what is there
        launch.max_pool_back(in_half(cuda, dy, dtype), winner, out, size, stride, plus=plus)
        near(out, before + dx, EPS["exact"], size**2, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale, corners", [(2, True), (2, False), (3, True), (3, False)])
@pytest.mark.parametrize("shape", [(1, 4, 5, 36), (2, 3, 1, 5), (1, 1, 2, 4)], ids=str)
def test_bilinear(cuda, rng, dtype, scale, corners, shape):
    x = stored(rng.standard_normal(shape), dtype)
    y, cache = ops.upsample_bilinear.plain(x, scale, corners)
    dy = stored(rng.standard_normal(y.shape), dtype)
    dx = ops.upsample_bilinear_backward.plain(dy, cache)
    out = empty_half(cuda, y.shape, dtype)
    launch.bilinear(in_half(cuda, x, dtype), out, scale, corners)
    near(out, y, EPS["exact"], 4, dtype)
    out = empty_half(cuda, shape, dtype)
    launch.bilinear_back(in_half(cuda, dy, dtype), out, scale, corners)
    near(out, dx, EPS["exact"], 4 * scale**2, dtype)


@pytest.mark.parametrize("K", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(cuda, rng, K, weighted):
    shape = (2, 13, 11)
    z, labels = 4 * rng.standard_normal((*shape, K)).astype(np.float32), rng.integers(-1, K, shape).astype(np.int32)
    z[0, 0, 0] = [100, *[-100] * (K - 1)]  # exp would overflow
    weight = rng.random(shape).astype(np.float32) if weighted else None
    classes = rng.random(K).astype(np.float32) if weighted else None
    loss, cache = ops.softmax_cross_entropy.plain(z.astype(float), labels, weight, classes)
    dz = ops.softmax_cross_entropy_backward.plain(0.7, cache)
    maps = [None if a is None else cuda.array(a) for a in (weight, classes)]
    on, classes_of = cuda.array(z), cuda.array(labels)
    p, share, result = launch.cross_entropy(on, classes_of, *maps, -1)
    near(p, cache[0], EPS["exact"], 100)
    near(result[:1], [loss], EPS["exact"], 100)
    assert values(result)[2] == 0
    out = cuda.empty(z.shape)
    launch.cross_entropy_back(p, classes_of, share, result, cuda.array(np.float32([0.7])), out)
    near(out, dz, EPS["exact"], 100)


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
    optim.sgd_step.plain(p, g.astype(float), v, rate=0.1, **full)
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
    optim.adam_step.plain(p, g.astype(float), m, s, 3, rate=0.01, weight_decay=decay, decoupled=decoupled)
    near(on, p, EPS["exact"], 16)
    near(means, m, EPS["exact"], 4)
    near(squares, s, EPS["exact"], 4)
