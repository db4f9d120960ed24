"""The CUDA kernels beside the convolutions, against the plain ops in float64, emulated in every order, and on a GPU."""

import numpy as np
import pytest
from helpers import cuda_map_checks as check
from helpers.cuda_device import EPS, near, stored, values
from helpers.cuda_map_checks import DTYPES, empty_half, in_half

from minunet import ops
from minunet.kernels.cuda import launch, launch_norm

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


@pytest.mark.parametrize("K", [2, 5, 8])
@pytest.mark.parametrize("weighted", [False, True])
def test_soft_dice(cuda, rng, K, weighted):
    check.soft_dice(cuda, rng, K, weighted)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("C, K, weighted", [(64, 2, True), (7, 8, False), (40, 3, True)])
def test_head_and_losses(cuda, rng, dtype, C, K, weighted):
    check.head_loss(cuda, rng, dtype, C, K, weighted)


def test_cross_entropy_counts_wrong_labels(cuda, rng):
    labels = rng.integers(0, 3, (1, 20, 20)).astype(np.int32)
    labels[0, 0, 0], labels[0, 19, 19], labels[0, 3, 4] = 3, -2, -1
    *_, result = launch.cross_entropy(
        cuda.array(np.zeros((1, 20, 20, 3), np.float32)), cuda.array(labels), None, None, -1
    )
    assert values(result)[2] == 2
    _, _, result, _ = launch.soft_dice(
        cuda.array(np.zeros((1, 20, 20, 3), np.float32)), cuda.array(labels), None, None, -1, 1.0
    )
    assert values(result)[1] == 2 and np.isnan(values(result)[0])


def test_all_pixels_ignored(cuda):
    z, labels = cuda.array(np.zeros((1, 2, 2, 3), np.float32)), cuda.array(np.full((1, 2, 2), -1, np.int32))
    p, share, result = launch.cross_entropy(z, labels, None, None, -1)
    out = cuda.empty(z.shape)
    launch.cross_entropy_back(p, labels, share, result, cuda.array(np.float32([1])), out)
    assert values(result)[0] == 0 and (values(out) == 0).all()
