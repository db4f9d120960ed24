"""Modules: the ops with their parameters, and ways to put them together.

A module owns `params`, `grads`, `buffers` and `children`, and has

    y, cache = m.forward(x, train=True, rng=None, keep=True)
    dx       = m.backward(dy, cache)                            # adds to m.grads
    y        = m(x)                                             # inference: forward(x, train=False, keep=False)[0]
    m.describe(x.shape)                                         # a layer's: its cost, how far it looks, ... (description.py)

`train` says whether batch statistics and dropout are in force, `keep` whether a cache is returned (else None): they are
separate, so that gradients in inference mode can be had too. `rng` is where dropout draws from.

A composite's cache is the list of its children's caches. The backward pops them, last first: memory falls while it runs,
and a cache can be used only once.

module.py        the base of all layers and networks, `Apply` and `Sequential`
description.py   what a layer says of itself
init.py          how weights start
activation.py, conv.py, norm.py, pool.py, resample.py   the layers, each in the file that has the name of its op's
"""

from .activation import Dropout, LeakyReLU, ReLU
from .conv import Conv2d, ConvTranspose2d
from .description import ALL, PIXEL, Description, NotDescribed, Window
from .init import draw_uniform, he_normal
from .module import Apply, Cache, Module, Sequential, take
from .norm import BatchNorm2d, GroupNorm
from .pool import AvgPool2d, MaxPool2d
from .resample import UpsampleBilinear, UpsampleNearest

__all__ = [
    "ALL", "PIXEL", "Apply", "AvgPool2d", "BatchNorm2d", "Cache", "Conv2d", "ConvTranspose2d", "Description", "Dropout",
    "GroupNorm", "LeakyReLU", "MaxPool2d", "Module", "NotDescribed", "ReLU", "Sequential", "UpsampleBilinear",
    "UpsampleNearest", "Window", "draw_uniform", "he_normal", "take",
]  # fmt: skip
