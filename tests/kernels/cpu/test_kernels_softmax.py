"""exp and log of vectors against float64, and softmax where numbers are infinite, missing or few."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cpu_kernels import DTYPES, assert_close, fast, numbers, plain
from numba import njit, types
from numba.extending import intrinsic

from minunet.kernels.cpu import simd_softmax
from minunet.kernels.cpu.simd import VECTOR_BYTES, Vectors, offset, pointer
from minunet.kernels.cpu.simd_softmax import EXP_ULP, LOG_ULP

pytestmark = pytest.mark.usefixtures("small_arrays_too")


def of_vectors(emit):
    """A function of a float32 array whose size is a multiple of a vector's, from what emits that of a vector."""

    @intrinsic
    def one(typingctx, to, source):
        def codegen(context, builder, signature, args):
            simd = Vectors(builder, context.get_data_type(signature.args[0].dtype))
            simd.store(emit(simd, simd.load(args[1])), args[0])
            return context.get_dummy_value()

        return types.void(to, source), codegen

    @njit
    def run(to, source, width):
        for n in range(0, source.size, width):
            one(offset(pointer(to), n), offset(pointer(source), n))

    def function(x):
        y = np.empty_like(x)
        run(y, x, VECTOR_BYTES // x.itemsize)
        return y

    return function


def every(step):
    """Every step-th float32 there is, and the special ones."""
    x = np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([np.array([0, -0.0, np.inf, -np.inf, np.nan], np.float32), x])
    return x[: x.size // 16 * 16]


def worst(found, exact):
    """The largest error in units in the last place; where the right answer is no finite float32, found must be it."""
    rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    return (np.abs(found - exact)[finite] / np.spacing(np.abs(rounded[finite]))).max()


def check_exp():
    x = np.concatenate([every(997), np.linspace(-104, 89, 1 << 20, dtype=np.float32)])
    with np.errstate(all="ignore"):
        assert worst(of_vectors(simd_softmax.exp)(x), np.exp(x.astype(np.float64))) <= EXP_ULP


def check_log():
    x = every(997)
    x = x[np.isnan(x) | (x >= np.finfo(np.float32).tiny) & (x < np.inf)]
    x = np.concatenate([x, np.linspace(0.5, 10, 1 << 20, dtype=np.float32)])
    x = x[: x.size // 16 * 16]
    with np.errstate(all="ignore"):
        assert worst(of_vectors(simd_softmax.log)(x), np.log(x.astype(np.float64))) <= LOG_ULP


def test_exp():
    check_exp()


def test_log():
    check_log()


@pytest.mark.parametrize(
    ("check", "name", "wrong"),
    [
        (check_exp, "_P", (*simd_softmax._P[:-1], 0.50001)),
        (check_exp, "_LOG2_REST", 0.0),
        (check_log, "_Q", (*simd_softmax._Q[:-1], 0.33332)),
        (check_log, "_SQRT_HALF_BITS", 0x3F000000),
    ],
)
def test_a_wrong_constant_is_found(check, name, wrong, monkeypatch):
    monkeypatch.setattr(simd_softmax, name, wrong)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("K", [1, 2, 3, 8, 33])
def test_softmax_of_any_number_of_pixels(K, dtype, rng):
    for pixels in (1, 2, 7, 15, 16, 17, 63, 64, 65, 130):
        x = 5 * numbers(rng, (1, 1, pixels, K), dtype)
        assert_close(fast("softmax", x)[0], plain("softmax", x)[0], K)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_infinite_and_missing_numbers(dtype, rng):
    """A NaN or plus infinity makes its own pixel NaN, as in the plain op; minus infinity is a probability of 0."""
    x = numbers(rng, (1, 5, 23, 3), dtype)
    broken = rng.random(x.shape) < 0.1
    x[broken] = rng.choice([np.nan, np.inf], broken.sum())
    x[0, 0, :4], x[0, 1, :4, 1] = 1, -np.inf
    x[0, 1, :4, ::2], x[0, 2, 0], x[0, 2, 1] = 0.5, -np.inf, (-90, 0, -104)
    with np.errstate(invalid="ignore"):
        y, expected = fast("softmax", x)[0], plain("softmax", x)[0]
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    np.testing.assert_allclose(y, expected, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-44)
    assert np.isnan(y[0, 2, 0]).all()
    np.testing.assert_array_equal(y[0, 1, :4], np.broadcast_to(np.array([0.5, 0, 0.5], dtype), (4, 3)))
