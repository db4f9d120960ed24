"""PyTorch as an oracle: forward and backward of every op, and of whole networks, in float64."""

import numpy as np
import pytest

from minunet import ops
from minunet.models import UNet

torch = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed: pip install torch")
F = torch.nn.functional


def nchw(a):
    return torch.tensor(np.moveaxis(a, -1, 1).copy(), requires_grad=True)


def nhwc(t):
    return np.moveaxis(t.detach().numpy(), 1, -1)


def hwio(t):
    """A convolution's filters from PyTorch's (out, in, H, W)."""
    return t.detach().numpy().transpose(2, 3, 1, 0)


def close(a, b, tol=1e-12):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert abs(a - b).max() <= tol * max(abs(b).max(), 1e-300)


@pytest.mark.parametrize("stride, padding, dilation, groups", [
    (1, 1, 1, 1), (2, 0, 1, 1), (1, (2, 1), 2, 1), (3, 1, 1, 2), (1, "same", 2, 2), (1, "valid", 1, 1),
])  # fmt: skip
def test_conv2d(rng, stride, padding, dilation, groups):
    x, w, b = rng.standard_normal((2, 9, 8, 4)), rng.standard_normal((3, 2, 4 // groups, 6)), rng.standard_normal(6)
    tx, tb = nchw(x), torch.tensor(b, requires_grad=True)
    tw = torch.tensor(w.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    ty = F.conv2d(tx, tw, tb, stride, padding, dilation, groups)
    y, cache = ops.conv2d(x, w, b, stride, padding, dilation, groups)
    close(y, nhwc(ty))
    dy = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    dx, dw, db = ops.conv2d_backward(dy, cache)
    close(dx, nhwc(tx.grad))
    close(dw, hwio(tw.grad))
    close(db, tb.grad)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("side, stride, dilation, padding, same", [
    (7, 2, 1, 3, False), (3, 2, 1, 1, False), (1, 2, 1, 0, True), (3, 1, 6, 6, True), (3, 1, 1, 1, True), (3, 2, 2, 2, False),
])  # fmt: skip
def test_the_padding_of_resnet_mobilenet_and_deeplab(rng, size, side, stride, dilation, padding, same):
    """PyTorch pads both sides alike. So does a number as padding; "same" with a stride does not where sizes are even."""
    x, w = rng.standard_normal((1, size, size, 2)), rng.standard_normal((side, side, 2, 3))
    expected = nhwc(F.conv2d(nchw(x), torch.tensor(w.transpose(3, 2, 0, 1).copy()), None, stride, padding, dilation))
    close(ops.conv2d(x, w, None, stride, padding, dilation)[0], expected)
    found, _ = ops.conv2d(x, w, None, stride, "same", dilation)
    assert found.shape == expected.shape
    assert np.allclose(found, expected) == (same or size % 2 == 1)


@pytest.mark.parametrize("side, stride", [(3, 2), (5, 2), (3, 1), (4, 3)])
@pytest.mark.parametrize("size", [7, 8, 10])
def test_same_padding_is_tensorflows(rng, size, side, stride):
    """SAME: ceil(H / stride) rows, and of an odd number of zeros one more at the far end. By TensorFlow's published formula."""
    x, w = rng.standard_normal((1, size, size, 2)), rng.standard_normal((side, side, 2, 3))
    total = max(side - (stride if size % stride == 0 else size % stride), 0)
    margins = (total // 2, total - total // 2)
    expected = F.conv2d(F.pad(nchw(x), margins * 2), torch.tensor(w.transpose(3, 2, 0, 1).copy()), None, stride)
    close(ops.conv2d(x, w, None, stride, "same")[0], nhwc(expected))


@pytest.mark.parametrize("stride, padding, dilation", [
    (1, 1, 1), (2, 1, 1), (2, 0, 1), (1, (2, 1), 2), (3, 1, 1), (1, "same", 2), (1, 18, 18),
])  # fmt: skip
def test_depthwise_conv2d(rng, stride, padding, dilation):
    x, w, b = rng.standard_normal((2, 9, 8, 5)), rng.standard_normal((3, 3, 5)), rng.standard_normal(5)
    tx, tb = nchw(x), torch.tensor(b, requires_grad=True)
    tw = torch.tensor(w.transpose(2, 0, 1)[:, None].copy(), requires_grad=True)
    ty = F.conv2d(tx, tw, tb, stride, padding, dilation, groups=5)
    y, cache = ops.depthwise_conv2d(x, w, b, stride, padding, dilation)
    close(y, nhwc(ty))
    dy = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    dx, dw, db = ops.depthwise_conv2d_backward(dy, cache)
    close(dx, nhwc(tx.grad))
    close(dw, tw.grad.numpy()[:, 0].transpose(1, 2, 0))
    close(db, tb.grad)


@pytest.mark.parametrize("size, stride, padding", [(2, 2, 0), (3, 2, 1), (4, 3, 0), (3, 1, 1)])
def test_conv_transpose2d(rng, size, stride, padding):
    x, w, b = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((size, size, 3, 2)), rng.standard_normal(2)
    tx, tb = nchw(x), torch.tensor(b, requires_grad=True)
    tw = torch.tensor(w.transpose(2, 3, 0, 1).copy(), requires_grad=True)  # PyTorch: (in, out, H, W)
    ty = F.conv_transpose2d(tx, tw, tb, stride, padding)
    y, cache = ops.conv_transpose2d(x, w, b, stride, padding)
    close(y, nhwc(ty))
    dy = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    dx, dw, db = ops.conv_transpose2d_backward(dy, cache)
    close(dx, nhwc(tx.grad))
    close(dw, tw.grad.numpy().transpose(2, 3, 0, 1))
    close(db, tb.grad)


def compare(rng, x, ours, backward, theirs, tol=1e-12):
    """One op without parameters: forward and backward."""
    tx = nchw(x)
    ty = theirs(tx)
    y, cache = ours(x)
    close(y, nhwc(ty), tol)
    dy = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    close(backward(dy, cache), nhwc(tx.grad), tol)


def test_star_loss(rng):
    """As StarDist's Keras losses, with PyTorch's binary cross-entropy."""
    logits, target = rng.standard_normal((2, 5, 6, 9)), np.abs(rng.standard_normal((2, 5, 6, 9)))
    target[..., 0] = np.clip(rng.standard_normal((2, 5, 6)), 0, 1)
    t, d = torch.tensor(logits, requires_grad=True), torch.tensor(target)
    p = d[..., 0]
    off, size = (t[..., 1:] - d[..., 1:]).abs().mean(-1), t[..., 1:].abs().mean(-1)
    expected = F.binary_cross_entropy_with_logits(t[..., 0], p) + 0.2 * (p * off).mean() / p.mean()
    expected = expected + 1e-4 * ((1 - p) * size).mean()
    expected.backward()
    loss, cache = ops.star_loss(logits, target, distances=0.2)
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-12)
    close(ops.star_loss_backward(1.0, cache), t.grad.numpy())


def test_pools_and_upsampling(rng):
    x = rng.standard_normal((2, 7, 9, 3))
    compare(rng, x, lambda a: ops.max_pool2d(a, 3, 2), ops.max_pool2d_backward, lambda t: F.max_pool2d(t, 3, 2))
    compare(rng, x, ops.max_pool2d, ops.max_pool2d_backward, lambda t: F.max_pool2d(t, 2))
    compare(rng, x, lambda a: ops.avg_pool2d(a, 3, 2), ops.avg_pool2d_backward, lambda t: F.avg_pool2d(t, 3, 2))
    compare(rng, x, ops.global_avg_pool2d, ops.global_avg_pool2d_backward, lambda t: t.mean((2, 3), keepdim=True))
    compare(rng, x, ops.upsample_nearest, ops.upsample_nearest_backward, lambda t: F.interpolate(t, scale_factor=2))
    for corners in (True, False):
        compare(
            rng, x, lambda a, c=corners: ops.upsample_bilinear(a, 2, c), ops.upsample_bilinear_backward,
            lambda t, c=corners: F.interpolate(t, scale_factor=2, mode="bilinear", align_corners=c),
        )  # fmt: skip


@pytest.mark.parametrize("size, stride, padding, ceil_mode", [
    (3, 2, 1, False), (3, 2, 1, True), (2, 2, 0, True), (8, 8, 0, True), (4, 3, 2, True), (5, 1, 2, False), (2, 3, 1, True),
])  # fmt: skip
@pytest.mark.parametrize("shape", [(2, 7, 10, 3), (1, 8, 9, 2)], ids=str)
def test_padded_pools(rng, size, stride, padding, ceil_mode, shape):
    """Also where all is negative, so that zeros would win, and all 0, so that everything is tied."""
    how = (size, stride, padding)
    for x in (rng.standard_normal(shape), -1 - rng.random(shape), np.zeros(shape)):
        compare(rng, x, lambda a: ops.max_pool2d_padded(a, *how, ceil_mode), ops.max_pool2d_padded_backward,
                lambda t: F.max_pool2d(t, *how, ceil_mode=ceil_mode))  # fmt: skip


@pytest.mark.parametrize("H, W", [(6, 8), (7, 9)])
def test_unpooling(rng, H, W):
    """PyTorch's indices count within a plane, our winners within a window; both make the same map."""
    x = rng.standard_normal((2, H, W, 3))
    y, (winner, *_) = ops.max_pool2d(x)
    _, indices = F.max_pool2d(nchw(x), 2, return_indices=True)
    h = rng.standard_normal(y.shape)
    compare(rng, h, lambda a: ops.max_unpool2d(a, winner, (H, W)), ops.max_unpool2d_backward,
            lambda t: F.max_unpool2d(t, indices, 2, output_size=(H, W)))  # fmt: skip


@pytest.mark.parametrize("size", [(13, 20), (3, 4), (7, 9), (1, 1), (14, 27), (16, 1)], ids=str)
def test_resizing(rng, size):
    """To sizes: with a factor that does not divide, PyTorch places pixels by the factor unless told otherwise."""
    for shape in ((2, 7, 9, 3), (1, 1, 1, 2), (1, 1, 6, 1)):
        x = rng.standard_normal(shape)
        compare(rng, x, lambda a: ops.resize_nearest(a, size), ops.resize_nearest_backward,
                lambda t: F.interpolate(t, size=size, mode="nearest"))  # fmt: skip
        for corners in (True, False):
            compare(
                rng, x, lambda a, c=corners: ops.resize_bilinear(a, size, c), ops.resize_bilinear_backward,
                lambda t, c=corners: F.interpolate(t, size=size, mode="bilinear", align_corners=c),
            )  # fmt: skip


def test_output_padding(rng):
    x, w = rng.standard_normal((2, 5, 4, 3)), rng.standard_normal((3, 3, 3, 2))
    tw = torch.tensor(w.transpose(2, 3, 0, 1).copy())
    compare(rng, x, lambda a: ops.conv_transpose2d(a, w, padding=((1, 0), (1, 0))),
            lambda dy, c: ops.conv_transpose2d_backward(dy, c)[0],
            lambda t: F.conv_transpose2d(t, tw, None, 2, 1, output_padding=1))  # fmt: skip


def test_activations(rng):
    x = rng.standard_normal((2, 4, 5, 3))
    compare(rng, x, ops.relu, ops.relu_backward, F.relu)
    compare(rng, x, ops.leaky_relu, ops.leaky_relu_backward, F.leaky_relu)
    compare(rng, x, ops.sigmoid, ops.sigmoid_backward, torch.sigmoid)
    compare(rng, x, ops.tanh, ops.tanh_backward, torch.tanh)
    z = 4 * x
    z[0, 0, 0, :2] = 0, 6  # at the kinks both have slope 0
    compare(rng, z, ops.relu6, ops.relu6_backward, F.relu6)
    compare(rng, x, ops.softmax, ops.softmax_backward, lambda t: F.softmax(t, 1))


@pytest.mark.parametrize("shape", [(2, 1, 1, 3), (2, 4, 5, 1), (2, 4, 5, 3)], ids=str)
def test_gates(rng, shape):
    x, a = rng.standard_normal((2, 4, 5, 3)), rng.standard_normal(shape)
    tx, ta = nchw(x), nchw(a)
    ty = tx * ta
    y, cache = ops.gate(x, a)
    close(y, nhwc(ty))
    dy = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    for ours, theirs in zip(ops.gate_backward(dy, cache), (tx, ta)):
        close(ours, nhwc(theirs.grad))


def test_concat_of_three_with_one_map_twice(rng):
    a, b = rng.standard_normal((2, 4, 5, 3)), rng.standard_normal((2, 4, 5, 2))
    ta, tb = nchw(a), nchw(b)
    ty = torch.cat([ta, tb, ta], 1)
    y, cache = ops.concat([a, b, a])
    close(y, nhwc(ty))
    dy = rng.standard_normal(y.shape)
    ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    first, db, second = ops.concat_backward(dy, cache)
    close(first + second, nhwc(ta.grad))
    close(db, nhwc(tb.grad))


def test_norms(rng):
    x, gamma, beta = rng.standard_normal((3, 5, 4, 6)), rng.standard_normal(6), rng.standard_normal(6)
    tg, tb = torch.tensor(gamma), torch.tensor(beta)
    mean, var = rng.standard_normal(6), rng.uniform(0.5, 2, 6)
    compare(rng, x, lambda a: ops.batch_norm(a, gamma, beta)[:2], lambda dy, c: ops.batch_norm_backward(dy, c)[0],
            lambda t: F.batch_norm(t, None, None, tg, tb, training=True))  # fmt: skip
    compare(rng, x, lambda a: ops.batch_norm(a, gamma, beta, mean, var)[:2], lambda dy, c: ops.batch_norm_backward(dy, c)[0],
            lambda t: F.batch_norm(t, torch.tensor(mean), torch.tensor(var), tg, tb))  # fmt: skip
    compare(rng, x, lambda a: ops.group_norm(a, gamma, beta, 6), lambda dy, c: ops.group_norm_backward(dy, c)[0],
            lambda t: F.instance_norm(t, weight=tg, bias=tb))  # fmt: skip
    compare(rng, x, lambda a: ops.group_norm(a, gamma, beta, 3), lambda dy, c: ops.group_norm_backward(dy, c)[0],
            lambda t: F.group_norm(t, 3, tg, tb))  # fmt: skip


def test_losses(rng):
    logits, labels = rng.standard_normal((2, 4, 5, 3)), rng.integers(-1, 3, (2, 4, 5))
    class_weight = np.array([0.3, 1.0, 2.5])
    t = nchw(logits)
    loss = F.cross_entropy(t, torch.tensor(labels), torch.tensor(class_weight), ignore_index=-1)
    loss.backward()
    ours, cache = ops.softmax_cross_entropy(logits, labels, class_weight=class_weight)
    close(ours, loss.detach())
    close(ops.softmax_cross_entropy_backward(1.0, cache), nhwc(t.grad))

    logits, labels, weight = (
        rng.standard_normal((2, 4, 5, 1)),
        rng.integers(0, 2, (2, 4, 5)),
        rng.uniform(1, 2, (2, 4, 5)),
    )
    t = nchw(logits)
    loss = F.binary_cross_entropy_with_logits(
        t[:, 0], torch.tensor(labels * 1.0), torch.tensor(weight), reduction="sum"
    )
    loss = loss / weight.sum()
    loss.backward()
    ours, cache = ops.bce_with_logits(logits, labels, weight)
    close(ours, loss.detach())
    close(ops.bce_with_logits_backward(1.0, cache), nhwc(t.grad))


def test_losses_of_detectors(rng):
    z, targets = 3 * rng.standard_normal(60), rng.integers(0, 2, 60)
    t, true = torch.tensor(z, requires_grad=True), torch.tensor(targets)
    p = torch.where(true == 1, torch.sigmoid(t), torch.sigmoid(-t))
    loss = (torch.tensor(np.where(targets, 0.3, 0.7)) * -((1 - p) ** 1.5) * torch.log(p)).sum() / targets.sum()
    loss.backward()
    ours, cache = ops.sigmoid_focal(z, targets, 0.3, 1.5)
    close(ours, loss.detach())
    close(ops.sigmoid_focal_backward(1.0, cache), t.grad)

    corners = [rng.uniform(0, 5, (40, 2)) for _ in range(2)]
    boxes, targets = (np.concatenate([c, c + rng.uniform(1, 5, c.shape)], -1) for c in corners)
    t, true = torch.tensor(boxes, requires_grad=True), torch.tensor(targets)
    area = lambda a, b: (b - a).clamp(min=0).prod(-1)  # noqa: E731
    both = area(torch.maximum(t[:, :2], true[:, :2]), torch.minimum(t[:, 2:], true[:, 2:]))
    hull = area(torch.minimum(t[:, :2], true[:, :2]), torch.maximum(t[:, 2:], true[:, 2:]))
    union = area(t[:, :2], t[:, 2:]) + area(true[:, :2], true[:, 2:]) - both
    loss = (1 - (both / union - (hull - union) / hull)).mean()
    loss.backward()
    ours, cache = ops.giou(boxes, targets)
    close(ours, loss.detach())
    close(ops.giou_backward(1.0, cache), t.grad)

    z, targets, weight = 3 * rng.standard_normal(40), rng.random(40), rng.uniform(0, 2, 40)
    t = torch.tensor(z, requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(t, torch.tensor(targets), torch.tensor(weight), reduction="sum")
    loss.backward()
    ours, cache = ops.sigmoid_bce(z, targets, weight)
    close(ours, loss.detach())
    close(ops.sigmoid_bce_backward(1.0, cache), t.grad)


def test_masks_of_prototypes(rng):
    """As they are written with PyTorch: all masks whole, then cut to their boxes."""
    P, C = rng.standard_normal((2, 6, 7, 3)), rng.standard_normal((5, 3))
    places, owner = [(0, 1, 0, 4, 3), (1, 0, 2, 6, 5), (0, 0, 1, 2, 6)], [2, 0, 0, 1, 2]
    truths = [rng.integers(-1, 2, (h, w)) for *_, h, w in places]
    tp, tc = torch.tensor(P, requires_grad=True), torch.tensor(C, requires_grad=True)
    loss = 0
    for c, n in zip(tc, owner):
        image, top, left, h, w = places[n]
        z = (tp[image] @ c)[top : top + h, left : left + w]
        truth = torch.tensor(truths[n])
        each = F.binary_cross_entropy_with_logits(z, truth.clamp(min=0).double(), reduction="none")
        loss = loss + (each * (truth >= 0)).sum() / (h * w)
    loss.backward()
    crops = [ops.Crop(*place[:3], truth) for place, truth in zip(places, truths)]
    ours, cache = ops.prototype_masks(P, C, owner, crops)
    close(ours, loss.detach())
    dP, dC = ops.prototype_masks_backward(1.0, cache)
    close(dP, tp.grad)
    close(dC, tc.grad)


def test_scaled_exponential(rng):
    x, s = 4 * rng.standard_normal((2, 3, 4, 5)), np.array([1.7])
    assert (x * s > 10).any()
    t, ts = torch.tensor(x, requires_grad=True), torch.tensor(s, requires_grad=True)
    y = torch.exp((ts * t).clamp(max=10))
    dy = rng.standard_normal(x.shape)
    y.backward(torch.tensor(dy))
    ours, cache = ops.scaled_exp(x, s)
    close(ours, y.detach())
    dx, ds = ops.scaled_exp_backward(dy, cache)
    close(dx, t.grad)
    close(ds, ts.grad)


# ---- whole networks --------------------------------------------------------------------------------------------------


class Twin(torch.nn.Module):
    """The same U-Net written with PyTorch's layers, with our weights copied in."""

    def __init__(self, net, norm, padding, up):
        super().__init__()
        self.net, self.norm, self.padding, self.up = net, norm, padding, up
        self.weights, self.back = {}, {}
        kinds = {path: type(m).__name__ for path, m in net.modules()}
        for path, p in net.named_params().items():
            order = {"Conv2d": (3, 2, 0, 1), "ConvTranspose2d": (2, 3, 0, 1)}.get(kinds[path.rpartition(".")[0]])
            order = order if path.endswith(".w") else tuple(range(p.ndim))
            self.weights[path] = torch.tensor(p.transpose(order).copy(), requires_grad=True)
            self.back[path] = np.argsort(order)

    def p(self, path):
        return self.weights.get(path)

    def block(self, x, path):
        for n in (1, 2):
            pad = 1 if self.padding == "same" else 0
            x = F.conv2d(x, self.p(f"{path}.conv{n}.w"), self.p(f"{path}.conv{n}.b"), padding=pad)
            gamma, beta = self.p(f"{path}.norm{n}.gamma"), self.p(f"{path}.norm{n}.beta")
            if self.norm == "batch":
                x = F.batch_norm(x, None, None, gamma, beta, training=True)
            elif self.norm == "group":
                x = F.group_norm(x, dict(self.net.modules())[f"{path}.norm{n}"].groups, gamma, beta)
            x = F.relu(x)
        return x

    def forward(self, x):
        skips = []
        for level in range(self.net.depth):
            x = self.block(x, f"encoder.{level}")
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.block(x, "bottom")
        for level in reversed(range(self.net.depth)):
            if self.up == "transpose":
                x = F.conv_transpose2d(x, self.p(f"up.{level}.w"), self.p(f"up.{level}.b"), 2)
            elif self.up == "bilinear":
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            else:
                x = F.interpolate(x, scale_factor=2)
            skip = skips.pop()
            dh, dw = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
            if self.padding == "same":
                x = F.pad(x, (dw // 2, dw - dw // 2, dh // 2, dh - dh // 2))
            else:
                skip = skip[:, :, dh // 2 : dh // 2 + x.shape[2], dw // 2 : dw // 2 + x.shape[3]]
            x = self.block(torch.cat([skip, x], 1), f"decoder.{level}")
        return F.conv2d(x, self.p("head.w"), self.p("head.b"))


@pytest.mark.parametrize("norm, padding, up, size", [
    (None, "valid", "transpose", (92, 92)), ("batch", "same", "transpose", (35, 46)),
    ("group", "same", "bilinear", (33, 40)), (None, "same", "nearest", (32, 51)),
])  # fmt: skip
@pytest.mark.parametrize("kernels", ["reference", "fast"])
def test_unet_equals_its_twin(rng, kernels, norm, padding, up, size):
    """Outputs and every gradient, to 1e-9 of their scale, in float64."""
    import minunet

    net = UNet(2, 3, base_width=16, depth=3, norm=norm, padding=padding, up=up, seed=3)
    net.convert(lambda a: a.astype(np.float64))
    for path, p in net.named_params().items():  # nothing at its start of 0 or 1, where a mistake might hide
        if not path.endswith(".w"):
            p += rng.uniform(0.1, 0.5, p.shape)
    x = rng.standard_normal((2, *size, 2))
    twin, tx = Twin(net, norm, padding, up), nchw(x)
    ty = twin(tx)
    with minunet.use(kernels):
        y, cache = net.forward(x)
        dy = rng.standard_normal(y.shape)
        dx = net.backward(dy, cache)
    close(y, nhwc(ty), 1e-9)
    ty.backward(torch.tensor(np.moveaxis(dy, -1, 1).copy()))
    close(dx, nhwc(tx.grad), 1e-9)
    grads = net.named_grads()
    assert grads.keys() == twin.weights.keys()
    for path, t in twin.weights.items():
        close(grads[path], t.grad.numpy().transpose(twin.back[path]), 1e-9)


@pytest.mark.parametrize("ours, theirs, options", [
    ("sgd", "SGD", {"momentum": 0.9}), ("sgd", "SGD", {"momentum": 0.8, "nesterov": True}),
    ("sgd", "SGD", {"momentum": 0.5, "weight_decay": 0.1}), ("adam", "Adam", {}), ("adam", "Adam", {"weight_decay": 0.1}),
    ("adamw", "AdamW", {"weight_decay": 0.1}), ("rmsprop", "RMSprop", {"momentum": 0.9}),
])  # fmt: skip
def test_optimizers(rng, ours, theirs, options):
    """Five steps, the same path to 1e-12."""
    from minunet.nn import Conv2d
    from minunet.optim import OPTIMIZERS

    m = Conv2d(2, 3).convert(lambda a: a.astype(np.float64))
    weights = [torch.tensor(p.copy(), requires_grad=True) for p in m.params.values()]
    opt = OPTIMIZERS[ours](m, 0.05, **options)
    oracle = getattr(torch.optim, theirs)(weights, lr=0.05, **options)
    for _ in range(5):
        for (name, p), t in zip(m.params.items(), weights):
            g = rng.standard_normal(p.shape)
            m.grads[name], t.grad = g, torch.tensor(g.copy())
        opt.step()
        oracle.step()
    for p, t in zip(m.params.values(), weights):
        close(p, t.detach(), 1e-12)
