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
        V[36, tiles, C] = B^T X B
        for each panel, for each slice of input channels:
            U[36, slice, panel] = G w G^T, unless they were made ahead for all items
            for each of the 36 points:   M[point] += V[point, :, slice] @ U[point]          simd.multiply
        y = A^T M A

The bias is the map whose values are b everywhere, and only the point (1, 1) sees such a thing: M starts from b there.

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

import numpy as np
from numba import njit, prange

from ..array import Array
from .launch import alone, kernel, ready, scratch, workers
from .simd import PANEL, lanes, lanes_of, multiply, offset, pointer, transpose
from .simd_transform import sandwich

TILES = 64
GRADIENT_TILES = 32
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

_input_tile = sandwich(BT, cut="read")
_filter = sandwich(G, cut="read")
_output_tile = sandwich(AT, cut="write")
_gradient_tile = sandwich(tuple(zip(*AT)), cut="read")
_filter_gradient = sandwich(tuple(zip(*G)), cut="write")


# ---- the plans -------------------------------------------------------------------------------------------------------


def convolution(x: Array, w: Array, b: Array | None, y: Array, top: int, left: int, turned: bool = False) -> None:
    """y = b + x * w, with so many zeros above and to the left of x, and as many below and to the right as y needs.

    Parameters
    ----------
    x : (N, H, W, C) array
    w : (3, 3, C, K) array; (3, 3, K, C) if turned
    b : (K,) array or None
    y : (N, OH, OW, K) array, written to
    top, left : int
    turned : bool
        Turn the filters by 180 degrees and swap their channel axes: the data gradient.
    """
    (N, OH, OW, K), C, dtype = y.shape, x.shape[3], x.dtype
    if y.size == 0:
        return
    width = lanes(dtype)
    panel, part = min(PANEL * width, _up(K, width)), _up(min(C, SLICE), width)
    tiles, panels, slices = N * _ceil(OH, 4) * _ceil(OW, 4), _ceil(K, panel), _ceil(C, SLICE)
    blocks = _ceil(tiles, TILES)
    count = _ceil(tiles, blocks)
    shares = min(panels, _ceil(2 * workers(), blocks))  # if there are too few blocks, they share the panels
    ahead = blocks > 1 and 36 * C * panels * panel * dtype.itemsize <= AHEAD
    bias = np.zeros((2, panels * panel), dtype)  # zeros, and b filled up
    if b is not None:
        bias[1, :K] = b
    with alone():
        parts = panels * slices if ahead else workers()
        U = scratch("filters", (parts, 36 * (min(C, SLICE) * panel + width)), dtype)
        V = scratch("inputs", (workers(), slices * 36 * (count * part + width)), dtype)
        M = scratch("outputs", (workers(), 36 * (count * panel + width)), dtype)
        squares = scratch("squares", (parts, 9 * width * width), dtype)
        x, w = ready(x), ready(w)
        if ahead:
            transform_filters(w, U, squares, C, K, panel, turned)
        convolve(x, w, bias, y, (top, left, count, shares, panel, ahead, turned), U, V, M, squares)


def weight_gradient(x: Array, dy: Array, top: int, left: int) -> Array:
    """The gradient (3, 3, C, K) of the filters of `convolution`, from x (N, H, W, C) and dy (N, OH, OW, K)."""
    C, (N, OH, OW, K), dtype = x.shape[3], dy.shape, x.dtype
    if x.size == 0 or dy.size == 0:
        return np.zeros((3, 3, C, K), dtype)
    width = lanes(dtype)
    panel = min(PANEL * width, _up(K, width))
    tiles, channels = N * _ceil(OH, 4) * _ceil(OW, 4), _ceil(C, _ceil(C, CHANNELS))
    splits = min(_ceil(tiles, GRADIENT_TILES), _ceil(ITEMS, _ceil(K, panel) * _ceil(C, channels)))
    count = min(GRADIENT_TILES, _ceil(tiles, splits))
    dw = np.empty((3, 3, C, K), dtype)
    with alone():
        parts = dw[None] if splits == 1 else scratch("weight gradients", (splits, *dw.shape), dtype)
        V = scratch("inputs", (workers(), 36 * (count * _up(channels, width) + width)), dtype)
        D = scratch("outputs", (workers(), 36 * (count * panel + width)), dtype)
        S = scratch("filters", (workers(), 36 * (channels * panel + width)), dtype)
        plan = top, left, count, channels, panel
        correlate(ready(x), ready(dy), parts, np.zeros(panel, dtype), plan, V, D, S)
        if splits > 1:
            parts.sum(0, out=dw)
    return dw


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _up(n: int, width: int) -> int:
    """n rounded up to whole vectors."""
    return _ceil(n, width) * width


