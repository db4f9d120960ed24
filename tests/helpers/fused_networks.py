"""Random networks for the tests of what kernels hand each other, and how two runs of one are compared."""

from __future__ import annotations

import copy
import functools

import numpy as np
from hypothesis import strategies as st

import minunet
from minunet import nn, ops
from minunet.models import UNet
from minunet.ops.lazy import materialize

SEED = functools.partial(np.random.default_rng, 3)


class Beside(nn.Module):
    """(x, inner(x)) concatenated: x is read by two, and its gradient is a sum."""

    def __init__(self, inner, inner_first=False):
        super().__init__()
        self.inner, self.inner_first = inner, inner_first

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = self.inner.forward(x, train, rng, keep)
        y, split = ops.concat([y, x] if self.inner_first else [x, y])
        return y, (cache, split) if keep else None

    def backward(self, dy, cache):
        cache, split = cache
        dx, dinner = ops.concat_backward(dy, split)
        dx, dinner = (dinner, dx) if self.inner_first else (dx, dinner)
        return dx + self.inner.backward(dinner, cache)


class Residual(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, train=True, rng=None, keep=True):
        y, cache = self.inner.forward(x, train, rng, keep)
        y += x
        return y, cache

    def backward(self, dy, cache):
        dx = self.inner.backward(dy, cache)
        dx += dy
        return dx


class Plainly(nn.Module):
    """Somebody's own layer, which knows arrays only: y = gain * x / (1 + |x|), row by row."""

    def __init__(self, channels):
        super().__init__()
        self.params["gain"] = np.linspace(0.5, 2, channels).astype(np.float32)

    def forward(self, x, train=True, rng=None, keep=True):
        soft = np.stack([row / (1 + np.abs(row)) for row in x])
        return self.params["gain"] * soft, (soft, x[...])

    def backward(self, dy, cache):
        soft, x = cache
        self.accumulate(gain=np.sum(dy * soft, axis=(0, 1, 2)))
        return dy * self.params["gain"] / (1 + np.abs(x)) ** 2


class Twice(nn.Module):
    """The same convolution on the same map twice, once on a part of it."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, bias=True, rng=SEED())

    def forward(self, x, train=True, rng=None, keep=True):
        a, first = self.conv.forward(x, train, rng, keep)
        b, second = self.conv.forward(x[:, ::-1], train, rng, keep)
        return a - b, (first, second)

    def backward(self, dy, cache):
        return self.conv.backward(dy, cache[0]) - self.conv.backward(dy, cache[1])[:, ::-1]


def block(draw, C, K, depth=1):
    """Layers from C to K channels that keep the size."""
    layers = {"conv": nn.Conv2d(C, K, draw(st.sampled_from([1, 3, 3, 3])), bias=draw(st.booleans()), rng=SEED())}
    norm, act = draw(st.sampled_from(["batch", "batch", None])), draw(st.sampled_from(["relu", "relu", "leaky", None]))
    if norm:
        layers["norm"] = nn.BatchNorm2d(K)
    if act:
        layers["act"] = nn.ReLU() if act == "relu" else nn.LeakyReLU(0.1)
    return nn.Sequential(**layers)


def layer(draw, C, side):
    """A layer for maps with C channels and sides of at least `side`; its output's channels and sides."""
    K = draw(st.one_of(st.integers(1, 12), st.sampled_from([16, 17, 24, 33])))
    kind = draw(st.sampled_from(["conv", "conv", "conv", "conv", "depthwise", "norm", "norm", "relu", "relu", "relu", "pool",
                                 "pool", "group", "leaky", "dropout", "average", "up", "beside", "residual", "plainly", "twice",
                                 "nested"]))  # fmt: skip
    match kind:
        case "conv":
            size = draw(st.sampled_from([1, 3, 3, 3]))
            stride, dilation = draw(st.sampled_from([1, 1, 1, 2])), draw(st.sampled_from([1, 1, 2]))
            padding = draw(st.sampled_from(["same", "same", "valid"])) if side > dilation * (size - 1) else "same"
            lost = dilation * (size - 1) if padding == "valid" else 0
            options = {"stride": stride, "dilation": dilation, "padding": padding, "bias": draw(st.booleans())}
            options["rng"] = SEED()
            return nn.Conv2d(C, K, size, **options), K, (side - lost - 1) // stride + 1
        case "depthwise":
            stride, options = draw(st.sampled_from([1, 1, 2])), {"dilation": draw(st.sampled_from([1, 1, 3]))}
            options |= {"bias": draw(st.booleans()), "rng": SEED()}
            return nn.DepthwiseConv2d(C, stride=stride, **options), C, (side - 1) // stride + 1
        case "norm":
            return nn.BatchNorm2d(C), C, side
        case "relu":
            return nn.ReLU(), C, side
        case "pool" if side >= 3:
            size, stride = draw(st.sampled_from([(2, 2), (2, 2), (3, 2), (2, 1)]))
            return nn.MaxPool2d(size, stride), C, (side - size) // stride + 1
        case "group":
            return nn.GroupNorm(C, 1 if C % 2 else 2), C, side
        case "leaky":
            return nn.LeakyReLU(), C, side
        case "dropout":
            return nn.Dropout(0.3), C, side
        case "average" if side >= 2:
            return nn.AvgPool2d(2), C, side // 2
        case "up" if side <= 12:
            return nn.ConvTranspose2d(C, K, bias=draw(st.booleans()), rng=SEED()), K, 2 * side
        case "beside" if C < 34:
            return Beside(block(draw, C, K), draw(st.booleans())), C + K, side
        case "residual":
            return Residual(block(draw, C, C)), C, side
        case "twice":
            return Twice(C), C, side
        case "nested":
            return block(draw, C, K), K, side
        case _:
            return Plainly(C), C, side


