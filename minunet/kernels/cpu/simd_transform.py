"""Small matrices applied from both sides to a square of vectors, Y = T X T^T: the transforms of Winograd's algorithm.

X is a square of n x n pixels and each entry a vector of channels; T is a constant (m, n) matrix that is known when the
kernel is compiled. The sums are written out term by term, so that zeros cost nothing, ones only an addition, and
everything stays in vector registers:

    for each column j of X:   column j of Z = T x (column j of X)        n * m sums, Z is (m, n)
    for each row i of Z:      row i of Y = T x (row i of Z)              m * m sums

T may be given as a product of sparser matrices, `steps`, which are applied one after the other, the last one first. Then terms
that several rows have in common are computed only once.

A lazy map's values are computed as they are read, and sums of the results are taken as they are written. All this happens while
the values are in registers, so it costs next to nothing.

    load="relu"          X = max(x * scale + shift, 0)
    load="blend"         X = a * x + b * other + c
    epilogue="moments"   the mean and the squared deviations of Y's entries are merged into sums, as in norm.py
    epilogue="mask"      Y = 0 where raw * scale + shift <= 0; Y and Y * (raw - mean) are added to sums

Coefficients lie one row after the other (`table`, rows `table_row` apart), sums likewise. Squares at the edge of an image go
through a copy that is filled up with zeros (`epilogues.read_square`), so that nothing here has to look at bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import Vectors, address

Steps = Sequence[Sequence[Sequence[float]]]


def sandwich(steps: Steps, load: str = "plain", stream: bool = False) -> Any:
    """Make the numba function that computes Y = T X T^T for a constant matrix T.

    Parameters
    ----------
    steps : matrices
        Their product is T (m, n), which takes a square of n x n vectors to one of m x m.
    load : {"plain", "relu", "blend"}
        What is done to the numbers read.
    stream : bool
        Write past the caches, for results that are larger than they are; every vector of Y must be aligned.

    Returns
    -------
    function of (source, row, column, to, to_row, to_column), and with a load also (other, table, table_row)
        X[i, j] lies at source + i*row + j*column (and beside it, at the same distance from `other`, the second map) and
        Y[i, j] at to + i*to_row + j*to_column, in elements.
    """
    size = len(steps[-1][0])
    if load == "plain":

        @intrinsic
        def plain(typingctx, source, row, column, to, to_row, to_column):
            def codegen(context, builder, signature, args):
                source, row, column, *target = args
                simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
                columns = zip(*_cells(builder, source, row, column, size))
                square = _apply(simd, steps, ([simd.load(p) for p in at] for at in columns))
                _store(simd, square, *target, stream)
                return context.get_dummy_value()

            i = types.intp
            return types.void(source, i, i, to, i, i), codegen

        return plain

    @intrinsic
    def loading(typingctx, source, row, column, to, to_row, to_column, other, table, table_row):
        def codegen(context, builder, signature, args):
            source, row, column, to, to_row, to_column, other, table, table_row = args
            simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
            a, b, c = rows_of(simd, table, table_row)

            def value(p, beside):
                if load == "relu":
                    return simd.clip(simd.multiply_add(simd.load(p), a, b))
                return simd.multiply_add(simd.load(p), a, simd.multiply_add(simd.load(beside), b, c))

            cells = (zip(*_cells(builder, first, row, column, size)) for first in (source, other))
            columns = ([value(*places) for places in zip(*pair)] for pair in zip(*cells))
            _store(simd, _apply(simd, steps, columns), to, to_row, to_column, stream)
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, to, i, i, other, table, i), codegen

    return loading


def sandwich_into(steps: Steps, epilogue: str, stream: bool = False) -> Any:
    """The same with an epilogue: something is done to Y before it is stored.

    Parameters
    ----------
    steps, stream : as for `sandwich`
    epilogue : {"moments", "mask"}

    Returns
    -------
    function of (source, row, column, to, to_row, to_column, raw, table, table_row, sums, sums_row, share, weight)
        raw lies as Y does. For "moments" share and weight are n / (n + old) and old * n / (n + old), where n = m*m and `old`
        is the number of values that the sums hold already.
    """

    @intrinsic
    def storing(
        typingctx, source, row, column, to, to_row, to_column, raw, table, table_row, sums, sums_row, share, weight
    ):
        def codegen(context, builder, signature, args):
            source, row, column, to, to_row, to_column, raw, table, table_row, sums, sums_row, share, weight = args
            simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
            columns = zip(*_cells(builder, source, row, column, len(steps[-1][0])))
            square = _apply(simd, steps, ([simd.load(p) for p in at] for at in columns))
            places = [sums, address(builder, sums, sums_row)]
            first, second = (simd.load(p) for p in places)
            if epilogue == "moments":
                first, second = _merge(simd, square, first, second, share, weight)
            else:
                scale, shift, mean = rows_of(simd, table, table_row)
                seen = _cells(builder, raw, to_row, to_column, len(steps[0]))
                for line, at in zip(square, seen):
                    for j, p in enumerate(at):
                        r = simd.load(p)
                        line[j] = simd.where_positive(simd.multiply_add(r, scale, shift), line[j])
                        first = builder.fadd(first, line[j])
                        second = simd.multiply_add(line[j], builder.fsub(r, mean), second)
            _store(simd, square, to, to_row, to_column, stream)
            for vector, p in zip((first, second), places):
                simd.store(vector, p)
            return context.get_dummy_value()

        i, number = types.intp, source.dtype
        return types.void(source, i, i, to, i, i, raw, table, i, sums, i, number, number), codegen

    return storing


def _apply(simd, steps, columns):
    """T X T^T, given X's columns one after the other: what is loaded is used at once, registers are few."""
    half = [_multiply(simd, steps, seen) for seen in columns]
    return [_multiply(simd, steps, line) for line in zip(*half)]


def _multiply(simd, steps, vectors):
    """T times a column of vectors."""
    for matrix in reversed(steps):
        vectors = [simd.combine(terms, vectors) for terms in matrix]
    return vectors


def _merge(simd, square, mean, squares, share, weight):
    """Merge the mean and the squared deviations of a square's entries into those so far."""
    builder, values = simd.builder, [v for line in square for v in line]
    part = ir.Constant(simd.type, [1 / len(values)] * simd.width)
    here = builder.fmul(simd.total(values), part)
    spread = simd.total([builder.fmul(d, d) for d in (builder.fsub(v, here) for v in values)])
    step = builder.fsub(here, mean)
    mean = simd.multiply_add(step, simd.spread(share), mean)
    spread = simd.multiply_add(builder.fmul(step, step), simd.spread(weight), spread)
    return mean, builder.fadd(squares, spread)


def _cells(builder, p, row, column, size):
    """Addresses of a square's entries."""
    rows = [address(builder, p, builder.mul(row, row.type(i))) for i in range(size)]
    return [[address(builder, r, builder.mul(column, column.type(j))) for j in range(size)] for r in rows]


def rows_of(simd, table, table_row):
    """The three coefficients of a vector of channels."""
    return [simd.load(address(simd.builder, table, simd.builder.mul(table_row, table_row.type(n)))) for n in range(3)]


def _store(simd, square, to, to_row, to_column, stream=False):
    for line, at in zip(square, _cells(simd.builder, to, to_row, to_column, len(square))):
        for vector, p in zip(line, at):
            (simd.stream if stream else simd.store)(vector, p)
