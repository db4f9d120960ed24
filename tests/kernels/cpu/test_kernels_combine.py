"""The kernels of gates, sums, padded pools, unpooling and resizing against their plain twins, on arrays and on lazy maps.

Bounds as in helpers/cpu_kernels.py: eps * sqrt(terms) of the largest value, times a few.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cpu_kernels import (
    DTYPES,
    assert_close,
    check_untouched,
    dtypes,
    fast,
    images,
    locked,
    numbers,
    plain,
    relaxed,
    scattered,
)  # fmt: skip
from helpers.lazy_maps import ONE, lazy_map, memory_of
from hypothesis import example, given
from hypothesis import strategies as st

import minunet
from minunet import nn, ops
from minunet.kernels.cpu.lazy_maps import LazyAffine
from minunet.ops import dispatch
from minunet.ops.lazy import LazyConcat, fusion_scope

pytestmark = pytest.mark.usefixtures("small_arrays_too")
maps = st.sampled_from(ONE)


def map_and_array(kind, rng, shape, dtype):
    """A map of this kind, and the array of the same dtype that it stands for."""
    x, value = lazy_map(kind, rng, shape, dtype)
    return x, value.astype(dtype)


@relaxed
@given(images, maps, maps, dtypes)
def test_add(shape, kind, other, dtype):
    rng = np.random.default_rng(0)
    (x, a), (y, b) = map_and_array(kind, rng, shape, dtype), map_and_array(other, rng, shape, dtype)
    found, cache = check_untouched(lambda: fast("add", [x, y]), *memory_of(x), *memory_of(y))
    assert cache == (2,)
    assert_close(found, a + b, 4, scale=max(abs(a).max(), abs(b).max()))


@relaxed
@given(images, st.lists(st.tuples(maps, st.sampled_from([1, 2, 3, 8, 17, 64])), min_size=2, max_size=5), dtypes)
def test_concat(shape, parts, dtype):
    rng = np.random.default_rng(8)
    pairs = [map_and_array(kind, rng, (*shape[:3], C), dtype) for kind, C in parts]
    found, widths = check_untouched(
        lambda: fast("concat", [x for x, _ in pairs]), *(a for x, _ in pairs for a in memory_of(x))
    )
    assert widths == tuple(C for _, C in parts)
    expected = np.concatenate([array for _, array in pairs], axis=-1)
    assert_close(found, expected, 4, scale=abs(expected).max())


def test_two_maps_inside_a_network_are_not_copied(rng):
    x = numbers(rng, (1, 3, 4, 2), np.float32)

    @fusion_scope
    def forward():
        assert isinstance(ops.concat([x, x])[0], LazyConcat) and type(ops.concat([x, x, x])[0]) is np.ndarray

    forward()


@relaxed
@given(images, maps, st.sampled_from(["channels", "pixels", "values"]), dtypes)
def test_gate(shape, kind, of, dtype):
    rng = np.random.default_rng(1)
    N, H, W, C = shape
    x, array = map_and_array(kind, rng, shape, dtype)
    a = numbers(rng, {"channels": (N, 1, 1, C), "pixels": (N, H, W, 1), "values": shape}[of], dtype)
    dy = numbers(rng, shape, dtype)
    expected, its = plain("gate", array, a)
    found, cache = check_untouched(lambda: fast("gate", x, a), *memory_of(x), a)
    assert_close(found, expected, 4, scale=abs(expected).max() + abs(a).max())
    dx, da = check_untouched(lambda: fast("gate_backward", dy, cache), dy, a)
    right_dx, right_da = plain("gate_backward", dy, its)
    assert_close(dx, right_dx)
    assert_close(da, right_da, H * W * C, scale=abs(dy * array).max() + abs(dy).max())


def test_gates_left_to_the_plain_op(rng):
    x = numbers(rng, (2, 3, 4, 5), np.float32)
    for shape in ((2, 3, 1, 5), (1, 1, 1, 5), (2, 3, 4, 2), (5,)):
        assert dispatch.find_kernel("gate", x, np.ones(shape, np.float32)) is None
    assert dispatch.find_kernel("add", [x, x, x]) is None and dispatch.find_kernel("add", [x, x[:1]]) is None


@relaxed
@given(images, maps, dtypes)
def test_global_mean(shape, kind, dtype):
    rng = np.random.default_rng(2)
    x, array = map_and_array(kind, rng, shape, dtype)
    (found, cache), expected = fast("global_avg_pool2d", x), plain("global_avg_pool2d", array)[0]
    assert cache == (shape,)
    assert_close(found, expected, shape[1] * shape[2], scale=abs(array).max())


@relaxed
@given(images, maps, dtypes)
def test_relu6(shape, kind, dtype):
    rng = np.random.default_rng(3)
    x, array = map_and_array(kind, rng, shape, dtype)
    x, array = (3 * x, 3 * array) if kind == "array" else (x, array)
    expected, (mask,) = plain("relu6", array)
    found, (its,) = fast("relu6", x)
    assert_close(found, expected, scale=6)
    sure = (abs(array) > 1e-4) & (abs(array - 6) > 1e-4)
    np.testing.assert_array_equal(its[sure], mask[sure])
    dy = numbers(rng, shape, dtype)
    np.testing.assert_array_equal(fast("relu6_backward", dy, (mask,)), plain("relu6_backward", dy, (mask,)))


@relaxed
@given(images, dtypes)
def test_sigmoid(shape, dtype):
    rng = np.random.default_rng(4)
    x, dy = 30 * numbers(rng, shape, dtype), numbers(rng, shape, dtype)
    (found, its), (expected, cache) = check_untouched(lambda: fast("sigmoid", x), x), plain("sigmoid", x)
    assert_close(found, expected)
    assert its[0] is found
    assert_close(fast("sigmoid_backward", dy, cache), plain("sigmoid_backward", dy, cache))


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_at_their_ends(dtype):
    x = np.array([[-1e4, -0.0, 0, 6, 1e4, np.nan, np.inf, -np.inf]], dtype)
    for name in ("sigmoid", "relu6"):
        (found, _), (expected, _) = fast(name, x), plain(name, x)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
    np.testing.assert_array_equal(fast("relu6", x)[1][0], plain("relu6", x)[1][0])


pools = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2), st.booleans())


@relaxed
@given(images, maps, pools, dtypes)
@example((2, 9, 10, 7), "norm, relu", (3, 2, 1, False), np.float32)
@example((1, 3, 3, 5), "array", (5, 4, 2, True), np.float32)
def test_padded_pools(shape, kind, pool, dtype):
    rng = np.random.default_rng(5)
    size, stride, padding, ceil_mode = pool
    padding = min(padding, size // 2)
    shape = (shape[0], max(shape[1], size), max(shape[2], size), shape[3])
    x, array = map_and_array(kind, rng, shape, dtype)
    options = (size, stride, padding, ceil_mode)
    with minunet.use("reference"):
        expected, its = ops.max_pool2d_padded(array, *options)
        dy = numbers(rng, expected.shape, dtype)
        right = ops.max_pool2d_padded_backward(dy, its)
    found, cache = check_untouched(lambda: fast("max_pool2d_padded", x, *options), *memory_of(x))
    assert_close(found, expected, 4, scale=abs(array).max())
    assert cache[0][1:] == its[0][1:] and cache[1] == its[1]
    if kind == "array":
        np.testing.assert_array_equal(cache[0][0], its[0][0])
    assert_close(fast("max_pool2d_padded_backward", dy, its), right, size**2, scale=abs(dy).max())


def test_padded_pools_of_equal_infinite_and_missing_numbers():
    for x in (np.zeros((1, 5, 6, 9), np.float32), np.full((1, 5, 6, 9), -np.inf, np.float32)):
        with minunet.use("reference"):
            expected, its = ops.max_pool2d_padded(x)
        found, cache = fast("max_pool2d_padded", x)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(cache[0][0], its[0][0])
    x[0, 3, 3, 4] = np.nan
    with minunet.use("reference"):
        expected = ops.max_pool2d_padded(x)[0]
    np.testing.assert_array_equal(fast("max_pool2d_padded", x)[0], expected)


@relaxed
@given(images, st.integers(1, 3), st.integers(0, 2), dtypes)
def test_unpooling(shape, size, more, dtype):
    rng = np.random.default_rng(6)
    N, OH, OW, C = shape
    winner = rng.integers(0, size * size + 1, shape).astype(np.uint8)  # one number too many: no pixel of a window
    dy = numbers(rng, (N, OH * size + more % size, OW * size, C), dtype)
    expected = plain("max_unpool2d_backward", dy, (winner, size))
    found = check_untouched(lambda: fast("max_unpool2d_backward", dy, (winner, size)), dy, winner)
    np.testing.assert_array_equal(found, expected)
    x, right = numbers(rng, shape, dtype), np.zeros(dy.shape, dtype)
    with minunet.use("reference"):
        right = ops.max_unpool2d(x, winner, dy.shape[1:3], size)[0]
    np.testing.assert_array_equal(ops.max_unpool2d(x, winner, dy.shape[1:3], size)[0], right)


@relaxed
@given(images, st.integers(1, 40), st.integers(1, 40), st.booleans(), dtypes)
@example((1, 1, 1, 33), 17, 20, False, np.float32)
def test_resizing(shape, OH, OW, corners, dtype):
    rng = np.random.default_rng(7)
    x, dy = numbers(rng, shape, dtype), numbers(rng, (shape[0], OH, OW, shape[3]), dtype)
    terms = 16 * max(1, OH // shape[1] + 1) * max(1, OW // shape[2] + 1)
    for name, options in (("resize_bilinear", (corners,)), ("resize_nearest", ())):
        expected, cache = plain(name, x, (OH, OW), *options)
        found, its = check_untouched(lambda n=name, o=options: fast(n, x, (OH, OW), *o), x)
        assert its == cache
        assert_close(found, expected, 16, scale=abs(x).max())
        right = plain(name + "_backward", dy, cache)
        assert_close(fast(name + "_backward", dy, cache), right, terms, scale=abs(dy).max())


@pytest.mark.parametrize("change", [scattered, locked], ids=["scattered", "locked"])
def test_arrays_of_any_kind(change, rng):
    x, a = (change(numbers(rng, shape, np.float32)) for shape in ((2, 6, 5, 9), (2, 1, 1, 9)))
    winner = change(rng.integers(0, 4, (2, 3, 2, 9)).astype(np.uint8))
    for name, *args in (
        ("add", [x, x]), ("gate", x, a), ("global_avg_pool2d", x), ("relu6", x), ("sigmoid", x), ("max_pool2d_padded", x),
        ("resize_nearest", x, (4, 9)), ("resize_bilinear", x, (4, 9)),
    ):  # fmt: skip
        with minunet.use("reference"):
            expected = getattr(ops, name)(*args)[0]
        assert_close(fast(name, *args)[0], expected, 90)
    np.testing.assert_array_equal(
        fast("max_unpool2d_backward", x, (winner, 2)), plain("max_unpool2d_backward", x, (winner, 2))
    )


# ---- inside a network ------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """A residual unit with a projection, squeeze-and-excitation and a gate of pixels, a padded pool before and a sum after."""

    def __init__(self, C, K, rng):
        super().__init__()
        self.stem, self.stem_norm, self.pool = (
            nn.Conv2d(C, K, rng=rng),
            nn.BatchNorm2d(K),
            nn.MaxPool2d(3, 2, padding=1),
        )
        self.conv1, self.norm1, self.act = nn.Conv2d(K, K, bias=False, rng=rng), nn.BatchNorm2d(K), nn.ReLU6()
        self.conv2, self.norm2 = nn.Conv2d(K, K, bias=False, rng=rng), nn.BatchNorm2d(K)
        self.project, self.project_norm = nn.Conv2d(K, K, 1, bias=False, rng=rng), nn.BatchNorm2d(K)
        self.mean, self.excite, self.pixel = (
            nn.GlobalAvgPool2d(),
            nn.Conv2d(K, K, 1, rng=rng),
            nn.Conv2d(K, 1, 1, rng=rng),
        )
        self.sigmoid, self.gate, self.relu, self.add = nn.Sigmoid(), nn.Gate(), nn.ReLU(), nn.Add()
        self.resize, self.head = nn.Resize(), nn.Conv2d(K, 2, rng=rng)

    @fusion_scope
    def forward(self, x, train=True, rng=None, keep=True):
        caches = []

        def run(*layers):
            y = layers[0]
            for m in layers[1:]:
                y, cache = m.forward(y, train, rng, keep)
                caches.append(cache)
            return y

        image = x
        x = run(x, self.stem, self.stem_norm, self.relu, self.pool)
        y = run(x, self.conv1, self.norm1, self.act, self.conv2, self.norm2)
        x = run((y, run(x, self.project, self.project_norm)), self.add, self.relu)
        self.kinds = {type(x)}
        a = run(run((x, run(x, self.mean, self.excite, self.sigmoid)), self.gate), self.pixel, self.sigmoid)
        return run((run((x, a), self.gate), image), self.resize, self.head), caches if keep else None

    @fusion_scope
    def backward(self, dy, cache):
        def back(dy, *layers):
            for m in layers:
                dy = m.backward(dy, nn.take(cache))
            return dy

        dx, da = back(dy, self.head, self.resize, self.gate)
        dgated, dweights = back(back(da, self.sigmoid, self.pixel), self.gate)
        dx = dx + dgated + back(dweights, self.sigmoid, self.excite, self.mean)
        dy, dshort = back(dx, self.relu, self.add)
        dx = back(dshort, self.project_norm, self.project)
        dx = dx + back(dy, self.norm2, self.conv2, self.act, self.norm1, self.conv1)
        return back(dx, self.pool, self.relu, self.stem_norm, self.stem)


@pytest.mark.slow
@pytest.mark.parametrize("K", [8, 19])
def test_a_network_of_them_fused(rng, K):
    """Outputs and all gradients as those of the plain ops, in float64 nearly to the last place."""
    net = Residual(3, K, rng).convert(lambda a: a.astype(np.float64))
    x, dy = rng.standard_normal((2, 23, 30, 3)), rng.standard_normal((2, 23, 30, 2))
    results = []
    for mode in ("reference", "fast"):
        with minunet.use(mode):
            net.zero_grad()
            y, cache = net.forward(x)
            dx = net.backward(dy, cache)
            results.append([y, dx, *(g.copy() for g in net.named_grads().values())])
            assert mode == "reference" or net.kinds == {LazyAffine}
    for mode, result in zip(("reference", "fast"), results):  # with the same running statistics
        with minunet.use(mode):
            result.append(net(x))
    for expected, found in zip(*results, strict=True):
        assert abs(found - expected).max() <= 1e-10 * max(abs(expected).max(), 1)  # ten layers, norms among them
