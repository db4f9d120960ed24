"""Answers of the exercises of lessons 09 to 12: a tile on a GPU, what a U-Net costs, a schedule, and a tape.

As those of answers.py they are cut into exercises. The tests compare them with the CUDA kernels on the emulator, with
`minunet.summary`, with `optim.Schedule` and with finite differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..array import Array

# ---- lesson 09: a tile in shared memory ------------------------------------------------------------------------------


def across_k(k: Array | int, i: Array | int, width: int) -> Array | int:
    """The place of number i in row k of a tile with `width` numbers a row; k and i are numbers or arrays of them.

    Rows lie one after the other, `width` numbers each, a multiple of 32. In each the chunks of four numbers are permuted:
    chunk c of row k lies where chunk (c xor 2 (k mod 4)) would lie.
    """
    chunk = (i // 4) ^ (2 * (k % 4))
    return k * width + 4 * chunk + i % 4


def bank_turns(places: Array) -> int:
    """How many turns shared memory takes to read these places, at one moment, each a word of 4 bytes.

    Place p lies in bank p mod 32. A bank gives one word a turn, and all banks work at once. A word that several lanes want is
    given once.
    """
    return int(np.bincount(np.unique(places) % 32).max())


def load_a(tile: Array, width: int, m: int, k: int) -> Array:
    """What the lanes of a warp hold of a fragment of a, 16 x 8: rows m to m + 15, columns k to k + 7: (32, 4).

    The tile is flat, and across k: a's column number k is its row number k, with a's rows side by side. With g = lane // 4 and
    t = lane % 4 a lane holds, in this order, (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), as (row, column) of the fragment.
    """
    g, t = np.divmod(np.arange(32), 4)
    places = [(g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)]
    return np.stack([tile[across_k(k + column, m + row, width)] for row, column in places], axis=1)


def load_b(tile: Array, width: int, n: int, k: int) -> Array:
    """What the lanes hold of a fragment of b, 8 x 8: rows k to k + 7, columns n to n + 7: (32, 2).

    The tile is flat: its row number k is b's, with b's columns side by side. A lane holds (t, g) and (t + 4, g).
    """
    g, t = np.divmod(np.arange(32), 4)
    return np.stack([tile[across_k(k + row, n + g, width)] for row in (t, t + 4)], axis=1)


def store_c(sums: Array) -> Array:
    """The 16 x 8 results of a warp from what its lanes hold of them, (32, 4): (16, 8).

    A lane holds (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
    """
    g, t = np.divmod(np.arange(32), 4)
    c = np.empty((16, 8))
    for j in range(4):
        c[g + 8 * (j // 2), 2 * t + j % 2] = sums[:, j]
    return c


# ---- lesson 10: what a U-Net costs -----------------------------------------------------------------------------------


def unet_parameters(C: int, K: int, width: int, depth: int) -> int:
    """How many parameters the network has, for images of C channels and K classes."""
    count, c = 0, C
    for level in range(depth + 1):
        k = width * 2**level
        count += 9 * c * k + 9 * k * k + 4 * k
        c = k
    for level in range(depth):
        k = width * 2**level
        count += 4 * (2 * k) * k + k
        count += 9 * (2 * k) * k + 9 * k * k + 4 * k
    return count + width * K + K


def unet_operations(shape: tuple[int, int, int, int], K: int, width: int, depth: int) -> int:
    """How many multiplications and additions a forward takes, both counted, for images of this shape, (N, H, W, C).

    Those of convolutions alone, without biases: all else is below 1 %.
    """
    N, H, W, c = shape
    count = 2 * width * K * N * H * W
    for level in range(depth + 1):
        k, pixels = width * 2**level, N * (H >> level) * (W >> level)
        count += 2 * 9 * (c * k + k * k) * pixels
        c = k
    for level in range(depth):
        k, pixels, below = width * 2**level, N * (H >> level) * (W >> level), N * (H >> level + 1) * (W >> level + 1)
        count += 2 * 4 * (2 * k) * k * below
        count += 2 * 9 * (2 * k * k + k * k) * pixels
    return count


def unet_kept(shape: tuple[int, int, int, int], K: int, width: int, depth: int) -> int:
    """How many bytes a forward keeps for the backward, for images of this shape, (N, H, W, C)."""
    N, H, W, c = shape
    count = 4 * width * N * H * W
    for level in range(depth + 1):
        k, pixels = width * 2**level, N * (H >> level) * (W >> level)
        count += (4 * (c + 3 * k) + 2 * k) * pixels
        c = k
    for level in range(depth):
        k, pixels, below = width * 2**level, N * (H >> level) * (W >> level), N * (H >> level + 1) * (W >> level + 1)
        count += k * below
        count += 4 * (2 * k) * below
        count += (4 * (2 * k + 3 * k) + 2 * k) * pixels
    return count


# ---- lesson 11: a schedule -------------------------------------------------------------------------------------------


def learning_rate(step: int, total: int, lr: float, warmup: int = 0) -> float:
    """The rate of step number `step`, counted from 0, of `total` steps.

    In the first `warmup` steps it rises evenly, from lr / warmup in step 0 to lr in step warmup - 1. Then it falls along half a
    cosine, from lr in step `warmup` to 0 in step `total`, and stays there.
    """
    if step < warmup:
        return lr * (step + 1) / warmup
    t = min((step - warmup) / (total - warmup), 1.0)
    return lr * (1 + np.cos(np.pi * t)) / 2


def range_rates(low: float, high: float, steps: int) -> Array:
    """The rates of a range test, (steps,): from low to high, both included, each the one before times the same factor."""
    return low * (high / low) ** (np.arange(steps) / (steps - 1))


def suggest_rate(rates: Array, losses: Array) -> float:
    """The rate that a range test suggests: a fifth of the one at which the smoothed losses are lowest.

    Smoothed is the mean of a loss, the two before and the two after it; at the ends the first and the last are repeated. A loss
    that is not finite counts as infinitely large.
    """
    losses = np.where(np.isfinite(losses), losses, np.inf)
    padded = np.pad(losses, 2, mode="edge")
    smooth = np.mean([padded[i : i + len(losses)] for i in range(5)], axis=0)
    return float(rates[smooth.argmin()] / 5)


# ---- lesson 12: a tape -----------------------------------------------------------------------------------------------

Line = tuple[str, tuple[int, ...], int]


def local_gradients(op: str, dy: Array, *inputs: Array) -> tuple[Array, ...]:
    """What a line hands to its inputs, one gradient each, given that of its output. For "add" both are the same array."""
    if op == "add":
        return dy, dy
    if op == "multiply":
        return dy * inputs[1], dy * inputs[0]
    if op == "tanh":
        return (dy * (1 - np.tanh(inputs[0]) ** 2),)
    raise ValueError(f"there is no op {op!r}")


def walk_order(lines: Sequence[Line], end: int) -> list[int]:
    """The numbers of the lines in an order in which they can be walked back from value `end`.

    A line is (op, numbers of its inputs, number of its output). It may be walked when all lines have been walked that use its
    output; those on which `end` does not depend are left out. Several orders may be right.
    """
    maker = {output: n for n, (_, _, output) in enumerate(lines)}
    reached, look = set(), [end]
    while look:
        n = maker.get(look.pop())
        if n is not None and n not in reached:
            reached.add(n)
            look.extend(lines[n][1])
    awaited = [number for n in reached for number in lines[n][1]]
    order, ready = [], [end]
    while ready:
        n = maker.get(ready.pop())
        if n is None:
            continue
        order.append(n)
        for number in lines[n][1]:
            awaited.remove(number)
            if number not in awaited:
                ready.append(number)
    return order


def walk_back(lines: Sequence[Line], values: Array, end: int, dend: Array) -> Array:
    """The gradients of all values, (V, H, W), zeros for those on which value `end` does not depend.

    values (V, H, W) has the values by their numbers; dend (H, W) is the gradient of `end`, and stays as it is.
    """
    grads = {end: dend}
    for n in walk_order(lines, end):
        op, inputs, output = lines[n]
        found = local_gradients(op, grads[output], *[values[number] for number in inputs])
        for number, grad in zip(inputs, found):
            grads[number] = grads[number] + grad if number in grads else grad
    return np.stack([grads.get(number, np.zeros_like(dend)) for number in range(len(values))])
