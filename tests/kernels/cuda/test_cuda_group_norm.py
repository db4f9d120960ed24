"""Group norm's CUDA kernels against the plain op in float64, emulated in every order, and on a GPU."""

import os

import numpy as np
import pytest
from helpers.cuda_device import EPS, device, near, stored, values
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cuda_pointwise import DTYPES, empty_half, in_half

from minunet import ops
from minunet.kernels.cuda import launch_norm, rules
from minunet.kernels.cuda import ops as cuda_ops

EXAMPLES = min(int(os.environ.get("MINUNET_EXAMPLES", 40)), 40)
CASES = [
    ((2, 9, 30, 70), 2),  # more than a tile of pixels an image, more than 32 channels a group
    ((1, 17, 16, 36), 9),
    ((3, 5, 3, 6), 6),  # instance norm
    ((2, 1, 3, 5), 1),  # layer norm
]


def check(device, rng, shape, groups, dtype, relu):
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
    found = launch_norm.merge_group_moments(launch_norm.moments(on, N), N, H * W, groups, launch_norm.TILE)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape, groups", CASES, ids=str)
def test_group_norm(cuda, rng, shape, groups, dtype, relu):
    check(cuda, rng, shape, groups, dtype, relu)


def test_moments_of_groups_do_not_cancel(cuda, rng):
    """Values around 4096: E[x^2] - mean^2 would have no correct digit in float32.

    Its channels' means differ by some 1, and lie in float32 between tiles and merging: half of their last place is 1/4096.
    """
    x = (rng.standard_normal((2, 11, 29, 6)) + rng.standard_normal(6) + 4096).astype(np.float32)
    found = launch_norm.merge_group_moments(launch_norm.moments(cuda.array(x), 2), 2, 11 * 29, 3, launch_norm.TILE)
    var = x.astype(float).reshape(2, 11 * 29, 3, 2).var((1, 3))
    np.testing.assert_allclose(values(found[1])[:, ::2], (var + 1e-5) ** -0.5, rtol=1 / 4096)


@settings(max_examples=EXAMPLES)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    groups=st.integers(1, 5),
    width=st.sampled_from([1, 2, 3, 4, 8, 33]),
    of_conv=st.booleans(),
    seed=st.integers(0, 99),
)
def test_twins_of_any_shape(shape, groups, width, of_conv, seed):
    """The twins against the plain op, also with the moments that a convolution left, and their caches in the plain backward."""
    rng, C = np.random.default_rng(seed), groups * width
    x, dy = rng.standard_normal((2, *shape, C)).astype(np.float32)
    gamma, beta = rng.standard_normal((2, C)).astype(np.float32)
    w = (rng.standard_normal((1, 1, C, C)) / C + np.eye(C)).astype(np.float32)
    assert rules.CUDA_KERNELS["group_norm"](x, gamma, beta, groups)
    with device(("shuffled", False), exact=True):
        if of_conv:
            x = fused_conv(x, w)
        y, cache = cuda_ops.group_norm(x, gamma, beta, groups)
        raw = np.asarray(x)
        exact, exact_cache = ops.group_norm.plain(raw.astype(float), gamma.astype(float), beta.astype(float), groups)
        back = cuda_ops.group_norm_backward(dy, cache), cuda_ops.group_norm_backward(dy, plain(cache))
    wanted = ops.group_norm_backward.plain(dy.astype(float), exact_cache)
    eps = EPS["exact"] * (1 + 3 * np.max(exact_cache[3]))
    np.testing.assert_allclose(y, exact, atol=64 * eps * np.abs(exact).max(), rtol=0)
    for found in (*back, ops.group_norm_backward.plain(dy, cache)):
        for a, b in zip(found, wanted):
            np.testing.assert_allclose(a, b, atol=256 * eps * np.max(exact_cache[3]) * max(np.abs(b).max(), 1), rtol=0)


def fused_conv(x, w):
    """A convolution that has not started."""
    from minunet.kernels.cuda.lazy_maps import Convolved

    return Convolved(x, w, None, (*x.shape[:3], w.shape[3]), 0)


def plain(cache):
    """The cache as the plain forward leaves it."""
    x, gamma, mean, rstd = cache
    return x, gamma, np.ascontiguousarray(mean), np.ascontiguousarray(rstd)


def test_rules():
    x, scale = np.zeros((2, 3, 3, 6), np.float32), np.zeros(6, np.float32)
    fits = rules.CUDA_KERNELS["group_norm"]
    assert fits(x, scale, scale, 3) and fits(x.astype("f2"), scale, scale, 2, eps=1e-3)
    assert (
        not fits(x, scale, scale, 4) and not fits(x.astype(float), scale, scale, 3) and not fits(x[:0], scale, scale, 3)
    )
