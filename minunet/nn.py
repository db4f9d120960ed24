"""Modules: the ops with their parameters, and ways to put them together.

A module owns `params`, `grads`, `buffers` and `children`, and has

    y, cache = m.forward(x, train=True, rng=None, keep=True)
    dx       = m.backward(dy, cache)                            # adds to m.grads
    y        = m(x)                                             # inference: forward(x, train=False, keep=False)[0]

`train` says whether batch statistics and dropout are in force, `keep` whether a cache is returned (else None): they are
separate, so that gradients in inference mode can be had too. `rng` is where dropout draws from.

A composite's cache is the list of its children's caches. The backward pops them, last first: memory falls while it runs,
and a cache can be used only once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import ops
from .array import Array, get_array_module
from .kernels import fused


class Module:
    """Base of all layers and networks: a tree of named children with parameters at its leaves.

    A network from a checkpoint also has `origin`, how to build it again, and `data`, how its images were prepared.
    """

    origin: dict[str, Any]
    data: dict[str, Any]

    def __init__(self) -> None:
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self.children: dict[str, Module] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            self.children[name] = value
        elif isinstance(value, list) and value and all(isinstance(v, Module) for v in value):
            self.children.update({f"{name}.{i}": v for i, v in enumerate(value)})
        super().__setattr__(name, value)

    def __call__(self, x: Array) -> Array:
        return self.forward(x, train=False, keep=False)[0]

    def forward(
        self, x: Array, train: bool = True, rng: np.random.Generator | None = None, keep: bool = True
    ) -> tuple[Array, Any]:
        """Return the output and, if `keep`, the cache that `backward` needs."""
        raise NotImplementedError

    def backward(self, dy: Array, cache: Any) -> Array:
        """Add the parameters' gradients to `grads` and return the input's."""
        raise NotImplementedError

    def check_size(self, H: int, W: int) -> None:
        """ValueError, saying what would do, if images of H x W pixels cannot pass; a layer takes any size."""

    def fit_size(self, n: int) -> int:
        """The smallest number of rows or columns, from n on, that passes and whose output has at least n."""
        return n

    def output_size(self, n: int) -> int:
        """Rows or columns of the output for n that pass; the same number unless convolutions are unpadded."""
        return n

    def modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """Every module of the tree with its dotted path, this one ("") first."""
        yield prefix, self
        for name, child in self.children.items():
            yield from child.modules(f"{prefix}.{name}" if prefix else name)

    def named_params(self) -> dict[str, Array]:
        """All parameters by dotted path, such as "encoder.0.conv1.w"."""
        return self._named("params")

    def named_grads(self) -> dict[str, Array]:
        """All gradients so far, by the path of their parameter; none before the first backward."""
        return self._named("grads")

    def named_buffers(self) -> dict[str, Array]:
        """All arrays that are kept but not learned (running statistics), by dotted path."""
        return self._named("buffers")

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for _, m in self.modules():
            m.grads.clear()

    def num_params(self) -> int:
        """Number of learned values."""
        return sum(p.size for p in self.named_params().values())

    def state(self) -> dict[str, Array]:
        """Parameters and buffers by dotted path: what a checkpoint stores. The arrays themselves, not copies."""
        return self.named_params() | self.named_buffers()

    def load_state(self, state: dict[str, Array]) -> None:
        """Copy values in, in place.

        Raises
        ------
        ValueError
            Naming the first path that is missing, surplus or of another shape; nothing is changed then.
        """
        own = self.state()
        for path in sorted(own.keys() | state.keys()):
            if path not in state or path not in own:
                raise ValueError(f"{path} is {'missing' if path in own else 'not a parameter of this model'}")
            if own[path].shape != state[path].shape:
                raise ValueError(f"{path} has shape {state[path].shape}, this model's has {own[path].shape}")
        for path, array in own.items():
            array[...] = get_array_module(array).asarray(state[path])

    def convert(self, convert: Any) -> Module:
        """Replace every array a by convert(a), in place: ``m.convert(cupy.asarray)``, ``m.convert(np.float64)``."""
        for _, m in self.modules():
            for arrays in (m.params, m.buffers):
                arrays.update({name: convert(a) for name, a in arrays.items()})
            m.grads.clear()
        return self

    def accumulate(self, **grads: Array | None) -> None:
        """Add to this module's gradients; None stands for a parameter that it does not have."""
        for name, g in grads.items():
            if g is not None:
                self.grads[name] = self.grads[name] + g if name in self.grads else g

    def _named(self, kind: str) -> dict[str, Array]:
        return {
            f"{path}.{name}" if path else name: a for path, m in self.modules() for name, a in getattr(m, kind).items()
        }


def take(cache: list | None) -> Any:
    """Pop the last child's cache off a composite's cache; RuntimeError if there is none."""
    if cache is None:
        raise RuntimeError("forward ran with keep=False and kept no cache: run it with keep=True before backward")
    if not cache:
        raise RuntimeError("this cache was used up by an earlier backward: run forward again")
    return cache.pop()


class Sequential(Module):
    """Named modules one after the other: ``Sequential(conv=Conv2d(3, 8), relu=ReLU())``."""

    def __init__(self, **layers: Module) -> None:
        super().__init__()
        self.children.update(layers)

    @fused
    def forward(self, x, train=True, rng=None, keep=True):
        caches = []
        for m in self.children.values():
            x, cache = m.forward(x, train, rng, keep)
            caches.append(cache)
        return x, caches if keep else None

    @fused
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


def he_normal(shape: tuple[int, ...], rng: np.random.Generator | None = None, fan_in: int | None = None) -> np.ndarray:
    """Filters drawn from N(0, sqrt(2 / fan_in)), float32; fan_in is all of shape but its last size if not given."""
    rng = rng or np.random.default_rng()
    std = (2 / (fan_in or np.prod(shape[:-1]))) ** 0.5
    return rng.standard_normal(shape, np.float32) * np.float32(std)


def draw_uniform(model: Module, rng: np.random.Generator) -> None:
    """Draw all filters and their biases anew from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as PyTorch does by default."""
    for _, m in model.modules():
        if isinstance(m, Conv2d | ConvTranspose2d):
            reach = m.fan_in**-0.5
            for p in m.params.values():
                p[...] = rng.uniform(-reach, reach, p.shape)
