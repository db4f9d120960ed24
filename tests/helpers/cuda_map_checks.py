"""The checks of the other CUDA kernels against the plain ops in float64: the tests', and those that must catch planted bugs."""

from unittest import mock

import numpy as np

from minunet import ops
from minunet.kernels.cuda import launch, launch_norm

from .cuda_device import EPS, near, stored, values

DTYPES = ["float32", "float16", "bfloat16"]


def half(cuda, wide, C):
    """The second half of a buffer with twice as many channels."""
    return wide[..., C:]


def in_half(cuda, a, dtype):
    """A map in the second half of a concatenation whose first half is NaN."""
    return half(cuda, cuda.array(np.concatenate([np.full(a.shape, np.nan), a], -1), dtype), a.shape[-1])


def empty_half(cuda, shape, dtype):
    *pixels, C = shape
    return half(cuda, cuda.empty((*pixels, 2 * C), dtype), C)


def batch_norm(cuda, rng, shape, dtype, relu):
    C = shape[-1]
    x, dy = (stored(rng.standard_normal(shape) + offset, dtype) for offset in (3, 0))
    gamma, beta = rng.standard_normal((2, C)).astype(np.float32).astype(float)
    y, cache, (mean, var) = ops.batch_norm.plain(x, gamma, beta)
    clip = y > 0 if relu else np.ones(y.shape, bool)
    dx, dgamma, dbeta = ops.batch_norm_backward.plain(dy * clip, cache)

    on, scale, shift = in_half(cuda, x, dtype), cuda.array(gamma, np.float32), cuda.array(beta, np.float32)
    found = launch_norm.merge_moments(launch_norm.moments(on))
    near(found[0], mean, EPS["exact"])
    near(found[1], var, EPS["exact"], 64)
    tiles, (M, moved) = launch_norm.moments(on), (launch.pixels(on), [mean + 1, var + 2])
    running = tuple(cuda.array(a, np.float32) for a in moved)
    into, unbiased = cuda.empty((3, C)), M / max(M - 1, 1)
    launch_norm.merge_moments(tiles, into=into, running=running, momentum=0.3, unbiased=unbiased)
    ops.running_average.plain(*moved, mean, var, M, momentum=0.3)
    for a, b in zip((*running, *into), (*moved, *map(values, found))):
        near(a, b, EPS["exact"], 64)
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


def norm_folded_into_a_convolution(cuda, rng, C, has_bias):
    """sum * scale + shift is the norm of sum + bias."""
    gamma, beta, mean, var, bias, x = (rng.standard_normal((6, C)) ** 2 + 0.5).astype(np.float32)
    y, _, _ = ops.batch_norm.plain((x + bias * has_bias)[None, None, None].astype(float), gamma, beta, mean, var)
    on = [cuda.array(a) for a in (mean, var, gamma, beta)]
    scale, shift, rstd = map(values, launch_norm.fold_norm(*on, cuda.array(bias) if has_bias else None, 1e-5))
    near(x * scale + shift, y.reshape(C), EPS["exact"], 16)
    near(rstd, 1 / np.sqrt(var.astype(float) + 1e-5), EPS["exact"], 4)


def moments_do_not_cancel(cuda, rng):
    x = (rng.standard_normal((1, 23, 29, 5)) + 4096).astype(np.float32)
    _, var, _ = launch_norm.merge_moments(launch_norm.moments(cuda.array(x)))
    np.testing.assert_allclose(values(var), x.astype(float).var((0, 1, 2)), rtol=1e-5)


def max_pool(cuda, rng, dtype, size, stride, shape):
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


def bilinear(cuda, rng, dtype, scale, corners, shape):
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


def soft_dice(cuda, rng, K, weighted):
    """More pixels than a block's; the cache is the plain op's, too."""
    z, labels = rng.standard_normal((2, 17, 16, K)).astype(np.float32), rng.integers(-1, K, (2, 17, 16))
    weight, class_weight = (rng.random(s).astype(np.float32) for s in (labels.shape, K))
    options = (weight, class_weight) if weighted else (None, None)
    loss, cache = ops.soft_dice.plain(
        z.astype(float), labels, *(None if a is None else a.astype(float) for a in options)
    )
    dz = ops.soft_dice_backward.plain(0.7, cache)
    on = [None if a is None else cuda.array(a) for a in (z, labels.astype(np.int32), *options)]
    p, seen, result, per_class = launch.soft_dice(*on, -1, 1.0)
    assert values(result)[1] == 0
    near(result[:1], [loss], EPS["exact"], 16)
    for found, wanted in zip((p, seen, *per_class), (cache[0], *cache[2:6])):
        near(found, wanted, EPS["exact"], 64)
    for dloss in (0.7, cuda.array(np.float32([0.7]))):
        out = cuda.empty(z.shape)
        launch.soft_dice_back(p, on[1], seen, list(per_class), dloss, out)
        near(out, dz, EPS["exact"], 256)


def cross_entropy(cuda, rng, K, weighted):
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


