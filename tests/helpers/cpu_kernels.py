"""What the tests of the CPU kernels share: what to draw, how a kernel is called, and how close it must come to its plain twin.

The bound on a sum of n terms is eps * sqrt(n) of the largest value, times a factor of a few for the two sides' errors.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from minunet import ops, optim
from minunet.ops import dispatch

from .sizes import examples, unless_quick

DTYPES = [np.float32, *unless_quick(np.float64)]
dtypes = st.sampled_from(DTYPES)
relaxed = examples(40)
channel_counts = st.one_of(st.integers(1, 20), st.sampled_from([31, 33, 64, 65, 130]))
images = st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), channel_counts)


def numbers(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def assert_close(found, expected, terms=1, factor=4.0, scale=0.0):
    """Both None, or of one shape and dtype and apart by at most factor * eps * sqrt(terms) of the largest value.

    Where large terms cancel by design, `scale` is their size.
    """
    if expected is None:
        assert found is None
        return
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if expected.size:
        error = np.abs(found.astype(np.float64) - expected).max()
        assert error <= factor * np.finfo(expected.dtype).eps * terms**0.5 * max(scale, np.abs(expected).max()), error


def fast(name, *args, **options):
    """Call the kernel that is chosen; fail if it is the plain op."""
    kernel = dispatch.find_kernel(name, *args, **options)
    assert kernel is not None, f"no kernel was chosen for {name}"
    assert kernel.__module__.startswith("minunet.kernels.cpu.")
    return kernel(*args, **options)


def plain(name, *args, **options):
    return getattr(optim if name.endswith("_step") else ops, name).plain(*args, **options)


def check_untouched(call, *arrays):
    before = [a.copy() for a in arrays]
    result = call()
    for a, b in zip(arrays, before):
        np.testing.assert_array_equal(a, b)
    return result


def scattered(a):
    """The same numbers, not contiguous."""
    wide = np.empty((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def locked(a):
    a = a.copy()
    a.flags.writeable = False
    return a
