"""Winograd's convolution against the plain one: any shape, its accuracy, and when it is chosen.

Its transforms subtract numbers larger than their results, so its errors are about ten times a direct sum's: FACTOR * eps of
the largest value, whatever the number of channels (with random signs the error and the value grow alike).
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
from helpers.sizes import examples, only_whole
from hypothesis import example, given
from hypothesis import strategies as st

import minunet
from minunet import ops
from minunet.kernels.cpu import memory
from minunet.kernels.cpu import winograd as cpu_winograd
from minunet.kernels.cpu import winograd_matrices as matrices
from minunet.kernels.cpu.epilogues import Output
from minunet.kernels.cpu.launch import set_threads, workers
from minunet.kernels.cpu.simd import lanes

FACTOR = 40
relaxed = examples(60)
dtypes = st.sampled_from([np.float32, *only_whole(np.float64)])  # no network in float64 uses these kernels
channel_counts = st.one_of(st.integers(1, 20), st.sampled_from([31, 33, 64, 65, 130]))


def numbers(rng, shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def relative_error(found, exact):
    """Largest error over the largest value."""
    assert found.shape == exact.shape
    return np.abs(found - exact).max() / np.abs(exact).max()


def exactly(x, w, b, dy, pads):
    """y, dx and dw by the plain op, in a wider dtype."""
    wide = np.longdouble if x.dtype == np.float64 else np.float64
    y, cache = ops.conv2d.plain(x.astype(wide), w.astype(wide), None if b is None else b.astype(wide), padding=pads)
    return y, *ops.conv2d_backward.plain(dy.astype(wide), cache)[:2]


def by_winograd(x, w, b, dy, pads):
    """y, dx and dw, each in an array full of NaN: what is not written shows."""
    (top, _), (left, _) = pads
    y, dx = np.full(dy.shape, np.nan, x.dtype), np.full(x.shape, np.nan, x.dtype)
    before = [a.copy() for a in (x, w, dy)]
    cpu_winograd.convolution(x, w, b, [Output(y)], top, left)
    cpu_winograd.convolution(dy, w, None, [Output(dx)], 2 - top, 2 - left, turned=True)
    dw = cpu_winograd.weight_gradient(x, dy, top, left)
    for a, its in zip((x, w, dy), before):
        np.testing.assert_array_equal(a, its)
    assert dw.dtype == x.dtype
    return y, dx, dw


def make(rng, N, H, W, C, K, pads, dtype=np.float32):
    x, w = numbers(rng, (N, H, W, C), dtype), numbers(rng, (3, 3, C, K), dtype)
    OH, OW = (n + sum(p) - 2 for n, p in zip((H, W), pads))
    return x, w, numbers(rng, K, dtype), numbers(rng, (N, OH, OW, K), dtype)


# ---- the answers -----------------------------------------------------------------------------------------------------

sides = st.tuples(st.integers(0, 5), st.integers(0, 5))


@relaxed
@given(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13), channel_counts, channel_counts,
       st.one_of(st.sampled_from([((1, 1), (1, 1)), ((0, 0), (0, 0))]), st.tuples(sides, sides)),
       st.booleans(), dtypes)  # fmt: skip
@example(1, 1, 1, 1, 1, ((1, 1), (1, 1)), True, np.float32)
@example(2, 50, 47, 9, 70, ((1, 1), (1, 1)), True, np.float32)  # filters transformed ahead, in two panels
@example(2, 50, 47, 130, 17, ((1, 1), (1, 1)), False, np.float32)  # in three slices
def test_any_shape(N, H, W, C, K, pads, bias, dtype):
    H, W = (max(n, 3 - sum(p)) for n, p in zip((H, W), pads))
    x, w, b, dy = make(np.random.default_rng(0), N, H, W, C, K, pads, dtype)
    b = b if bias else None
    for found, exact in zip(by_winograd(x, w, b, dy, pads), exactly(x, w, b, dy, pads)):
        assert relative_error(found, exact) <= FACTOR * np.finfo(dtype).eps


@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 0), ((0, 3), (2, 1))])
def test_through_the_op(padding, rng):
    """The op, its cache and its gradients, where Winograd is chosen for all three passes."""
    x, w, b, _ = make(rng, 2, 19, 22, 33, 40, ((1, 1), (1, 1)))
    y, cache = ops.conv2d(x, w, b, padding=padding)
    plain, its_cache = ops.conv2d.plain(x.astype(float), w.astype(float), b.astype(float), padding=padding)
    assert cache[2:] == its_cache[2:]
    assert cache[0] is x
    assert cache[1] is w
    dy = numbers(rng, y.shape)
    gradients = ops.conv2d_backward.plain(dy.astype(float), its_cache)
    for found, exact in zip((y, *ops.conv2d_backward(dy, cache)), (plain, *gradients)):
        assert found.dtype == np.float32
        assert relative_error(found, exact) <= FACTOR * np.finfo(np.float32).eps


def test_accuracy():
    """At most 5e-6 of the largest value for 128 to 128 channels on a 64x64 map, standard-normal input, He weights."""
    rng, pads = np.random.default_rng(0), ((1, 1), (1, 1))
    x, w, b, dy = make(rng, 1, 64, 64, 128, 128, pads)
    w *= np.float32((2 / (9 * 128)) ** 0.5)
    for found, exact in zip(by_winograd(x, w, None, dy, pads), exactly(x, w, None, dy, pads)):
        assert relative_error(found, exact) <= 5e-6


def test_the_matrices():
    """Exact with integers: the one-dimensional algorithm, and the constants are what the transforms' file says."""
    BT, G, AT = (np.array(m) for m in (matrices.BT, matrices.G, matrices.AT))
    d, g = np.arange(1.0, 7) ** 2, np.array([3.0, -1, 2])
    np.testing.assert_allclose(AT @ ((BT @ d) * (G @ g)), np.correlate(d, g), rtol=1e-13)
    points = np.array([0, 1, -1, 1 / 2, -2])
    for n, a in enumerate(points):
        others = np.delete(points, n)
        np.testing.assert_allclose(BT[n], [*np.poly(others)[::-1], 0])
        np.testing.assert_allclose(G[n], a ** np.arange(3) / np.prod(a - others))
        np.testing.assert_allclose(AT[:, n], a ** np.arange(4))
    np.testing.assert_allclose(BT[5], np.poly(points)[::-1])


