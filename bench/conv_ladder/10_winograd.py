"""Winograd: fewer multiplications.

Before: nearly all instructions were multiply-adds and none waited. To be faster, do less. Two outputs of a filter of three
taps take six multiplications,

    y[0] = d[0] g[0] + d[1] g[1] + d[2] g[2]            y[1] = d[1] g[0] + d[2] g[1] + d[3] g[2]

and four are enough (multiply out to check):

    m0 = (d[0] - d[2]) g[0]                             y[0] = m0 + m1 + m2
    m1 = (d[1] + d[2]) (g[0] + g[1] + g[2]) / 2         y[1] = m1 - m2 - m3
    m2 = (d[2] - d[1]) (g[0] - g[1] + g[2]) / 2
    m3 = (d[1] - d[3]) g[2]

In matrices y = A^T [(B^T d) * (G g)], and for tiles of 2 x 2 outputs, which read 4 x 4 inputs, the same is done to rows and
columns, Y = A^T [(B^T X B) * (G g G^T)] A: 16 multiplications in place of 36, 2.25 times fewer. The transforms are additions,
and each serves many: B^T X B all K filters, G g G^T all tiles, and A^T M A comes after the sum over channels. That sum
is a matrix product again, one for each of the 16 points of a tile:

    U[16, C, K] = G w G^T                                           once
    for each row of tiles (two rows of the output):                 in parallel
        V[16, tiles, C] = B^T X B
        for each of the 16 points:   M[point] = V[point] @ U[point]     the register block of the last rungs
        y = A^T M A

`sandwich` in minunet/kernels/cpu/simd_transform.py makes vector code out of a transform's matrix. At the borders, where parts
of a tile do not exist, tiles go through a small square with zeros around.

The price: V, M and the transforms' own loads and stores, so it does not reach 2.25 times the last rung; expect 1.2 to 1.6. The
accuracy does not suffer yet: the transforms add errors of their own, but the sums have C terms instead of 9*C, and the largest
error is about half of the last rung's. GFLOP/s are counted as if it multiplied as often as the others, so they may exceed what
the machine can do.

Source: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, arXiv:1509.09308 (2015).
"""

import numpy as np
from numba import get_num_threads, njit, prange

from minunet.kernels.cpu.simd import clear, copy, lanes, lanes_of, offset, pointer
from minunet.kernels.cpu.simd_gemm import PANEL, multiply
from minunet.kernels.cpu.simd_transform import sandwich

BT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
G = ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1))
AT = ((1, 1, 1, 0), (0, 1, -1, -1))

_read_tile, _write_tile = sandwich([BT]), sandwich([AT])


def conv(x, w):
    """Convolve x (N, H, W, C) with w (3, 3, C, K), zeros around x: y (N, H, W, K)."""
    (N, H, W, C), K = x.shape, w.shape[3]
    width, tiles, workers = lanes(x.dtype), (W + 1) // 2, get_num_threads()
    panels, depth = -(-K // (PANEL * width)), -(-C // width) * width
    U = np.zeros((16, C, panels * PANEL * width), np.float32)  # K filled up to whole panels
    U[:, :, :K] = filters(w)
    U = np.ascontiguousarray(U.reshape(16, C, panels, -1).swapaxes(1, 2))  # (16, panels, C, panel)
    # A step of a power of two from point to point would put all points into one place of the L1 cache: add a vector.
    V = np.empty((workers, 16, tiles * depth + width), np.float32)
    M = np.empty((workers, 16, tiles * panels * PANEL * width + width), np.float32)
    y, squares = np.empty((N, H, W, K), np.float32), np.empty((workers, 16 * width), np.float32)
    tile_rows(x, U, V, M, squares, np.zeros(PANEL * width, np.float32), y)
    return y


def filters(w):
    """G w G^T for every pair of channels: (3, 3, C, K) to (16, C, K)."""
    C, K = w.shape[2:]
    g = np.array(G, np.float32)
    rows = (g @ w.reshape(3, -1)).reshape(4, 3, C * K)  # the first G, on the filters' rows
    return (g @ rows).reshape(16, C, K)  # the other, on their columns


@njit
def read_square(to, x, n, top, left, c):
    """to[4, 4, width] = the pixels of a tile, with zeros where there are none, and where there are no more channels."""
    (_, H, W, C), width = x.shape, lanes_of(x)
    clear(to, 16 * width)
    for i in range(max(0, -top), min(4, H - top)):
        for j in range(max(0, -left), min(4, W - left)):
            at = ((n * H + top + i) * W + left + j) * C + c
            copy(offset(to, (4 * i + j) * width), offset(pointer(x), at), min(width, C - c))


@njit
def write_square(square, y, n, row, column, k):
    """Write those of the 2 x 2 pixels and of the channels from k on that there are."""
    (_, H, W, K), width = y.shape, lanes_of(y)
    for i in range(min(2, H - row)):
        for j in range(min(2, W - column)):
            at = ((n * H + row + i) * W + column + j) * K + k
            copy(offset(pointer(y), at), offset(square, (2 * i + j) * width), min(width, K - k))


@njit(parallel=True)
def tile_rows(x, U, V, M, squares, zeros, y):
    """x (N, H, W, C), U (16, panels, C, panel), y (N, H, W, K); V, M and squares are (threads, ...) to work in."""
    (N, H, W, K), C = y.shape, x.shape[3]
    width = lanes_of(x)
    panels, panel = U.shape[1], U.shape[3]
    down, tiles, depth = (H + 1) // 2, (W + 1) // 2, (C + width - 1) // width * width
    for worker in prange(len(V)):
        v, m = offset(pointer(V), worker * V[0].size), offset(pointer(M), worker * M[0].size)
        square = offset(pointer(squares), worker * squares.shape[1])
        v_point, m_point, m_row = V.shape[2], M.shape[2], panels * panel
        for item in range(worker, N * down, len(V)):
            n, row = item // down, 2 * (item % down)
            for t in range(tiles):  # a tile of the input begins a row above and a column left of its outputs
                top, left = row - 1, 2 * t - 1
                inside = top >= 0 and left >= 0 and top + 4 <= H and left + 4 <= W
                for c in range(0, C, width):
                    to = offset(v, t * depth + c)
                    if inside and c + width <= C:
                        source = offset(pointer(x), ((n * H + top) * W + left) * C + c)
                        _read_tile(source, W * C, C, to, 4 * v_point, v_point)
                    else:
                        read_square(square, x, n, top, left, c)
                        _read_tile(square, 4 * width, width, to, 4 * v_point, v_point)
            for point in range(16):
                for p in range(panels):
                    u = offset(pointer(U), (point * panels + p) * C * panel)
                    multiply(PANEL, tiles, width, offset(v, point * v_point), depth, 1, 0, 1, C, u,
                             offset(m, point * m_point + p * panel), m_row, pointer(zeros), 0)  # fmt: skip
            for t in range(tiles):
                inside = row + 2 <= H and 2 * t + 2 <= W
                for k in range(0, K, width):
                    source = offset(m, t * m_row + k)
                    if inside and k + width <= K:
                        to = offset(pointer(y), ((n * H + row) * W + 2 * t) * K + k)
                        _write_tile(source, 4 * m_point, m_point, to, W * K, K)
                    else:
                        _write_tile(source, 4 * m_point, m_point, square, 2 * width, width)
                        write_square(square, y, n, row, 2 * t, k)
