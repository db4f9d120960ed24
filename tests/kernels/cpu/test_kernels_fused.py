"""Whole networks, in which kernels hand each other lazy maps, against the plain ops layer by layer."""

from __future__ import annotations

import copy
import gc
import threading
import weakref

import numpy as np
import pytest
from helpers.fused_networks import Plainly, assert_same, chains, lively, run, unets
from helpers.sizes import examples, only_whole, unless_quick
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import nn, ops
from minunet.kernels.cpu import conv as cpu_conv
from minunet.kernels.cpu import epilogues as cpu_maps
from minunet.kernels.cpu.epilogues import MOMENTS, STORE, Output
from minunet.kernels.cpu.lazy_maps import Gradient, LazyAffine, NormGradient
from minunet.models import UNet
from minunet.ops import dispatch
from minunet.ops.lazy import LazyConcat, LazyMap, fusing, fusion_scope, single_use, training

pytestmark = pytest.mark.usefixtures("small_arrays_too")

relaxed = examples(50)
TIES = {"as chosen": 0, "Winograd's": 5, "Winograd's, streamed": 5}
"""Where a map is zero over more than a filter, all outputs are equal, but for Winograd's rounding errors: then a pool
chooses another of them."""
WINOGRAD = "Winograd's", "Winograd's, streamed"
ways = st.sampled_from(["as chosen", *unless_quick(*WINOGRAD)])
exact_ways = st.sampled_from(["as chosen", *only_whole(*WINOGRAD)])


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def possible(s, dtype, **limits):
    """Whether Winograd's algorithm can do it at all, whatever it costs."""
    return (s.KH, s.KW, s.stride, s.dilation, s.groups) == (3, 3, 1, 1, 1)


def choose(patch, way):
    """In float64 only the direct kernels are chosen: here Winograd's, as well."""
    patch.undo()
    if way != "as chosen":
        patch.setattr(cpu_conv, "winograd_pays", possible)
    if way == "Winograd's, streamed":
        patch.setattr(cpu_maps, "STREAMED", 0)


# ---- the same answers ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@relaxed
@given(st.one_of(chains(), unets()), st.booleans(), exact_ways)
def test_any_network(patch, network, train, way):
    m, x = network
    choose(patch, way)
    assert_same(run(m, x, train), run(m, x, train, "reference"), 1e-10, TIES[way])


@relaxed
@given(st.one_of(chains(), unets()), st.booleans(), ways)
def test_any_network_in_float32(patch, network, train, way):
    """Against float64, and not much worse than the plain ops."""
    m, x = network
    choose(patch, way)
    m.convert(lambda a: a.astype(np.float32))
    exact = copy.deepcopy(m).convert(lambda a: a.astype(np.float64))
    x = x.astype(np.float32)
    found = run(m, x, train)
    assert {a.dtype for a in found[0].values()} == {np.dtype(np.float32)}
    plain, exact = run(m, x, train, "reference"), run(exact, x.astype(np.float64), train, "reference")
    assert_same(found, exact, 2e-3, ties=2, rough=plain)


@pytest.mark.slow
@relaxed
@given(st.one_of(chains(), unets()), st.booleans(), exact_ways)
def test_one_mode_forward_and_the_other_backward(patch, network, train, way):
    m, x = network
    choose(patch, way)
    expected = run(m, x, train, "reference")
    assert_same(run(m, x, train, "fast", "reference"), expected, 1e-10, TIES[way])
    assert_same(run(m, x, train, "reference", "fast"), expected, 1e-10, TIES[way])


@pytest.mark.slow
@relaxed
@given(st.one_of(chains(), unets()))
def test_inference(network):
    m, x = network
    np.testing.assert_array_equal(m(x), m.forward(x, train=False)[0])
    np.testing.assert_array_equal(m(x), m(x))


# ---- what leaves and what does not -----------------------------------------------------------------------------------


