"""Explicit vector code for the CPU kernels: typed pointers, copies, and a register-blocked matrix product.

Why explicit vectors. A convolution spends its time in one inner loop, c += a * b. A core can start two such vector
multiply-adds in each cycle, 16 float32 numbers wide with AVX-512, but only if all c stay in registers: a matrix product
that reads and writes c in memory is bound by loads and stores and reaches a tenth of that. Compilers turn plain loops
into vector code, yet do not keep a block of c in registers across a loop. So the innermost block is written here as
vector instructions, in LLVM's own notation (numba hands its functions to LLVM, and an ``@intrinsic`` emits its
instructions itself). Everything around the block is ordinary numba code.

The block (:func:`_block`) computes, for ROWS rows and VECTORS vectors of columns,

    for r in rows:                                c[r, :] = init[r, :]                 all of c sits in registers
    for t in range(taps), for k in range(depth):  c[r, :] += a[r, t, k] * b[t, k, :]   one vector load a vector of b,
                                                                                       one broadcast a row of a
and :func:`multiply` covers any number of rows with such blocks.

Sizes: a register holds VECTOR_BYTES bytes; with 32 registers (AVX-512, Arm) a block is 6 rows x 4 vectors, 12 x 2 or
24 x 1, with 16 registers (AVX2, SSE) 6 x 2 or 12 x 1: all of c, one row of b, and one broadcast a. At least 8 vectors
of c are wanted: a multiply-add takes 4 cycles and two start in each. The width comes from the features of the CPU that
numba compiles for. To try another one set both NUMBA_CPU_NAME=haswell and NUMBA_CPU_FEATURES=+avx2,+fma: the name alone
leaves this machine's features on.
"""

from __future__ import annotations

import hashlib
import platform

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

_features = set(cpu_target.target_context.codegen()._get_host_cpu_features().split(","))
_avx512 = "+avx512f" in _features
VECTOR_BYTES = 64 if _avx512 else 32 if {"+avx2", "+fma"} <= _features else 16
REGISTERS = 32 if _avx512 or platform.machine().lower() in ("aarch64", "arm64") else 16

PANEL = 4 if REGISTERS == 32 else 2
"""Most vectors in a row of a block; packed matrices come in panels of PANEL vectors, the last one narrower."""

_ROWS = {1: (24, 8), 2: (12, 4), 3: (8, 4), 4: (6, 4)} if REGISTERS == 32 else {1: (12, 4), 2: (6, 4)}
"""Rows of the large and the middle block by number of vectors; what remains goes by two and one."""

_INT = ir.IntType(64)
_BYTE = ir.IntType(8)


def lanes(dtype) -> int:
    """Numbers of this dtype in one vector register."""
    return VECTOR_BYTES // dtype.itemsize


def named(function, *what):
    """Give a function that was made in another one, from the numbers `what`, a name of its own, before numba compiles it.

    numba makes linker symbols from a function's name and a number that counts the functions of this process. Code from
    numba's cache brings the numbers of the process that compiled it, so two such functions of one name can come to share a
    symbol, and then the wrong one is called.
    """
    digest = hashlib.sha256(repr(what).encode()).hexdigest()[:16]
    function.__qualname__ = function.__name__ = f"{function.__name__}_{digest}"
    return function


