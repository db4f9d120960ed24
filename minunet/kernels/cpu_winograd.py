"""Winograd's convolution for 3x3 filters on the CPU: a quarter of the multiplications.

One row first. Four outputs of a filter of three taps, y[i] = d[i] g[0] + d[i+1] g[1] + d[i+2] g[2], read six inputs and take
twelve multiplications. Six are enough. Look at the transposed task: the product of two polynomials, of degree 2 (the
filter, g) and 3 (four numbers, z), has degree 5, so its values at six points fix it, and each value is one product,
g(a) * z(a). With the points 0, 1, -1, 1/2, -2 and "infinity" (the value there is the leading coefficient):

    evaluate z at the six points          A z      (6, 4)    row of point a: 1, a, a^2, a^3
    evaluate g at the six points          G g      (6, 3)    row of point a: 1, a, a^2, divided by f(a)
    multiply                              A z * G g
    interpolate                           B (A z * G g)      column of a: the coefficients of m(x) / (x - a)

where m(x) = x (x - 1) (x + 1) (x - 1/2) (x + 2) = x^5 + 3/2 x^4 - 2 x^3 - 3/2 x^2 + x (its coefficients are the column of
infinity), and f(a) is m(x) / (x - a) at x = a. That is Lagrange's formula, its divisions put into G, where they are done
once a filter. As a function of z this is a linear map, z -> B diag(G g) A z: the product's coefficients z[i] g[j] land at
i + j. The convolution wants its transpose, which gathers d[i + j] g[j] into y[i]. So

    y = A^T (B^T d * G g)

    B^T =   1  -3/2   -2   3/2    1     0      G =      1      0      0      A^T =   1   1   1    1    1   0
            0   -1   1/2   5/2    1     0             1/3    1/3    1/3              0   1  -1  1/2   -2   0
            0    1  -5/2   1/2    1     0            -1/3    1/3   -1/3              0   1   1  1/4    4   0
            0   -2    -1     2    1     0          -16/15  -8/15  -4/15              0   1  -1  1/8   -8   1
            0   1/2   -1  -1/2    1     0            1/15  -2/15   4/15
            0    1  -3/2    -2   3/2    1               0      0      1

In two dimensions rows and columns are treated alike: Y = A^T [ (B^T X B) * (G g G^T) ] A. A tile of 4x4 outputs reads 6x6
inputs and takes 36 multiplications in place of 144. Sums over input channels come before the outer transform, so at each of
the 36 points there is a matrix product over channels, for many tiles at once, and that is where the time goes.

Forward (`convolve`): V = B^T X B of every tile and channel, U = G g G^T of every filter, M = V @ U at every point.

    for each item = (block of tiles, some panels of output channels):   in parallel
        V[36, tiles, C] = B^T X B, with norm and ReLU on the way
        for each panel, for each slice of input channels:
            U[36, slice, panel] = G w G^T, unless they were made ahead for all items
            for each of the 36 points:   M[point] += V[point, :, slice] @ U[point]          simd.multiply
        y = A^T M A, with its sums for the next norm

The bias is the map whose values are b everywhere, and only the point (1, 1) sees such a thing: M starts from b there.
The input may come from two maps (a concatenation), and the output go to two: slices and panels belong to one of them.

Data gradient: the same with the filters turned by 180 degrees and their channel axes swapped, inside their transform.

Weight gradient (`correlate`): y is linear in g, so dg = G^T [ sum over tiles of (B^T X B) * (A dY A^T) ] G.

    for each item = (split of the tiles, block of input channels, panel of output channels):   in parallel
        for each block of tiles:
            V[36, tiles, channels] = B^T X B,   D[36, tiles, panel] = A dY A^T
            for each of the 36 points:   S[point] += V[point]^T @ D[point]                  simd.multiply
        dw = G^T S G
    add the splits, in their order

Each item makes all that it needs by itself and keeps it in its core's L2 cache. Some tiles are transformed more than once
for that, which costs less than memory would. The order in which numbers are added depends on the shape alone.

Constants
    TILES     most tiles of a block, and GRADIENT_TILES for the weight gradient: V of a slice, U and M take 36*64*256 bytes
              each, which together stay in a 2 MB L2 cache
    SLICE     input channels between two visits of M: SLICE x 256 bytes of U stay in the L1 cache
    CHANNELS  input channels of an item of the weight gradient: S, 36*64*256 bytes, stays in the L2 cache
    ITEMS     least items of a weight gradient, if there are so many blocks: work for that many threads
    AHEAD     most bytes of a U that is made ahead, a part of a 32 MB L3 cache: it has four times the filters' size, and from
              memory it would come more slowly than it can be made again

Shapes: any images, paddings and channels, float32 and float64; 3x3, stride 1, no dilation, one group. `cpu_conv` chooses.

Accuracy: the transforms subtract numbers larger than their results. For 128 to 128 channels on a 64x64 map the largest
error over the largest value is 3e-6 to 4.6e-6 in float32, by input (3.2e-6 for seed 0, which tests hold below 5e-6), where
a direct sum has 3e-7. The points matter: the usual 0, +-1, +-2 give 9e-6.

Sources: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional
Neural Networks, arXiv:1509.09308 (2015). Measure: python bench/layers.py
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from ..array import Array
from .cpu_maps import MASK, PLAIN, RELU, Target, read_square, shape_of, source, sources, write_square
from .launch import alone, empty, kernel, ready, scratch, workers
from .simd import PANEL, copy, lanes, lanes_of, multiply, named, offset, pointer, settle, transpose
from .simd_transform import sandwich, sandwich_into

TILES = 64
GRADIENT_TILES = 64
SLICE = 64
CHANNELS = 64
ITEMS = 16
AHEAD = 10 << 20

BT = (
    (1, -3 / 2, -2, 3 / 2, 1, 0),
    (0, -1, 1 / 2, 5 / 2, 1, 0),
    (0, 1, -5 / 2, 1 / 2, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 1 / 2, -1, -1 / 2, 1, 0),
    (0, 1, -3 / 2, -2, 3 / 2, 1),
)
G = (
    (1, 0, 0),
    (1 / 3, 1 / 3, 1 / 3),
    (-1 / 3, 1 / 3, -1 / 3),
    (-16 / 15, -8 / 15, -4 / 15),
    (1 / 15, -2 / 15, 4 / 15),
    (0, 0, 1),
)
AT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 1 / 2, -2, 0),
    (0, 1, 1, 1 / 4, 4, 0),
    (0, 1, -1, 1 / 8, -8, 1),
)

# The same as products, in which common parts stand once: 14 operations a column for B^T instead of 20, 12 for A^T instead of
# 14. With t_n = x_(n+2) - x_n the rows of B^T x are  t_2 + 3/2 t_1 - t_0,  a + b,  a - b,  t_2 + 2 t_1,  t_2 - t_1 / 2  and
# t_3 + 3/2 t_2 - t_1,  where a = t_2 + 3/2 x_3 and b = t_1 + 3/2 x_2. Those of A^T share x_1 + x_2 and x_1 - x_2.
BT_STEPS = (
    (
        (1, 0, 0, 0, 0, 0),
        (0, 1, 1, 0, 0, 0),
        (0, 1, -1, 0, 0, 0),
        (0, 0, 0, 1, 0, 0),
        (0, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, 0, 1),
    ),
    (
        (-1, 3 / 2, 1, 0, 0, 0),
        (0, 0, 1, 0, 0, 3 / 2),
        (0, 1, 0, 0, 3 / 2, 0),
        (0, 2, 1, 0, 0, 0),
        (0, -1 / 2, 1, 0, 0, 0),
        (0, -1, 3 / 2, 1, 0, 0),
    ),
    (
        (-1, 0, 1, 0, 0, 0),
        (0, -1, 0, 1, 0, 0),
        (0, 0, -1, 0, 1, 0),
        (0, 0, 0, -1, 0, 1),
        (0, 0, 1, 0, 0, 0),
        (0, 0, 0, 1, 0, 0),
    ),
)
AT_STEPS = (
    ((1, 1, 0, 1, 1, 0), (0, 0, 1, 1 / 2, -2, 0), (0, 1, 0, 1 / 4, 4, 0), (0, 0, 1, 1 / 8, -8, 1)),
    (
        (1, 0, 0, 0, 0, 0),
        (0, 1, 1, 0, 0, 0),
        (0, 1, -1, 0, 0, 0),
        (0, 0, 0, 1, 0, 0),
        (0, 0, 0, 0, 1, 0),
        (0, 0, 0, 0, 0, 1),
    ),
)


def transposed(steps: Any) -> Any:
    """The transpose of a product: that of its factors, in reverse."""
    return [tuple(zip(*matrix)) for matrix in reversed(steps)]


# ---- the plans -------------------------------------------------------------------------------------------------------


def convolution(x: Any, w: Array, b: Array | None, to: list[Target], top: int, left: int, turned: bool = False) -> None:
    """y = b + x * w, with so many zeros above and to the left of x, and as many below and to the right as y needs.

    Parameters
    ----------
    x : (N, H, W, C) array or unfinished map
    w : (3, 3, C, K) array; (3, 3, K, C) if turned
    b : (K,) array or None
    to : one or two Targets with K channels together
        Written to, and their sums filled in.
    top, left : int
    turned : bool
        Turn the filters by 180 degrees and swap their channel axes: the data gradient.
    """
    first, second = sources(x)
    (N, OH, OW, _), dtype = to[0].y.shape, first.x.dtype
    if to[0].y.size == 0:
        return
    inputs, outputs = [first.x.shape[3], second.x.shape[3]], [t.y.shape[3] for t in to]
    width = lanes(dtype)
    depth = min(max(inputs), SLICE)
    panel, part = min(PANEL * width, _up(max(outputs), width)), _up(depth, width)
    tiles, panels = N * _ceil(OH, 4) * _ceil(OW, 4), sum(_ceil(K, panel) for K in outputs)
    slices = sum(_ceil(C, SLICE) for C in inputs)
    blocks = _ceil(tiles, TILES)
    count = _ceil(tiles, blocks)
    blocks = _ceil(tiles, count)
    shares = min(panels, _ceil(2 * workers(), blocks))  # if there are too few blocks, they share the panels
    ahead = blocks > 1 and 36 * sum(inputs) * panels * panel * dtype.itemsize <= AHEAD
    bias = np.zeros((2, panels, panel), dtype)  # zeros, and b filled up
    if b is not None:
        bias.reshape(2, -1)[1, : len(b)] = b  # with a bias there is one output
    intos = [t.into((blocks, 2, _up(K, panel))) for t, K in zip(to, outputs)]
    if len(intos) == 1:
        intos.append(Target(np.empty((N, OH, OW, 0), dtype)).into((1, 1, 1)))
    with alone():
        parts = panels * slices if ahead else workers()
        U = scratch("filters", (parts, 36 * (depth * panel + width)), dtype)
        V = scratch("inputs", (workers(), slices * 36 * (count * part + width)), dtype)
        M = scratch("outputs", (workers(), 36 * (count * panel + width)), dtype)
        squares = scratch("squares", (max(parts, workers()), max(36 * width, 9 * width * width)), dtype)
        w, pixels = ready(w), np.zeros(blocks)
        if ahead:
            transform_filters(w, U, squares, inputs[0], outputs[0], panel, turned)
        plan = top, left, count, shares, panel, ahead, turned
        convolve(first, second, w, bias, *intos, pixels, plan, U, V, M, squares)
    for t, i in zip(to, intos):
        t.gather(i, pixels)


def weight_gradient(x: Any, dy: Any, top: int, left: int) -> Array:
    """The gradient (3, 3, C, K) of the filters of `convolution`, from maps x (N, H, W, C) and dy (N, OH, OW, K)."""
    C, (N, OH, OW, K), dtype = x.shape[3], dy.shape, x.dtype
    if x.size == 0 or dy.size == 0:
        return np.zeros((3, 3, C, K), dtype)
    first, second = sources(x)
    width = lanes(dtype)
    panel = min(PANEL * width, _up(K, width))
    largest = max(first.x.shape[3], second.x.shape[3])
    tiles, channels = N * _ceil(OH, 4) * _ceil(OW, 4), _ceil(largest, _ceil(largest, CHANNELS))
    parts = sum(_ceil(s.x.shape[3], channels) for s in (first, second))
    splits = min(_ceil(tiles, GRADIENT_TILES), _ceil(ITEMS, _ceil(K, panel) * parts))
    count = min(GRADIENT_TILES, _ceil(tiles, splits))
    dw = empty((3, 3, C, K), dtype, lasting=True)
    with alone():
        split = dw[None] if splits == 1 else scratch("weight gradients", (splits, *dw.shape), dtype)
        V = scratch("inputs", (workers(), 36 * (count * _up(channels, width) + width)), dtype)
        D = scratch("outputs", (workers(), 36 * (count * panel + width)), dtype)
        S = scratch("filters", (workers(), 36 * (channels * panel + width)), dtype)
        squares = scratch("squares", (workers(), 36 * width), dtype)
        plan = top, left, count, channels, panel
        gradient = source(dy)
        correlate(first, second, gradient, split, np.zeros(panel, dtype), plan, V, D, S, squares)
        if splits > 1:
            split.sum(0, out=dw)
    return dw


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _up(n: int, width: int) -> int:
    """n rounded up to whole vectors."""
    return _ceil(n, width) * width


# ---- filters ---------------------------------------------------------------------------------------------------------

_filter = sandwich([G])
_filter_gradient = sandwich(transposed([G]))


@njit
def part_count(first, second, size):
    """Parts of at most `size` channels, none of which belongs to two maps of `first` and `second` channels."""
    return (first + size - 1) // size + (second + size - 1) // size


@njit
def part_of(n, first, second, size):
    """Part number n: which map (0 or 1), its first channel there, and how many."""
    parts = (first + size - 1) // size
    if n < parts:
        return 0, n * size, min(size, first - n * size)
    return 1, (n - parts) * size, min(size, second - (n - parts) * size)


@njit
def make_filters(U, u_point, wide, w, square, c0, depth, k0, real, turned):
    """U[36, depth, wide] = G w G^T, for input channels from c0 and `real` output channels from k0."""
    width = lanes_of(w)
    inputs, outputs = w.shape[2], w.shape[3]
    if not turned and real == wide:
        for c in range(depth):
            for k in range(0, wide, width):
                source = offset(pointer(w), (c0 + c) * outputs + k0 + k)
                _filter(source, 3 * inputs * outputs, inputs * outputs, offset(U, c * wide + k), 6 * u_point, u_point)
        return
    tap = width * width
    for k in range(0, real, width):
        columns = min(width, real - k)
        for c in range(0, depth, width):
            rows = min(width, depth - c)
            for n in range(9):  # square[tap, c, k]; turned: the last tap first, and the axes swapped
                to = offset(square, n * tap)
                if not turned:
                    for r in range(rows):
                        source = offset(pointer(w), (n * inputs + c0 + c + r) * outputs + k0 + k)
                        copy(offset(to, r * width), source, columns)
                    continue
                source = offset(pointer(w), ((8 - n) * inputs + k0 + k) * outputs + c0 + c)
                if rows == width and columns == width:
                    transpose(to, width, source, outputs)
                    continue
                for r in range(rows):
                    for q in range(columns):
                        to[r * width + q] = source[q * outputs + r]
            for r in range(rows):
                to = offset(U, (c + r) * wide + k)
                _filter(offset(square, r * width), 3 * tap, tap, to, 6 * u_point, u_point)


@kernel
def transform_filters(w, U, squares, c_first, k_first, panel, turned):
    """U (panels * slices, numbers): `make_filters` of every slice of every panel."""
    C, K = (w.shape[3], w.shape[2]) if turned else (w.shape[2], w.shape[3])
    slices = part_count(c_first, C - c_first, SLICE)
    width = lanes_of(w)
    u_point = min(max(c_first, C - c_first), SLICE) * panel + width
    for part in prange(U.shape[0]):
        c_map, c0, depth = part_of(part % slices, c_first, C - c_first, SLICE)
        k_map, k0, real = part_of(part // slices, k_first, K - k_first, panel)
        wide = (real + width - 1) // width * width
        make_filters(offset(pointer(U), part * U.shape[1]), u_point, wide, w,
                     offset(pointer(squares), part * squares.shape[1]), c0 + c_map * c_first, depth,
                     k0 + k_map * k_first, real, turned)  # fmt: skip


# ---- tiles -----------------------------------------------------------------------------------------------------------


def tile_reader(steps: Any) -> Any:
    """A numba function that reads, finishes and transforms tiles: V[point, tile, channels] = T X T^T."""
    size, plain = len(steps[-1][0]), sandwich(steps)
    relu, blend = sandwich(steps, load="relu"), sandwich(steps, load="blend")

    def read_tiles(V, v_point, v_tile, source, first, count, down, across, top, left, channel, channels, square):
        """For tiles from `first`; tile (0, 0) of an image starts at (-top, -left)."""
        _, H, W, C = source.x.shape
        width = lanes_of(source.x)
        for t in range(count):
            n, row, column = (first + t) // (down * across), (first + t) // across % down, (first + t) % across
            row, column = 4 * row - top, 4 * column - left
            inside = row >= 0 and column >= 0 and row + size <= H and column + size <= W
            at = ((n * H + row) * W + column) * C + channel
            for c in range(0, channels, width):
                to = offset(V, t * v_tile + c)
                if not inside or c + width > channels:
                    read_square(square, source, n, row, column, size, channel + c, min(width, channels - c))
                    plain(square, size * width, width, to, 6 * v_point, v_point)
                    continue
                x = offset(pointer(source.x), at + c)
                if source.mode == PLAIN:
                    plain(x, W * C, C, to, 6 * v_point, v_point)
                    continue
                table = offset(pointer(source.coefficients), channel + c)
                if source.mode == RELU:
                    relu(x, W * C, C, to, 6 * v_point, v_point, x, table, C)
                else:
                    other = offset(pointer(source.other), at + c)
                    blend(x, W * C, C, to, 6 * v_point, v_point, other, table, C)

    return njit(named(read_tiles, steps))


read_tiles = tile_reader(BT_STEPS)
read_gradient_tiles = tile_reader(transposed(AT_STEPS))

_output = sandwich(AT_STEPS)
_moments, _moments_stream = (sandwich_into(AT_STEPS, "moments", stream) for stream in (False, True))
_mask, _mask_stream = (sandwich_into(AT_STEPS, "mask", stream) for stream in (False, True))


@njit
def write_tiles(M, m_point, wide, into, block, first, count, down, across, k0, real, square):
    """y = A^T M A for tiles from `first` and `real` channels from k0, finished; returns the number of pixels."""
    _, OH, OW, K = into.y.shape
    width, sums_row, pixels = lanes_of(into.y), into.sums.shape[2], 0
    for t in range(count):
        n, row, column = (first + t) // (down * across), (first + t) // across % down, (first + t) % across
        rows, columns = min(4, OH - 4 * row), min(4, OW - 4 * column)
        here = rows * columns
        share = here / (pixels + here)
        weight = pixels * share
        at = ((n * OH + 4 * row) * OW + 4 * column) * K + k0
        for k in range(0, real, width):
            m, y = offset(M, t * wide + k), offset(pointer(into.y), at + k)
            sums = offset(pointer(into.sums), block * 2 * sums_row + k0 + k)
            if here < 16 or real - k < width:
                _output(m, 6 * m_point, m_point, square, 4 * width, width)
                write_square(square, rows, columns, min(width, real - k), into, at + k, k0 + k, sums, share, weight)
                continue
            raw, table = offset(pointer(into.raw), at + k), offset(pointer(into.coefficients), k0 + k)
            s, v = into.y.dtype.type(share), into.y.dtype.type(weight)
            if into.mode == MASK and into.stream:
                _mask_stream(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
            elif into.mode == MASK:
                _mask(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
            elif into.stream:
                _moments_stream(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
            else:
                _moments(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
        pixels += here
    settle()
    return pixels


# ---- the kernels -----------------------------------------------------------------------------------------------------


@kernel
def convolve(a, b, w, bias, to_a, to_b, pixels, plan, U, V, M, squares):
    """The forward loop of this file's head.

    Sources a and b (N, H, W, ...); Intos to_a and to_b (N, OH, OW, ...); w as for `convolution`; bias (2, panels, panel):
    zeros and b; pixels (blocks,), written to; U (panels * slices, numbers) if made ahead, else (threads, numbers) to work
    in, like V, M and squares.
    """
    top, left, tiles, shares, panel, ahead, turned = plan
    (N, OH, OW, Ka), Kb, Ca, Cb = shape_of(to_a), shape_of(to_b)[3], shape_of(a)[3], shape_of(b)[3]
    width = lanes_of(w)
    down, across = (OH + 3) // 4, (OW + 3) // 4
    blocks, panels, slices = pixels.size, part_count(Ka, Kb, panel), part_count(Ca, Cb, SLICE)
    deepest = min(max(Ca, Cb), SLICE)
    v_tile = (deepest + width - 1) // width * width
    # Steps from point to point are never a power of two: such addresses share one place in the L1 cache.
    u_point, v_point, m_point = deepest * panel + width, tiles * v_tile + width, tiles * panel + width
    for worker in prange(V.shape[0]):
        v, m = offset(pointer(V), worker * V.shape[1]), offset(pointer(M), worker * M.shape[1])
        square = offset(pointer(squares), worker * squares.shape[1])
        # Each worker takes its items in one piece: what is in its cache serves the next item too.
        read = -1
        for item in range(worker * blocks * shares // V.shape[0], (worker + 1) * blocks * shares // V.shape[0]):
            block, share = item // shares, item % shares
            first = block * tiles
            count = min(tiles, N * down * across - first)
            for s in range(0 if block == read else slices):
                c_map, c0, depth = part_of(s, Ca, Cb, SLICE)
                read_tiles(offset(v, s * 36 * v_point), v_point, v_tile, b if c_map else a, first, count, down, across,
                           top, left, c0, depth, square)  # fmt: skip
            read = block
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                k_map, k0, real = part_of(p, Ka, Kb, panel)
                wide = (real + width - 1) // width * width
                for s in range(slices):
                    c_map, c0, depth = part_of(s, Ca, Cb, SLICE)
                    if ahead:
                        u = offset(pointer(U), (p * slices + s) * U.shape[1])
                    else:
                        u = offset(pointer(U), worker * U.shape[1])
                        make_filters(u, u_point, wide, w, square, c0 + c_map * Ca, depth, k0 + k_map * Ka, real, turned)
                    for point in range(36):
                        to = offset(m, point * m_point)
                        init, init_row = to, wide
                        if s == 0:
                            init, init_row = offset(pointer(bias), ((point == 7) * panels + p) * panel), 0
                        multiply(wide // width, count, width, offset(v, (s * 36 + point) * v_point), v_tile, 1, 0,
                                 1, depth, offset(u, point * u_point), to, wide, init, init_row)  # fmt: skip
                written = write_tiles(m, m_point, wide, to_b if k_map else to_a, block, first, count, down, across,
                                      k0, real, square)  # fmt: skip
                if p == 0:
                    pixels[block] = written


@kernel
def correlate(a, b, dy, dw, zeros, plan, V, D, S, squares):
    """The weight gradient's loop of this file's head.

    Sources a, b (N, H, W, ...) and dy (N, OH, OW, K); dw (splits, 3, 3, C, K); zeros (panel,); V, D, S and squares
    (threads, numbers) to work in.
    """
    top, left, tiles, channels, panel = plan
    (N, OH, OW, K), Ca, Cb = shape_of(dy), shape_of(a)[3], shape_of(b)[3]
    width, C = lanes_of(zeros), Ca + Cb
    down, across = (OH + 3) // 4, (OW + 3) // 4
    panels, parts, splits = part_count(K, 0, panel), part_count(Ca, Cb, channels), dw.shape[0]
    v_tile = (channels + width - 1) // width * width
    v_point, d_point, s_point = tiles * v_tile + width, tiles * panel + width, channels * panel + width
    for worker in prange(V.shape[0]):
        v, d = offset(pointer(V), worker * V.shape[1]), offset(pointer(D), worker * D.shape[1])
        sums = offset(pointer(S), worker * S.shape[1])
        square = offset(pointer(squares), worker * squares.shape[1])
        for item in range(worker, splits * panels * parts, V.shape[0]):
            split = item // (panels * parts)
            _, k0, real = part_of(item // parts % panels, K, 0, panel)
            c_map, c0, part = part_of(item % parts, Ca, Cb, channels)
            wide = (real + width - 1) // width * width
            start, end = split * N * down * across // splits, (split + 1) * N * down * across // splits
            for first in range(start, end, tiles):
                count = min(tiles, end - first)
                read_tiles(v, v_point, v_tile, b if c_map else a, first, count, down, across, top, left, c0, part,
                           square)  # fmt: skip
                read_gradient_tiles(d, d_point, wide, dy, first, count, down, across, 0, 0, k0, real, square)
                for point in range(36):
                    to = offset(sums, point * s_point)
                    init, init_row = to, wide
                    if first == start:
                        init, init_row = pointer(zeros), 0
                    multiply(wide // width, part, width, offset(v, point * v_point), 1, v_tile, 0, 1, count,
                             offset(d, point * d_point), to, wide, init, init_row)  # fmt: skip
            for c in range(part):
                row = offset(pointer(dw), (split * 9 * C + c_map * Ca + c0 + c) * K + k0)
                for k in range(0, real, width):
                    source = offset(sums, c * wide + k)
                    if real - k >= width:
                        _filter_gradient(source, 6 * s_point, s_point, offset(row, k), 3 * C * K, C * K)
                        continue
                    _filter_gradient(source, 6 * s_point, s_point, square, 3 * width, width)
                    for tap in range(9):
                        copy(offset(row, tap * C * K + k), offset(square, tap * width), real - k)
