"""The squares of pixels that transforms read and write: in registers, and over the edge of an image."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from helpers.lazy_maps import lazy_map, memory_of, numbers

from minunet.kernels.cpu import epilogues as cpu_maps
from minunet.kernels.cpu import simd
from minunet.kernels.cpu.epilogues import MASK, MOMENTS, STORE, Output
from minunet.kernels.cpu.simd_transform import sandwich

T = np.array([[1, 2, 0], [-1, 1, 0.5]])
STEPS = [
    np.array([[1, 1], [-1, 0.5]]),
    np.array([[1, 0, 0], [0, 2, 0.0]]),
    np.array([[1, 0, 3], [0, 0.5, 0], [0, 0, 1]]),
]


@pytest.mark.parametrize("load", ["plain", "relu", "blend"])
@pytest.mark.parametrize("steps", [[T], STEPS])
def test_sandwich(load, steps, rng):
    """Y = T X T^T, for a matrix and for a product of some, of numbers whose norm and ReLU are applied on the way."""
    transform, width = sandwich([m.tolist() for m in steps], load), simd.lanes(np.dtype(np.float32))
    product = np.linalg.multi_dot(steps) if len(steps) > 1 else T

    @numba.njit
    def run(x, other, table, y):
        x, other, table, y = simd.pointer(x), simd.pointer(other), simd.pointer(table), simd.pointer(y)
        transform(x, 3 * width, width, y, 2 * width, width, other, table, width)

    @numba.njit
    def run_plain(x, other, table, y):
        transform(simd.pointer(x), 3 * width, width, simd.pointer(y), 2 * width, width)

    x, other, table = numbers(rng, (3, 3, width)), numbers(rng, (3, 3, width)), numbers(rng, (3, width))
    y, (a, b, c) = np.zeros((2, 2, width), np.float32), table
    (run_plain if load == "plain" else run)(x, other, table, y)
    seen = {"plain": x, "relu": np.maximum(x * a + b, 0), "blend": a * x + b * other + c}[load]
    np.testing.assert_allclose(y, np.einsum("ai,ijc,bj->abc", product, seen, product), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["array", "norm, relu", "norm's gradient"])
def test_a_square_over_the_edge_reads_nothing_else(kind, rng):
    """Zeros outside of the image, also where a norm would shift them, and after the last channel."""
    width, size = simd.lanes(np.dtype(np.float32)), 4

    @numba.njit
    def run(to, source, image, row, column, channel, count):
        cpu_maps.read_square(simd.pointer(to), source, image, row, column, size, channel, count)

    C = width + 3
    x, value = lazy_map(kind, rng, (3, 5, 2, C), np.float32)
    for a in memory_of(x):
        if a.ndim == 4:
            a[[0, 2]] = np.nan  # the neighbours in memory
    for row, column in [(0, 0), (-1, -1), (3, 1), (-3, -3), (4, 1), (-4, 0), (5, 0), (0, 2), (9, 9)]:
        for channel, count in [(0, width), (width, 3), (1, 1)]:
            to = np.full((size, size, width), 7, np.float32)
            run(to, cpu_maps.operand(x), 1, row, column, channel, count)
            exact = np.zeros(to.shape)
            for i in range(size):
                for j in range(size):
                    if 0 <= row + i < 5 and 0 <= column + j < 2:
                        exact[i, j, :count] = value[1, row + i, column + j, channel : channel + count]
            np.testing.assert_allclose(to, exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [STORE, MOMENTS, MASK])
def test_a_square_over_the_edge_writes_nothing_else(mode, rng):
    width = simd.lanes(np.dtype(np.float32))

    @numba.njit
    def run(square, rows, columns, count, epilogue, at, channel, share, weight):
        sums = simd.offset(simd.pointer(epilogue.sums), channel)
        cpu_maps.write_square(simd.pointer(square), rows, columns, count, epilogue, at, channel, sums, share, weight)

    K, channel = width + 5, 2
    for rows in range(1, 5):
        for columns in range(1, 5):
            for count in (1, width - 1, width):
                square, m = numbers(rng, (4, 4, width)), lazy_map("norm, relu", rng, (1, 6, 7, K), np.float32)[0]
                t = Output(np.full((1, 6, 7, K), 7, np.float32), mode, m if mode == MASK else None)
                epilogue = t.epilogue((1, 2, K))
                run(square, rows, columns, count, epilogue, (1 * 7 + 2) * K + channel, channel, 1.0, 0.0)
                here = (0, slice(1, 1 + rows), slice(2, 2 + columns), slice(channel, channel + count))
                expected, seen = np.full(t.y.shape, 7, np.float32), square[:rows, :columns, :count]
                scale, shift, norm_mean = m.table
                kept = (m.raw * scale + shift)[here] > 0
                expected[here] = np.where(kept, seen, 0) if mode == MASK else seen
                np.testing.assert_array_equal(t.y, expected)
                first, second = np.zeros((2, K))
                if mode == MOMENTS:
                    first[channel : channel + count], second[channel : channel + count] = (
                        seen.mean((0, 1)),
                        seen.var((0, 1)) * rows * columns,
                    )
                elif mode == MASK:
                    deviation = m.raw[here] - norm_mean[here[3]]
                    first[here[3]] = expected[here].sum((0, 1))
                    second[here[3]] = (expected[here] * deviation).sum((0, 1))
                np.testing.assert_allclose(epilogue.sums[0], [first, second], rtol=1e-4, atol=1e-5)
