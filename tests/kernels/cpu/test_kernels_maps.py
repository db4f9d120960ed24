"""Every way in which a convolution's kernels read and write lazy maps, each by itself, against arrays."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from helpers.lazy_maps import ONE, lazy_map, memory_of, numbers
from helpers.sizes import examples, unless_quick
from helpers.tolerances import OP
from hypothesis import given
from hypothesis import strategies as st

from minunet import ops
from minunet.kernels.cpu import direct as cpu_direct
from minunet.kernels.cpu import direct_weights as cpu_direct_weights
from minunet.kernels.cpu import epilogues as cpu_maps
from minunet.kernels.cpu import memory, simd
from minunet.kernels.cpu import pointwise as cpu_pointwise
from minunet.kernels.cpu import winograd as cpu_winograd
from minunet.kernels.cpu.direct import ConvGeometry, by_group
from minunet.kernels.cpu.epilogues import MASK, MOMENTS, STORE, Output
from minunet.kernels.cpu.lazy_maps import Gradient
from minunet.kernels.cpu.pointwise import Unpooled
from minunet.ops.lazy import LazyConcat

FACTOR = {"winograd": 60, "direct": 8}
"""Largest error over the largest value, in eps * sqrt(terms) for the direct kernels and in eps for Winograd's."""

relaxed = examples(40)
channel_counts = st.one_of(st.integers(1, 20), st.sampled_from([31, 33, 64, 65]))
dtypes = st.sampled_from(
    [np.float32, *unless_quick(np.float64)]
)  # Winograd's kernels are not compiled for it otherwise
algorithms = st.sampled_from(["winograd", "direct"])


def maps(draw, rng, N, H, W, dtype):
    """One map or a pair of them, of any kinds and channel counts, and what it stands for."""
    parts = [
        lazy_map(draw(st.sampled_from(ONE)), rng, (N, H, W, draw(channel_counts)), dtype)
        for _ in range(draw(st.sampled_from([1, 2])))
    ]
    if len(parts) == 1:
        return parts[0]
    return LazyConcat(*(p[0] for p in parts)), np.concatenate([p[1] for p in parts], axis=-1)


def convolve(algorithm, x, w, b, y, pads):
    top, left = pads[0][0], pads[1][0]
    if algorithm == "winograd":
        cpu_winograd.convolution(x, w, b, [Output(y)], top, left)
    else:
        cpu_direct.convolution(x, w, lambda w: by_group(w, 1), b, y, shape_of(x, w, y, top, left))


def weight_gradient(algorithm, x, dy, pads):
    top, left = pads[0][0], pads[1][0]
    if algorithm == "winograd":
        return cpu_winograd.weight_gradient(x, dy, top, left)
    w = np.empty((3, 3, x.shape[3], dy.shape[3]))
    return cpu_direct_weights.weight_gradient(x, dy, shape_of(x, w, dy, top, left))


def shape_of(x, w, y, top, left):
    return ConvGeometry(*x.shape, *y.shape[1:3], w.shape[3], 3, 3, 1, 1, top, left, 1)


def assert_close(algorithm, found, exact, terms=1):
    assert found.shape == exact.shape
    bound = FACTOR[algorithm] * np.finfo(found.dtype).eps * np.sqrt(terms if algorithm == "direct" else 1)
    assert np.abs(found - exact).max() <= bound * np.abs(exact).max()


sides = st.tuples(st.integers(0, 3), st.integers(0, 3))
paddings = st.one_of(st.just(((1, 1), (1, 1))), st.tuples(sides, sides))


# ---- reading ---------------------------------------------------------------------------------------------------------


@relaxed
@given(st.data(), algorithms, st.integers(1, 3), st.integers(1, 13), st.integers(1, 13), channel_counts, paddings,
       st.booleans(), dtypes)  # fmt: skip
def test_reading(data, algorithm, N, H, W, K, pads, bias, dtype):
    """A convolution and its weight gradient of any map, and of any upstream gradient."""
    rng = np.random.default_rng(0)
    H, W = (max(n, 3 - sum(p)) for n, p in zip((H, W), pads))
    x, value = maps(data.draw, rng, N, H, W, dtype)
    w, b = numbers(rng, (3, 3, x.shape[3], K), dtype), numbers(rng, K, dtype) if bias else None
    exact, cache = ops.conv2d.plain(value, w.astype(np.longdouble), b, padding=pads)
    dy, its_value = lazy_map(data.draw(st.sampled_from(ONE)), rng, exact.shape, dtype)
    before = [a.copy() for a in (*memory_of(x), *memory_of(dy))]
    y = np.full(exact.shape, np.nan, dtype)
    convolve(algorithm, x, w, b, y, pads)
    assert_close(algorithm, y, exact, 9 * x.shape[3])
    dw = weight_gradient(algorithm, x, dy, pads)
    assert_close(algorithm, dw, ops.conv2d_backward.plain(its_value, cache)[1], dy[..., 0].size)
    for a, its in zip((*memory_of(x), *memory_of(dy)), before, strict=True):
        np.testing.assert_array_equal(a, its)


