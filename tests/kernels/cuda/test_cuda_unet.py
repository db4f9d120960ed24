"""Whole tiny U-Nets through the CUDA kernels, forwards, backwards and a step, against the plain ops in float64."""

import contextlib
import copy
import functools

import numpy as np
import pytest
from helpers.cuda_device import CONDITIONS, EPS, PARAMS, device, near, through_kernels, values
from helpers.fused_networks import assert_same, chains, lively, run, unets
from helpers.sizes import examples
from hypothesis import assume, given
from hypothesis import strategies as st

import minunet
from minunet import nn, ops, optim
from minunet.kernels import cuda as cuda_kernels
from minunet.kernels.cuda import launch, launch_conv, launch_norm, rules
from minunet.kernels.cuda import ops as cuda_ops
from minunet.models import UNet
from minunet.ops.lazy import LazyMap, fusion_scope

FEW = [PARAMS[CONDITIONS.index(c)] for c in (("shuffled", False), ("warps down", True))] + PARAMS[-1:]
"""A network runs under two conditions, each of its kernels alone under all."""


@pytest.fixture(params=FEW)
def whole(request):
    with device(request.param, exact=True) as found:
        yield found


@pytest.mark.parametrize(
    "up, norm, size",
    [("transpose", "batch", (16, 20)), ("bilinear", None, (13, 11)), ("transpose", "group", (16, 16))],
)
def test_unet_by_the_kernels(whole, rng, monkeypatch, up, norm, size):
    """The model as it is, every op by its kernel: logits, loss, all gradients, and the parameters after a step."""
    model = UNet(3, 2, base_width=4, depth=2, up=up, norm=norm, seed=1)
    exact = copy.deepcopy(model).convert(np.float64)
    x, labels = rng.standard_normal((2, *size, 3)), rng.integers(0, 2, (2, *size))

    def step(model, x, labels):
        optimizer = optim.SGD(model, lr=0.1)
        logits, cache = model.forward(x)
        loss, loss_cache = ops.softmax_cross_entropy(logits, labels)
        dx = model.backward(ops.softmax_cross_entropy_backward(1.0, loss_cache), cache)
        optimizer.step()
        return logits, loss, dx

    with minunet.use("reference"):
        wanted = step(exact, x, labels)
    asked = set()
    through_kernels(monkeypatch, asked)
    if whole.xp is not np:
        model.convert(whole.xp.asarray)
    found = step(model, whole.array(x, np.float32), whole.array(labels))
    eps = EPS["exact" if whole.exact else "float32"]
    near(found[0], wanted[0], eps, 1000)
    near(found[1].reshape(1), wanted[1].reshape(1), eps, 1000)
    near(found[2], wanted[2], eps, 1e5)
    grads, params = exact.named_grads(), exact.named_params()
    assert model.named_grads().keys() == grads.keys()
    scale = max(np.sqrt(np.mean(g**2)) for g in grads.values())  # a bias before a norm has the gradient 0
    for path, g in model.named_grads().items():
        error = np.abs(values(g) - grads[path]).max()
        assert error < 1e4 * eps * max(scale, np.abs(grads[path]).max()), (path, error)
        near(model.named_params()[path], params[path], eps, 1e5)
    used = rules.CUDA_KERNELS.keys() - {"adam_steps", "rmsprop_steps", "clip", "move_averages", "cast", "unscale"}
    used -= {"soft_dice", "soft_dice_backward", "shared_batch_norm_backward", *["running_average"] * (norm != "batch")}
    used -= {f"{kind}_norm{back}" for kind in ("batch", "group") if kind != norm for back in ("", "_backward")}
    used -= {n for n in used if ("bilinear" if up == "transpose" else "transpose") in n}
    assert asked == used