class Watch(nn.Module):
    """Passes everything on and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def forward(self, x, train=True, rng=None, keep=True):
        self.seen["x"] = x
        return x, ()

    def backward(self, dy, cache):
        self.seen["dy"] = dy
        return dy


def watched(**layers):
    return nn.Sequential(**{k: v for name, m in layers.items() for k, v in ((name, m), (f"after {name}", Watch()))})


def seen(m, name):
    return m.children[f"after {name}"].seen


def test_what_layers_hand_each_other():
    """Inside they are lazy, or this file tests nothing; outside, and in reference mode, they are arrays."""
    m = watched(a=nn.Conv2d(16, 16, bias=False), norm=nn.BatchNorm2d(16), relu=nn.ReLU(), b=nn.Conv2d(16, 16))
    x = np.ones((1, 16, 16, 16), np.float32)
    with minunet.use("reference"):
        y, cache = m.forward(x)
        m.backward(y, cache)
    assert not any(isinstance(a, LazyMap) for w in m.children.values() if isinstance(w, Watch) for a in w.seen.values())
    y, cache = m.forward(x)
    assert type(y) is type(m.backward(y, cache)) is np.ndarray
    assert [type(seen(m, name)["x"]) for name in ("a", "norm", "relu")] == [LazyAffine] * 3
    assert seen(m, "a")["x"].moments is not None
    assert seen(m, "relu")["x"].raw is seen(m, "a")["x"].raw
    assert [type(seen(m, name)["dy"]) for name in ("relu", "norm", "a")] == [Gradient, Gradient, NormGradient]
    assert seen(m, "norm")["dy"] is seen(m, "relu")["dy"]


def test_a_cache_is_used_once():
    m = UNet(1, 2, base_width=8, depth=1)
    y, cache = m.forward(np.ones((1, 16, 16, 1), np.float32))
    m.backward(y, cache)
    with pytest.raises(RuntimeError, match="used up"):
        m.backward(y, cache)


@pytest.mark.slow
def test_gradients_add_up_over_two_batches(rng):
    m = lively(UNet(1, 2, base_width=4, depth=1, norm=None))
    x = rng.standard_normal((2, 9, 10, 1))
    together = run(m, x)[0]
    dy = np.random.default_rng(2).standard_normal((2, 9, 10, 2))
    for n in (slice(0, 1), slice(1, 2)):
        m.backward(dy[n], m.forward(x[n])[1])
    for path, g in m.named_grads().items():
        np.testing.assert_allclose(g, together[path], rtol=1e-9, atol=1e-12)


def test_results_are_the_callers_own(rng):
    """Nothing that came out changes when the network runs again, or when its input is overwritten."""
    m = lively(UNet(2, 3, base_width=8, depth=2)).convert(lambda a: a.astype(np.float32))
    x = rng.standard_normal((1, 128, 128, 2), np.float32)
    y, cache = m.forward(x)
    dx = m.backward(y, cache)
    results = {"y": y, "dx": dx, **m.named_grads()}
    copies = {name: a.copy() for name, a in results.items()}
    other = copy.deepcopy(m)
    for _ in range(2):
        z, cache = other.forward(np.float32(3) * x)
        other.backward(z, cache)
    for name, a in results.items():
        np.testing.assert_array_equal(a, copies[name], err_msg=name)


@pytest.mark.slow
def test_somebodys_own_layer(rng):
    m = lively(nn.Sequential(a=nn.Conv2d(3, 9), n=nn.BatchNorm2d(9), r=nn.ReLU(), own=Plainly(9), b=nn.Conv2d(9, 4)))
    x = rng.standard_normal((2, 7, 11, 3))
    assert_same(run(m, x), run(m, x, forward="reference"), 1e-11)


@pytest.mark.slow
def test_ops_by_name(rng):
    """An op called with named arguments, and a cache, takes lazy maps too."""

    class Named(nn.Module):
        def forward(self, x, train=True, rng=None, keep=True):
            y, cache = ops.conv2d(x=x, w=w)
            return ops.max_pool2d(x=y)[0] + ops.relu(x=y)[0][:, ::2, ::2], cache

        def backward(self, dy, cache):
            return ops.conv2d_backward(dy=np.repeat(np.repeat(dy, 2, 1), 2, 2), cache=cache)[0]

    w = rng.standard_normal((3, 3, 4, 4))
    m = lively(nn.Sequential(a=nn.Conv2d(2, 4), n=nn.BatchNorm2d(4), r=nn.ReLU(), named=Named()))
    x = rng.standard_normal((1, 8, 6, 2))
    assert_same(run(m, x), run(m, x, forward="reference"), 1e-11)


def test_maps_of_different_sizes_are_refused():
    class Wrong(nn.Module):
        def forward(self, x, train=True, rng=None, keep=True):
            return ops.concat([x, x[:, 1:]])

    m = nn.Sequential(a=nn.Conv2d(2, 3), wrong=Wrong(), b=nn.Conv2d(6, 2))
    with pytest.raises(ValueError, match="dimension"):
        m(np.ones((1, 5, 5, 2), np.float32))
    assert not fusing()


def test_an_error_inside_leaves_nothing_open():
    m = nn.Sequential(a=nn.Conv2d(2, 3), inner=nn.Sequential(b=nn.Conv2d(4, 3)))
    with pytest.raises(ValueError, match="channels"):
        m(np.ones((1, 5, 5, 2), np.float32))
    assert not fusing()
    assert type(ops.relu(np.ones((1, 5, 5, 2), np.float32))[0]) is np.ndarray


@pytest.mark.slow
def test_threads_do_not_fuse_each_other(rng):
    """While one thread is inside a network, another one's ops give arrays."""
    x, types, start, end = np.ones((1, 8, 8, 8)), [], threading.Event(), threading.Event()

    class Wait(Watch):
        def forward(self, x, train=True, rng=None, keep=True):
            start.set()
            assert end.wait(60)
            return x, ()

    thread = threading.Thread(target=lambda: nn.Sequential(a=nn.Conv2d(8, 8).convert(np.float64), wait=Wait())(x))
    thread.start()
    assert start.wait(60)
    types.append(type(ops.conv2d(x, np.ones((3, 3, 8, 8)))[0]))
    end.set()
    thread.join()
    assert types == [np.ndarray]


