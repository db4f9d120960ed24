"""A register-blocked matrix product, the innermost loop of every convolution on the CPU.

A block (:func:`_block`) computes, for ROWS rows and VECTORS vectors of columns,

    for r in rows:                                c[r, :] = init[r, :]                 all of c sits in registers
    for t in range(taps), for k in range(depth):  c[r, :] += a[r, t, k] * b[t, k, :]   one vector load a vector of b,
                                                                                       one broadcast a row of a
and :func:`multiply` covers any number of rows with such blocks.

Sizes: with 32 registers (AVX-512, Arm) a block is 6 rows x 4 vectors, 12 x 2 or 24 x 1; with 16 registers (AVX2, SSE) it is 6 x
2 or 12 x 1. So the registers hold all of c, one row of b, and one broadcast number of a. A block should have at least 8 vectors
of c, because a multiply-add takes 4 cycles and two can start in each cycle.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .simd import REGISTERS, Vectors, address, named, offset

PANEL = 4 if REGISTERS == 32 else 2
"""Most vectors in a row of a block; packed matrices come in panels of PANEL vectors, the last one narrower."""

_ROWS = {1: (24, 8), 2: (12, 4), 3: (8, 4), 4: (6, 4)} if REGISTERS == 32 else {1: (12, 4), 2: (6, 4)}
"""Rows of the large and the middle block, by number of vectors; blocks of two rows and of one do the remaining rows."""

_INT = ir.IntType(64)


def loop(builder, count, start):
    """Open a loop of `count` >= 1 rounds that carries values; returns them as phis, and a function that closes it."""
    before, body = builder.block, builder.append_basic_block("loop")
    builder.branch(body)
    builder.position_at_end(body)
    carried = []
    for value in [ir.Constant(_INT, 0), *start]:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        carried.append(phi)

    def close(following):
        round_ = builder.add(carried[0], ir.Constant(_INT, 1))
        for phi, value in zip(carried, [round_, *following]):
            phi.add_incoming(value, builder.block)
        done = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", round_, count), body, done)
        builder.position_at_end(done)

    return carried[1:], close


def _block(rows, vectors):
    """The intrinsic for a block of `rows` x `vectors` vectors; its arguments are those of :func:`multiply`."""

    @intrinsic
    def block(typingctx, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row):
        def codegen(context, builder, signature, args):
            last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row = args
            simd = Vectors(builder, context.get_data_type(signature.args[1].dtype))
            width = simd.width

            def const(n):
                return ir.Constant(_INT, n)

            def cells(p, row):
                """Addresses of the block's vectors in a matrix with this many elements from row to row."""
                starts = [address(builder, p, builder.mul(row, const(r))) for r in range(rows)]
                return [address(builder, s, const(v * width)) for s in starts for v in range(vectors)]

            mask = simd.first(last)
            whole = builder.icmp_signed("==", last, const(width))

            # c = init: the last vector of each row by mask if it is not whole
            at = cells(init, init_row)
            tails = [n for n in range(rows * vectors) if n % vectors == vectors - 1]
            sums = [None if n in tails else simd.load(p) for n, p in enumerate(at)]
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    plain, plain_end = [simd.load(at[n]) for n in tails], builder.block
                with otherwise:
                    masked, masked_end = [simd.load_first(at[n], mask) for n in tails], builder.block
            for n, x, y in zip(tails, plain, masked):
                sums[n] = builder.phi(simd.type)
                sums[n].add_incoming(x, plain_end)
                sums[n].add_incoming(y, masked_end)

            # Every third row of a has its own pointer; the two after it are one and two row steps away.
            bases = [address(builder, a, builder.mul(a_row, const(r))) for r in range(0, rows, 3)]
            steps = [const(0), a_row, builder.mul(a_row, const(2))]
            (b_tap, *rest), close_taps = loop(builder, taps, [b, *bases, *sums])
            bases, sums = rest[: len(bases)], rest[len(bases) :]
            (b_k, *rest), close_depth = loop(builder, depth, [b_tap, *bases, *sums])
            at_k, sums = rest[: len(bases)], rest[len(bases) :]
            row_b = [simd.load(address(builder, b_k, const(v * width))) for v in range(vectors)]
            added = []
            for r in range(rows):
                number = simd.spread(builder.load(address(builder, at_k[r // 3], steps[r % 3])))
                for v in range(vectors):
                    added.append(simd.multiply_add(number, row_b[v], sums[r * vectors + v]))
            b_next = address(builder, b_k, const(vectors * width))
            close_depth([b_next, *(address(builder, p, a_k) for p in at_k), *added])
            close_taps([b_next, *(address(builder, p, a_tap) for p in bases), *added])

            at = cells(c, c_row)
            with builder.if_else(whole) as (then, otherwise):
                with then:
                    for n in tails:
                        simd.store(added[n], at[n])
                with otherwise:
                    for n in tails:
                        simd.store_first(added[n], at[n], mask)
            for n in range(rows * vectors):
                if n not in tails:
                    simd.store(added[n], at[n])
            return context.get_dummy_value()

        i, p = types.intp, a
        return types.void(i, p, i, i, i, i, i, p, p, i, p, i), codegen

    return block


def _rows_of_blocks(vectors):
    """A numba function that covers any number of rows with blocks of `vectors` vectors."""
    large, middle = _ROWS[vectors]
    block_large, block_middle, block2, block1 = (_block(rows, vectors) for rows in (large, middle, 2, 1))

    def product(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row):
        r = 0
        while r + large <= m:
            block_large(last, offset(a, r * a_row), a_row, a_k, a_tap, taps, depth, b,
                        offset(c, r * c_row), c_row, offset(init, r * init_row), init_row)  # fmt: skip
            r += large
        while r + middle <= m:
            block_middle(last, offset(a, r * a_row), a_row, a_k, a_tap, taps, depth, b,
                         offset(c, r * c_row), c_row, offset(init, r * init_row), init_row)  # fmt: skip
            r += middle
        while r + 2 <= m:
            block2(last, offset(a, r * a_row), a_row, a_k, a_tap, taps, depth, b,
                   offset(c, r * c_row), c_row, offset(init, r * init_row), init_row)  # fmt: skip
            r += 2
        if r < m:
            block1(last, offset(a, r * a_row), a_row, a_k, a_tap, taps, depth, b,
                   offset(c, r * c_row), c_row, offset(init, r * init_row), init_row)  # fmt: skip

    return njit(named(product, vectors))


_product1, _product2 = _rows_of_blocks(1), _rows_of_blocks(2)
_product3, _product4 = (_rows_of_blocks(3), _rows_of_blocks(4)) if PANEL == 4 else (_product2, _product2)


@njit
def multiply(vectors, m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row):
    """c[r, :] = init[r, :] + sum over t, k of a[r, t, k] * b[t, k, :], for m rows; all steps in elements.

    Parameters
    ----------
    vectors : int
        Vectors in a row of b and c, 1 to PANEL.
    m : int
        Rows of a, c and init.
    last : int
        Numbers in the last vector of each row of c and init, 1 to lanes(dtype); numbers beyond are not touched.
    a, a_row, a_k, a_tap : pointer, int, int, int
        The number a[r, t, k] lies at a + r*a_row + t*a_tap + k*a_k.
    taps, depth : int
        Terms of the sum, both at least 1.
    b : pointer
        (taps, depth, vectors * lanes) numbers one after the other, the last vector filled up with anything finite.
    c, c_row : pointer, int
    init, init_row : pointer, int
        The values to start from: c itself to add to it, or a bias with init_row 0.
    """
    if vectors == 1:
        _product1(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
    elif vectors == 2:
        _product2(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
    elif vectors == 3:
        _product3(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
    else:
        _product4(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