def test_unet_in_halves_of_concatenations(whole, rng):
    """One level by the kernels as they are meant to run: fused, and without a copy for the concatenation.

    The encoder writes the skip, and the transposed convolution its result, into the halves of one buffer; the decoder's data
    gradient fills the halves of another one, in which the pool's backward adds to the skip's gradient.
    """
    N, H, W, C, K = 1, 10, 12, 8, 2
    f = {n: rng.standard_normal(s) / s[0] / s[2] ** 0.5 for n, s in {
        "in": (3, 3, 3, C), "down": (3, 3, C, 2 * C), "up": (2, 2, 2 * C, C), "out": (3, 3, 2 * C, C), "head": (1, 1, C, K),
    }.items()}  # fmt: skip
    gamma, beta = rng.random((2, C)) + 0.5
    x, labels = rng.standard_normal((N, H, W, 3)), rng.integers(0, K, (N, H, W)).astype(np.int32)
    wanted = plain_level(x, f, gamma, beta, labels)

    a, empty = whole.array, whole.empty
    w = {n: a(v.reshape(-1, *v.shape[2:]), np.float32) for n, v in f.items()}
    gamma, beta, on, classes = a(gamma, np.float32), a(beta, np.float32), a(x, np.float32), a(labels)
    same = {"side": 3, "pad": 1}
    joined, raw, pooled, winner = empty((N, H, W, 2 * C)), empty((N, H, W, C)), empty((N, H // 2, W // 2, C)), None
    skip, up = joined[..., :C], joined[..., C:]
    tiles = launch_conv.conv([on], w["in"], [raw], moments=True, **same)
    mean, _, rstd = launch_norm.merge_moments(tiles)
    launch_norm.norm(raw, mean, rstd, gamma, beta, skip, relu=True)
    winner = empty(pooled.shape, np.uint8)
    launch.max_pool(skip, pooled, winner, 2, 2)
    low = empty((N, H // 2, W // 2, 2 * C))
    launch_conv.conv([pooled], w["down"], [low], relu=True, **same)
    launch_conv.conv([low], w["up"], [up], side=1, up=2)
    last, logits = empty((N, H, W, C)), empty((N, H, W, K))
    launch_conv.conv([skip, up], w["out"], [last], relu=True, **same)
    launch.head(last, w["head"][0], None, logits)
    p, share, result = launch.cross_entropy(logits, classes, None, None, -1)

    dz, dlast, djoined = empty(logits.shape), empty(last.shape), empty(joined.shape)
    dskip, dup = djoined[..., :C], djoined[..., C:]
    grads = {n: empty(v.shape) for n, v in w.items()}
    back = {"flip": True, "gradient": True, **same}
    launch.cross_entropy_back(p, classes, share, result, a(np.float32([1])), dz)
    dw, _ = launch.head_back(last, dz, w["head"][0], dlast)
    grads["head"][...] = dw
    launch_norm.relu(last, dlast, dlast)
    launch_conv.conv_weights([skip, up], dlast, grads["out"], **same)
    launch_conv.conv([dlast], w["out"], [dskip, dup], **back)
    dlow, dpooled = empty(low.shape), empty(pooled.shape)
    launch_conv.conv_weights([dup], low, grads["up"], side=2, stride=2, transposed=True)
    launch_conv.conv([dup], w["up"], [dlow], side=2, stride=2, gradient=True)
    launch_norm.relu(low, dlow, dlow)
    launch_conv.conv_weights([pooled], dlow, grads["down"], **same)
    launch_conv.conv([dlow], w["down"], [dpooled], **back)
    launch.max_pool_back(dpooled, winner, dskip, 2, 2, plus=dskip)
    dbeta, dgamma = launch_norm.norm_back(dskip, raw, mean, rstd, gamma, beta, dskip, relu=True)
    launch_conv.conv_weights([on], dskip, grads["in"], **same)
    dx = empty(x.shape)
    launch_conv.conv([dskip], w["in"], [dx], **back)

    eps = EPS["exact" if whole.exact else "float32"]
    found = {"loss": result[:1], "dx": dx, "dgamma": dgamma, "dbeta": dbeta, **grads}
    for name, value in found.items():
        near(value.reshape(wanted[name].shape), wanted[name], eps, 1e4)


def plain_level(x, f, gamma, beta, labels):
    """The same level by the plain ops: the loss and all gradients."""
    with minunet.use("reference"):
        raw, c_in = ops.conv2d(x, f["in"])
        y, c_norm, _ = ops.batch_norm(raw, gamma, beta)
        skip, c_relu = ops.relu(y)
        pooled, c_pool = ops.max_pool2d(skip)
        y, c_down = ops.conv2d(pooled, f["down"])
        low, c_relu2 = ops.relu(y)
        up, c_up = ops.conv_transpose2d(low, f["up"])
        joined, c_join = ops.concat([skip, up])
        y, c_out = ops.conv2d(joined, f["out"])
        last, c_relu3 = ops.relu(y)
        logits, c_head = ops.conv2d(last, f["head"])
        loss, c_loss = ops.softmax_cross_entropy(logits, labels)
        d, g_head, _ = ops.conv2d_backward(ops.softmax_cross_entropy_backward(1.0, c_loss), c_head)
        d, g_out, _ = ops.conv2d_backward(ops.relu_backward(d, c_relu3), c_out)
        dskip, d = ops.concat_backward(d, c_join)
        d, g_up, _ = ops.conv_transpose2d_backward(d, c_up)
        d, g_down, _ = ops.conv2d_backward(ops.relu_backward(d, c_relu2), c_down)
        d = ops.relu_backward(ops.max_pool2d_backward(d, c_pool) + dskip, c_relu)
        d, dgamma, dbeta = ops.batch_norm_backward(d, c_norm)
        dx, g_in, _ = ops.conv2d_backward(d, c_in)
    return {"loss": np.array([loss]), "dx": dx, "dgamma": dgamma, "dbeta": dbeta,
            "in": g_in, "down": g_down, "up": g_up, "out": g_out, "head": g_head}  # fmt: skip


@pytest.mark.parametrize("train", [True, False])
@examples(12)
@given(network=st.one_of(chains(), unets()))
def test_random_networks(monkeypatch, train, network):
    """The lazy maps that kernels hand each other, in networks of all kinds: as exact as the plain ops in float32."""
    m, x = network
    small = copy.deepcopy(m).convert(np.float32)
    with emulated():
        through_kernels(monkeypatch, set())
        found = run(small, x.astype(np.float32), train)
        monkeypatch.undo()
    exact, rough = run(m, x, train, "reference"), run(small, x.astype(np.float32), train, "reference")
    for _, chosen in (found, rough):  # ReLUs at 0 and pools' ties may fall otherwise
        assume(all(np.array_equal(a, b) for a, b in zip(chosen, exact[1])))
    assert_same(found, exact, 1e-5, rough=rough)


@pytest.mark.parametrize("train", [True, False])
def test_norms_and_relus_in_any_order(monkeypatch, train):
    """A norm's statistics are those of what comes before it: of a ReLU's result, of another norm's."""
    layers = {"conv": nn.Conv2d(3, 8), "relu": nn.ReLU(), "norm": nn.BatchNorm2d(8), "next": nn.Conv2d(8, 4),
              "norm1": nn.BatchNorm2d(4), "norm2": nn.BatchNorm2d(4), "relu1": nn.ReLU(), "relu2": nn.ReLU(),
              "last": nn.Conv2d(4, 9)}  # fmt: skip
    m, x = lively(nn.Sequential(**layers)), np.random.default_rng(1).standard_normal((2, 7, 6, 3))
    with emulated():
        through_kernels(monkeypatch, set())
        found = run(copy.deepcopy(m).convert(np.float32), x.astype(np.float32), train)
        monkeypatch.undo()
    assert_same(found, run(m, x, train, "reference"), 1e-4)


@contextlib.contextmanager
def emulated():
    with device(("shuffled", False), exact=True):
        yield


@pytest.mark.drawn(quick=1)
def test_only_raw_maps_are_kept(whole, rng, monkeypatch):
    """Between forward and backward there is one map for each convolution, and neither norms' results nor concatenations."""
    if whole.xp is not np:
        pytest.skip("the emulator shows it, on a GPU it is the same")
    model, asked = UNet(3, 2, base_width=8, depth=1, seed=1), set()
    through_kernels(monkeypatch, asked)
    y, cache = model.forward(rng.standard_normal((1, 32, 32, 3)).astype(np.float32))
    maps = {id(a): a.nbytes for a in arrays_in(cache) if a.ndim == 4 and a.shape[:2] != (1, 1)}
    filters = {id(p) for p in model.named_params().values()}
    top = 3 + 4 * 8 + 8  # channels of the image, of four convolutions and of the up-step
    bottom = 8 + 2 * 16  # of the pool and of two convolutions
    assert sum(n for i, n in maps.items() if i not in filters) == 32 * 32 * top * 4 + 16 * 16 * (
        bottom * 4 + 8
    )  # and winners
    model.backward(np.ones_like(y), cache)


def test_nobody_computes_what_nobody_reads(whole, rng, monkeypatch):
    """The gradient of the image: not computed in a training step, and right where somebody wants it."""
    if whole.xp is not np:
        pytest.skip("the emulator shows it, on a GPU it is the same")
    through_kernels(monkeypatch, set())
    written, conv = [], launch_conv.conv
    monkeypatch.setattr(
        launch_conv, "conv", lambda s, w, outs, **o: [written.append(outs[0].shape), conv(s, w, outs, **o)][1]
    )
    model = UNet(3, 2, base_width=8, depth=1, seed=1)
    x = rng.standard_normal((1, 16, 12, 3)).astype(np.float32)
    grads, in_training = [], fusion_scope(lambda *args: UNet.backward(*args) and None)
    for backward in (in_training, UNet.backward):
        y, cache = model.forward(x)
        model.zero_grad()
        written.clear()
        dx = backward(model, np.ones_like(y), cache)
        grads.append({name: g.copy() for name, g in model.named_grads().items()})
        assert (dx is None) == (x.shape not in written) == (backward is in_training)
    for name, g in grads[0].items():
        np.testing.assert_array_equal(g, grads[1][name])


def arrays_in(x):
    """All arrays that a cache keeps alive."""
    if isinstance(x, np.ndarray):
        yield x if x.base is None else x.base
    elif isinstance(x, (tuple, list)):
        for part in x:
            yield from arrays_in(part)
    elif isinstance(x, LazyMap):
        yield from arrays_in([v for k, v in vars(x).items() if k != "like"])


def test_twins_take_any_view(whole, rng):
    """What is no map (every other pixel, channels first in memory) is copied first; caches fit the plain backward."""
    x, w = rng.standard_normal((2, 9, 10, 6)).astype(np.float32), rng.standard_normal((3, 3, 6, 4)).astype(np.float32)
    y, cache = ops.conv2d.plain(x[:, ::2].astype(float), w.astype(float))
    dx, dw, _ = ops.conv2d_backward.plain(y, cache)
    for view in (
        lambda a: whole.array(a)[:, ::2],
        lambda a: whole.array(a[:, ::2].transpose(3, 0, 1, 2)).transpose(1, 2, 3, 0),
    ):
        found, kept = cuda_ops.conv2d(view(x), whole.array(w))
        near(found, y, EPS["exact" if whole.exact else "float32"], 54)
        for backward in (cuda_ops.conv2d_backward, ops.conv2d_backward.plain):
            back = backward(whole.array(y, np.float32), kept)
            near(back[0], dx, EPS["exact" if whole.exact else "float32"], 1000)
            near(back[1], dw, EPS["exact" if whole.exact else "float32"], 1000)


@pytest.mark.parametrize("side, padding", [(1, "same"), (1, 1), (3, "valid"), (3, 3), (2, "valid"), (2, 1), (5, 0)])
def test_paddings(whole, rng, side, padding):
    x, w, b = (rng.standard_normal(s) for s in ((2, 7, 6, 8), (side, side, 8, 4), 4))
    y, cache = ops.conv2d.plain(x, w, b, padding=padding)
    dy = rng.standard_normal(y.shape)
    wanted = (y, *ops.conv2d_backward.plain(dy, cache))
    found, kept = cuda_ops.conv2d(*(whole.array(a, np.float32) for a in (x, w, b)), padding=padding)
    for a, exact in zip((found, *cuda_ops.conv2d_backward(whole.array(dy, np.float32), kept)), wanted):
        near(a, exact, EPS["exact" if whole.exact else "float32"], 1000)


def test_maps_of_16_bits(whole, rng):
    """float16 maps and filters beside float32 biases and norms: parameters' gradients are float32."""
    x, w, gamma, b = (
        rng.standard_normal((1, 6, 8, 8)),
        rng.standard_normal((3, 3, 8, 16)) / 9,
        *rng.standard_normal((2, 16)),
    )
    x, w, gamma, b = (a.astype(t).astype(float) for a, t in ((x, "f2"), (w, "f2"), (gamma, "f4"), (b, "f4")))
    y, c_conv = ops.conv2d.plain(x, w, b)
    y, c_norm, _ = ops.batch_norm.plain(y, gamma, b)
    dy = rng.standard_normal(y.shape).astype("f2").astype(float)
    d, dgamma, _ = ops.batch_norm_backward.plain(dy, c_norm)
    dx, dw, db = ops.conv2d_backward.plain(d, c_conv)
    on, filters, scale, bias = (whole.array(a, t) for a, t in ((x, "f2"), (w, "f2"), (gamma, "f4"), (b, "f4")))
    assert cuda_kernels.kernel_for("conv2d", on, filters, bias)
    found, k_conv = cuda_ops.conv2d(on, filters, bias)
    assert cuda_kernels.kernel_for("batch_norm", found, scale, bias)
    found, k_norm, _ = cuda_ops.batch_norm(found, scale, bias)
    near(found, y, EPS["float16"], 4, "float16")
    back, dscale, _ = cuda_ops.batch_norm_backward(whole.array(dy, "f2"), k_norm)
    grads = (*cuda_ops.conv2d_backward(back, k_conv), dscale)
    assert [g.dtype.name for g in grads] == ["float16", "float32", "float32", "float32"]
    for g, exact in zip((*grads[:2], grads[3]), (dx, dw, dgamma)):
        near(g, exact, EPS["float16"], 16, "float16")


def test_a_head_of_16_bits(whole, rng, monkeypatch):
    """In mixed precision the last convolution has kernels of its own, too."""
    x, w, b = rng.standard_normal((1, 6, 8, 24)), rng.standard_normal((1, 1, 24, 2)) / 5, rng.standard_normal(2)
    x, w, b = (a.astype("f2").astype(float) for a in (x, w, b))
    y, cache = ops.conv2d.plain(x, w, b)
    dy = rng.standard_normal(y.shape).astype("f2").astype(float)
    wanted = ops.conv2d_backward.plain(dy, cache)
    monkeypatch.setattr(launch_conv, "conv", None)
    found, cache = cuda_ops.conv2d(*(whole.array(a, "f2") for a in (x, w, b)))
    near(found, y, EPS["exact"], 24, "float16")
    back = cuda_ops.conv2d_backward(whole.array(dy, "f2"), cache)
    assert [a.dtype.name for a in (found, *back)] == ["float16", "float16", "float32", "float32"]
    for g, exact in zip(back, wanted):
        near(g, exact, EPS["exact"], 48, g.dtype.name)


def test_rules_leave_the_rest_to_the_plain_ops():
    x, w = np.zeros((1, 8, 8, 4), np.float32), np.zeros((3, 3, 4, 4), np.float32)
    fits = functools.partial(cuda_kernels.kernel_for, "conv2d")
    assert fits(x, w) and fits(x, w, padding="valid") and fits(x, w, padding=2) and fits(x, w, padding=((1, 1), (1, 1)))
    assert not fits(x, w, stride=2) and not fits(x, w, dilation=2) and not fits(x, w[:, :, :2], groups=2)
    assert not fits(x, w, padding=(1, 0)) and not fits(x, w[:2, :2]) and fits(x, w[:2, :2], padding="valid")
    assert not fits(x.astype(float), w.astype(float)) and not fits(x[:, :0], w)
    assert cuda_kernels.kernel_for("dropout", x) is None and cuda_kernels.kernel_for("conv2d", x, w) is cuda_ops.conv2d
