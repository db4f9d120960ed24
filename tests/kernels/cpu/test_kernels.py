"""Every CPU kernel against its plain twin, over awkward shapes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import NamedTuple

import numpy as np
import pytest
from helpers.cpu_kernels import (
    DTYPES,
    assert_close,
    channel_counts,
    check_untouched,
    dtypes,
    fast,
    images,
    locked,
    numbers,
    plain,
    relaxed,
    scattered,
)
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import ops
from minunet.kernels.cpu import rules, warm_up
from minunet.kernels.cpu.direct import ConvGeometry
from minunet.kernels.cpu.direct_pieces import parts
from minunet.ops import dispatch

pytestmark = pytest.mark.usefixtures("small_arrays_too")

# ---- convolution -----------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = draw(st.sampled_from([1, 1, 2, 3, 6]))
    size = tuple(draw(st.one_of(st.integers(1, 12), st.sampled_from([17, 40]))) for _ in range(2))
    padding = draw(st.sampled_from(["same", "valid", 1, (2, 0), ((0, 3), (2, 1)), 5]))
    if padding != "same":  # the filter must fit
        size = tuple(max(n, dilation * (k - 1) + 1) for n, k in zip(size, kernel))
    return {
        "x": (draw(st.integers(1, 3)), *size, groups * draw(channel_counts)),
        "kernel": kernel,
        "K": groups * draw(channel_counts),
        "bias": draw(st.booleans()),
        "options": {
            "stride": draw(st.sampled_from([1, 1, 2, 2, 3, 4])),
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        },
        "dtype": draw(dtypes),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def make(case):
    rng, dtype = np.random.default_rng(case["seed"]), case["dtype"]
    x = numbers(rng, case["x"], dtype)
    w = numbers(rng, (*case["kernel"], x.shape[3] // case["options"].get("groups", 1), case["K"]), dtype)
    b = numbers(rng, case["K"], dtype) if case["bias"] else None
    return x, w, b, rng


@relaxed
@given(convolutions())
def test_conv2d(case):
    x, w, b, _ = make(case)
    expected, cache = plain("conv2d", x, w, b, **case["options"])
    found, its = check_untouched(lambda: fast("conv2d", x, w, b, **case["options"]), x, w)
    assert_close(found, expected, terms=w[..., 0].size + 1)
    assert its[2:] == cache[2:]
    assert its[0] is x
    assert its[1] is w


@relaxed
@given(convolutions(), st.booleans())
def test_conv2d_backward(case, own_forward):
    x, w, b, rng = make(case)
    forward = fast if own_forward else plain
    y, cache = forward("conv2d", x, w, b, **case["options"])
    dy = numbers(rng, y.shape, x.dtype)
    expected = plain("conv2d_backward", dy, cache)
    found = check_untouched(lambda: fast("conv2d_backward", dy, cache), dy, x, w)
    pixels = dy[..., 0].size
    for f, e, terms in zip(found, expected, (w[:, :, 0].size, pixels, pixels)):
        assert_close(f, e, terms, scale=1)
    assert_close(plain("conv2d_backward", dy, fast("conv2d", x, w, b, **case["options"])[1])[0], expected[0])


@pytest.mark.parametrize(("dilation", "taps"), [(6, 9), (15, 9), (16, 1), (36, 1)])
def test_taps_that_meet_only_padding_cost_nothing(dilation, taps):
    s = ConvGeometry(1, 16, 16, 4, 16, 16, 4, 3, 3, 1, dilation, dilation, dilation, 1)
    assert len(list(parts(s))) == taps
    pixels = sum(part.geometry.OH * part.geometry.OW for part in parts(s))
    assert pixels == (16 + 2 * max(0, 16 - dilation)) ** 2


@relaxed
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), channel_counts, channel_counts, st.integers(1, 3),
       st.booleans(), dtypes)  # fmt: skip
def test_conv_transpose2d(N, H, W, C, K, size, bias, dtype):
    rng = np.random.default_rng(0)
    x, w = numbers(rng, (N, H, W, C), dtype), numbers(rng, (size, size, C, K), dtype)
    b = numbers(rng, K, dtype) if bias else None
    expected, cache = plain("conv_transpose2d", x, w, b, size)
    found, its = check_untouched(lambda: fast("conv_transpose2d", x, w, b, stride=size), x, w)
    assert_close(found, expected, C)
    assert its[2:] == cache[2:]
    dy = numbers(rng, expected.shape, dtype)
    for f, e, terms in zip(
        check_untouched(lambda: fast("conv_transpose2d_backward", dy, its), dy, x, w),
        plain("conv_transpose2d_backward", dy, cache),
        (size * size * K, N * H * W, dy[..., 0].size),
    ):
        assert_close(f, e, terms)


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 3, 0), (4, 2, ((1, 2), (0, 1)))])
def test_conv_transpose2d_backward_with_overlap(size, stride, padding):
    rng = np.random.default_rng(1)
    x, w = numbers(rng, (2, 5, 4, 6), np.float32), numbers(rng, (size, size, 6, 7), np.float32)
    y, cache = plain("conv_transpose2d", x, w, None, stride, padding)
    dy = numbers(rng, y.shape, np.float32)
    expected = plain("conv_transpose2d_backward", dy, cache)
    for f, e in zip(fast("conv_transpose2d_backward", dy, cache), expected):
        assert_close(f, e, 100)


@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy_against_float64(dtype, monkeypatch):
    """The bound that the direct kernel's docstring states, against (for float32) the plain op in float64."""
    monkeypatch.setattr("minunet.kernels.cpu.conv.winograd_pays", lambda *args, **limits: False)
    rng = np.random.default_rng(2)
    x, w = numbers(rng, (1, 20, 23, 300), np.float32), numbers(rng, (3, 3, 300, 70), np.float32)
    exact, _ = plain("conv2d", x.astype(np.longdouble), w.astype(np.longdouble))
    found, cache = fast("conv2d", x.astype(dtype), w.astype(dtype))
    assert np.abs(found - exact).max() <= np.finfo(dtype).eps * 2700**0.5 * np.abs(exact).max()
    dx, dw, _ = fast("conv2d_backward", found, cache)
    wide = found.astype(np.longdouble)
    wide_cache = (x.astype(np.longdouble), w.astype(np.longdouble), *cache[2:])
    dx_exact, dw_exact, _ = plain("conv2d_backward", wide, wide_cache)
    assert np.abs(dx - dx_exact).max() <= np.finfo(dtype).eps * 630**0.5 * np.abs(dx_exact).max()
    assert np.abs(dw - dw_exact).max() <= np.finfo(dtype).eps * 460**0.5 * np.abs(dw_exact).max()