@pytest.mark.parametrize(("steps", "whole"), [("BT_STEPS", "BT"), ("AT_STEPS", "AT")])
def test_the_sparser_steps(steps, whole):
    """Their product is the matrix, to the last digit, and that of their transposes its transpose."""
    steps, T = getattr(matrices, steps), np.array(getattr(matrices, whole))
    np.testing.assert_array_equal(functools.reduce(np.matmul, map(np.array, steps)), T)
    np.testing.assert_array_equal(functools.reduce(np.matmul, map(np.array, matrices.transposed(steps))), T.T)


def test_nothing_in():
    x, w = np.zeros((0, 8, 8, 16), np.float32), np.ones((3, 3, 16, 5), np.float32)
    y = np.zeros((0, 8, 8, 5), np.float32)
    cpu_winograd.convolution(x, w, None, [Output(y)], 1, 1)
    assert not cpu_winograd.weight_gradient(x, y, 1, 1).any()


def test_lanes_without_a_channel_compute_with_zeros(rng):
    """Not with what the scratch memory held: a product with denormal numbers takes some thirty times as long."""
    x, w, _, dy = make(rng, 1, 9, 9, 8, 2, ((1, 1), (1, 1)))
    to, width = [Output(np.empty_like(dy))], lanes(x.dtype)
    cpu_winograd.convolution(x, w, None, to, 1, 1)
    for held in memory._scratch.values():
        held.fill(np.nan)
    cpu_winograd.convolution(x, w, None, to, 1, 1)
    made = memory._scratch["filters", x.dtype][: workers() * 36 * 9 * width].reshape(-1, 36, 9, width)
    points = made[-1]  # by the last thread, since there is one item; the ninth row is a gap
    assert not points[:, :8, 2:].any()
    assert np.isfinite(points[:, :8]).all()


# ---- the same every time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 16, 16, 130, 130), (2, 50, 50, 20, 70)])
def test_same_result_every_time_and_for_any_number_of_threads(shape, rng):
    pads = ((1, 1), (1, 1))
    arguments = (*make(rng, *shape, pads), pads)
    first, before = by_winograd(*arguments), workers()
    for held in memory._scratch.values():
        held[:] = np.nan  # nothing may be left over from an earlier call
    try:
        for threads in (before, 1):
            set_threads(threads)
            for a, b in zip(by_winograd(*arguments), first):
                np.testing.assert_array_equal(a, b)
    finally:
        set_threads(before)


def test_results_are_the_callers_own(rng):
    x, w, b, dy = make(rng, 1, 20, 20, 16, 16, ((1, 1), (1, 1)))
    y, cache = ops.conv2d(x, w, b)
    results = [y, *ops.conv2d_backward(dy, cache)[:2]]
    copies = [a.copy() for a in results]
    y2, cache = ops.conv2d(2 * x, w, b)
    ops.conv2d_backward(3 * dy, cache)
    for a, b in zip(results, copies):
        np.testing.assert_array_equal(a, b)
        assert not any(np.shares_memory(a, held) for held in memory._scratch.values())


