"""Lazy maps of every kind for the tests, and what they stand for."""

from __future__ import annotations

import numpy as np

from minunet.kernels.cpu.lazy_maps import Gradient, LazyAffine, NormGradient
from minunet.ops.lazy import LazyMap

ONE = ["array", "raw", "norm", "relu", "norm, relu", "gradient", "norm's gradient"]


def numbers(rng, shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def lazy_map(kind, rng, shape, dtype):
    """A map of this kind, and what it stands for, in a wider dtype."""
    x, (a, b, c) = numbers(rng, shape, dtype), (numbers(rng, shape[3], dtype) for _ in range(3))
    wide = x.astype(np.longdouble)
    match kind:
        case "array":
            return x, wide
        case "raw":
            return LazyAffine(x), wide
        case "norm":
            return LazyAffine(x, a, b, norm_mean=c), wide * a + b
        case "relu":
            return LazyAffine(x, relu=True), np.maximum(wide, 0)
        case "norm, relu":
            return LazyAffine(x, a, b, True, norm_mean=c), np.maximum(wide * a + b, 0)
        case "gradient":
            return Gradient(x, None), wide
        case _:
            dy = numbers(rng, shape, dtype)
            return NormGradient(dy, x, a, b, c), a * dy.astype(np.longdouble) + b * wide + c


def memory_of(x):
    """The arrays that a lazy map is made of."""
    if isinstance(x, np.ndarray):
        return [x]
    return [a for part in vars(x).values() if isinstance(part, np.ndarray | LazyMap) for a in memory_of(part)]
