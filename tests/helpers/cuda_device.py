"""What the tests of the CUDA kernels run on: the emulator under one condition, or a GPU; and how answers are compared."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from minunet.array import to_numpy
from minunet.kernels import cuda as cuda_kernels
from minunet.kernels.cuda import emulator
from minunet.kernels.gpu import gpu_status
from minunet.ops import dispatch

from .tolerances import HALF_PLACE

CONDITIONS = [(schedule, eager) for schedule in emulator.SCHEDULES for eager in (False, True)]
"""Orders of the threads, and copies that land late or at once: a right kernel gives one answer under all of them."""

PARAMS = [
    *(pytest.param(c, id=f"{c[0]}, {'eager' if c[1] else 'late'}") for c in CONDITIONS),
    pytest.param("gpu", marks=pytest.mark.gpu),
]

GUARD = 1024  # bytes
EPS = {
    "exact": HALF_PLACE["float32"],
    "float32": HALF_PLACE["tf32"],
    **{k: HALF_PLACE[k] for k in ("float16", "bfloat16")},
}
"""Half of the last place of what is multiplied or stored: float32, TF32, float16, bfloat16."""


class Device:
    """Arrays between guards of NaN, on the emulated GPU or on a real one; `check` says whether a kernel hit a guard."""

    def __init__(self, xp, exact):
        self.xp, self.exact, self.memory = xp, exact, []

    def array(self, a, dtype=None):
        """A copy of `a`; bfloat16 as bits where NumPy stands for the GPU."""
        a = np.ascontiguousarray(a)
        if dtype == "bfloat16":
            a = to_bfloat16(a)
        a = a.astype(a.dtype if dtype in (None, "bfloat16") else dtype)
        memory = self.xp.full(a.nbytes + 2 * GUARD + 256, 255, np.uint8)
        start = -(memory.ctypes.data if self.xp is np else memory.data.ptr) % 256 + GUARD
        view = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
        view[...] = self.xp.asarray(a)
        self.memory.append((memory, start, start + a.nbytes))
        return self.bfloat(view) if dtype == "bfloat16" else view

    def empty(self, shape, dtype=np.float32):
        """NaN (or 255) everywhere: what a kernel does not write shows."""
        kind = np.dtype("uint16" if dtype == "bfloat16" else dtype)
        a = self.array(np.full(int(np.prod(shape)) * kind.itemsize, 255, np.uint8).view(kind).reshape(shape))
        return self.bfloat(a) if dtype == "bfloat16" else a

    def bfloat(self, bits):
        if self.xp is np:
            return bits
        return bits.view(pytest.importorskip("ml_dtypes").bfloat16)

    def check(self):
        for memory, start, stop in self.memory:
            bytes_ = to_numpy(memory)
            assert (bytes_[:start] == 255).all() and (bytes_[stop:] == 255).all(), "written outside of an array"


@contextlib.contextmanager
def device(condition, exact=False):
    """The emulator under a condition, or the GPU; skips with the reason where there is none."""
    if condition == "gpu":
        status = gpu_status()
        if not status:
            pytest.skip(status.reason)
        import cupy

        found = Device(cupy, False)
        yield found
    else:
        if reason := emulator.missing():
            pytest.skip(reason)
        found = Device(np, exact)
        with emulator.conditions(*condition, exact=exact):
            yield found
    found.check()


def through_kernels(monkeypatch, asked):
    """Let the CUDA kernels stand in for the ops on NumPy arrays too; `asked` collects the names of those that did."""

    def choose(name, *args, **options):
        kernel = cuda_kernels.kernel_for(name, *args, **options)
        if kernel:
            asked.add(name)
        return kernel

    monkeypatch.setattr(dispatch, "find_kernel", choose)


def to_bfloat16(a):
    """The nearest bfloat16 numbers' bits, ties to even."""
    bits = np.asarray(a, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def values(a, dtype="float32"):
    """A map's values in float64; bfloat16 from its bits."""
    a = to_numpy(a)
    if dtype == "bfloat16":
        a = (a.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return a.astype(np.float64)


def stored(a, dtype):
    """What a map of a dtype holds of float64 numbers, in float64: the reference starts from the same."""
    return values(to_bfloat16(a), dtype) if dtype == "bfloat16" else np.asarray(a, dtype).astype(np.float64)


def near(found, wanted, eps, terms=1, dtype="float32"):
    """Assert that found differs from float64 values by rounding only: that of sums of `terms` products, and of storage."""
    found, wanted = values(found, dtype), np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    sums = 4 * (eps * np.sqrt(terms) + EPS["exact"]) * np.sqrt(np.mean(wanted**2))
    limit = sums + (0 if dtype == "float32" else EPS[dtype] * np.abs(wanted)) + 1e-30
    error = np.abs(found - wanted) / limit
    assert error.max() <= 1, (
        f"{error.max():.3g} times what rounding may do, at {np.unravel_index(error.argmax(), error.shape)}"
    )
