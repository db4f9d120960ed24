"""The innermost loops of a 2x2 max-pool with stride 2 and of the ReLU's backward, for one vector of channels.

Each runs along a row of a map, whose pixels lie C numbers apart, and keeps coefficients and sums in registers:

    mask_vectors     for each pixel:    dx = dy where raw * scale + shift > 0, else 0
                                        sums += dx, dx * (raw - mean)
    pool_vectors     for each window:   v = max(x * scale + shift, floor) at its four pixels, one after the other
                                        y = the largest v, winner = the first pixel that has it
    unpool_vectors   for each window, for each of its four pixels:
                                        v = plus + (dy where this pixel has won), dx and sums as in mask_vectors from v

Coefficients lie in a table (3, C): scale, shift, mean; sums in (2, C) for each row of dx. The sums of a row are added pixel by
pixel, so that all kernels that mask find the same.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import Vectors, address
from .simd_gemm import loop
from .simd_transform import rows_of


@intrinsic
def mask_vectors(typingctx, pixels, dx, dy, raw, table, sums, C):
    """One row of at least one pixel."""

    def codegen(context, builder, signature, args):
        pixels, dx, dy, raw, table, sums, C = args
        simd = Vectors(builder, context.get_data_type(signature.args[1].dtype))
        mask = _Mask(simd, table, C)
        places = [sums, address(builder, sums, C)]
        (*at, first, second), close = loop(builder, pixels, [dx, dy, raw, *map(simd.load, places)])
        value, *totals = mask.apply(simd.load(at[1]), simd.load(at[2]), first, second)
        simd.store(value, at[0])
        close([*(address(builder, p, C) for p in at), *totals])
        for total, p in zip(totals, places):
            simd.store(total, p)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, dx, dy, raw, table, sums, i), codegen


@intrinsic
def pool_vectors(typingctx, windows, y, winner, x, row, table, C, floor):
    """At least one window; `row` numbers lie between a pixel of x and the one below."""

    def codegen(context, builder, signature, args):
        windows, y, winner, x, row, table, C, floor = args
        simd = Vectors(builder, context.get_data_type(signature.args[1].dtype))
        (scale, shift, _), floor = rows_of(simd, table, C), simd.spread(floor)
        integers = ir.VectorType(ir.IntType(8 * simd.size), simd.width)
        (y, winner, *lines), close = loop(builder, windows, [y, winner, x, address(builder, x, row)])
        pixels = [p for line in lines for p in (line, address(builder, line, C))]
        best, number = None, ir.Constant(integers, None)
        for tap, p in enumerate(pixels):
            value = simd.clip(simd.multiply_add(simd.load(p), scale, shift), floor)
            if best is None:
                best = value
                continue
            larger = builder.fcmp_ordered(">", value, best)
            best = builder.select(larger, value, best)
            number = builder.select(larger, ir.Constant(integers, [tap] * simd.width), number)
        simd.store(best, y)
        simd.store_bytes(number, winner)
        step = builder.add(C, C)
        close([address(builder, p, C) for p in (y, winner)] + [address(builder, p, step) for p in lines])
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, y, winner, x, i, table, i, x.dtype), codegen


@intrinsic
def unpool_vectors(typingctx, windows, dx, dy, winner, plus, raw, row, table, sums, C):
    """At least one window; dx, plus and raw begin at its upper left pixel; two rows of sums."""

    def codegen(context, builder, signature, args):
        windows, dx, dy, winner, plus, raw, row, table, sums, C = args
        simd = Vectors(builder, context.get_data_type(signature.args[1].dtype))
        mask = _Mask(simd, table, C)
        places = [sums]
        for _ in range(3):
            places.append(address(builder, places[-1], C))
        start = [dy, winner, dx, plus, raw, *(address(builder, p, row) for p in (dx, plus, raw))]
        (dy, winner, *rest), close = loop(builder, windows, [*start, *map(simd.load, places)])
        lines, totals = (rest[:3], rest[3:6]), (rest[6:8], rest[8:])
        gradient, number, none = simd.load(dy), simd.load_bytes(winner), ir.Constant(simd.type, None)
        pixels = [[[p, address(builder, p, C)] for p in line] for line in lines]
        # All loads come before the stores: rows often lie a multiple of 4096 bytes apart, and a load waits for an earlier
        # store to such an address.
        loaded = [[[simd.load(p) for p in pair] for pair in line[1:]] for line in pixels]
        for tap in range(4):
            i, j = tap // 2, tap % 2
            won = builder.icmp_signed("==", number, ir.Constant(number.type, [tap] * simd.width))
            value = builder.fadd(loaded[i][0][j], builder.select(won, gradient, none))
            value, *totals[i][:] = mask.apply(value, loaded[i][1][j], *totals[i])
            simd.store(value, pixels[i][0][j])
        step = builder.add(C, C)
        close([address(builder, p, C) for p in (dy, winner)]
              + [address(builder, p, step) for line in lines for p in line] + totals[0] + totals[1])  # fmt: skip
        for total, p in zip(totals[0] + totals[1], places):
            simd.store(total, p)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, dx, dy, winner, plus, raw, i, table, sums, i), codegen


class _Mask:
    """Emits the ReLU's backward for the vectors of one row."""

    def __init__(self, simd: Any, table: Any, C: Any) -> None:
        self.simd = simd
        self.scale, self.shift, self.mean = rows_of(simd, table, C)

    def apply(self, value: Any, raw: Any, first: Any, second: Any) -> tuple[Any, Any, Any]:
        """The masked value, and the two sums with it."""
        simd = self.simd
        value = simd.where_positive(simd.multiply_add(raw, self.scale, self.shift), value)
        second = simd.multiply_add(value, simd.builder.fsub(raw, self.mean), second)
        return value, simd.builder.fadd(first, value), second