@st.composite
def chains(draw):
    """A Sequential of two to eight layers, and an input for it."""
    H, W, C = draw(st.integers(1, 21)), draw(st.integers(1, 21)), draw(st.integers(1, 18))
    x = np.random.default_rng(draw(st.integers(0, 99))).standard_normal((draw(st.integers(1, 3)), H, W, C))
    side, layers = min(H, W), {}
    for n in range(draw(st.integers(2, 8))):
        m, C, side = layer(draw, C, side)
        layers[f"{n} {type(m).__name__}"] = m
    return lively(nn.Sequential(**layers)), x


@st.composite
def unets(draw):
    """A small U-Net, and an input for it."""
    padding, depth = draw(st.sampled_from(["same", "same", "valid"])), draw(st.integers(1, 2))
    m = UNet(
        draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 5, 8])) * 2, depth,
        norm=draw(st.sampled_from(["batch", "batch", "group", None])), padding=padding,
        up=draw(st.sampled_from(["transpose", "bilinear", "nearest"])), dropout=draw(st.sampled_from([0.0, 0.3])),
        conv_bias=draw(st.sampled_from([None, True])),
    )  # fmt: skip
    H, W = (m.fit_size(draw(st.integers(2**depth, 30 if padding == "same" else 8))) for _ in range(2))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return lively(m), rng.standard_normal(
        (draw(st.integers(1, 2)), H, W, m.encoder[0].children["conv1"].params["w"].shape[2])
    )


def lively(m):
    """The network in float64, with parameters and running statistics that are not just ones and zeros."""
    rng = np.random.default_rng(5)
    m.convert(lambda a: a.astype(np.float64) + 0.3 * rng.standard_normal(a.shape) * (a.ndim == 1))
    for path, a in m.named_buffers().items():
        if path.endswith("var"):
            a[...] = np.abs(a) + 0.5
    return m


def run(m, x, train=True, forward="fast", backward=None):
    """Forward and backward of a copy: every array that comes out, by name, and what ReLUs and pools have chosen."""
    m = copy.deepcopy(m)
    before = x.copy()
    with minunet.use(forward):
        y, cache = m.forward(x, train, np.random.default_rng(1))
    chosen = choices(cache)
    dy = np.random.default_rng(2).standard_normal(y.shape).astype(y.dtype)
    with minunet.use(backward or forward):
        dx = m.backward(dy, cache)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dy, np.random.default_rng(2).standard_normal(y.shape).astype(y.dtype))
    return {"y": y, "dx": dx, **m.named_grads(), **m.named_buffers()}, chosen


def assert_same_in_float32(m, shape):
    """The kernels in float32 against the plain ops in float64, and not much worse than those in float32.

    On the first of some inputs on which all ReLUs and pools choose the same: gradients jump where they do not.
    """
    narrow = copy.deepcopy(m).convert(lambda a: a.astype(np.float32))
    for seed in range(20):
        x = np.random.default_rng(seed).standard_normal(shape)
        exact, x = run(m, x, forward="reference"), x.astype(np.float32)
        found = run(narrow, x)
        if all(np.array_equal(a, b) for a, b in zip(found[1], exact[1], strict=True)):
            return assert_same(found, exact, 2e-3, rough=run(narrow, x, forward="reference"))
    raise AssertionError("ReLUs or pools choose otherwise on all inputs")


def choices(cache):
    """The masks of ReLUs and dropouts and the winners of pools in a cache, in their order."""
    cache = materialize(cache) if not isinstance(cache, list | tuple) else cache
    if isinstance(cache, list | tuple):
        return [a for part in cache for a in choices(part)]
    return [cache] if isinstance(cache, np.ndarray) and cache.dtype in (bool, np.uint8) else []


def assert_same(found, expected, tolerance, ties=0, rough=None):
    """Two results of `run`: plain arrays, apart by at most that share of the scale.

    The scale is the largest value, but for gradients at least a hundredth of the largest of all: some cancel by design,
    as that of a bias before a norm. So many choices of ReLUs and pools may differ, at ties; gradients are not compared then,
    since they jump there. What the network gives does not. `rough` is a result of lesser precision: what differs there may
    differ twenty times as much here.
    """
    (found, chosen), (expected, its) = found, expected
    assert found.keys() == expected.keys()
    assert [a.shape for a in chosen] == [a.shape for a in its]
    differ = sum(np.count_nonzero(a != b) for a, b in zip(chosen, its))
    assert differ <= ties + ties * sum(a.size for a in its) / 1000, differ
    floor = max(np.abs(a).max(initial=0) for a in expected.values()) / 100
    for name, exact in expected.items():
        a = found[name]
        assert type(a) is np.ndarray, name
        assert a.shape == exact.shape, name
        if not differ or name == "y" or name.endswith((".mean", ".var")):
            error, allowed = np.abs(a - exact).max(initial=0), tolerance * max(floor, np.abs(exact).max(initial=0))
            if rough is not None:
                allowed += 20 * np.abs(rough[0][name] - exact).max(initial=0)
            assert error <= allowed, (name, error)
