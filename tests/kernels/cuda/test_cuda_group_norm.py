"""Group norm's CUDA kernels against the plain op in float64, emulated in every order, and on a GPU."""

import functools

import numpy as np
import pytest
from helpers import cuda_map_checks as check
from helpers.cuda_device import EPS, device
from helpers.cuda_map_checks import DTYPES
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st

from minunet import ops
from minunet.kernels.cuda import kernel_for
from minunet.kernels.cuda import ops as cuda_ops

CASES = [
    ((2, 9, 30, 70), 2),  # more than a tile of pixels an image, more than 32 channels a group
    ((1, 17, 16, 36), 9),
    ((3, 5, 3, 6), 6),  # instance norm
    ((2, 1, 3, 5), 1),  # layer norm
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape, groups", CASES, ids=str)
def test_group_norm(cuda, rng, shape, groups, dtype, relu):
    check.group_norm(cuda, rng, shape, groups, dtype, relu)


def test_moments_of_groups_do_not_cancel(cuda, rng):
    check.moments_of_groups_do_not_cancel(cuda, rng)


@examples(40)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    groups=st.integers(1, 5),
    width=st.sampled_from([1, 2, 3, 4, 8, 33]),
    of_conv=st.booleans(),
    seed=st.integers(0, 99),
)
def test_kernels_of_any_shape(shape, groups, width, of_conv, seed):
    """The kernels against the plain op, also with a convolution's moments, and their caches in the plain backward."""
    rng, C = np.random.default_rng(seed), groups * width
    x, dy = rng.standard_normal((2, *shape, C)).astype(np.float32)
    gamma, beta = rng.standard_normal((2, C)).astype(np.float32)
    w = (rng.standard_normal((1, 1, C, C)) / C + np.eye(C)).astype(np.float32)
    assert kernel_for("group_norm", x, gamma, beta, groups)
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
    fits = functools.partial(kernel_for, "group_norm")
    assert fits(x, scale, scale, 3) and fits(x.astype("f2"), scale, scale, 2, eps=1e-3)
    assert (
        not fits(x, scale, scale, 4) and not fits(x.astype(float), scale, scale, 3) and not fits(x[:0], scale, scale, 3)
    )