@intrinsic
def lanes_of(typingctx, array):
    """`lanes` of an array's or pointer's dtype, inside a kernel."""

    def codegen(context, builder, signature, args):
        return ir.Constant(_INT, VECTOR_BYTES // (signature.args[0].dtype.bitwidth // 8))

    return types.intp(array), codegen


# ---- pointers: as in C, `offset(p, n)` is p + n elements -------------------------------------------------------------
# A pointer does not keep its array alive: take it only from arrays that the kernel was given as arguments.


@intrinsic
def pointer(typingctx, array):
    """Pointer to an array's first element."""

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def offset(typingctx, p, n):
    """The pointer p moved by n elements."""

    def codegen(context, builder, signature, args):
        return _at(builder, args[0], args[1])

    return p(p, types.intp), codegen


@intrinsic
def copy(typingctx, to, source, n):
    """Copy n elements; the two must not overlap."""

    def codegen(context, builder, signature, args):
        size = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        cgutils.raw_memcpy(builder, args[0], args[1], args[2], size)
        return context.get_dummy_value()

    return types.void(to, source, types.intp), codegen


@intrinsic
def clear(typingctx, to, n):
    """Set n elements to zero."""

    def codegen(context, builder, signature, args):
        size = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        cgutils.memset(builder, args[0], builder.mul(args[1], ir.Constant(_INT, size)), 0)
        return context.get_dummy_value()

    return types.void(to, types.intp), codegen


@intrinsic
def settle(typingctx):
    """Wait until streamed vectors are where others see them."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def add_where_equal(typingctx, to, source, numbers, number):
    """Add to a vector the elements of the other one whose number, a byte each, is this one."""

    def codegen(context, builder, signature, args):
        to, source, numbers, number = args
        simd = _Vectors(builder, context.get_data_type(signature.args[0].dtype))
        bytes_ = ir.VectorType(_BYTE, simd.width)
        seen = builder.load(builder.bitcast(numbers, bytes_.as_pointer()))
        seen.align = 1
        wanted = simd.spread(builder.trunc(number, _BYTE))
        chosen = builder.select(
            builder.icmp_signed("==", seen, wanted), simd.load(source), ir.Constant(simd.type, None)
        )
        simd.store(builder.fadd(simd.load(to), chosen), to)
        return context.get_dummy_value()

    return types.void(to, source, numbers, types.intp), codegen


@intrinsic
def transpose(typingctx, to, to_row, source, source_row):
    """Transpose a square block of lanes x lanes numbers; the steps from row to row are in elements.

    In registers: rows n and n + 2^s swap a quarter of the square between them, for s = log2(lanes) - 1 down to 0.
    """

    def codegen(context, builder, signature, args):
        to, to_row, source, source_row = args
        simd = _Vectors(builder, context.get_data_type(signature.args[0].dtype))
        size = simd.width
        numbers = [ir.Constant(_INT, n) for n in range(size)]
        rows = [simd.load(_at(builder, source, builder.mul(source_row, n))) for n in numbers]
        half = size // 2
        while half:
            swapped = list(rows)
            for n in range(size):
                if not n & half:
                    low = [lane if not lane & half else size + lane - half for lane in range(size)]
                    high = [lane + half if not lane & half else size + lane for lane in range(size)]
                    swapped[n] = simd.shuffle(rows[n], rows[n + half], low)
                    swapped[n + half] = simd.shuffle(rows[n], rows[n + half], high)
            rows, half = swapped, half // 2
        for n, row in zip(numbers, rows):
            simd.store(row, _at(builder, to, builder.mul(to_row, n)))
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), codegen


def _at(builder, p, n):
    return builder.gep(p, [n])


# ---- the block -------------------------------------------------------------------------------------------------------


class _Vectors:
    """Emits vector instructions for elements of one LLVM type; element pointers in, vectors out."""

    def __init__(self, builder, element):
        self.builder = builder
        self.size = 4 if isinstance(element, ir.FloatType) else 8
        self.width = VECTOR_BYTES // self.size
        self.type = ir.VectorType(element, self.width)
        self.suffix = f"v{self.width}f{8 * self.size}"

    def _call(self, name, result, args):
        function = ir.FunctionType(result, [a.type for a in args])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function, name), args)

    def _cast(self, p):
        return self.builder.bitcast(p, self.type.as_pointer())

    def load(self, p):
        vector = self.builder.load(self._cast(p))
        vector.align = self.size
        return vector

    def store(self, vector, p):
        self.builder.store(vector, self._cast(p)).align = self.size

    def stream(self, vector, p):
        """Store past the caches, without reading the line first; p must be aligned to whole vectors."""
        instruction = self.builder.store(vector, self._cast(p))
        instruction.align = VECTOR_BYTES
        one = self.builder.module.add_metadata([ir.IntType(32)(1)])
        instruction.set_metadata("nontemporal", one)

    def load_first(self, p, mask):
        """Load the lanes of the mask, zeros elsewhere; memory outside of the mask is not touched."""
        args = [self._cast(p), ir.Constant(ir.IntType(32), self.size), mask, ir.Constant(self.type, None)]
        return self._call(f"llvm.masked.load.{self.suffix}.p0", self.type, args)

    def store_first(self, vector, p, mask):
        args = [vector, self._cast(p), ir.Constant(ir.IntType(32), self.size), mask]
        self._call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), args)

    def spread(self, scalar):
        """A vector with the same number in every lane."""
        undefined = ir.Constant(ir.VectorType(scalar.type, self.width), ir.Undefined)
        one = self.builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        return self.shuffle(one, undefined, [0] * self.width)

    def shuffle(self, a, b, lanes):
        """Lanes of a (0 to width - 1) and b (from width on) in a new order."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), self.width), lanes))

    def multiply_add(self, a, b, c):
        """a * b + c: one instruction where the CPU has it, two where not."""
        return self._call(f"llvm.fmuladd.{self.suffix}", self.type, [a, b, c])

    def combine(self, numbers, vectors):
        """The sum of number * vector for constant numbers; zeros are left out, ones are only added."""
        terms = sorted(((n, v) for n, v in zip(numbers, vectors) if n), key=lambda term: term[0] != 1)
        total = None
        for n, vector in terms:
            factor = ir.Constant(self.type, [float(n)] * self.width)
            if total is None:
                total = vector if n == 1 else self.builder.fmul(factor, vector)
            elif n in (1, -1):
                total = (self.builder.fadd if n == 1 else self.builder.fsub)(total, vector)
            else:
                total = self.multiply_add(factor, vector, total)
        return total

    def clip(self, vector):
        """max(vector, 0); a NaN stays one."""
        zero = ir.Constant(self.type, None)
        return self.builder.select(self.builder.fcmp_ordered(">", zero, vector), zero, vector)

    def where_positive(self, condition, vector):
        """The vector's numbers where the condition's are positive, zeros elsewhere."""
        zero = ir.Constant(self.type, None)
        return self.builder.select(self.builder.fcmp_ordered(">", condition, zero), vector, zero)

    def total(self, vectors):
        """The sum of vectors, added in pairs: more of them at a time, and smaller errors."""
        while len(vectors) > 1:
            pairs = [self.builder.fadd(a, b) for a, b in zip(vectors[::2], vectors[1::2])]
            vectors = pairs + vectors[len(pairs) * 2 :]
        return vectors[0]

    def first(self, n):
        """The mask of the first n lanes."""
        count = ir.Constant(ir.VectorType(ir.IntType(64), self.width), list(range(self.width)))
        return self.builder.icmp_signed("<", count, self.spread(n))


def _loop(builder, count, start):
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
            simd = _Vectors(builder, context.get_data_type(signature.args[1].dtype))
            width = simd.width

            def const(n):
                return ir.Constant(_INT, n)

            def cells(p, row):
                """Addresses of the block's vectors in a matrix with this many elements from row to row."""
                starts = [_at(builder, p, builder.mul(row, const(r))) for r in range(rows)]
                return [_at(builder, s, const(v * width)) for s in starts for v in range(vectors)]

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
            bases = [_at(builder, a, builder.mul(a_row, const(r))) for r in range(0, rows, 3)]
            steps = [const(0), a_row, builder.mul(a_row, const(2))]
            (b_tap, *rest), close_taps = _loop(builder, taps, [b, *bases, *sums])
            bases, sums = rest[: len(bases)], rest[len(bases) :]
            (b_k, *rest), close_depth = _loop(builder, depth, [b_tap, *bases, *sums])
            at_k, sums = rest[: len(bases)], rest[len(bases) :]
            row_b = [simd.load(_at(builder, b_k, const(v * width))) for v in range(vectors)]
            added = []
            for r in range(rows):
                number = simd.spread(builder.load(_at(builder, at_k[r // 3], steps[r % 3])))
                for v in range(vectors):
                    added.append(simd.multiply_add(number, row_b[v], sums[r * vectors + v]))
            b_next = _at(builder, b_k, const(vectors * width))
            close_depth([b_next, *(_at(builder, p, a_k) for p in at_k), *added])
            close_taps([b_next, *(_at(builder, p, a_tap) for p in bases), *added])

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
        Numbers in the last vector of each row of c and init, 1 to lanes(dtype); what lies beyond is not touched.
    a, a_row, a_k, a_tap : pointer, int, int, int
        The number a[r, t, k] lies at a + r*a_row + t*a_tap + k*a_k.
    taps, depth : int
        Terms of the sum, both at least 1.
    b : pointer
        (taps, depth, vectors * lanes) numbers one after the other, the last vector filled up with anything finite.
    c, c_row : pointer, int
    init, init_row : pointer, int
        What to start from: c itself to add to it, or a bias with init_row 0.
    """
    if vectors == 1:
        _product1(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
    elif vectors == 2:
        _product2(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
    elif vectors == 3:
        _product3(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
    else:
        _product4(m, last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, init, init_row)
