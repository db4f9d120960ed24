"""The innermost loops of depthwise convolution: a block of columns, or of taps, with a vector of channels in each register.

Each vector of sums stays in a register over all taps (or columns). With eight of them, multiply-adds follow each other fast
enough, and a vector of filters is loaded once for eight columns.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import Vectors, address
from .simd_gemm import loop

_INT = ir.IntType(64)


def _gather_block(size):
    """The intrinsic for `size` columns: y[n] = init + sum over i, j of x[n, i, j] * w[i, j], each one vector.

    From column to column x and y move by x_n and y_n elements, from tap to tap x and w by x_i, x_j, w_i and w_j.
    """

    @intrinsic
    def block(typingctx, x, x_n, x_i, x_j, w, w_i, w_j, rows, columns, init, y, y_n):
        def codegen(context, builder, signature, args):
            x, x_n, x_i, x_j, w, w_i, w_j, rows, columns, init, y, y_n = args
            simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
            starts = [address(builder, x, builder.mul(x_n, ir.Constant(_INT, n))) for n in range(0, size, 3)]
            steps = [ir.Constant(_INT, 0), x_n, builder.mul(x_n, ir.Constant(_INT, 2))]
            many = len(starts)
            sums = [simd.load(init)] * size
            (w_row, *rest), close_rows = loop(builder, rows, [w, *starts, *sums])
            x_row, sums = rest[:many], rest[many:]
            (w_tap, *rest), close_columns = loop(builder, columns, [w_row, *x_row, *sums])
            x_tap, sums = rest[:many], rest[many:]
            factor = simd.load(w_tap)
            seen = [simd.load(address(builder, x_tap[n // 3], steps[n % 3])) for n in range(size)]
            sums = [simd.multiply_add(v, factor, total) for v, total in zip(seen, sums)]
            close_columns([address(builder, w_tap, w_j), *(address(builder, p, x_j) for p in x_tap), *sums])
            close_rows([address(builder, w_row, w_i), *(address(builder, p, x_i) for p in x_row), *sums])
            for n, total in enumerate(sums):
                simd.store(total, address(builder, y, builder.mul(y_n, ir.Constant(_INT, n))))
            return context.get_dummy_value()

        p, i = x, types.intp
        return types.void(p, i, i, i, p, i, i, i, i, p, p, i), codegen

    return block


gather8, gather4, gather1 = (_gather_block(size) for size in (8, 4, 1))


@intrinsic
def gather8_of_3(typingctx, x, x_n, x_i, w, w_i, w_j, rows, init, y, y_n):
    """As `gather8`, for three columns of taps that move by x_n, too: what neighbours share is loaded once."""

    def codegen(context, builder, signature, args):
        x, x_n, x_i, w, w_i, w_j, rows, init, y, y_n = args
        simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
        (x_row, w_row, *sums), close = loop(builder, rows, [x, w, *[simd.load(init)] * 8])
        seen = [simd.load(address(builder, x_row, builder.mul(x_n, ir.Constant(_INT, n)))) for n in range(10)]
        for j in range(3):
            factor = simd.load(address(builder, w_row, builder.mul(w_j, ir.Constant(_INT, j))))
            sums = [simd.multiply_add(v, factor, total) for v, total in zip(seen[j:], sums)]
        close([address(builder, x_row, x_i), address(builder, w_row, w_i), *sums])
        for n, total in enumerate(sums):
            simd.store(total, address(builder, y, builder.mul(y_n, ir.Constant(_INT, n))))
        return context.get_dummy_value()

    p, i = x, types.intp
    return types.void(p, i, i, p, i, i, i, p, p, i), codegen


def _correlate_block(rows, columns):
    """The intrinsic for rows x columns taps: sums[i, j] += sum over n of x[n, i, j] * dy[n], each one vector."""

    @intrinsic
    def block(typingctx, x, x_n, x_i, x_j, dy, dy_n, count, sums, sums_i, sums_j):
        def codegen(context, builder, signature, args):
            x, x_n, x_i, x_j, dy, dy_n, count, sums, sums_i, sums_j = args
            simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))

            def cells(p, row, column):
                heads = [address(builder, p, builder.mul(row, ir.Constant(_INT, i))) for i in range(rows)]
                steps = [builder.mul(column, ir.Constant(_INT, j)) for j in range(columns)]
                return heads, [(i, step) for i in range(rows) for step in steps]

            heads, taps = cells(sums, sums_i, sums_j)
            at = [address(builder, heads[i], step) for i, step in taps]
            heads, taps = cells(x, x_i, x_j)
            (dy_here, *rest), close = loop(builder, count, [dy, *heads, *(simd.load(p) for p in at)])
            heads, totals = rest[:rows], rest[rows:]
            factor = simd.load(dy_here)
            totals = [
                simd.multiply_add(simd.load(address(builder, heads[i], step)), factor, total)
                for (i, step), total in zip(taps, totals)
            ]
            close([address(builder, dy_here, dy_n), *(address(builder, p, x_n) for p in heads), *totals])
            for p, total in zip(at, totals):
                simd.store(total, p)
            return context.get_dummy_value()

        p, i = x, types.intp
        return types.void(p, i, i, i, p, i, i, p, i, i), codegen

    return block


correlate33, correlate13, correlate11 = (_correlate_block(*size) for size in ((3, 3), (1, 3), (1, 1)))
