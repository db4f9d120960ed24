"""Mistakes that are easily made when kernels hand each other lazy maps: each one planted, and caught.

The checks are those of test_kernels_fused.py and test_kernels_maps.py, on networks in which each mistake can show.
"""

from __future__ import annotations

import numpy as np
import pytest
from helpers.fused_networks import Beside, assert_same, assert_same_in_float32, lively, run

from minunet import nn
from minunet.kernels.cpu import conv as cpu_conv
from minunet.kernels.cpu import epilogues as cpu_maps
from minunet.kernels.cpu import norm as cpu_norm
from minunet.kernels.cpu import pointwise
from minunet.kernels.cpu import pointwise as cpu_pointwise
from minunet.kernels.cpu.epilogues import MASK, MOMENTS, Output
from minunet.kernels.cpu.lazy_maps import Gradient, LazyAffine
from minunet.models import UNet
from minunet.ops import lazy
from minunet.ops.conv import pad_spatial, resolve_padding

pytestmark = pytest.mark.usefixtures("small_arrays_too")


def conv_block(C, K, bias=False):
    return {"conv": nn.Conv2d(C, K, bias=bias), "norm": nn.BatchNorm2d(K), "relu": nn.ReLU()}


def chain():
    """Convolution, norm, ReLU, twice."""
    return nn.Sequential(a=nn.Sequential(**conv_block(9, 12)), b=nn.Sequential(**conv_block(12, 8)))


def norm_last():
    """ReLU before norm."""
    layers = {"conv": nn.Conv2d(9, 12), "relu": nn.ReLU(), "norm": nn.BatchNorm2d(12), "next": nn.Conv2d(12, 3)}
    return nn.Sequential(**layers)


def beside():
    """A block's input beside its output, read by a convolution."""
    return nn.Sequential(a=Beside(nn.Sequential(**conv_block(9, 9, bias=True))), b=nn.Conv2d(18, 4))


def clipped_beside():
    """The same of a ReLU that has nothing to fuse with."""
    return nn.Sequential(a=Beside(nn.Sequential(relu=nn.ReLU())), b=nn.Conv2d(18, 4))


def unet():
    return UNet(9, 2, base_width=8, depth=2)


def unet_with_biases():
    return UNet(9, 2, base_width=8, depth=1, norm=None)


def check(network):
    """As in test_kernels_fused.py: on direct kernels in float64, and on Winograd's in float32."""
    m, x = lively(network()), np.random.default_rng(4).standard_normal((2, 24, 20, 9))
    assert_same(run(m, x), run(m, x, forward="reference"), 1e-10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_conv, "winograd_pays", lambda s, dtype, **limits: (s.KH, s.stride) == (3, 1))
        assert_same_in_float32(m, x.shape)


@pytest.mark.slow
@pytest.mark.parametrize("network", [chain, norm_last, beside, clipped_beside, unet, unet_with_biases])
def test_without_a_mistake(network):
    check(network)


# ---- the mistakes ----------------------------------------------------------------------------------------------------

BUGS = []


def planted(network):
    def register(plant):
        BUGS.append((plant, network))
        return plant

    return register


@planted(chain)
def zeros_around_the_raw_map_become_relu_of_shift(patch):
    real = cpu_conv.conv2d

    def wrong(x, w, b=None, stride=1, padding="same", dilation=1, groups=1):
        if isinstance(x, LazyAffine) and x.relu:
            pads = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, dilation)
            early = LazyAffine(pad_spatial(x.raw, pads), x.table, relu=True)
            y, _ = real(early, w, b, stride, "valid", dilation, groups)
            return y, (x, w, b is not None, stride, pads, dilation, groups)
        return real(x, w, b, stride, padding, dilation, groups)

    patch.setattr(cpu_conv, "conv2d", wrong)


def mask_with(patch, change):
    """Change the table (3, C) of scale, shift and mean from which masks and their sums are made."""

    def wrong(x):
        table = real(x).copy()
        change(table)
        return table

    def epilogue(self, shape, right=cpu_maps.Output.epilogue):
        made = right(self, shape)
        return made if self.masked_by is None else made._replace(coefficients=wrong(self.masked_by))

    real = cpu_maps.coefficients
    patch.setattr(cpu_maps.Output, "epilogue", epilogue)
    patch.setattr(cpu_pointwise, "coefficients", wrong)


