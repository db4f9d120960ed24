"""Star-convex polygons on the CPU: their loss, the rays of the training's target, suppression, and drawing.

Loss, forwards: for each of BLOCKS blocks of pixels, in parallel, add the pixels' terms in float64; the rays of a pixel are read
only where it counts. Backwards: one pass. The plain op makes a dozen passes over arrays of 33 channels.

Polygons: an edge from (y0, x0) to (y1, x1) crosses row y where y0 <= y < y1 (or y1 <= y < y0), at x; a pixel (y, c) is inside
if edges with x <= c cross its row an odd number of times. A star has no two edges that cross, so with a sign for up and down

    pixels inside = |sum over edges and rows of sign * ceil(x)|

and with P[y, c], how many pixels of another polygon lie in row y before column c, the pixels in both are |sum of sign * P[y,
ceil(x)]|: an overlap costs a polygon's rows, not its area. What `predict/stars.py` and `data/stars.py` say in NumPy is computed
here in the same order, so that both agree to the last pixel.

Measure: python bench/stars.py
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import prange

from ...array import Array
from .launch import kernel, ready

BLOCKS = 64


# ---- kernels of the ops ----------------------------------------------------------------------------------------------


def star_loss(
    logits: Array, target: Array, weight: Array | None = None, distances: float = 1.0, outside: float = 1e-4
) -> tuple[Any, tuple]:
    """The kernel of `ops.star_loss`."""
    dtype, channels = logits.dtype, logits.shape[-1]
    seen, sums = np.empty(logits.shape[:-1], dtype), np.zeros((BLOCKS, 5))
    weights = np.empty(0, dtype) if weight is None else ready(np.asarray(weight, dtype)).reshape(-1)
    loss_sums(ready(logits).reshape(-1, channels), ready(target).reshape(-1, channels), weights, seen.reshape(-1), sums)
    bce, within, without, total, inside = sums.sum(0)
    total, inside = (np.float64(n if n > 0 else 1) for n in (total, inside))
    loss = bce / total + distances * within / inside + outside * without / total
    return dtype.type(loss), (logits, target, seen, total, inside, distances, outside)


def star_loss_backward(dloss: float, cache: tuple) -> Array:
    """The kernel of `ops.star_loss_backward`."""
    logits, target, seen, total, inside, distances, outside = cache
    dtype, channels = logits.dtype, logits.shape[-1]
    dlogits = np.empty(logits.shape, dtype)
    factors = np.array([1 / total, distances / inside / (channels - 1), outside / total / (channels - 1)]) * float(
        dloss
    )
    loss_back(ready(logits).reshape(-1, channels), ready(target).reshape(-1, channels), ready(seen).reshape(-1),
              factors.astype(dtype), dlogits.reshape(-1, channels))  # fmt: skip
    return dlogits


@kernel
def loss_sums(z, target, weight, seen, sums):
    """z, target (M, 1 + R); weight (M,) or empty; seen (M,); sums (blocks, 5) float64: the three terms, W and S."""
    M, channels = z.shape
    blocks, R = len(sums), channels - 1
    for block in prange(blocks):
        bce, within, without, total, inside = 0.0, 0.0, 0.0, 0.0, 0.0
        for n in range(block * M // blocks, (block + 1) * M // blocks):
            p, here, a = target[n, 0], z.dtype.type(0), z[n, 0]
            if p >= 0:
                here = weight[n] if len(weight) else z.dtype.type(1)
                bce += here * (max(a, z.dtype.type(0)) - a * p + np.log1p(np.exp(-abs(a))))
                near, far = z.dtype.type(0), z.dtype.type(0)
                for k in range(1, channels):
                    near += abs(z[n, k] - target[n, k])
                    far += abs(z[n, k])
                within += here * p * near / R
                without += here * (1 - p) * far / R
                total += here
                inside += here * p
            seen[n] = here
        sums[block, 0], sums[block, 1], sums[block, 2], sums[block, 3], sums[block, 4] = (
            bce, within, without, total, inside,
        )  # fmt: skip


@kernel
def loss_back(z, target, seen, factors, dz):
    """z, target, dz (M, 1 + R); seen (M,); factors (3,): of the three terms, with dloss and what they are divided by."""
    M, channels = z.shape
    zero, one = z.dtype.type(0), z.dtype.type(1)
    for n in prange(M):
        p, a = target[n, 0], z[n, 0]
        e = np.exp(-abs(a))
        dz[n, 0] = seen[n] * factors[0] * ((one if a >= zero else e) / (one + e) - p)
        near, far = seen[n] * factors[1] * p, seen[n] * factors[2] * (one - p)
        for k in range(1, channels):
            off = z[n, k] - target[n, k]
            dz[n, k] = (
                (near if off > zero else -near if off < zero else zero)
                + (far if z[n, k] > zero else -far if z[n, k] < zero else zero)
            )  # fmt: skip


# ---- the target ------------------------------------------------------------------------------------------------------


def _ray_steps(numbers, sines, cosines, steps):
    """numbers (H, W) integers; sines, cosines (R,) float64; steps (H, W, R) float32: steps along each ray to another number."""
    H, W = numbers.shape
    for r in range(H):
        for c in range(W):
            own = numbers[r, c]
            if own <= 0:
                continue
            for k in range(len(sines)):
                n = 1
                while True:
                    y, x = int(np.floor(r + n * sines[k] + 0.5)), int(np.floor(c + n * cosines[k] + 0.5))
                    if y < 0 or x < 0 or y >= H or x >= W or numbers[y, x] != own:
                        break
                    n += 1
                steps[r, c, k] = n


ray_steps = kernel(_ray_steps, parallel=False)


# ---- polygons --------------------------------------------------------------------------------------------------------


@numba.njit(nogil=True)
def _edges(centre, distances, sines, cosines, k):
    """The ends of edge k: y0, x0, y1, x1."""
    m = k + 1 if k + 1 < len(sines) else 0
    y0, x0 = centre[0] + distances[k] * sines[k], centre[1] + distances[k] * cosines[k]
    y1, x1 = centre[0] + distances[m] * sines[m], centre[1] + distances[m] * cosines[m]
    return y0, x0, y1, x1


@numba.njit(nogil=True)
def _toggle(field, top, left, centre, distances, sines, cosines, amount):
    """Add, at every crossing of a row, plus or minus an amount; sums along rows of `field` then are that amount inside."""
    h, w = field.shape
    for k in range(len(sines)):
        y0, x0, y1, x1 = _edges(centre, distances, sines, cosines, k)
        up = y1 < y0
        first, last = int(np.ceil(min(y0, y1))), int(np.ceil(max(y0, y1)))
        for y in range(max(first, top), min(last, top + h)):
            c = int(np.ceil(x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))) - left
            if c < w:
                field[y - top, max(c, 0)] += amount if up else -amount


@numba.njit(nogil=True)
def _count(before, top, left, centre, distances, sines, cosines):
    """Pixels of a polygon in a window of which `before` (h, w + 1) counts those that are set before every column."""
    h, w = before.shape[0], before.shape[1] - 1
    found = 0
    for k in range(len(sines)):
        y0, x0, y1, x1 = _edges(centre, distances, sines, cosines, k)
        up = y1 < y0
        first, last = int(np.ceil(min(y0, y1))), int(np.ceil(max(y0, y1)))
        for y in range(max(first, top), min(last, top + h)):
            c = int(np.ceil(x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))) - left
            n = before[y - top, min(max(c, 0), w)]
            found += n if up else -n
    return abs(found)


def _areas(centres, distances, sines, cosines, areas):
    """centres (M, 2), distances (M, R), sines, cosines (R,), all float64; areas (M,) int64."""
    for i in range(len(centres)):
        found = 0
        for k in range(len(sines)):
            y0, x0, y1, x1 = _edges(centres[i], distances[i], sines, cosines, k)
            up = y1 < y0
            for y in range(int(np.ceil(min(y0, y1))), int(np.ceil(max(y0, y1)))):
                c = int(np.ceil(x0 + (y - y0) * ((x1 - x0) / (y1 - y0))))
                found += c if up else -c
        areas[i] = abs(found)


areas = kernel(_areas, parallel=False)


def _suppress(centres, distances, sines, cosines, reach, area, starts, members, cell, share, owner):
    """The best polygons first: each that is left takes all later ones that share more than `share` of the smaller one.

    centres (M, 2), distances (M, R), reach (M,) float64; area (M,) int64; the polygons whose centres are in cell (i, j) of
    `cell` pixels are members[starts[i, j] : starts[i, j + 1]], in their order; owner (M,) int64: who took each.
    """
    rows, columns = starts.shape[0], starts.shape[1] - 1
    most = reach.max() if len(reach) else 0.0
    side = 2 * int(np.ceil(most)) + 3
    inside, before = np.zeros((side, side), np.int32), np.zeros((side, side + 1), np.int32)
    for i in range(len(centres)):
        if owner[i] >= 0 or area[i] == 0:
            continue
        owner[i] = i
        top, left = int(np.floor(centres[i, 0] - reach[i])), int(np.floor(centres[i, 1] - reach[i]))
        size = 2 * int(np.ceil(reach[i])) + 3
        inside[:size, :size] = 0
        _toggle(inside[:size, :size], top, left, centres[i], distances[i], sines, cosines, 1)
        for y in range(size):
            depth = 0
            for x in range(size):
                depth += inside[y, x]
                before[y, x + 1] = before[y, x] + (1 if depth != 0 else 0)
        far = reach[i] + most
        for gy in range(max(0, int((centres[i, 0] - far) // cell)), min(rows, int((centres[i, 0] + far) // cell) + 1)):
            for gx in range(
                max(0, int((centres[i, 1] - far) // cell)), min(columns, int((centres[i, 1] + far) // cell) + 1)
            ):
                for n in range(starts[gy, gx], starts[gy, gx + 1]):
                    j = members[n]
                    if j <= i or owner[j] >= 0 or area[j] == 0:
                        continue
                    dy, dx, both = centres[j, 0] - centres[i, 0], centres[j, 1] - centres[i, 1], reach[i] + reach[j]
                    if dy * dy + dx * dx > both * both:
                        continue
                    shared = _count(before[:size, : size + 1], top, left, centres[j], distances[j], sines, cosines)
                    if shared > share * min(area[i], area[j]):
                        owner[j] = i


suppress = kernel(_suppress, parallel=False)


def _draw(centres, distances, sines, cosines, scores, starts, members, boxes, chosen, top, left, labels):
    """Draw chosen objects into labels (h, w), the last one first: object n is where more than half of its polygons' scores are.

    Object n has the polygons members[starts[n] : starts[n + 1]], lies in the rows and columns boxes[n] (top, left, bottom,
    right), and has the number n + 1.
    """
    h, w = labels.shape
    for n in chosen[::-1]:
        y0, y1 = max(boxes[n, 0], top), min(boxes[n, 2], top + h)
        x0, x1 = max(boxes[n, 1], left), min(boxes[n, 3], left + w)
        if y0 >= y1 or x0 >= x1:
            continue
        total, field = 0.0, np.zeros((y1 - y0, x1 - x0))
        for m in range(starts[n], starts[n + 1]):
            j = members[m]
            total += scores[j]
            _toggle(field, y0, x0, centres[j], distances[j], sines, cosines, scores[j])
        for y in range(y1 - y0):
            votes = 0.0
            for x in range(x1 - x0):
                votes += field[y, x]
                if abs(votes) > 0.5 * total:
                    labels[y0 + y - top, x0 + x - left] = n + 1


draw = kernel(_draw, parallel=False)
