"""Explicit vector code for small constant matrices: Y = T X T^T for a square X of vectors, in registers.

Each entry of the squares is a vector of channels, so that the same few additions serve 16 channels at once:

    for each column j of X:     S[:, j] = T @ X[:, j]
    for each row i of S:        Y[i, :] = T @ S[i, :]

T is known when the code is made: a 0 costs nothing, a 1 an addition, other numbers a multiply-add. Entries that lie outside
of an image, or channels beyond a pixel's last one, are read as zeros, or not written, by masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .simd import _at, _Vectors, lanes_of, named

Matrix = Sequence[Sequence[float]]


def sandwich(matrix: Matrix, cut: str) -> Callable[..., None]:
    """Make the numba function that computes Y = T X T^T for a constant matrix T.

    Parameters
    ----------
    matrix : (m, n) numbers
        T, which takes a square of n x n vectors to one of m x m.
    cut : {"read", "write"}
        Whether X or Y is the square of which parts may not exist.

    Returns
    -------
    function of (source, row, column, to, to_row, to_column, top, bottom, left, right, numbers)
        X[i, j] lies at source + i*row + j*column and Y[i, j] at to + i*to_row + j*to_column, in elements. Of the square
        that may be cut there exist the rows from `top` up to `bottom`, the columns from `left` up to `right` (which may lie
        beyond the square), and of each vector the first `numbers`; the rest of memory is not touched.
    """
    size = len(matrix[0]) if cut == "read" else len(matrix)
    whole, part = _sandwich(matrix, ""), _sandwich(matrix, cut)

    def transform(source, row, column, to, to_row, to_column, top, bottom, left, right, numbers):
        if top <= 0 and left <= 0 and bottom >= size and right >= size and numbers >= lanes_of(source):
            whole(source, row, column, to, to_row, to_column, top, bottom, left, right, numbers)
        else:
            part(source, row, column, to, to_row, to_column, top, bottom, left, right, numbers)

    return njit(named(transform, matrix, cut))


def _sandwich(matrix: Matrix, cut: str) -> Any:
    """The intrinsic behind :func:`sandwich`, without masks if cut is empty."""
    m, n = len(matrix), len(matrix[0])

    @intrinsic
    def transform(typingctx, source, row, column, to, to_row, to_column, top, bottom, left, right, numbers):
        def codegen(context, builder, signature, args):
            source, row, column, to, to_row, to_column, *bounds = args
            simd = _Vectors(builder, context.get_data_type(signature.args[0].dtype))
            masks = _masks(builder, simd, bounds, {"read": n, "write": m}.get(cut, 0))

            def cell(p, i, j, row, column):
                steps = builder.add(builder.mul(row, row.type(i)), builder.mul(column, column.type(j)))
                return _at(builder, p, steps)

            columns = []
            for j in range(n):
                places = [cell(source, i, j, row, column) for i in range(n)]
                if cut == "read":
                    seen = [simd.load_first(p, masks[i][j]) for i, p in enumerate(places)]
                else:
                    seen = [simd.load(p) for p in places]
                columns.append([simd.combine(terms, seen) for terms in matrix])
            for i in range(m):
                for j, terms in enumerate(matrix):
                    y, place = simd.combine(terms, [c[i] for c in columns]), cell(to, i, j, to_row, to_column)
                    if cut == "write":
                        simd.store_first(y, place, masks[i][j])
                    else:
                        simd.store(y, place)
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, to, i, i, i, i, i, i, i), codegen

    return transform


def _masks(builder, simd, bounds, size):
    """The mask of each entry of a square: the first `numbers` lanes inside of the bounds, none outside."""
    top, bottom, left, right, numbers = bounds

    def inside(i, first, end):
        i = ir.Constant(first.type, i)
        return builder.and_(builder.icmp_signed("<=", first, i), builder.icmp_signed("<", i, end))

    rows, columns = ([inside(i, *ends) for i in range(size)] for ends in ((top, bottom), (left, right)))
    none = numbers.type(0)
    return [[simd.first(builder.select(builder.and_(r, c), numbers, none)) for c in columns] for r in rows]
