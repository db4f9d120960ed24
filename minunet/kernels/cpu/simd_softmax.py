"""Softmax for a vector of pixels at a time, with exp and log of vectors.

Compilers do not turn a loop of calls of libm's exp into vector code, and each call takes some ten nanoseconds. In float32:

    exp(x)     n = x / log 2, rounded;   r = x - n log 2, so |r| <= log(2) / 2;   exp(x) = 2^n * (1 + r + r^2 P(r))
    log(x)     x = 2^n * (1 + f) with 1 + f between sqrt(1/2) and sqrt(2);        log(x) = n log 2 + f - f^2 / 2 + f^3 Q(f)

with log 2 as the sum of two numbers, of which n times the first is exact, and P and Q the polynomials of Cephes (S. L. Moshier,
expf.c and logf.c). Errors are at most EXP_ULP and LOG_ULP units in the last place of the result, with or without fused
multiply-adds; results that are subnormal or infinite are right, too, and a NaN stays one. float64 calls libm.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import Vectors, address
from .simd_gemm import loop

EXP_ULP = LOG_ULP = 1

_P = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_Q = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
      2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_LOG2, _LOG2_REST = 0.693359375, -2.12194440e-4
_ROUND = 1.5 * 2**23  # added to a smaller number, it leaves that number's nearest integer in the last bits
_ROUND_BITS, _SQRT_HALF_BITS, _ONE_BITS, _MANTISSA = 0x4B400000, 0x3F3504F3, 0x3F800000, 23


@intrinsic
def softmax_vectors(typingctx, pixels, K, z, p, work, row):
    """p = softmax(z) for at least one pixel, of z and p (pixels, K).

    Row K of `work` (K + 2, row) then has each pixel's largest number, row K + 1 the log of the sum of exp(number - largest).
    Lanes beyond the last pixel compute the last one again.
    """

    def codegen(context, builder, signature, args):
        pixels, K, z, p, work, row = args
        simd = Vectors(builder, context.get_data_type(signature.args[2].dtype))
        lanes, width, one = range(simd.width), ir.Constant(row.type, simd.width), ir.Constant(row.type, 1)
        last = builder.sub(pixels, one)
        vectors = builder.sdiv(builder.add(last, width), width)
        (first, to), close = loop(builder, vectors, [ir.Constant(row.type, 0), work])
        places = []
        for lane in lanes:
            n = builder.add(first, ir.Constant(row.type, lane))
            places.append(builder.mul(builder.select(builder.icmp_signed("<", n, last), n, last), K))

        def gather(k):
            numbers = ir.Constant(simd.type, ir.Undefined)
            for lane, place in zip(lanes, places):
                number = builder.load(address(builder, z, builder.add(place, k)))
                numbers = builder.insert_element(numbers, number, ir.Constant(ir.IntType(32), lane))
            return numbers

        (k, top), close_k = loop(builder, K, [ir.Constant(row.type, 0), gather(ir.Constant(row.type, 0))])
        number = gather(k)
        top_now = builder.select(builder.fcmp_ordered(">", number, top), number, top)
        close_k([builder.add(k, one), top_now])

        (k, e, total), close_k = loop(builder, K, [ir.Constant(row.type, 0), to, ir.Constant(simd.type, None)])
        power = exp(simd, builder.fsub(gather(k), top_now))
        simd.store(power, e)
        after, total_now = address(builder, e, row), builder.fadd(total, power)
        close_k([builder.add(k, one), after, total_now])
        simd.store(top_now, after)
        simd.store(log(simd, total_now), address(builder, after, row))

        part = builder.fdiv(_all(simd, 1), total_now)
        (k, e), close_k = loop(builder, K, [ir.Constant(row.type, 0), to])
        share = builder.fmul(simd.load(e), part)
        for lane, place in zip(lanes, places):
            number = builder.extract_element(share, ir.Constant(ir.IntType(32), lane))
            builder.store(number, address(builder, p, builder.add(place, k)))
        close_k([builder.add(k, one), address(builder, e, row)])
        close([builder.add(first, width), address(builder, to, width)])
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, z, p, work, i), codegen


def exp(simd: Any, x: Any) -> Any:
    """Emits the exponential of a vector."""
    if simd.size == 8:
        return simd._call(f"llvm.exp.{simd.suffix}", simd.type, [x])
    builder, whole = simd.builder, ir.VectorType(ir.IntType(32), simd.width)
    for bound, beyond in ((-104, "<"), (89, ">")):  # exp of these is 0 and infinite
        x = builder.select(builder.fcmp_ordered(beyond, x, _all(simd, bound)), _all(simd, bound), x)
    shifted = simd.multiply_add(x, _all(simd, 1 / math.log(2)), _all(simd, _ROUND))
    n = builder.fsub(shifted, _all(simd, _ROUND))
    r = simd.multiply_add(n, _all(simd, -_LOG2), x)
    r = simd.multiply_add(n, _all(simd, -_LOG2_REST), r)
    tail = simd.multiply_add(_polynomial(simd, _P, r), builder.fmul(r, r), r)
    y = builder.fadd(tail, _all(simd, 1))
    n = builder.sub(builder.bitcast(shifted, whole), _integers(whole, _ROUND_BITS))
    half = builder.ashr(n, _integers(whole, 1))
    for part in (half, builder.sub(n, half)):  # 2^n in two factors, since 2^-149 is none
        bits = builder.add(builder.shl(part, _integers(whole, _MANTISSA)), _integers(whole, _ONE_BITS))
        y = builder.fmul(y, builder.bitcast(bits, simd.type))
    return y


def log(simd: Any, x: Any) -> Any:
    """Emits the logarithm of a vector of finite numbers that are positive and not subnormal, or NaNs."""
    if simd.size == 8:
        return simd._call(f"llvm.log.{simd.suffix}", simd.type, [x])
    builder, whole = simd.builder, ir.VectorType(ir.IntType(32), simd.width)
    bits = builder.bitcast(x, whole)
    n = builder.ashr(builder.sub(bits, _integers(whole, _SQRT_HALF_BITS)), _integers(whole, _MANTISSA))
    mantissa = builder.bitcast(builder.sub(bits, builder.shl(n, _integers(whole, _MANTISSA))), simd.type)
    f, n = builder.fsub(mantissa, _all(simd, 1)), builder.sitofp(n, simd.type)
    square = builder.fmul(f, f)
    tail = builder.fmul(builder.fmul(f, square), _polynomial(simd, _Q, f))
    tail = simd.multiply_add(n, _all(simd, _LOG2_REST), tail)
    tail = simd.multiply_add(square, _all(simd, -0.5), tail)
    y = simd.multiply_add(n, _all(simd, _LOG2), builder.fadd(f, tail))
    return builder.select(builder.fcmp_unordered("uno", x, x), x, y)


def _polynomial(simd: Any, factors: tuple[float, ...], x: Any) -> Any:
    """By Horner's rule, the factor of the highest power first."""
    total = _all(simd, factors[0])
    for factor in factors[1:]:
        total = simd.multiply_add(total, x, _all(simd, factor))
    return total


def _all(simd: Any, number: float) -> Any:
    """The same number in every lane; it must be a float32, since LLVM writes constants exactly."""
    return ir.Constant(simd.type, [float(number)] * simd.width)


def _integers(kind: Any, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count)
