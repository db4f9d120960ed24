"""Initial weights."""

from __future__ import annotations

import numpy as np

from .module import Module


def he_normal(shape: tuple[int, ...], rng: np.random.Generator | None = None, fan_in: int | None = None) -> np.ndarray:
    """Filters drawn from N(0, sqrt(2 / fan_in)), float32; without fan_in, it is the product of all sizes but the last."""
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
