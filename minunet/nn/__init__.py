"""Modules: the ops with their parameters, and ways to put them together.

A module owns `params`, `grads`, `buffers` and `children`, and has

    y, cache = m.forward(x, train=True, rng=None, keep=True)
    dx       = m.backward(dy, cache)                            # adds to m.grads
    y        = m(x)                                             # inference: forward(x, train=False, keep=False)[0]

`train` says whether batch statistics and dropout are in force, `keep` whether a cache is returned (else None): they are
separate, so that gradients in inference mode can be had too. `rng` is where dropout draws from.

A composite's cache is the list of its children's caches. The backward pops them, last first: memory falls while it runs,
and a cache can be used only once.

module.py   the base of all layers and networks
layers.py   the layers
init.py     how weights start
"""

from .init import draw_uniform, he_normal
from .layers import (
    Apply,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    GroupNorm,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sequential,
    UpsampleBilinear,
    UpsampleNearest,
)
from .module import Module, take

__all__ = [
    "Apply", "AvgPool2d", "BatchNorm2d", "Conv2d", "ConvTranspose2d", "Dropout", "GroupNorm", "LeakyReLU",
    "MaxPool2d", "Module", "ReLU", "Sequential", "UpsampleBilinear", "UpsampleNearest", "draw_uniform",
    "he_normal", "take",
]  # fmt: skip
