"""Initial weights; and weights that have shapes only, to count what a network would hold without taking memory for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

import numpy as np

from .module import Module

_here = local()


@contextmanager
def shapes_only() -> Iterator[None]:
    """A block in which this thread's layers are made without memory: their weights have a shape and one value, 0.

    Such a network can be counted and followed (`num_params`, `minunet.summary`), but not trained: its arrays are read-only.
    """
    before, _here.shapes_only = is_shapes_only(), True
    try:
        yield
    finally:
        _here.shapes_only = before


def is_shapes_only() -> bool:
    """Whether a block of `shapes_only` is running in this thread."""
    return getattr(_here, "shapes_only", False)


def constant(value: float, *shape: int) -> np.ndarray:
    """A float32 array of one value, such as a bias that starts at 0; within `shapes_only` without memory."""
    if is_shapes_only():
        return np.broadcast_to(np.float32(0), shape)
    return np.full(shape, value, np.float32)


def he_normal(shape: tuple[int, ...], rng: np.random.Generator | None = None, fan_in: int | None = None) -> np.ndarray:
    """Filters drawn from N(0, sqrt(2 / fan_in)), float32; without fan_in, it is the product of all sizes but the last."""
    if is_shapes_only():
        return constant(0, *shape)
    rng = rng or np.random.default_rng()
    std = (2 / (fan_in or np.prod(shape[:-1]))) ** 0.5
    return rng.standard_normal(shape, np.float32) * np.float32(std)


def draw_uniform(model: Module, rng: np.random.Generator) -> None:
    """Draw all filters and their biases anew from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as PyTorch does by default."""
    for _, m in model.modules():
        if hasattr(m, "fan_in"):  # a convolution
            reach = m.fan_in**-0.5
            for p in m.params.values():
                p[...] = rng.uniform(-reach, reach, p.shape)
