"""The loops for 2x2 pools against those for any size and stride, to the last bit, and mistakes that this must find."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cpu_kernels import dtypes, numbers
from helpers.sizes import examples
from hypothesis import given
from hypothesis import strategies as st

from minunet.kernels.cpu import pointwise
from minunet.kernels.cpu.epilogues import PLAIN, RELU, Operand
from minunet.kernels.cpu.pool_pairs import pool_pairs, unpool_mask_pairs

shapes = st.tuples(
    st.integers(1, 2), st.integers(2, 9), st.integers(2, 13), st.sampled_from([1, 3, 4, 8, 16, 19, 32, 33, 64, 130])
)


def check_pool(shape, dtype, seed=0, pool=pool_pairs, relu=True):
    """Values with many ties, NaNs, infinities and zeros of both signs."""
    rng = np.random.default_rng(seed)
    N, H, W, C = shape
    x, table = numbers(rng, shape, dtype).round(), numbers(rng, (3, C), dtype)
    x[rng.random(shape) < 0.1] = np.nan
    x[rng.random(shape) < 0.05] = np.inf
    x[rng.random(shape) < 0.05] = -np.inf
    size = N, H // 2, W // 2, C
    y, winner = np.full((2, *size), 7, dtype), np.full((2, *size), 9, np.uint8)
    table, floor, mode = (table, 0, RELU) if relu else (pointwise._as_it_is(C, x.dtype), -np.inf, PLAIN)
    pointwise.pool_forward(Operand(x, x, table, mode), y[0], winner[0], np.empty((N * size[1], C), dtype), 2, 2)
    pool(x, table, dtype(floor), y[1], winner[1])
    np.testing.assert_array_equal(y[0], y[1])
    np.testing.assert_array_equal(*np.signbit(np.nan_to_num(y)))
    np.testing.assert_array_equal(*winner)


def check_unpool(shape, dtype, seed=0, unpool=unpool_mask_pairs):
    rng = np.random.default_rng(seed)
    N, H, W, C = shape
    raw, plus, table = numbers(rng, shape, dtype), numbers(rng, shape, dtype), numbers(rng, (3, C), dtype)
    dy = numbers(rng, (N, H // 2, W // 2, C), dtype)
    winner = rng.integers(0, 4, dy.shape).astype(np.uint8)
    raw[rng.random(shape) < 0.05] = np.nan
    raw[rng.random(shape) < 0.05] = -table[1, 0] / table[0, 0]  # about where the ReLU begins
    wide = np.nan_to_num(raw) - table[2]
    dx, sums = np.full((2, *shape), 7, dtype), np.zeros((2, N * H, 2, C), dtype)
    with np.errstate(invalid="ignore"):
        pointwise.unpool_mask(dy, winner, plus, raw, table, dx[0], sums[0], 2, 2, True)
        unpool(dy, winner, plus, raw, table, dx[1], sums[1])
    np.testing.assert_array_equal(*dx)
    np.testing.assert_array_equal(*np.isnan(sums))
    tolerance = 8 * np.finfo(dtype).eps * W**0.5 * max(1, np.abs(wide * dx[0]).max())
    np.testing.assert_allclose(*sums, rtol=0, atol=tolerance)


@examples(60)
@given(shapes, st.booleans(), dtypes, st.integers(0, 99))
def test_pairs(shape, relu, dtype, seed):
    check_pool(shape, dtype, seed, relu=relu)
    check_unpool(shape, dtype, seed)


# ---- planted mistakes ------------------------------------------------------------------------------------------------


def windows_of(x, table):
    """max(x * scale + shift, 0) as (4, N, OH, OW, C)."""
    N, H, W, C = x.shape
    value = x * table[0] + table[1]
    value = np.where(value < 0, 0, value)[:, : H // 2 * 2, : W // 2 * 2]
    return value.reshape(N, H // 2, 2, W // 2, 2, C).transpose(2, 4, 0, 1, 3, 5).reshape(4, N, H // 2, W // 2, C)


def the_last_of_equal_pixels_wins(x, table, floor, y, winner):
    pool_pairs(x, table, floor, y, winner)
    later = windows_of(x, table) == y
    winner[...] = np.where(later.any(0), 3 - later[::-1].argmax(0), winner)


def a_nan_wins_anywhere(x, table, floor, y, winner):
    pool_pairs(x, table, floor, y, winner)
    y[np.isnan(windows_of(x, table)).any(0)] = np.nan


def the_last_channels_are_left_out(x, table, floor, y, winner):
    before = y[..., -1].copy()
    pool_pairs(x, table, floor, y, winner)
    y[..., -1] = before


def the_odd_row_is_left_out(dy, winner, plus, raw, table, dx, sums):
    before = dx[:, -1].copy()
    unpool_mask_pairs(dy, winner, plus, raw, table, dx, sums)
    dx[:, -1] = before


def both_rows_go_into_the_first_ones_sums(dy, winner, plus, raw, table, dx, sums):
    unpool_mask_pairs(dy, winner, plus, raw, table, dx, sums)
    sums[0] += sums[1]
    sums[1] = 0


def the_winners_rows_and_columns_are_swapped(dy, winner, plus, raw, table, dx, sums):
    unpool_mask_pairs(dy, winner % 2 * 2 + winner // 2, plus, raw, table, dx, sums)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize(
    ("check", "bug"),
    [
        (check_pool, the_last_of_equal_pixels_wins),
        (check_pool, a_nan_wins_anywhere),
        (check_pool, the_last_channels_are_left_out),
        (check_unpool, the_odd_row_is_left_out),
        (check_unpool, both_rows_go_into_the_first_ones_sums),
        (check_unpool, the_winners_rows_and_columns_are_swapped),
    ],
    ids=lambda f: f.__name__,
)
def test_a_mistake_is_found(check, bug):
    with pytest.raises(AssertionError):
        check((2, 5, 7, 19), np.float32, 0, bug)