def test_conv_of_nothing():
    x, w = np.zeros((0, 4, 4, 3), np.float32), np.zeros((3, 3, 3, 5), np.float32)
    y, cache = ops.conv2d(x, w)
    assert y.shape == (0, 4, 4, 5)
    dx, dw, _ = ops.conv2d_backward(y, cache)
    assert dx.shape == x.shape
    assert not dw.any()


# ---- pool, norm, activation ------------------------------------------------------------------------------------------


@relaxed
@given(images, st.integers(1, 3), st.sampled_from([None, 1, 2, 3]), dtypes)
def test_max_pool2d(shape, size, stride, dtype):
    shape = (shape[0], max(shape[1], size), max(shape[2], size), shape[3])
    rng = np.random.default_rng(3)
    x = numbers(rng, shape, dtype).round(1)  # ties on purpose
    expected, cache = plain("max_pool2d", x, size, stride)
    found, its = check_untouched(lambda: fast("max_pool2d", x, size, stride), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(its[0], cache[0])
    assert its[0].dtype == np.uint8
    assert its[1:] == cache[1:]
    dy = numbers(rng, found.shape, dtype)
    assert_close(fast("max_pool2d_backward", dy, its), plain("max_pool2d_backward", dy, cache), size * size)


@relaxed
@given(images, st.booleans(), st.sampled_from([0.0, 3.0, -1000.0]), dtypes)
def test_batch_norm(shape, from_batch, centre, dtype):
    rng = np.random.default_rng(4)
    C, pixels = shape[3], shape[0] * shape[1] * shape[2]
    x = numbers(rng, shape, dtype) + dtype(centre)
    gamma, beta = numbers(rng, C, dtype), numbers(rng, C, dtype)
    given_ = () if from_batch else (numbers(rng, C, dtype), numbers(rng, C, dtype) ** 2)
    expected, cache, (mean, _) = plain("batch_norm", x, gamma, beta, *given_)
    found, its, statistics = check_untouched(lambda: fast("batch_norm", x, gamma, beta, *given_), x, gamma, beta)
    assert its[0] is x
    assert its[4] is from_batch
    if from_batch:
        wide = x.astype(np.longdouble)
        assert_close(statistics[0], wide.mean((0, 1, 2)).astype(dtype), scale=abs(x).max())
        assert_close(statistics[1], wide.var((0, 1, 2)).astype(dtype), terms=64)  # a chunk's pixels
    # The plain op sums x in float64: its mean is off by the rounding errors of so many additions, and y shows that.
    sums = pixels if dtype is np.float64 else 1
    assert_close(found, expected, terms=sums, scale=abs(x).max() * abs(gamma * cache[3]).max())
    dy = numbers(rng, shape, dtype)
    dx, dgamma, dbeta = check_untouched(lambda: fast("batch_norm_backward", dy, cache), dy, x)
    expected = plain("batch_norm_backward", dy, cache)
    xhat = ((x - mean) * cache[3]).astype(np.float64)
    # dx is what remains of dy without its parts along 1 and xhat, which may be next to nothing.
    assert_close(dx, expected[0], 4, scale=abs(dy).max() * abs(gamma * cache[3]).max() * max(1, (xhat**2).mean()))
    assert_close(dgamma, expected[1], pixels, scale=abs(xhat * dy).max())
    assert_close(dbeta, expected[2], pixels, scale=abs(dy).max())


def test_variance_does_not_cancel():
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((2, 64, 64, 3)) * 0.1 + 1000).astype(np.float32)
    _, _, (_, var) = fast("batch_norm", x, np.ones(3, np.float32), np.zeros(3, np.float32))
    np.testing.assert_allclose(var, x.astype(np.float64).var((0, 1, 2)), rtol=1e-4)  # E[x^2] - mean^2 misses by 100 %