# ---- the kernels -----------------------------------------------------------------------------------------------------


@njit
def make_filters(U, u_point, wide, w, square, c0, depth, k0, real, turned):
    """U[36, depth, wide] = G w G^T, for input channels from c0 and `real` output channels from k0."""
    width = lanes_of(w)
    inputs, outputs = w.shape[2], w.shape[3]
    if not turned:
        for c in range(depth):
            for k in range(0, real, width):
                source = offset(pointer(w), (c0 + c) * outputs + k0 + k)
                _filter(source, 3 * inputs * outputs, inputs * outputs, offset(U, c * wide + k), 6 * u_point, u_point,
                        0, 3, 0, 3, real - k)  # fmt: skip
        return
    tap = width * width
    for k in range(0, real, width):
        columns = min(width, real - k)
        for c in range(0, depth, width):
            rows = min(width, depth - c)
            for n in range(9):  # square[tap, c, k] = w[tap, k, c]
                source = offset(pointer(w), (n * inputs + k0 + k) * outputs + c0 + c)
                if rows == width and columns == width:
                    transpose(offset(square, n * tap), width, source, outputs)
                    continue
                for r in range(rows):
                    for q in range(columns):
                        square[n * tap + r * width + q] = source[q * outputs + r]
            for r in range(rows):  # from the last tap to the first: turned
                _filter(offset(square, 8 * tap + r * width), -3 * tap, -tap, offset(U, (c + r) * wide + k),
                        6 * u_point, u_point, 0, 3, 0, 3, columns)  # fmt: skip


@kernel
def transform_filters(w, U, squares, C, K, panel, turned):
    """U (panels * slices, numbers): `make_filters` of every slice of every panel."""
    slices = (C + SLICE - 1) // SLICE
    width = lanes_of(w)
    u_point = min(C, SLICE) * panel + width
    for part in prange(U.shape[0]):
        k0, c0 = part // slices * panel, part % slices * SLICE
        real = min(panel, K - k0)
        wide = (real + width - 1) // width * width
        make_filters(offset(pointer(U), part * U.shape[1]), u_point, wide, w,
                     offset(pointer(squares), part * squares.shape[1]), c0, min(SLICE, C - c0), k0, real,
                     turned)  # fmt: skip


@njit
def read_tiles(V, v_point, v_tile, x, first, count, down, across, row0, column0, channel, channels):
    """V[36, count, channels] = B^T X B for tiles from `first`; tile (0, 0) of an image starts at (row0, column0)."""
    _, H, W, C = x.shape
    for t in range(count):
        n, row, column = (first + t) // (down * across), (first + t) // across % down, (first + t) % across
        row, column = row0 + 4 * row, column0 + 4 * column
        source = offset(pointer(x), ((n * H + row) * W + column) * C + channel)
        for c in range(0, channels, lanes_of(x)):
            _input_tile(offset(source, c), W * C, C, offset(V, t * v_tile + c), 6 * v_point, v_point,
                        -row, H - row, -column, W - column, channels - c)  # fmt: skip