@pytest.mark.parametrize("algorithm", ["winograd", "direct"])
def test_a_gradient_that_is_a_pair(algorithm, rng):
    """Nothing of it is lost where only one map is read."""
    x, pads = numbers(rng, (1, 9, 8, 10)), ((1, 1), (1, 1))
    dy = LazyConcat(numbers(rng, (1, 9, 8, 7)), numbers(rng, (1, 9, 8, 12)))
    whole = weight_gradient(algorithm, x, np.asarray(dy), pads)
    np.testing.assert_array_equal(weight_gradient(algorithm, x, dy, pads), whole)


@pytest.mark.parametrize("kind", ONE)
def test_what_it_stands_for(kind, rng):
    """`array`, and NumPy's functions, operators and indices, give the plain values."""
    for shape in ((2, 5, 3, 4), (1, 7, 9, 37)):
        x, value = lazy_map(kind, rng, shape, np.float64)
        value = value.astype(np.float64)
        for found, exact in [
            (np.asarray(x), value),
            (np.array(x, np.float32), value.astype(np.float32)),
            (x * 2 - x, value),
            (1.5 / (x * x + 1), 1.5 / (value * value + 1)),
            (np.ones(shape) + x, 1 + value),
            (x[:, 1:, ::2], value[:, 1:, ::2]),
            (np.maximum(x, 0), np.maximum(value, 0)),
            (np.where(x > 0, x, -1), np.where(value > 0, value, -1)),
            (np.concatenate([x, x], axis=-1), np.concatenate([value, value], axis=-1)),
            (np.mean(a=x, axis=0), value.mean(0)),
            (np.add(x, 1, where=x < 0, out=np.zeros(shape)), np.where(value < 0, value + 1, 0)),
            (x.sum(axis=(0, 1)), value.sum((0, 1))),
            (x.reshape(-1, shape[3]).T, value.reshape(-1, shape[3]).T),
            (x.astype(np.float32), value.astype(np.float32)),
            (np.stack(list(x)), value),
        ]:
            assert type(found) is np.ndarray
            np.testing.assert_allclose(found, exact, rtol=OP[found.dtype.name], atol=OP["float64"])
        assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == (shape, 4, value.size, np.float64, shape[0])


def test_adding_in_place_leaves_the_map_as_it_is(rng):
    x, _ = lazy_map("raw", rng, (1, 3, 3, 2), np.float64)
    before, y = x.raw.copy(), x
    y += 1
    np.testing.assert_array_equal(y, before + 1)
    np.testing.assert_array_equal(x, before)


# ---- writing ---------------------------------------------------------------------------------------------------------


@relaxed
@given(st.data(), st.integers(1, 3), st.integers(1, 21), st.integers(1, 21), channel_counts, st.booleans(), dtypes)
def test_writing(data, N, H, W, C, stream, dtype):
    """To one map or two, with what is gathered on the way."""
    rng, draw = np.random.default_rng(1), data.draw
    modes = draw(st.lists(st.sampled_from([STORE, MOMENTS, MASK]), min_size=1, max_size=2))
    counts = st.sampled_from([8, 16, 64, 80]) if stream else channel_counts
    shapes = [(N, H, W, draw(counts)) for _ in modes]
    masks = [lazy_map(draw(st.sampled_from(["relu", "norm, relu"])), rng, shape, dtype) for shape in shapes]
    x, K = numbers(rng, (N, H, W, C), dtype), sum(shape[3] for shape in shapes)
    turned = draw(st.booleans())
    w = numbers(rng, (3, 3, K, C) if turned else (3, 3, C, K), dtype)
    w_there = w[::-1, ::-1].swapaxes(2, 3) if turned else w
    to = []
    with mock.patch.object(cpu_maps, "STREAMED", 0 if stream else cpu_maps.STREAMED):
        for mode, shape, (m, _) in zip(modes, shapes, masks):
            y = memory.empty(shape, dtype)
            y[...] = np.nan
            to.append(Output(y, mode, m if mode == MASK else None))
        streams = [t.epilogue((1, 2, t.y.shape[3])).stream for t in to]
        cpu_winograd.convolution(x, w, None, to, 1, 1, turned=turned)
    whole = [shape[3] * y.itemsize % simd.VECTOR_BYTES == 0 for shape in shapes]
    assert streams == [stream and simd.VECTOR_BYTES == memory.LINE and fits for fits in whole]
    exact = ops.conv2d.plain(x.astype(np.longdouble), np.ascontiguousarray(w_there).astype(np.longdouble))[0]
    error, start = FACTOR["winograd"] * np.finfo(dtype).eps * np.abs(exact).max(), 0
    for t, (m, value) in zip(to, masks):
        wide = exact[..., start : start + t.y.shape[3]]
        start += t.y.shape[3]
        scale, shift, _ = cpu_maps.coefficients(m)
        sure = np.abs(m.raw * scale + shift) > 1e-5
        expected = np.where(value > 0, wide, 0) if t.mode == MASK else wide
        assert np.abs(t.y - expected)[sure if t.mode == MASK else ...].max(initial=0) <= error
        check_gathered(t, m)