@relaxed
@given(images, dtypes)
def test_relu(shape, dtype):
    rng = np.random.default_rng(6)
    x = numbers(rng, shape, dtype).round(1)
    expected, (mask,) = plain("relu", x)
    found, (its,) = check_untouched(lambda: fast("relu", x), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(its, mask)
    assert its.dtype == bool
    dy = numbers(rng, shape, dtype)
    np.testing.assert_array_equal(fast("relu_backward", dy, (its,)), plain("relu_backward", dy, (mask,)))


# ---- any array, any time ---------------------------------------------------------------------------------------------


IN_PLACE = {"sgd_step", "adam_step", "rmsprop_step"}  # the optimisers' steps: see test_kernels_pointwise.py
BETWEEN = {"concat_backward"}  # it only arranges what kernels hand each other: see test_kernels_fused.py


def twice(*sums):
    """The sums over two processes that have the same part of a batch."""
    return [2.0 * np.asarray(s, np.float64) for s in sums]


def every_op(rng, change=lambda a: a):
    """(name, arguments) of every op with a kernel, each array changed; caches come from the plain forwards."""
    x, w, b = (numbers(rng, s, np.float32) for s in [(2, 40, 37, 20), (3, 3, 20, 18), (18,)])
    up, gamma = numbers(rng, (2, 2, 20, 5), np.float32), numbers(rng, 20, np.float32)
    calls = {"conv2d": (x, w, b), "conv_transpose2d": (x, up, b[:5]), "max_pool2d": (x,), "relu": (x,)}
    calls["batch_norm"] = (x, gamma, gamma)
    calls |= dict.fromkeys(("leaky_relu", "softmax", "avg_pool2d", "upsample_nearest", "upsample_bilinear"), (x,))
    calls["group_norm"] = (x, gamma, gamma, 4)
    labels, weight = rng.integers(-1, 20, x.shape[:3]), numbers(rng, x.shape[:3], np.float32) ** 2
    calls["softmax_cross_entropy"] = calls["soft_dice"] = (x, labels, weight, gamma**2)
    calls["star_loss"] = (x, np.roll(x, 1), weight)
    calls |= dict.fromkeys(("relu6", "sigmoid", "max_pool2d_padded", "global_avg_pool2d"), (x,))
    calls |= dict.fromkeys(("resize_nearest", "resize_bilinear"), (x, (50, 31)))
    calls |= {"add": ((x, x),), "concat": ((x, x, x),), "gate": (x, x[:, :1, :1])}
    calls["max_unpool2d"] = (x, rng.integers(0, 4, x.shape).astype(np.uint8), (80, 75))
    calls["depthwise_conv2d"] = (x, numbers(rng, (3, 3, 20), np.float32), gamma)

    def changed(a):
        return change(a) if isinstance(a, np.ndarray) else tuple(map(changed, a)) if isinstance(a, tuple) else a

    for name, args in list(calls.items()):
        with minunet.use("reference"):
            y, cache, *_ = plain(name, *args)
        calls[name] = changed(args)
        dy = change(numbers(rng, y.shape, np.float32)) if y.shape else 0.7
        calls[name + "_backward"] = (dy, changed(cache))
    calls["shared_batch_norm_backward"] = (*calls["batch_norm_backward"], twice)
    calls = {name: args for name, args in calls.items() if name in rules.CPU_KERNELS and name not in BETWEEN}
    assert set(calls) == set(rules.CPU_KERNELS) - IN_PLACE - BETWEEN
    return calls


def arrays_in(result):
    if isinstance(result, np.ndarray):
        return [result]
    return [a for part in result for a in arrays_in(part)] if isinstance(result, tuple) else []


@pytest.mark.parametrize("change", [scattered, locked, np.asfortranarray])
def test_any_memory_layout(change):
    usual = every_op(np.random.default_rng(7))
    for name, args in every_op(np.random.default_rng(7), change).items():
        for found, expected in zip(arrays_in(fast(name, *args)), arrays_in(fast(name, *usual[name])), strict=True):
            np.testing.assert_array_equal(found, expected, err_msg=name)


def test_same_result_every_time_and_for_any_number_of_threads():
    from minunet.kernels.cpu import launch

    before = launch.workers()
    for name, args in every_op(np.random.default_rng(8)).items():
        first = arrays_in(fast(name, *args))
        try:
            for threads in (before, 1):
                launch.set_threads(threads)
                for a, b in zip(first, arrays_in(fast(name, *args)), strict=True):
                    np.testing.assert_array_equal(a, b, err_msg=name)
        finally:
            launch.set_threads(before)


def test_threads_may_call_kernels_at_once():
    x, w = np.ones((1, 30, 30, 8), np.float32), np.ones((3, 3, 8, 8), np.float32)
    expected = fast("conv2d", x, w)[0]
    results: list = []
    threads = [threading.Thread(target=lambda: results.append(fast("conv2d", x, w)[0])) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 4
    for r in results:
        np.testing.assert_array_equal(r, expected)


# ---- the choice ------------------------------------------------------------------------------------------------------


def test_reference_mode_runs_the_plain_body(monkeypatch):
    x, w = np.ones((1, 3, 3, 2), np.float32), np.ones((3, 3, 2, 2), np.float32)
    chosen = []
    real = dispatch.find_kernel
    monkeypatch.setattr(
        dispatch, "find_kernel", lambda *args, **options: chosen.append(args[0]) or real(*args, **options)
    )
    with minunet.use("reference"):
        ops.conv2d(x, w)
    assert chosen == []
    ops.conv2d(x, w)
    assert chosen == ["conv2d"]


@pytest.mark.parametrize(
    ("name", "args", "options"),
    [
        ("conv2d", (np.ones((1, 3, 3, 2), np.float16), np.ones((3, 3, 2, 2), np.float16)), {}),
        ("conv2d", (np.ones((1, 3, 3, 2), np.float32), np.ones((3, 3, 2, 2), np.float64)), {}),
        ("conv2d", (np.ones((1, 3, 3, 2), np.float32), np.ones((3, 3, 3, 2), np.float32)), {}),
        ("conv_transpose2d", (np.ones((1, 3, 3, 2)), np.ones((3, 3, 2, 2))), {}),
        ("conv_transpose2d", (np.ones((1, 3, 3, 2)), np.ones((2, 2, 2, 2))), {"padding": 1}),
        ("no_such_op", (np.ones(3),), {}),
        ("relu", (), {"x": np.ones(3)}),
    ],
)
def test_leaves_the_rest_to_the_plain_op(name, args, options):
    assert dispatch.find_kernel(name, *args, **options) is None


def test_small_arrays_are_not_worth_a_kernel(monkeypatch):
    monkeypatch.setattr(rules, "SMALLEST", 100)
    for n, chosen in ((99, False), (100, True)):
        x = np.ones((1, 1, n, 1), np.float32)
        assert (dispatch.find_kernel("relu", x) is not None) is chosen
        assert (dispatch.find_kernel("max_pool2d", x, 1) is not None) is chosen


def test_errors_are_the_plain_ones():
    with pytest.raises(ValueError, match="channels"):
        ops.conv2d(np.ones((1, 3, 3, 2)), np.ones((3, 3, 3, 2)))
    with pytest.raises(ValueError, match="fit"):
        ops.conv2d(np.ones((1, 2, 2, 2)), np.ones((3, 3, 2, 2)), padding="valid")


def test_import_does_not_load_numba():
    code = "import sys, minunet.ops; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_without_a_compiler_the_plain_ops_run(tmp_path):
    code = """
import sys
import numpy as np
from minunet import ops
from minunet.kernels import threads
from minunet.kernels.cpu import rules
from minunet.kernels.cpu import warm_up
from minunet.ops import dispatch
warm_up.warm_up()
assert warm_up.is_compiled() and threads.set_threads(1) == 1
x = np.ones((1, 64, 64, 16), np.float32)
assert dispatch.find_kernel("conv2d", x, np.ones((3, 3, 16, 4), np.float32)) is dispatch.find_kernel("relu", x) is None
assert ops.conv2d(x, np.ones((3, 3, 16, 4), np.float32))[0][0, 5, 5, 0] == 144
from minunet.train import main
assert main("-e 1 --base-width 1 --depth 1 --crop 16 --out".split() + sys.argv[1:]) == 0
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "compiling" not in run.stdout
    assert (tmp_path / "best.safetensors").exists()


def test_warm_up_compiles_what_training_needs():
    """By default; what only other flags use compiles at its first call."""
    pairs = ["conv2d", "conv_transpose2d", "max_pool2d", "batch_norm", "relu", "softmax_cross_entropy", "soft_dice"]
    seen = []
    warm_up.warm_up(np.float32, lambda done, total, name: seen.append((done, total, name)))
    assert seen[-1][0] == seen[-1][1] == len(seen) - 1
    assert {n for _, _, n in seen[:-1]} == {*pairs, "adam_step", "sgd_step", "fused ops"}
    assert warm_up.is_compiled(np.float32)


def plus_one(x):
    for n in range(x.size):
        x[n] += 1


def test_the_cache_follows_the_sources(monkeypatch):
    from minunet.kernels.cpu import launch

    monkeypatch.setattr(launch, "_kernels", [])
    hits = []
    for sources in ("before", "before", "after", "before"):
        monkeypatch.setattr(launch, "SOURCES", sources)
        launch.kernel(plus_one, parallel=False)(np.zeros(3))
        hits.append(sum(launch._kernels[-1].stats.cache_hits.values()))
    assert hits[1:] == [1, 0, 0]  # the first one depends on earlier runs


class Gone(NamedTuple):
    n: int


def plus(x, number):
    x[0] += number[0]


def test_a_cache_that_names_a_type_which_is_gone_is_compiled_anew(monkeypatch):
    """As one left by sources in which a NamedTuple had another name: to unpickle it is an error."""
    from minunet.kernels.cpu import launch

    monkeypatch.setattr(launch, "_kernels", [])
    monkeypatch.setattr(launch, "SOURCES", "before")
    launch.kernel(plus, parallel=False)(np.zeros(3), Gone(1))
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    monkeypatch.setattr(launch, "SOURCES", "after")
    x = np.zeros(3)
    launch.kernel(plus, parallel=False)(x, (1,))
    assert x[0] == 1


# ---- the block -------------------------------------------------------------------------------------------------------


def test_multiply_writes_its_block_only():
    """All widths and row counts, a c that starts at an odd address, and guards around every row."""
    from numba import njit

    from minunet.kernels.cpu import simd
    from minunet.kernels.cpu import simd_gemm as simd_product

    @njit
    def run(vectors, m, last, a, taps, b, c, c_row, start):
        to, depth = simd.offset(simd.pointer(c), start), a.shape[1] // taps
        simd_product.multiply(vectors, m, last, simd.pointer(a), a.shape[1], 1, depth, taps, depth, simd.pointer(b),
                      to, c_row, to, c_row)  # fmt: skip

    rng, width = np.random.default_rng(9), simd.lanes(np.dtype(np.float32))
    for vectors in range(1, simd_product.PANEL + 1):
        for m in (1, 2, 3, 8, 11, 29, 47):
            for last in (1, width - 1, width):
                for taps in (1, 3):
                    columns = (vectors - 1) * width + last
                    a, b = numbers(rng, (m, 6), np.float32), numbers(rng, (6, vectors * width), np.float32)
                    c = np.full((m, columns + 2), 7, np.float32)
                    run(vectors, m, last, a, taps, b, c.reshape(-1), columns + 2, 1)
                    assert_close(c[:, 1:-1], 7 + a @ b[:, :columns], 6)
                    assert (c[:, 0] == 7).all()
                    assert (c[:, -1] == 7).all()