@planted(chain)
def the_mask_asks_whether_the_raw_number_is_positive(patch):
    def change(table):
        table[0], table[1] = 1, 0

    mask_with(patch, change)


@planted(chain)
def the_mask_lets_the_negative_pass(patch):
    def change(table):
        table[:2] *= -1

    mask_with(patch, change)


@planted(chain)
def sums_are_relative_to_zero_and_not_to_the_mean(patch):
    def change(table):
        table[2] = 0

    mask_with(patch, change)


@planted(unet)
def the_skips_gradient_is_dropped_before_the_pool(patch):
    patch.setattr(pointwise.Unpooled, "__iadd__", lambda self, other: self)


@planted(clipped_beside)
def any_gradient_with_sums_counts_as_masked(patch):
    real = cpu_pointwise.relu_backward
    patch.setattr(cpu_pointwise, "relu_backward", lambda dy, cache: dy if isinstance(dy, Gradient) else real(dy, cache))


@planted(unet)
def a_pairs_gradient_is_masked_by_its_first_map(patch):
    def wrong(x, *more):
        to = real(x, *more)
        if len(to) == 2 and isinstance(x.b, np.ndarray) and x.a.shape == x.b.shape:
            to[1] = Output(to[1].y, MASK, x.a)  # the up-convolution's output, which no ReLU has seen
        return to

    real = cpu_conv.gradient_outputs
    patch.setattr(cpu_conv, "gradient_outputs", wrong)
    patch.setattr(cpu_conv, "with_sums", lambda t: Gradient(t.y, (t.y.sum((0, 1, 2)), None)))


@planted(norm_last)
def moments_of_the_raw_map_are_taken_for_the_clipped_ones(patch):
    def wrong(x):
        y, cache = real(x)
        if isinstance(y, LazyAffine):
            y.moments = x.moments
        return y, cache

    real = cpu_pointwise.relu
    patch.setattr(cpu_pointwise, "relu", wrong)


@planted(chain)
def the_norms_gradient_forgets_that_the_mean_depends_on_x(patch):
    def wrong(dy, cache):
        dx, dgamma, dbeta = real(dy, cache)
        dx.table[2] = 0
        return dx, dgamma, dbeta

    real = cpu_norm.batch_norm_backward
    patch.setattr(cpu_norm, "batch_norm_backward", wrong)


@planted(unet)
def the_halves_of_a_concatenation_are_swapped_on_the_way_back(patch):
    patch.setattr(lazy, "concat_backward", lambda dy, cache: (dy.b, dy.a))


@planted(unet_with_biases)
def a_biases_gradient_is_a_mean(patch):
    real = cpu_conv.with_sums
    patch.setattr(cpu_conv, "with_sums", lambda t: Gradient(t.y, (t.found[0], None)) if t.found else real(t))


@planted(unet)
def a_pool_compares_raw_numbers(patch):
    real = cpu_pointwise.max_pool2d
    patch.setattr(
        cpu_pointwise, "max_pool2d",
        lambda x, size=2, stride=None: real(x.raw if isinstance(x, LazyAffine) else x, size, stride),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "network"), BUGS, ids=[plant.__name__ for plant, _ in BUGS])
def test_every_planted_mistake_is_caught(plant, network, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check(network)


def test_a_variance_that_cancels_is_caught(monkeypatch):
    def wrong(self, epilogue, pixels):
        y = self.y.reshape(-1, self.y.shape[3])
        self.found = y.mean(0), (y**2).mean(0) - y.mean(0) ** 2

    x, w = np.random.default_rng(6).standard_normal((2, 40, 40, 8), np.float32), np.ones((3, 3, 8, 16), np.float32)
    to = Output(np.empty((2, 40, 40, 16), np.float32), MOMENTS)
    for gather, caught in ((Output.gather, False), (wrong, True)):
        monkeypatch.setattr(Output, "gather", gather)
        cpu_conv.winograd.convolution(x, w / 85, np.full(16, 1000, np.float32), [to], 1, 1)
        exact = to.y.astype(np.float64).var((0, 1, 2))
        assert bool(np.abs(to.found[1] / exact - 1).max() > 1e-3) is caught