@pytest.mark.parametrize("width", [3, 16])
@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("train", [True, False])
def test_nan_stays_visible(width, norm, train):
    """A ReLU does not make zeros of it."""
    m = UNet(1, 2, base_width=width, depth=1, norm=norm)
    x = np.ones((1, 24, 24, 1), np.float32)
    x[0, 3, 4] = np.nan
    y, _ = m.forward(x, train)
    assert np.isnan(y[0, 3, 4]).all()
    assert train or np.isfinite(y[0, -1, -1]).all() or width == 16


@pytest.mark.parametrize("size", [(16, 16), (19, 22)])
def test_without_caches_a_joint_goes_as_soon_as_it_has_been_read(rng, size):
    """Skip and lower map, though the variables of three callers still name their concatenation."""
    m, joined, left = UNet(1, 2, base_width=4, depth=1), [], []
    second = dict(m.modules())["decoder.0.conv2"]
    join, conv2 = m.join.forward, second.forward

    def watch(x, *mode):
        y, cache = join(x, *mode)
        joined[:] = [weakref.ref(y.a.raw), weakref.ref(y.b)]
        return y, cache

    def look(x, *mode):
        gc.collect()
        left.append([half() is not None for half in joined])
        return conv2(x, *mode)

    x = rng.standard_normal((1, *size, 1)).astype(np.float32)
    plain = m(x)
    m.join.forward, second.forward = watch, look
    np.testing.assert_array_equal(m(x), plain)
    m.forward(x, train=False)
    assert left == [[False, False], [True, True]]  # with caches, which the backward needs, all stays


@pytest.mark.parametrize("norm", ["batch", None])
def test_a_gradient_goes_as_soon_as_its_block_has_read_it(rng, norm):
    """Though the variables of three callers still name it."""
    m, given, left = UNet(1, 2, base_width=4, depth=1, norm=norm), [], []
    layers = dict(m.modules())
    block, first = layers["decoder.0"].backward, layers["decoder.0.conv1"].backward

    def watch(dy, cache):
        given[:] = [weakref.ref(dy.dy)]
        return block(dy, cache)

    def look(dy, cache):
        gc.collect()
        left.append(given[0]() is not None)
        return first(dy, cache)

    x = rng.standard_normal((1, 16, 16, 1)).astype(np.float32)
    dx = m.backward(*m.forward(x))
    layers["decoder.0"].backward, layers["decoder.0.conv1"].backward = watch, look
    np.testing.assert_array_equal(m.backward(*m.forward(x)), dx)
    assert left == [False]


@pytest.mark.slow
def test_what_has_been_released_says_so(rng):
    a, w = rng.standard_normal((1, 6, 6, 4)), rng.standard_normal((3, 3, 8, 4))

    class Twice(nn.Module):
        def forward(self, x, train=True, rng=None, keep=True):
            both = single_use(ops.concat([x, x])[0])
            return ops.conv2d(both, w)[0] + ops.conv2d(both, w)[0], None

    with pytest.raises(RuntimeError, match="after its release"):
        nn.Sequential(twice=Twice())(a)


