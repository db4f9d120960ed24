"""Winograd's transforms F(4x4, 3x3), and how tiles and filters go through them; winograd.py convolves with them.

One row first. Four outputs of a filter of three taps, y[i] = d[i] g[0] + d[i+1] g[1] + d[i+2] g[2], read six inputs and take
twelve multiplications. Six are enough. To see this, look at the transposed problem: the product of two polynomials, of degree 2
(the filter, g) and 3 (four numbers, z), has degree 5. So its values at six points determine it, and each value is one product,
g(a) * z(a). With the points 0, 1, -1, 1/2, -2 and "infinity" (the value there is the leading coefficient):

    evaluate z at the six points          A z      (6, 4)    row of point a: 1, a, a^2, a^3
    evaluate g at the six points          G g      (6, 3)    row of point a: 1, a, a^2, divided by f(a)
    multiply                              A z * G g
    interpolate                           B (A z * G g)      column of a: the coefficients of m(x) / (x - a)

where m(x) = x (x - 1) (x + 1) (x - 1/2) (x + 2) = x^5 + 3/2 x^4 - 2 x^3 - 3/2 x^2 + x (its coefficients are the column of
infinity), and f(a) is m(x) / (x - a) at x = a. This is Lagrange's formula; its divisions are part of G, so that they are done
once for each filter. As a function of z this is a linear map, z -> B diag(G g) A z, which adds each z[i] g[j] to coefficient i
+ j of the product. Its transpose gathers d[i + j] g[j] into y[i], which is the convolution. So

    y = A^T (B^T d * G g)

    B^T =   1  -3/2   -2   3/2    1     0      G =      1      0      0      A^T =   1   1   1    1    1   0
            0   -1   1/2   5/2    1     0             1/3    1/3    1/3              0   1  -1  1/2   -2   0
            0    1  -5/2   1/2    1     0            -1/3    1/3   -1/3              0   1   1  1/4    4   0
            0   -2    -1     2    1     0          -16/15  -8/15  -4/15              0   1  -1  1/8   -8   1
            0   1/2   -1  -1/2    1     0            1/15  -2/15   4/15
            0    1  -3/2    -2   3/2    1               0      0      1

In two dimensions rows and columns are treated alike: Y = A^T [ (B^T X B) * (G g G^T) ] A. A tile of 4x4 outputs reads 6x6
inputs and takes 36 multiplications in place of 144.

Accuracy: the transforms subtract numbers larger than their results. For 128 to 128 channels on a 64x64 map the largest
error over the largest value is 3e-6 to 4.6e-6 in float32, by input (3.2e-6 for seed 0, which tests hold below 5e-6), where
a direct sum has 3e-7. The points matter: the usual 0, +-1, +-2 give 9e-6.

Operands: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional
Neural Networks, arXiv:1509.09308 (2015).
"""

from __future__ import annotations

from typing import Any

from numba import njit

from .epilogues import MASK, PLAIN, RELU, STORE, read_square, write_square
from .simd import clear, copy, lanes_of, named, offset, pointer, settle, transpose
from .simd_transform import sandwich, sandwich_into
from .winograd_matrices import AT_STEPS, BT_STEPS, G, transposed

# ---- filters ---------------------------------------------------------------------------------------------------------

_filter = sandwich([G])
filter_gradient = sandwich(transposed([G]))


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
        if columns < width:  # lanes that nobody reads: products with denormal numbers take 30 times as long
            clear(square, 9 * tap)
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


# ---- tiles -----------------------------------------------------------------------------------------------------------


def tile_reader(steps: Any) -> Any:
    """A numba function that reads, materializes and transforms tiles: V[point, tile, channels] = T X T^T."""
    size, plain = len(steps[-1][0]), sandwich(steps)
    relu, blend = sandwich(steps, load="relu"), sandwich(steps, load="blend")

    def read_tiles(V, v_point, v_tile, operand, first, count, down, across, top, left, channel, channels, square):
        """For tiles from `first`; tile (0, 0) of an image starts at (-top, -left)."""
        _, H, W, C = operand.x.shape
        width = lanes_of(operand.x)
        for t in range(count):
            n, row, column = (first + t) // (down * across), (first + t) // across % down, (first + t) % across
            row, column = 4 * row - top, 4 * column - left
            inside = row >= 0 and column >= 0 and row + size <= H and column + size <= W
            at = ((n * H + row) * W + column) * C + channel
            for c in range(0, channels, width):
                to = offset(V, t * v_tile + c)
                if not inside or c + width > channels:
                    read_square(square, operand, n, row, column, size, channel + c, min(width, channels - c))
                    plain(square, size * width, width, to, 6 * v_point, v_point)
                    continue
                x = offset(pointer(operand.x), at + c)
                if operand.mode == PLAIN:
                    plain(x, W * C, C, to, 6 * v_point, v_point)
                    continue
                table = offset(pointer(operand.coefficients), channel + c)
                if operand.mode == RELU:
                    relu(x, W * C, C, to, 6 * v_point, v_point, x, table, C)
                else:
                    other = offset(pointer(operand.other), at + c)
                    blend(x, W * C, C, to, 6 * v_point, v_point, other, table, C)

    return njit(named(read_tiles, steps))


read_tiles = tile_reader(BT_STEPS)
read_gradient_tiles = tile_reader(transposed(AT_STEPS))

_output, _output_stream = sandwich(AT_STEPS), sandwich(AT_STEPS, stream=True)
_moments, _moments_stream = (sandwich_into(AT_STEPS, "moments", stream) for stream in (False, True))
_mask, _mask_stream = (sandwich_into(AT_STEPS, "mask", stream) for stream in (False, True))


@njit
def write_tiles(M, m_point, wide, epilogue, block, first, count, down, across, k0, real, square):
    """y = A^T M A for tiles from `first` and `real` channels from k0, through the epilogue; returns the number of pixels."""
    _, OH, OW, K = epilogue.y.shape
    width, sums_row, pixels = lanes_of(epilogue.y), epilogue.sums.shape[2], 0
    for t in range(count):
        n, row, column = (first + t) // (down * across), (first + t) // across % down, (first + t) % across
        rows, columns = min(4, OH - 4 * row), min(4, OW - 4 * column)
        here = rows * columns
        share = here / (pixels + here)
        weight = pixels * share
        at = ((n * OH + 4 * row) * OW + 4 * column) * K + k0
        for k in range(0, real, width):
            m, y = offset(M, t * wide + k), offset(pointer(epilogue.y), at + k)
            sums = offset(pointer(epilogue.sums), block * 2 * sums_row + k0 + k)
            if here < 16 or real - k < width:
                _output(m, 6 * m_point, m_point, square, 4 * width, width)
                write_square(square, rows, columns, min(width, real - k), epilogue, at + k, k0 + k, sums, share, weight)
                continue
            if epilogue.mode == STORE:
                if epilogue.stream:
                    _output_stream(m, 6 * m_point, m_point, y, OW * K, K)
                else:
                    _output(m, 6 * m_point, m_point, y, OW * K, K)
                continue
            raw, table = offset(pointer(epilogue.raw), at + k), offset(pointer(epilogue.coefficients), k0 + k)
            s, v = epilogue.y.dtype.type(share), epilogue.y.dtype.type(weight)
            if epilogue.mode == MASK and epilogue.stream:
                _mask_stream(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
            elif epilogue.mode == MASK:
                _mask(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
            elif epilogue.stream:
                _moments_stream(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
            else:
                _moments(m, 6 * m_point, m_point, y, OW * K, K, raw, table, K, sums, sums_row, s, v)
        pixels += here
    settle()
    return pixels