@kernel
def convolve(x, w, bias, y, plan, U, V, M, squares):
    """The forward loop of this file's head.

    x (N, H, W, C); y (N, OH, OW, K); w as for `convolution`; bias (2, K filled up): zeros and b; U (panels * slices, numbers)
    if made ahead, else (threads, numbers) to work in, like V, M and squares.
    """
    top, left, tiles, shares, panel, ahead, turned = plan
    (_, _, _, C), (N, OH, OW, K) = x.shape, y.shape
    width = lanes_of(x)
    down, across = (OH + 3) // 4, (OW + 3) // 4
    blocks = (N * down * across + tiles - 1) // tiles
    panels, slices = (K + panel - 1) // panel, (C + SLICE - 1) // SLICE
    v_tile = (min(C, SLICE) + width - 1) // width * width
    # Steps from point to point are never a power of two: such addresses share one place in the L1 cache.
    u_point, v_point, m_point = min(C, SLICE) * panel + width, tiles * v_tile + width, tiles * panel + width
    for worker in prange(V.shape[0]):
        v, m = offset(pointer(V), worker * V.shape[1]), offset(pointer(M), worker * M.shape[1])
        square = offset(pointer(squares), worker * squares.shape[1])
        for item in range(worker, blocks * shares, V.shape[0]):
            first, share = item // shares * tiles, item % shares
            count = min(tiles, N * down * across - first)
            for s in range(slices):
                read_tiles(offset(v, s * 36 * v_point), v_point, v_tile, x, first, count, down, across, -top, -left,
                           s * SLICE, min(SLICE, C - s * SLICE))  # fmt: skip
            for p in range(share * panels // shares, (share + 1) * panels // shares):
                k0 = p * panel
                real = min(panel, K - k0)
                wide = (real + width - 1) // width * width
                for s in range(slices):
                    depth = min(SLICE, C - s * SLICE)
                    if ahead:
                        u = offset(pointer(U), (p * slices + s) * U.shape[1])
                    else:
                        u = offset(pointer(U), worker * U.shape[1])
                        make_filters(u, u_point, wide, w, square, s * SLICE, depth, k0, real, turned)
                    for point in range(36):
                        to = offset(m, point * m_point)
                        init, init_row = to, wide
                        if s == 0:
                            init, init_row = offset(pointer(bias), k0 + (point == 7) * bias.shape[1]), 0
                        multiply(wide // width, count, width, offset(v, (s * 36 + point) * v_point), v_tile, 1, 0,
                                 1, depth, offset(u, point * u_point), to, wide, init, init_row)  # fmt: skip
                for t in range(count):
                    n, row, column = (first + t) // (down * across), (first + t) // across % down, (first + t) % across
                    to = offset(pointer(y), ((n * OH + 4 * row) * OW + 4 * column) * K + k0)
                    for k in range(0, real, width):
                        _output_tile(offset(m, t * wide + k), 6 * m_point, m_point, offset(to, k), OW * K, K,
                                     0, OH - 4 * row, 0, OW - 4 * column, real - k)  # fmt: skip


@kernel
def correlate(x, dy, dw, zeros, plan, V, D, S):
    """The weight gradient's loop of this file's head.

    x (N, H, W, C); dy (N, OH, OW, K); dw (splits, 3, 3, C, K); zeros (panel,); V, D, S (threads, numbers) to work in.
    """
    top, left, tiles, channels, panel = plan
    C, (N, OH, OW, K) = x.shape[3], dy.shape
    width = lanes_of(x)
    down, across = (OH + 3) // 4, (OW + 3) // 4
    panels, parts, splits = (K + panel - 1) // panel, (C + channels - 1) // channels, dw.shape[0]
    v_tile = (channels + width - 1) // width * width
    v_point, d_point, s_point = tiles * v_tile + width, tiles * panel + width, channels * panel + width
    for worker in prange(V.shape[0]):
        v, d = offset(pointer(V), worker * V.shape[1]), offset(pointer(D), worker * D.shape[1])
        sums = offset(pointer(S), worker * S.shape[1])
        for item in range(worker, splits * panels * parts, V.shape[0]):
            split, k0, c0 = item // (panels * parts), item // parts % panels * panel, item % parts * channels
            part, real = min(channels, C - c0), min(panel, K - k0)
            wide = (real + width - 1) // width * width
            start, end = split * N * down * across // splits, (split + 1) * N * down * across // splits
            for first in range(start, end, tiles):
                count = min(tiles, end - first)
                read_tiles(v, v_point, v_tile, x, first, count, down, across, -top, -left, c0, part)
                for t in range(count):
                    n, row, column = (first + t) // (down * across), (first + t) // across % down, (first + t) % across
                    source = offset(pointer(dy), ((n * OH + 4 * row) * OW + 4 * column) * K + k0)
                    for k in range(0, real, width):
                        _gradient_tile(offset(source, k), OW * K, K, offset(d, t * wide + k), 6 * d_point, d_point,
                                       0, OH - 4 * row, 0, OW - 4 * column, real - k)  # fmt: skip
                for point in range(36):
                    to = offset(sums, point * s_point)
                    init, init_row = to, wide
                    if first == start:
                        init, init_row = pointer(zeros), 0
                    multiply(wide // width, part, width, offset(v, point * v_point), 1, v_tile, 0, 1, count,
                             offset(d, point * d_point), to, wide, init, init_row)  # fmt: skip
            for c in range(part):
                to = offset(pointer(dw), (split * 9 * C + c0 + c) * K + k0)
                for k in range(0, real, width):
                    _filter_gradient(offset(sums, c * wide + k), 6 * s_point, s_point, offset(to, k), 3 * C * K, C * K,
                                     0, 3, 0, 3, real - k)  # fmt: skip
