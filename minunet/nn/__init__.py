"""Modules: the ops with their parameters, and ways to put them together.

A module owns `params`, `grads`, `buffers` and `children`, and has

    y, cache = m.forward(x, train=True, rng=None, keep=True)
    dx       = m.backward(dy, cache)                            # adds to m.grads
    y        = m(x)                                             # inference: forward(x, train=False, keep=False)[0]
    m.describe(x.shape)                                         # a layer's: its cost, how far it looks, ... (description.py)

`train` says whether batch statistics and dropout are used, `keep` whether a cache is returned (else None). They are separate,
so that gradients can be computed in inference mode, too. `rng` is the generator that dropout draws from.

A composite's cache is the list of its children's caches. The backward pops them, last first: memory is freed while it runs, and
a cache can be used only once.

module.py        the base of all layers and networks, `Apply` and `Sequential`
description.py   the description of a layer: cost, how far it looks, its ONNX node, ...
init.py          initial weights
activation.py, combine.py, conv.py, depthwise.py, norm.py, pool.py, resample.py, shape.py
               the layers, in files named like those of their ops
"""

from .activation import Dropout, LeakyReLU, ReLU, ReLU6, ScaledExp, Sigmoid, Tanh
from .combine import Add, Gate
from .conv import Conv2d, ConvTranspose2d
from .depthwise import DepthwiseConv2d
from .description import ALL, NOTHING, PIXEL, Description, NotDescribed, Window
from .init import constant, draw_uniform, he_normal, shapes_only
from .module import Apply, Cache, Module, Sequential, take
from .norm import BatchNorm2d, GroupNorm, InstanceNorm2d, Standardise
from .pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d, MaxPoolWinners2d, MaxUnpool2d
from .resample import Resize, UpsampleBilinear, UpsampleNearest
from .shape import Concat

__all__ = [
    "ALL", "NOTHING", "PIXEL", "Add", "Apply", "AvgPool2d", "BatchNorm2d", "Cache", "Concat", "Conv2d",
    "ConvTranspose2d", "DepthwiseConv2d", "Description", "Dropout", "Gate", "GlobalAvgPool2d", "GroupNorm",
    "InstanceNorm2d", "LeakyReLU", "MaxPool2d", "MaxPoolWinners2d", "MaxUnpool2d", "Module", "NotDescribed", "ReLU",
    "ReLU6", "Resize", "ScaledExp", "Sequential", "Sigmoid", "Standardise", "Tanh", "UpsampleBilinear",
    "UpsampleNearest", "Window",
    "constant", "draw_uniform", "he_normal", "shapes_only", "take",
]  # fmt: skip
