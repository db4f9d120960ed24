"""Depthwise convolution's kernels against the plain op, over awkward shapes."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cpu_kernels import assert_close, check_untouched, dtypes, fast, locked, numbers, plain, relaxed, scattered
from hypothesis import example, given
from hypothesis import strategies as st

from minunet import nn
from minunet.kernels.cpu import launch
from minunet.kernels.cpu.depthwise import axis
from minunet.ops.lazy import fusion_scope

CHANNELS = st.one_of(st.integers(1, 20), st.sampled_from([24, 32, 33, 47]))


def compare(x, w, b, dy=None, **options):
    """Forward and backward of both; where few large terms cancel, an error is measured by the terms."""
    expected, cache = plain("depthwise_conv2d", x, w, b, **options)
    found, its = check_untouched(lambda: fast("depthwise_conv2d", x, w, b, **options), x, w)
    taps, pixels = w.shape[0] * w.shape[1], expected[..., 0].size
    assert_close(found, expected, taps + 1, scale=1)
    assert its[2:] == cache[2:]
    dy = numbers(np.random.default_rng(1), expected.shape, x.dtype) if dy is None else dy(expected)
    results = check_untouched(lambda: fast("depthwise_conv2d_backward", dy, its), dy, x, w)
    for f, e, terms in zip(results, plain("depthwise_conv2d_backward", dy, cache), (taps, pixels, pixels)):
        assert_close(f, e, terms, scale=1)


@relaxed
@given(
    st.integers(1, 2), st.integers(1, 21), st.integers(1, 21), CHANNELS, st.integers(1, 5), st.integers(1, 5),
    st.integers(1, 4), st.sampled_from([1, 1, 2, 3, 12]), st.sampled_from(["same", "valid", 1, (2, 0), ((0, 3), (2, 1)), 6]),
    st.booleans(), dtypes,
)  # fmt: skip
@example(1, 16, 16, 33, 3, 3, 1, 12, 12, True, np.float32)
@example(1, 9, 40, 17, 3, 3, 2, 1, 1, False, np.float32)
@example(2, 1, 1, 3, 5, 5, 3, 2, 6, True, np.float32)
def test_depthwise_conv2d(N, H, W, C, KH, KW, stride, dilation, padding, bias, dtype):
    if padding != "same":  # the filter must fit
        H, W = (max(n, dilation * (k - 1) + 1) for n, k in ((H, KH), (W, KW)))
    rng = np.random.default_rng(H)
    x, w = numbers(rng, (N, H, W, C), dtype), numbers(rng, (KH, KW, C), dtype)
    compare(x, w, numbers(rng, (C,), dtype) if bias else None, stride=stride, padding=padding, dilation=dilation)


def test_any_memory_order(rng):
    x, w = numbers(rng, (2, 7, 8, 18), np.float32), numbers(rng, (3, 3, 18), np.float32)
    compare(scattered(x), locked(w), locked(w[0, 0]), lambda y: scattered(numbers(rng, y.shape, y.dtype)))
    compare(x[:, ::-1], w[::-1], None, lambda y: numbers(rng, y.shape[::-1], y.dtype).T)


@pytest.mark.parametrize("stride, dilation, side", [(1, 1, 3), (2, 1, 3), (2, 3, 4), (3, 2, 5), (4, 2, 1)])
@pytest.mark.parametrize("back", [False, True])
def test_an_axis_has_all_taps_that_meet_the_map(stride, dilation, side, back):
    """By the definition: row r of y meets row r * stride + i * dilation - before of x, and these two the other way round."""
    H, before = 11, 2
    OH = (H + 2 * before - dilation * (side - 1) - 1) // stride + 1
    pairs = [(r, i, r * stride + i * dilation - before) for r in range(OH) for i in range(side)]
    pairs = {(row, i, r) if back else (r, i, row) for r, i, row in pairs if 0 <= row < H}
    found = axis(H if back else OH, OH if back else H, side, stride, dilation, before, back)
    in_table = [
        (r, first + n * found.tap_step, met + n * found.source_step)
        for r, (first, count, met) in enumerate(found.table.tolist())
        for n in range(count)
    ]
    in_runs = [
        (r + m * found.step, first + n * found.tap_step, met + m * found.source + n * found.source_step)
        for r, length, first, count, met in found.runs.tolist()
        for m in range(length)
        for n in range(count)
    ]
    assert sorted(in_table) == sorted(in_runs) == sorted(pairs)


def test_what_a_weight_gradient_is_does_not_depend_on_threads(rng, monkeypatch):
    x, w = numbers(rng, (2, 40, 33, 20), np.float32), numbers(rng, (3, 3, 20), np.float32)
    y, cache = fast("depthwise_conv2d", x, w)
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(launch, "_threads", threads)
        results.append(fast("depthwise_conv2d_backward", y, cache))
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_inside_a_network_nothing_but_its_raw_output_is_stored(rng):
    """A norm and a ReLU in front of it and behind it are computed while something reads."""
    net = nn.Sequential(
        conv=nn.Conv2d(2, 6, bias=False), norm=nn.BatchNorm2d(6), relu=nn.ReLU(), depthwise=nn.DepthwiseConv2d(6),
        norm2=nn.BatchNorm2d(6), relu2=nn.ReLU(), point=nn.Conv2d(6, 3, 1),
    )  # fmt: skip
    x = numbers(rng, (1, 12, 10, 2), np.float32)

    @fusion_scope
    def forward(self):
        return net.forward(x)[1]

    kept = forward(net)
    assert type(kept[3][0]).__name__ == type(kept[6][0]).__name__ == "LazyAffine"