def head_loss(cuda, rng, dtype, C, K, weighted, pixels=(2, 17, 15)):
    """A head and both losses by one start, and by one start all their gradients: for their sum, and for either alone."""
    x, w = stored(rng.standard_normal((*pixels, C)), dtype), stored(rng.standard_normal((1, 1, C, K)) / C**0.5, dtype)
    b, labels = rng.standard_normal(K).astype(np.float32).astype(float), rng.integers(-1, K, pixels)
    weight, class_weight = ((rng.random(s) + 0.1).astype(np.float32) if weighted else None for s in (pixels, K))
    exact = [None if a is None else a.astype(float) for a in (weight, class_weight)]
    y, head = ops.conv2d.plain(x, w, b)
    ce, of_ce = ops.softmax_cross_entropy.plain(y, labels, *exact)
    dice, of_dice = ops.soft_dice.plain(y, labels, *exact, smooth=0.5)

    on, filters, bias = in_half(cuda, x, dtype), cuda.array(w[0, 0], dtype), cuda.array(b, np.float32)
    kind = np.int64 if weighted else np.int32
    truth = launch.Truth(
        cuda.array(labels.astype(kind)), *(a if a is None else cuda.array(a) for a in (weight, class_weight)), -1
    )
    z = cuda.empty(y.shape)
    with mock.patch.object(launch, "LOSS_BLOCKS", 3):  # so that a block takes more than one group of pixels
        nothing = truth._replace(labels=cuda.array(np.full(pixels, -1, kind)))
        ignored, _ = launch.head_loss(on, filters, bias, cuda.empty(y.shape), nothing, 0.5)
        one_wrong = np.where(np.arange(labels.size).reshape(pixels) == 1, K, labels).astype(kind)
        wrong, _ = launch.head_loss(on, filters, bias, z, truth._replace(labels=cuda.array(one_wrong)), 0.5)
        result, of_class = launch.head_loss(on, filters, bias, z, truth, 0.5)
    assert values(ignored)[:4].tolist() == [0, 1, 0, 0]
    assert np.isnan(values(wrong)[[0, 3]]).all() and values(wrong)[2] == 1
    near(z, y, EPS["exact"], C)
    near(result[:1], [ce], EPS["exact"], 100)
    near(result[3:4], [dice], EPS["exact"], 100)
    assert values(result)[2] == 0
    for found, wanted in zip(of_class, of_dice[3:6]):
        near(found, wanted, EPS["exact"], 64)
    scale = 300  # as in mixed precision: float16 has few numbers near 0
    for factors, now in ((200.0, 0.0), None), ((0.0, 200.0), None), ((0.5, 2.0), cuda.array(np.float32([scale]))):
        dz = ops.softmax_cross_entropy_backward.plain(factors[0], of_ce) + ops.soft_dice_backward.plain(
            factors[1], of_dice
        )
        wanted = ops.conv2d_backward.plain(dz * (1 if now is None else scale), head)
        dx = empty_half(cuda, x.shape, dtype)
        dw, db = launch.head_loss_back(on, z, truth, result, list(of_class), now, factors, filters, dx)
        near(dx, wanted[0], EPS["exact"], 256, dtype)
        near(dw, wanted[1][0, 0], EPS["exact"], 4 * labels.size)
        near(db, wanted[2], EPS["exact"], 4 * labels.size)


def moments_of_groups_do_not_cancel(cuda, rng):
    """Values around 4096: E[x^2] - mean^2 would have no correct digit in float32.

    Its channels' means differ by some 1, and lie in float32 between tiles and merging: half of their last place is 1/4096.
    """
    x = (rng.standard_normal((2, 11, 29, 6)) + rng.standard_normal(6) + 4096).astype(np.float32)
    found = launch_norm.merge_group_moments(launch_norm.moments(cuda.array(x), 2), 2, 3)
    var = x.astype(float).reshape(2, 11 * 29, 3, 2).var((1, 3))
    np.testing.assert_allclose(values(found[1])[:, ::2], (var + 1e-5) ** -0.5, rtol=1 / 4096)


def group_norm(device, rng, shape, groups, dtype, relu):
    """Forward and backward, in the second halves of concatenations, by the launchers."""
    N, H, W, C = shape
    x, dy = (stored(rng.standard_normal(shape) + offset, dtype) for offset in (3, 0))
    x = stored(x + rng.standard_normal((N, 1, 1, C)), dtype)  # images and channels of different means
    gamma, beta = rng.standard_normal((2, C)).astype(np.float32).astype(float)
    y, cache = ops.group_norm.plain(x, gamma, beta, groups)
    clip = y > 0 if relu else np.ones(y.shape, bool)
    dx, dgamma, dbeta = ops.group_norm_backward.plain(dy * clip, cache)
    of_channel = [np.repeat(a.reshape(N, groups), C // groups, 1) for a in cache[2:]]

    on, scale, shift = in_half(device, x, dtype), device.array(gamma, np.float32), device.array(beta, np.float32)
    found = launch_norm.merge_group_moments(launch_norm.moments(on, N), N, groups)
    near(found[0], of_channel[0], EPS["exact"], 4)
    near(found[1], of_channel[1], EPS["exact"], 64)
    out = empty_half(device, shape, dtype)
    launch_norm.norm(on, *found, scale, shift, out, relu)
    rounding = EPS["exact"] * (1 + 3 * np.max(of_channel[1]))  # x is off by its own last place before it is scaled
    near(out, y * clip, rounding, 4, dtype)
    assert not relu or np.abs(y).min() > 1e-5  # else rounding may clip what the reference does not
    out = empty_half(device, shape, dtype)
    sums = launch_norm.group_norm_back(in_half(device, dy, dtype), on, *found, scale, shift, out, groups, relu)
    near(out, dx, rounding, 16, dtype)
    near(sums[0], dbeta, EPS["exact"], x.size // C)
    near(sums[1], dgamma, rounding, x.size // C)