def test_scratch_grows_and_stays():
    small = memory.scratch("test", (3, 5), np.float32)
    assert small.shape == (3, 5)
    assert np.shares_memory(small, memory.scratch("test", (2, 7), np.float32))
    large = memory.scratch("test", (100, 100), np.float32)
    assert np.shares_memory(large, memory.scratch("test", (1,), np.float32))
    assert not np.shares_memory(large, memory.scratch("test", (1,), np.float64))
    assert np.shares_memory(large, memory.scratch("test", (3, 5), np.float32))  # which had been given before it grew
    assert large.__array_interface__["data"][0] % memory.LINE == 0


# ---- the choice ------------------------------------------------------------------------------------------------------


def chosen(monkeypatch, x_shape, w_shape, dtype=np.float32, **options):
    """Which of forward, data gradient and weight gradient went to Winograd."""
    seen = []
    for name in ("convolution", "weight_gradient"):
        real = getattr(cpu_winograd, name)

        def spy(*args, real=real, name=name, **how):
            seen.append("dx" if how.get("turned") else {"convolution": "y", "weight_gradient": "dw"}[name])
            return real(*args, **how)

        monkeypatch.setattr(cpu_winograd, name, spy)
    y, cache = ops.conv2d(np.ones(x_shape, dtype), np.ones(w_shape, dtype), **options)
    if options.get("stride", 1) == 1:
        ops.conv2d_backward(y, cache)
    return seen


@pytest.mark.parametrize(("H", "C", "K"), [(64, 16, 16), (64, 64, 64), (32, 64, 128), (16, 128, 256), (16, 512, 256)])
def test_u_net_layers_are_winograds(monkeypatch, H, C, K):
    assert chosen(monkeypatch, (1, H, H, C), (3, 3, C, K)) == ["y", "dw", "dx"]
    with minunet.use("reference"):
        assert chosen(monkeypatch, (1, H, H, C), (3, 3, C, K)) == []


def test_few_tiles_pay_with_many_channels(monkeypatch):
    """Not for the weight gradient, and not where tiles reach over the edge."""
    assert chosen(monkeypatch, (1, 8, 8, 256), (3, 3, 256, 256)) == ["y", "dx"]
    for x in ((1, 8, 7, 256), (3, 4, 4, 256), (1, 8, 8, 128)):
        assert chosen(monkeypatch, x, (3, 3, x[3], 256)) == (["dx"] if x[3] == 128 else [])


def test_a_first_layer_is_direct(monkeypatch):
    assert chosen(monkeypatch, (1, 32, 32, 3), (3, 3, 3, 16)) == ["dx"]


@pytest.mark.parametrize(
    ("x", "dilation", "padding"),
    [
        ((1, 16, 16, 19), 2, "same"),
        ((2, 16, 18, 17), 3, 3),
        ((1, 16, 16, 16), 4, 4),
        ((1, 23, 20, 16), 2, ((4, 3), (0, 1))),
    ],
)
def test_dilations_are_small_maps(rng, monkeypatch, x, dilation, padding):
    x, w, b = numbers(rng, x), numbers(rng, (3, 3, x[3], 20)), numbers(rng, 20)
    assert chosen(monkeypatch, x.shape, w.shape, dilation=dilation, padding=padding) == ["y", "dw", "dx"]
    y, cache = ops.conv2d(x, w, b, 1, padding, dilation)
    dy = numbers(rng, y.shape)
    y_exact, exact_cache = ops.conv2d.plain(*(a.astype(np.float64) for a in (x, w, b)), 1, padding, dilation)
    dx_exact, dw_exact, _ = ops.conv2d_backward.plain(dy.astype(np.float64), exact_cache)
    dx, dw, _ = ops.conv2d_backward(dy, cache)
    for found, exact in ((y, y_exact), (dx, dx_exact), (dw, dw_exact)):
        assert relative_error(found, exact) < FACTOR * np.finfo(np.float32).eps


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((1, 8, 8, 16), (3, 3, 16, 16), {}),
        ((9, 1, 1, 16), (3, 3, 16, 16), {}),
        ((1, 32, 32, 16), (3, 3, 16, 16), {"dilation": 2, "padding": 1}),
        ((1, 16, 16, 16), (3, 3, 16, 16), {"dilation": 6}),
        ((1, 32, 32, 16), (3, 3, 16, 16), {"stride": 2}),
        ((1, 32, 32, 16), (3, 3, 8, 16), {"groups": 2}),
        ((1, 32, 32, 16), (5, 5, 16, 16), {}),
        ((1, 32, 32, 16), (1, 1, 16, 16), {}),
        ((1, 32, 32, 16), (3, 3, 16, 16), {"dtype": np.float64}),
    ],
)
def test_the_rest_is_direct(monkeypatch, x, w, options):
    assert chosen(monkeypatch, x, w, **options) == []
