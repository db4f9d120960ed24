"""Explicit vector code for the CPU kernels: typed pointers, copies, and vector instructions.

Why explicit vectors. A convolution spends its time in one inner loop, c += a * b. A core can start two such vector
multiply-adds in each cycle, 16 float32 numbers wide with AVX-512, but only if all c stay in registers: a matrix product
that reads and writes c in memory is bound by loads and stores and reaches a tenth of that. Compilers turn plain loops
into vector code, yet do not keep a block of c in registers across a loop. So innermost blocks are written as vector
instructions, in LLVM's own notation (numba compiles functions by LLVM, and an ``@intrinsic`` emits LLVM instructions itself):
the matrix product in simd_gemm.py, depthwise convolution in simd_depthwise.py, Winograd's transforms in simd_transform.py.
Everything around them is ordinary numba code.

A register holds VECTOR_BYTES bytes, which depends on the features of the CPU that numba compiles for. To try a narrower one,
set both NUMBA_CPU_NAME=haswell and NUMBA_CPU_FEATURES=+avx2,+fma: the name alone leaves this machine's features on.
"""

from __future__ import annotations

import hashlib
import platform
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

_features = set(cpu_target.target_context.codegen()._get_host_cpu_features().split(","))
_avx512 = "+avx512f" in _features
VECTOR_BYTES = 64 if _avx512 else 32 if {"+avx2", "+fma"} <= _features else 16
REGISTERS = 32 if _avx512 or platform.machine().lower() in ("aarch64", "arm64") else 16

_INT = ir.IntType(64)
_BYTE = ir.IntType(8)


def lanes(dtype: np.dtype) -> int:
    """Numbers of this dtype in one vector register."""
    return VECTOR_BYTES // dtype.itemsize


def named(function: Any, *what: Any) -> Any:
    """Give a function that another function makes, from the values `what`, a unique name, before numba compiles it.

    numba makes linker symbols from a function's name and a number that counts the functions of this process. Code from numba's
    cache has the numbers of the process that compiled it. So two such functions with the same name could get the same symbol,
    and the wrong one would be called.
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
        return address(builder, args[0], args[1])

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
    """Wait until streamed vectors are visible to other threads."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def add_where_equal(typingctx, to, source, numbers, number):
    """Add to the vector at `to` those elements of `source` whose byte in `numbers` equals `number`."""

    def codegen(context, builder, signature, args):
        to, source, numbers, number = args
        simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
        wanted = simd.spread(builder.trunc(number, _BYTE))
        chosen = builder.select(
            builder.icmp_signed("==", simd.load_bytes(numbers), wanted), simd.load(source), ir.Constant(simd.type, None)
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
        simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
        size = simd.width
        numbers = [ir.Constant(_INT, n) for n in range(size)]
        rows = [simd.load(address(builder, source, builder.mul(source_row, n))) for n in numbers]
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
            simd.store(row, address(builder, to, builder.mul(to_row, n)))
        return context.get_dummy_value()

    return types.void(to, types.intp, source, types.intp), codegen


def address(builder, p, n):
    """p + n elements, as an instruction."""
    return builder.gep(p, [n])


# ---- vectors ---------------------------------------------------------------------------------------------------------


class Vectors:
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

    def load_bytes(self, p):
        """As many bytes as a vector has numbers."""
        bytes_ = self.builder.load(self.builder.bitcast(p, ir.VectorType(_BYTE, self.width).as_pointer()))
        bytes_.align = 1
        return bytes_

    def store_bytes(self, integers, p):
        """The last byte of each integer."""
        bytes_ = self.builder.trunc(integers, ir.VectorType(_BYTE, self.width))
        self.builder.store(bytes_, self.builder.bitcast(p, bytes_.type.as_pointer())).align = 1

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

    def clip(self, vector, floor=None):
        """max(vector, floor), by default max(vector, 0); a NaN stays one."""
        floor = floor or ir.Constant(self.type, None)
        return self.builder.select(self.builder.fcmp_ordered(">", floor, vector), floor, vector)

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
