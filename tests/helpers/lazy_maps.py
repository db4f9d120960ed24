"""Lazy maps of every kind for the tests, and what they stand for."""

from __future__ import annotations

import numpy as np

from minunet.kernels.cpu.lazy_maps import Gradient, LazyAffine, NormGradient, ReluMask
from minunet.ops.lazy import LazyConcat, LazyMap

ONE = ["array", "raw", "norm", "relu", "norm, relu", "gradient", "norm's gradient"]


def numbers(rng, shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def lazy_map(kind, rng, shape, dtype):
    """A map of this kind, and what it stands for, in a wider dtype."""
    x, table = numbers(rng, shape, dtype), numbers(rng, (3, shape[3]), dtype)
    wide, (a, b, c) = x.astype(np.longdouble), table
    match kind:
        case "array":
            return x, wide
        case "raw":
            return LazyAffine(x), wide
        case "norm":
            return LazyAffine(x, table), wide * a + b
        case "relu":
            return LazyAffine(x, relu=True), np.maximum(wide, 0)
        case "norm, relu":
            return LazyAffine(x, table, relu=True), np.maximum(wide * a + b, 0)
        case "gradient":
            return Gradient(x, None), wide
        case _:
            dy = numbers(rng, shape, dtype)
            return NormGradient(dy, x, table), a * dy.astype(np.longdouble) + b * wide + c


def memory_of(x):
    """The arrays that a lazy map is made of."""
    if isinstance(x, np.ndarray):
        return [x]
    return [a for part in vars(x).values() if isinstance(part, np.ndarray | LazyMap) for a in memory_of(part)]


def distinct_bytes(cache, net):
    """Bytes of the distinct arrays in a cache, lazy maps' too, but for the parameters."""
    found, skip = {}, {id(p) for p in net.named_params().values()}

    def walk(part):
        if isinstance(part, (list, tuple)):
            for p in part:
                walk(p)
        elif isinstance(part, LazyConcat):
            walk((part.a, part.b))
        elif isinstance(part, (ReluMask, LazyAffine)):
            walk(part.x.raw if isinstance(part, ReluMask) else part.raw)
        elif isinstance(part, np.ndarray):
            whole = part
            while isinstance(whole.base, np.ndarray):
                whole = whole.base
            if id(part) not in skip and part.ndim > 1:
                found[id(whole)] = whole.nbytes - 64 * (whole.ndim == 1)  # those by which `empty` aligns

    walk(cache)
    return sum(found.values())
