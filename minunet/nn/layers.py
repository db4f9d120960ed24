"""The layers: each is an op of :mod:`minunet.ops` with its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from ..ops.lazy import fusion_scope
from .init import he_normal
from .module import Module, take


class Sequential(Module):
    """Named modules one after the other: ``Sequential(conv=Conv2d(3, 8), relu=ReLU())``."""

    def __init__(self, **layers: Module) -> None:
        super().__init__()
        self.children.update(layers)

    @fusion_scope
    def forward(self, x, train=True, rng=None, keep=True):
        caches = []
        for m in self.children.values():
            x, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
        return x, caches if keep else None

    @fusion_scope
    def backward(self, dy, cache):
        for m in reversed(self.children.values()):
            dy = m.backward(dy, take(cache))
        return dy


class Conv2d(Module):
    """`ops.conv2d` with filters w (size, size, in/groups, out) and bias b (out,).

    Filters start as He et al. (arXiv:1502.01852) and the U-Net paper have it: normal with a standard deviation of
    sqrt(2 / fan_in), fan_in = size*size*in/groups; biases at 0.
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: int = 3, *, stride: int = 1, padding: Any = "same",
        dilation: int = 1, groups: int = 1, bias: bool = True, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.fan_in = size * size * in_channels // groups
        self.params["w"] = he_normal((size, size, in_channels // groups, out_channels), rng)
        if bias:
            self.params["b"] = np.zeros(out_channels, np.float32)

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = ops.conv2d(x, self.params["w"], self.params.get("b"), **self.options)
        return y, cache if keep else None

    def backward(self, dy, cache):
        dx, dw, db = ops.conv2d_backward(dy, cache)
        self.accumulate(w=dw, b=db)
        return dx


class ConvTranspose2d(Module):
    """`ops.conv_transpose2d` with w (size, size, in, out) and b (out,); by default the paper's 2x2 up-convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, size: int = 2, *, stride: int = 2, padding: Any = 0,
        bias: bool = True, rng: np.random.Generator | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.options = {"stride": stride, "padding": padding}
        self.fan_in = in_channels  # at stride = size, every output comes from one input pixel
        self.params["w"] = he_normal((size, size, in_channels, out_channels), rng, self.fan_in)
        if bias:
            self.params["b"] = np.zeros(out_channels, np.float32)

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = ops.conv_transpose2d(x, self.params["w"], self.params.get("b"), **self.options)
        return y, cache if keep else None

    def backward(self, dy, cache):
        dx, dw, db = ops.conv_transpose2d_backward(dy, cache)
        self.accumulate(w=dw, b=db)
        return dx


class BatchNorm2d(Module):
    """`ops.batch_norm` with scale gamma, shift beta, and running statistics for inference.

    After every training batch the running ones follow, see `ops.running_average`.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.params.update(gamma=np.ones(channels, np.float32), beta=np.zeros(channels, np.float32))
        self.buffers.update(mean=np.zeros(channels, np.float32), var=np.ones(channels, np.float32))

    def forward(self, x, train=True, rng=None, keep=True):
        mean, var = (None, None) if train else (self.buffers["mean"], self.buffers["var"])
        y, cache, (mean, var) = ops.batch_norm(x, self.params["gamma"], self.params["beta"], mean, var, self.eps)
        if train:
            M = x.size // x.shape[-1]
            ops.running_average(self.buffers["mean"], self.buffers["var"], mean, var, M, self.momentum)
        return y, cache if keep else None

    def backward(self, dy, cache):
        dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
        self.accumulate(gamma=dgamma, beta=dbeta)
        return dx


class GroupNorm(Module):
    """`ops.group_norm` with scale gamma and shift beta; the same in training and inference."""

    def __init__(self, channels: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.params.update(gamma=np.ones(channels, np.float32), beta=np.zeros(channels, np.float32))

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = ops.group_norm(x, self.params["gamma"], self.params["beta"], self.groups, self.eps)
        return y, cache if keep else None

    def backward(self, dy, cache):
        dx, dgamma, dbeta = ops.group_norm_backward(dy, cache)
        self.accumulate(gamma=dgamma, beta=dbeta)
        return dx


class Apply(Module):
    """A pair of ops without parameters as a module: ``Apply(ops.relu, ops.relu_backward)``."""

    def __init__(self, forward: Any, backward: Any, **options: Any) -> None:
        super().__init__()
        self.pair, self.options = (forward, backward), options

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = self.pair[0](x, **self.options)
        return y, cache if keep else None

    def backward(self, dy, cache):
        return self.pair[1](dy, cache)


class ReLU(Apply):
    """`ops.relu`."""

    def __init__(self) -> None:
        super().__init__(ops.relu, ops.relu_backward)


class LeakyReLU(Apply):
    """`ops.leaky_relu`."""

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__(ops.leaky_relu, ops.leaky_relu_backward, slope=slope)


class MaxPool2d(Apply):
    """`ops.max_pool2d`."""

    def __init__(self, size: int = 2, stride: int | None = None) -> None:
        super().__init__(ops.max_pool2d, ops.max_pool2d_backward, size=size, stride=stride)


class AvgPool2d(Apply):
    """`ops.avg_pool2d`."""

    def __init__(self, size: int = 2, stride: int | None = None) -> None:
        super().__init__(ops.avg_pool2d, ops.avg_pool2d_backward, size=size, stride=stride)


class UpsampleNearest(Apply):
    """`ops.upsample_nearest`."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__(ops.upsample_nearest, ops.upsample_nearest_backward, scale=scale)


class UpsampleBilinear(Apply):
    """`ops.upsample_bilinear`."""

    def __init__(self, scale: int = 2, align_corners: bool = True) -> None:
        super().__init__(
            ops.upsample_bilinear, ops.upsample_bilinear_backward, scale=scale, align_corners=align_corners
        )


class Dropout(Module):
    """`ops.dropout` while training, nothing at inference."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x, train=True, rng=None, keep=True):
        if not train or not self.rate:
            return x, () if keep else None
        if rng is None:
            raise ValueError(
                "dropout needs a random generator in training: forward(x, rng=np.random.default_rng(seed))"
            )
        y, cache = ops.dropout(x, self.rate, rng)
        return y, cache if keep else None

    def backward(self, dy, cache):
        return ops.dropout_backward(dy, cache) if cache else dy
