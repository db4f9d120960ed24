"""A max-pool with windows of 2x2 and stride 2, with the ReLU before it: what U-Nets have between their levels.

    pool_pairs:          for each row of windows, in parallel:   y and winner of max(x * scale + shift, floor)
    unpool_mask_pairs:   for each pair of rows, in parallel:     dx = plus + dy at the winners, where the ReLU lets it pass,
                                                                 and each row's sums for the norm before the ReLU

with a loop along the row for each vector of channels (simd_pool.py) and one in plain numba for the channels that fill none. The
results are those of pointwise.py's loops for any size and stride, to the last bit, but for sums of the last channels.

Constants: STRIP numbers of dy that one such loop takes. A row of 128 pixels of 16 channels is read in one piece, but with more
channels every vector is a pass over the row; 64 numbers are 1.3 times as fast there, and as fast with 16 channels.

Measure: python bench/layers.py
"""

from __future__ import annotations

from numba import njit, prange

from .launch import kernel
from .simd import lanes_of, offset, pointer
from .simd_pool import mask_vectors, pool_vectors, unpool_vectors

STRIP = 64


@kernel
def pool_pairs(x, table, floor, y, winner):
    """Windows of 2x2, stride 2, of max(x * scale + shift, floor): x (N, H, W, C); table (3, C): scale, shift, any."""
    N, H, W, C = x.shape
    _, OH, OW, _ = y.shape
    width = lanes_of(y)
    for item in prange(N * OH):
        corner = offset(pointer(x), (item // OH * H + item % OH * 2) * W * C)
        best, number, c = offset(pointer(y), item * OW * C), offset(pointer(winner), item * OW * C), 0
        while c + width <= C:
            pool_vectors(OW, offset(best, c), offset(number, c), offset(corner, c), W * C, offset(pointer(table), c), C,
                         floor)  # fmt: skip
            c += width
        while c < C:
            for column in range(OW):
                to = column * C + c
                for tap in range(4):
                    value = corner[(tap // 2 * W + 2 * column + tap % 2) * C + c] * table[0, c] + table[1, c]
                    value = floor if value < floor else value
                    if tap == 0 or value > best[to]:
                        best[to], number[to] = value, tap
            c += 1


@kernel
def unpool_mask_pairs(dy, winner, plus, raw, table, dx, sums):
    """`unpool_mask` for windows of 2x2, stride 2, with a plus: two rows at a time."""
    N, H, W, C = dx.shape
    _, OH, OW, _ = dy.shape
    pairs = (H + 1) // 2
    for item in prange(N * pairs):
        row = item // pairs * H + item % pairs * 2
        at, window = row * W * C, (item // pairs * OH + item % pairs) * OW * C
        to, more, before = offset(pointer(dx), at), offset(pointer(plus), at), offset(pointer(raw), at)
        found, seen, inside = offset(pointer(sums), row * 2 * C), min(2, H - item % pairs * 2), 0
        if seen == 2:
            inside = 2 * OW
            unpool_windows(OW, W * C, to, offset(pointer(dy), window), offset(pointer(winner), window), more, before,
                           table, found)  # fmt: skip
        for i in range(seen):  # what no window reaches
            at = (i * W + inside) * C
            mask_pixels(W - inside, offset(to, at), offset(more, at), offset(before, at), table,
                        offset(found, i * 2 * C))  # fmt: skip


@njit
def unpool_windows(windows, row, dx, dy, winner, plus, raw, table, sums):
    """A row of windows; `row` numbers lie between a pixel and the one below; sums (2, 2, C)."""
    C, width = table.shape[1], lanes_of(table)
    vectors, strip = C // width, max(1, STRIP // C)
    for window in range(0, windows if vectors else 0, strip):
        for c in range(0, vectors * width, width):
            at, to = window * C + c, 2 * window * C + c
            unpool_vectors(min(strip, windows - window), offset(dx, to), offset(dy, at), offset(winner, at),
                           offset(plus, to), offset(raw, to), row, offset(pointer(table), c), offset(sums, c), C)  # fmt: skip
    for c in range(vectors * width, C):
        for i in range(2):
            for column in range(2 * windows):
                at, window = i * row + column * C + c, column // 2 * C + c
                value = plus[at]
                if winner[window] == 2 * i + column % 2:
                    value += dy[window]
                mask_number(at, value, dx, raw, table, c, offset(sums, i * 2 * C))


@njit
def mask_pixels(count, dx, dy, raw, table, sums):
    """dx = dy where the ReLU let raw pass, for pixels that lie one after the other, and their part of the sums (2, C)."""
    C, width, c = table.shape[1], lanes_of(table), 0
    while c + width <= C and count > 0:
        mask_vectors(count, offset(dx, c), offset(dy, c), offset(raw, c), offset(pointer(table), c), offset(sums, c), C)
        c += width
    while c < C:
        for n in range(count):
            mask_number(n * C + c, dy[n * C + c], dx, raw, table, c, sums)
        c += 1


@njit
def mask_number(at, value, dx, raw, table, c, sums):
    """The same for one number of channel c."""
    C, zero = table.shape[1], table.dtype.type(0)
    value = value if raw[at] * table[0, c] + table[1, c] > 0 else zero
    dx[at] = value
    sums[c] += value
    sums[C + c] += value * (raw[at] - table[2, c])
