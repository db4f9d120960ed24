"""Batch norm, group norm and instance norm as layers, and a norm with given numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from .. import ops
from ..array import Array
from ..errors import UserError
from .description import ALL, PIXEL, Description, Graph, Shape
from .init import constant
from .module import Cache, Module


class BatchNorm2d(Module):
    """`ops.batch_norm` with scale gamma, shift beta, and running statistics for inference.

    Every training batch moves the running statistics, see `ops.running_average`.

    A batch with a single value a channel, one image of 1 x 1 pixels, has no spread: its norm would be beta whatever x is, and
    would move the running variance towards 0. In training it is refused.

    Parameters
    ----------
    channels : int
    momentum, eps : float
    single_value : {"refuse", "running"}
        What becomes of such a batch: UserError, or the running statistics are used, as in inference, and do not move.

    Attributes
    ----------
    frozen : bool
        Whether training, too, uses the running statistics, which then do not move: for statistics of another training that are
        better than those of a few images.
    """

    frozen = False

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5, single_value: str = "refuse") -> None:
        super().__init__()
        if single_value not in ("refuse", "running"):
            raise ValueError(f'single_value must be "refuse" or "running", not {single_value!r}')
        self.momentum, self.eps, self.single_value = momentum, eps, single_value
        self.params.update(gamma=constant(1, channels), beta=constant(0, channels))
        self.buffers.update(mean=constant(0, channels), var=constant(1, channels))

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        M = x.size // x.shape[-1]
        train = train and not self.frozen
        if train and M == 1:
            if self.single_value == "refuse":
                raise UserError(
                    "batch norm gets one value a channel here, of a single image of 1 x 1 pixels, and cannot learn from it: "
                    "use --batch-size 2 or more, or a larger --crop"
                )
            train = False
        mean, var = (None, None) if train else (self.buffers["mean"], self.buffers["var"])
        y, cache, (mean, var) = ops.batch_norm(x, self.params["gamma"], self.params["beta"], mean, var, self.eps)
        if train:
            ops.running_average(self.buffers["mean"], self.buffers["var"], mean, var, M, self.momentum)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dgamma, dbeta = ops.batch_norm_backward(dy, cache)
        self.accumulate(gamma=dgamma, beta=dbeta)
        return dx

    def describe(self, x: Shape) -> Description:
        def onnx(graph: Graph, x: str) -> str:
            arrays = {**self.params, **self.buffers}
            constants = [graph.constant(name, arrays[name]) for name in ("gamma", "beta", "mean", "var")]
            return graph.node("BatchNormalization", x, *constants, epsilon=self.eps)

        return Description(
            output=x, reads=PIXEL, depends_on_batch=True, keeps_input=True, work=(prod(x), 2 * prod(x)), fused="norm",
            words="batch norm", picture="act", onnx=onnx, unrecordable="",
        )  # fmt: skip


class GroupNorm(Module):
    """`ops.group_norm` with scale gamma and shift beta; the same in training and inference."""

    words = "group norm"

    def __init__(self, channels: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.params.update(gamma=constant(1, channels), beta=constant(0, channels))

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        y, cache = ops.group_norm(x, self.params["gamma"], self.params["beta"], self.groups, self.eps)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        dx, dgamma, dbeta = ops.group_norm_backward(dy, cache)
        self.accumulate(gamma=dgamma, beta=dbeta)
        return dx

    def describe(self, x: Shape) -> Description:
        return Description(
            output=x, reads=ALL, keeps_input=True, work=(prod(x), 2 * prod(x)), words=self.words, picture="act",
            onnx=self._onnx, unrecordable="",
        )  # fmt: skip

    def _onnx(self, graph: Graph, x: str) -> str:
        """As an instance norm whose channels are the groups: the opset that we write has no group norm yet."""
        groups = graph.node("Reshape", x, graph.constant("as_groups", [0, self.groups, -1]))
        ones, zeros = (graph.constant(f"{n}s", np.full(self.groups, n, np.float32)) for n in (1, 0))
        normal = graph.node("InstanceNormalization", groups, ones, zeros, epsilon=self.eps)
        back = graph.node("Reshape", normal, graph.node("Shape", x))
        gamma, beta = (graph.constant(name, self.params[name][:, None, None]) for name in ("gamma", "beta"))
        return graph.node("Add", graph.node("Mul", back, gamma), beta)


class InstanceNorm2d(GroupNorm):
    """Group norm with one channel a group: every channel of every image by itself, without running statistics.

    A map of 1 x 1 pixels has no spread; its norm would be beta whatever x is, and is refused.

    Source: Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022.
    """

    words = "instance norm"

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, channels, eps)

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        check_spread(x.shape)
        return super().forward(x, train, rng, keep)

    def describe(self, x: Shape) -> Description:
        check_spread(x)
        return replace(super().describe(x), onnx=self._onnx_of_channels)

    def _onnx_of_channels(self, graph: Graph, x: str) -> str:
        gamma, beta = (graph.constant(name, self.params[name]) for name in ("gamma", "beta"))
        return graph.node("InstanceNormalization", x, gamma, beta, epsilon=self.eps)


class Standardise(Module):
    """(x - mean) / std, channel by channel, by numbers that are given and never change, such as those of ImageNet's images.

    It stands before the first convolution of a network whose weights were learned so. Hence images come as they are, in 0..1,
    and what lies beyond their border counts as `mean`.

    Parameters
    ----------
    mean, std : (channels,) sequences of float
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.buffers.update(mean=np.array(mean, np.float32), std=np.array(std, np.float32))

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Cache]:
        mean, std = self.buffers["mean"], self.buffers["std"]  # it is a batch norm with given statistics
        y, cache, _ = ops.batch_norm(x, 1 / std, 0 * mean, mean, 0 * std + 1, eps=0.0)
        return y, cache if keep else None

    def backward(self, dy: Array, cache: Cache) -> Array:
        return ops.batch_norm_backward(dy, cache)[0]

    def describe(self, x: Shape) -> Description:
        def onnx(graph: Graph, x: str) -> str:
            mean, std = (graph.constant(name, self.buffers[name][:, None, None]) for name in ("mean", "std"))
            return graph.node("Div", graph.node("Sub", x, mean), std)

        return Description(
            output=x, reads=PIXEL, keeps_input=True, work=(prod(x), 2 * prod(x)), words="standardised", picture="act",
            onnx=onnx, unrecordable="",
        )  # fmt: skip


def check_spread(x: Shape) -> None:
    """UserError if a map (N, H, W, C) has a single pixel."""
    if x[1] * x[2] == 1:
        raise UserError("instance norm gets a map of 1 x 1 pixels, which it would make constant: use larger images")