@pytest.mark.slow
def test_a_pair_of_three(rng):
    """A concatenation of a concatenation, read by a convolution."""

    class Three(nn.Module):
        def forward(self, x, train=True, rng=None, keep=True):
            inner, first = ops.concat([x, 2 * x])
            y, second = ops.concat([inner, -1 * x])
            assert isinstance(y, LazyConcat) is (dispatch._mode == "fast")
            return y, (first, second)

        def backward(self, dy, cache):
            inner, c = ops.concat_backward(dy, cache[1])
            a, b = ops.concat_backward(inner, cache[0])
            return a + 2 * b - c

    m = lively(nn.Sequential(a=nn.Conv2d(2, 5), three=Three(), b=nn.Conv2d(15, 3)))
    x = rng.standard_normal((2, 9, 10, 2))
    assert_same(run(m, x), run(m, x, forward="reference"), 1e-11)


def test_a_part_of_a_network_by_hand():
    """A part's backward on its own gives the whole gradient of its input: the ReLU before it has not been asked."""
    rng = np.random.default_rng(11)
    stem = nn.Sequential(conv=nn.Conv2d(8, 8, rng=rng), relu=nn.ReLU())
    net = nn.Sequential(stem=stem, body=nn.Sequential(conv=nn.Conv2d(8, 8, rng=rng)))
    x = rng.standard_normal((1, 32, 32, 8)).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    found = {}
    for mode in ("fast", "reference"):
        with minunet.use(mode):
            _, caches = net.forward(x)
            found[mode] = net.children["body"].backward(dy, caches.pop())
    np.testing.assert_allclose(found["fast"], found["reference"], atol=1e-4)


@pytest.mark.parametrize("how", ["positional", "named", "call"])
def test_moments_are_gathered_for_training_only(monkeypatch, how):
    """A batch norm with running statistics asks for none; with the batch's it has them from the convolution."""
    gathered = []
    monkeypatch.setattr(cpu_conv, "Output", lambda y, mode: gathered.append(mode) or Output(y, mode))
    net, x = UNet(1, 2, base_width=8, depth=1), np.ones((1, 16, 16, 1), np.float32)
    net.forward(x)
    assert MOMENTS in gathered
    gathered.clear()
    {"positional": lambda: net.forward(x, False), "named": lambda: net.forward(x, train=False), "call": lambda: net(x)}[
        how
    ]()
    assert set(gathered) == {STORE}
    gathered.clear()
    net.forward(x)
    assert MOMENTS in gathered


@pytest.mark.parametrize(
    "signature, calls",
    [
        ("self, x=0, *, train=True", {"": True, "train=False": False}),
        ("self, x=0, *, train=False", {"": False, "train=True": True}),
        ("self, train, x=1", {"train=False": False, "True": True, "False, 2": False}),
        ("self, x=0, rng=None, train=False, keep=True", {"": False, "1, None, True": True, "1, train=True": True}),
        ("self, *maps, train=False", {"1, 2, 3": False, "1, 2, train=True": True}),
        ("self, *maps, **options", {"1, 2": True, "train=False": False}),
        ("self, x=0", {"": True}),
    ],
)
def test_a_scope_finds_train_wherever_it_stands(signature, calls):
    defined = {"training": training}
    exec(f"def forward({signature}): return training()", defined)
    forward = fusion_scope(defined["forward"])
    for arguments, expected in calls.items():
        assert eval(f"forward(None{arguments and ', '}{arguments})", {"forward": forward}) is expected, arguments


def test_a_backward_always_trains():
    @fusion_scope
    def backward(self, dy, train=False):
        return training()

    assert backward(None, 1)


def test_gradient_of_an_image_is_computed_when_read(monkeypatch):
    """A training step does not read it; whoever does gets what the plain op returns."""
    rng = np.random.default_rng(0)
    x, w, dy = (rng.standard_normal(shape) for shape in ((1, 6, 7, 3), (3, 3, 3, 5), (1, 6, 7, 5)))
    _, cache = cpu_conv.conv2d(x, w)
    computed, whole = [], cpu_conv.data_gradient
    monkeypatch.setattr(cpu_conv, "data_gradient", lambda *args: computed.append(args) or whole(*args))
    dx = fusion_scope(lambda: [cpu_conv.conv2d_backward(dy, cache)[0]])()[0]
    assert not computed
    assert np.abs(dx - ops.conv2d_backward.plain(dy, cache)[0]).max() < 1e-12
    assert computed