def check_gathered(t, m):
    """What was gathered against sums over what was written, in a wider dtype."""
    wide, pixels, axes = t.y.astype(np.longdouble), t.y[..., 0].size, (0, 1, 2)
    eps = 8 * np.finfo(t.y.dtype).eps
    if t.mode == STORE:
        assert t.found is None
    elif t.mode == MOMENTS:
        mean, var = t.found
        assert np.abs(mean - wide.mean(axes)).max() <= eps * np.abs(wide).max()
        assert np.abs(var - wide.var(axes)).max() <= 4 * eps * (wide**2).max()
    else:
        total, product = t.found
        deviation = m.raw - cpu_maps.coefficients(m)[2].astype(np.longdouble)
        assert np.abs(total - wide.sum(axes)).max() <= eps * pixels**0.5 * np.abs(wide).sum(axes).max()
        assert np.abs(product - (wide * deviation).sum(axes)).max() <= (
            eps * pixels**0.5 * np.abs(wide * deviation).sum(axes).max()
        )


@pytest.mark.parametrize("spread", [1.0, 0.1])
@pytest.mark.parametrize("C", [16, 19])
def test_the_variance_does_not_cancel(spread, C, rng):
    """A large mean and a small spread: E[x^2] - mean^2 in float32 would miss by 100 %."""
    x, w = numbers(rng, (2, 90, 75, C)), numbers(rng, (3, 3, C, 37)) * np.float32(spread / (9 * C) ** 0.5)
    y = Output(np.empty((2, 90, 75, 37), np.float32), MOMENTS)
    cpu_winograd.convolution(x, w, np.full(37, 1000, np.float32), [y], 1, 1)
    wide = y.y.astype(np.float64).reshape(-1, 37)
    np.testing.assert_allclose(y.found[0], wide.mean(0), rtol=OP["float32"])
    np.testing.assert_allclose(y.found[1], wide.var(0), rtol=1e-4)
    squares = (y.y**2).reshape(-1, 37).mean(0) - y.y.reshape(-1, 37).mean(0) ** 2
    assert np.abs(squares / wide.var(0) - 1).max() > 0.01  # the trap is there


# ---- passes of their own ---------------------------------------------------------------------------------------------

images = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), channel_counts)


@relaxed
@given(images, st.sampled_from(ONE), st.sampled_from(["relu", "norm, relu"]), dtypes)
def test_mask(shape, kind, by, dtype):
    rng = np.random.default_rng(2)
    (dy, value), (x, its_value) = lazy_map(kind, rng, shape, dtype), lazy_map(by, rng, shape, dtype)
    found = cpu_pointwise.mask(dy, x)
    assert found.is_masked_by(x)
    np.testing.assert_allclose(found.dy, np.where(its_value > 0, value, 0), atol=1e-5 if dtype == np.float32 else 1e-13)
    t = Output(found.dy, MASK, x)
    t.found = found.sums
    check_gathered(t, x)


@relaxed
@given(images, st.sampled_from(ONE), st.integers(1, 3), st.sampled_from([None, 1, 2, 3]), st.booleans(), dtypes)
def test_pool_and_its_way_back(shape, kind, size, stride, skip, dtype):
    """Pooling a lazy map; its gradient, with a skip's added to it, lazy and masked."""
    rng = np.random.default_rng(3)
    shape = (shape[0], max(shape[1], size), max(shape[2], size), shape[3])
    x, _ = lazy_map(kind, rng, shape, dtype)
    y, cache = cpu_pointwise.max_pool2d(x, size, stride)
    array = np.asarray(x)
    expected, its_cache = ops.max_pool2d.plain(array, size, stride)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(cache[0], its_cache[0])
    dy, plus = numbers(rng, y.shape, dtype), numbers(rng, shape, dtype)
    dx = Unpooled(dy, cache)
    exact = ops.max_pool2d_backward.plain(dy, its_cache)
    if skip:
        dx, exact = dx + Gradient(plus, None), exact + plus
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(dx, exact, atol=tolerance)
    x, value = lazy_map("norm, relu", rng, shape, dtype)
    found = cpu_pointwise.mask(dx, x)
    np.testing.assert_allclose(found.dy, np.where(value > 0, exact, 0), atol=tolerance)
    t = Output(found.dy, MASK, x)
    t.found = found.sums
    check_gathered(t, x)
