"""The family in PyTorch, written from the papers, to compare with: the modules have the names of our parameters."""

from collections import OrderedDict
from itertools import pairwise

import numpy as np
import torch
from helpers import encoder_twins, instance_twin, nested_twins
from torch import nn
from torch.nn import functional as F


def cat(*maps):
    return torch.cat(maps, 1)


def conv_norm_relu(i, o, n, norm="batch", bias=False):
    """One of a block's convolutions, with its norm and ReLU, under our names for the nth."""
    layers = [(f"conv{n}", nn.Conv2d(i, o, 3, padding=1, bias=bias))]
    if norm == "batch":
        layers.append((f"norm{n}", nn.BatchNorm2d(o)))
    elif norm == "group":
        layers.append((f"norm{n}", nn.GroupNorm(np.gcd(o, max(1, o // 16)), o)))
    return [*layers, (f"relu{n}", nn.ReLU())]


def double_conv(i, mid, o, **options):
    return nn.Sequential(OrderedDict(conv_norm_relu(i, mid, 1, **options) + conv_norm_relu(mid, o, 2, **options)))


def join(skip, up):
    """Pad what comes from below to the skip's size, where a pool dropped an odd row or column, and concatenate."""
    dh, dw = (s - u for s, u in zip(skip.shape[2:], up.shape[2:]))
    return cat(skip, F.pad(up, [dw // 2, dw - dw // 2, dh // 2, dh - dh // 2]))


class UNet(nn.Module):
    """Ronneberger et al. 2015, with padding."""

    def __init__(self, i, k, base_width, depth, up="transpose", norm="batch"):
        super().__init__()
        w = [base_width * 2**level for level in range(depth + 1)]
        mids, outs = w[:-1], w[:-1]
        if up != "transpose":
            w[-1] //= 2
            mids, outs = w[:-1], [max(n // 2, base_width) for n in w[:-1]]
        block = {"norm": norm, "bias": norm is None}
        ins = [i, *w]
        self.encoder = nn.ModuleList([double_conv(ins[n], w[n], w[n], **block) for n in range(depth)])
        self.bottom = double_conv(ins[depth], w[depth], w[depth], **block)
        below = [*outs[1:], w[-1]]  # what comes up to each level
        if up == "transpose":
            self.up = nn.ModuleList([nn.ConvTranspose2d(b, b // 2, 2, stride=2) for b in below])
            below = [b // 2 for b in below]
        else:
            self.up = [lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)] * depth
        self.decoder = nn.ModuleList([double_conv(w[n] + below[n], mids[n], outs[n], **block) for n in range(depth)])
        self.head = nn.Conv2d(outs[0], k, 1)

    def forward(self, x):
        skips = []
        for block in self.encoder:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for level in reversed(range(len(skips))):
            x = self.decoder[level](join(skips[level], self.up[level](x)))
        return self.head(x)


class ResidualUnit(nn.Module):
    """He et al. 2016, with a bare projection where shapes change."""

    def __init__(self, i, o, stride=1, first=False):
        super().__init__()
        before = [] if first else [("norm1", nn.BatchNorm2d(i)), ("relu1", nn.ReLU())]
        conv1, conv2 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.Conv2d(o, o, 3, 1, 1, bias=False)
        after = [("conv1", conv1), ("norm2", nn.BatchNorm2d(o)), ("relu2", nn.ReLU()), ("conv2", conv2)]
        self.branch = nn.Sequential(OrderedDict(before + after))
        self.shortcut = nn.Identity() if (i, 1) == (o, stride) else nn.Conv2d(i, o, 1, stride, bias=False)

    def forward(self, x):
        return self.branch(x) + self.shortcut(x)


class ResidualUNet(nn.Module):
    """Zhang et al. 2017."""

    def __init__(self, i, k, base_width, depth):
        super().__init__()
        w = [base_width * 2**level for level in range(depth + 1)]
        units = [ResidualUnit(i, w[0], first=True), *(ResidualUnit(a, b, 2) for a, b in pairwise(w))]
        self.encoder, self.bottom = nn.ModuleList(units[:-1]), units[-1]
        self.decoder = nn.ModuleList([ResidualUnit(a + b, a) for a, b in pairwise(w)])
        self.head = nn.Conv2d(w[0], k, 1)

    def forward(self, x):
        skips = []
        for unit in self.encoder:
            x = unit(x)
            skips.append(x)
        x = self.bottom(x)
        for skip, unit in zip(reversed(skips), reversed(self.decoder)):
            up = F.interpolate(x, scale_factor=2, mode="nearest")[:, :, : skip.shape[2], : skip.shape[3]]
            x = unit(cat(skip, up))
        return self.head(x)


class GridGate(nn.Module):
    """Oktay et al. 2018."""

    def __init__(self, c, g, f):
        super().__init__()
        self.theta, self.phi = nn.Conv2d(c, f, 2, 2, bias=False), nn.Conv2d(g, f, 1)
        self.score = nn.Sequential(OrderedDict(relu=nn.ReLU(), psi=nn.Conv2d(f, 1, 1), sigmoid=nn.Sigmoid()))
        self.out = nn.Sequential(OrderedDict(w=nn.Conv2d(c, c, 1), norm=nn.BatchNorm2d(c)))

    def forward(self, x, g):
        a = self.score(self.theta(x) + self.phi(g))
        return self.out(x * F.interpolate(a, size=x.shape[2:], mode="bilinear", align_corners=False))


class UpsampledGate(nn.Module):
    """LeeJunHyun's."""

    def __init__(self, c, g, f):
        super().__init__()
        conv_norm = lambda i, o: nn.Sequential(OrderedDict(conv=nn.Conv2d(i, o, 1), norm=nn.BatchNorm2d(o)))  # noqa: E731
        self.theta, self.phi = conv_norm(c, f), conv_norm(g, f)
        self.score = nn.Sequential(OrderedDict(psi=nn.Conv2d(f, 1, 1), norm=nn.BatchNorm2d(1)))

    def forward(self, x, g):
        return x * torch.sigmoid(self.score(F.relu(self.theta(x) + self.phi(g))))


def up_conv(i, o):
    up = nn.Upsample(scale_factor=2, mode="nearest")
    return nn.Sequential(OrderedDict(up=up, conv=nn.Conv2d(i, o, 3, padding=1), norm=nn.BatchNorm2d(o), relu=nn.ReLU()))


class AttentionUNet(UNet):
    """A U-Net of either kind of gates."""

    def __init__(self, i, k, base_width, depth, gates, reduction):
        super().__init__(i, k, base_width, depth)
        self.late = gates == "upsampled"
        w = [base_width * 2**level for level in range(depth + 1)]
        if self.late:
            ins = [i, *w]
            self.encoder = nn.ModuleList([double_conv(ins[n], w[n], w[n], bias=True) for n in range(depth)])
            self.bottom = double_conv(w[-2], w[-1], w[-1], bias=True)
            self.up = nn.ModuleList([up_conv(b, a) for a, b in pairwise(w)])
            self.decoder = nn.ModuleList([double_conv(2 * a, a, a, bias=True) for a in w[:-1]])
            self.gate = nn.ModuleList([UpsampledGate(a, a, a // (reduction or 2)) for a in w[:-1]])
        else:
            self.gate = nn.ModuleList([GridGate(a, b, a // (reduction or 1)) for a, b in list(pairwise(w))[1:]])

    def forward(self, x):
        skips = []
        for block in self.encoder:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for level in reversed(range(len(skips))):
            skip, up = skips[level], self.up[level](x)
            if self.late:
                skip = self.gate[level](skip, up)
            elif level:
                skip = self.gate[level - 1](skip, x)
            x = self.decoder[level](join(skip, up))
        return self.head(x)


class Excitation(nn.Module):
    """Hu et al. 2018 and Roy et al. 2018: of channels; with `both`, of pixels, too."""

    def __init__(self, c, r, both):
        super().__init__()
        m = max(1, c // r)
        conv1, conv2 = nn.Conv2d(c, m, 1), nn.Conv2d(m, c, 1)
        excite = nn.Sequential(OrderedDict(conv1=conv1, relu=nn.ReLU(), conv2=conv2, sigmoid=nn.Sigmoid()))
        self.both = both
        if both:
            self.channel, self.spatial = nn.Module(), nn.Module()
            self.channel.excite = excite
            self.spatial.excite = nn.Sequential(OrderedDict(conv=nn.Conv2d(c, 1, 1), sigmoid=nn.Sigmoid()))
        else:
            self.excite = excite

    def forward(self, x):
        means = x.mean((2, 3), keepdim=True)
        if not self.both:
            return x * self.excite(means)
        return x * self.channel.excite(means) + x * self.spatial.excite(x)


class SEUNet(UNet):
    both = False

    def __init__(self, i, k, base_width, depth, reduction):
        super().__init__(i, k, base_width, depth)
        for block in [*self.encoder, self.bottom, *self.decoder]:
            block.add_module("excite", Excitation(block.conv2.out_channels, reduction, self.both))


class ScSEUNet(SEUNet):
    both = True


class Recurrent(nn.Module):
    """One convolution for x and its own output, or with `separate` one for each; a norm for all steps, or for each."""

    def __init__(self, c, steps, separate, step_norms):
        super().__init__()
        self.steps, self.separate = steps, separate
        self.norm = nn.ModuleList([nn.BatchNorm2d(c) for _ in range(steps + 1 if step_norms else 1)])
        if separate:
            self.feed, self.recur = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1, bias=False)
        else:
            self.conv = nn.Conv2d(c, c, 3, padding=1)

    def forward(self, x):
        if self.separate:
            a = self.feed(x)
            h = F.relu(self.norm[0](a))
            for step in range(self.steps):
                h = F.relu(self.norm[(step + 1) % len(self.norm)](a + self.recur(h)))
            return h
        h = F.relu(self.norm[0](self.conv(x)))
        for step in range(self.steps):
            h = F.relu(self.norm[(step + 1) % len(self.norm)](self.conv(x + h)))
        return h


class RecurrentBlock(nn.Module):
    def __init__(self, i, o, **how):
        super().__init__()
        self.project = nn.Conv2d(i, o, 1)
        self.branch = nn.Sequential(OrderedDict(recurrent1=Recurrent(o, **how), recurrent2=Recurrent(o, **how)))

    def forward(self, x):
        x = self.project(x)
        return x + self.branch(x)


class R2UNet(UNet):
    """Alom et al. 2018."""

    def __init__(self, i, k, base_width, depth, steps, separate, step_norms):
        super().__init__(i, k, base_width, depth)
        how = {"steps": steps, "separate": separate, "step_norms": step_norms}
        w = [base_width * 2**level for level in range(depth + 1)]
        blocks = [RecurrentBlock(a, b, **how) for a, b in pairwise([i, *w])]
        self.encoder, self.bottom = nn.ModuleList(blocks[:-1]), blocks[-1]
        self.up = nn.ModuleList([up_conv(b, a) for a, b in pairwise(w)])
        self.decoder = nn.ModuleList([RecurrentBlock(2 * a, a, **how) for a in w[:-1]])


class StarDist(nn.Module):
    """Schmidt et al. 2018, with our order of the joints."""

    def __init__(self, i, k, base_width, depth, features, grid, norm):
        super().__init__()
        w, block = [base_width * 2**level for level in range(depth)], {"norm": norm, "bias": norm is None}
        halvings = int(np.log2(grid))
        self.before = nn.ModuleList([double_conv(w[0] if n else i, w[0], w[0], **block) for n in range(halvings)])
        self.encoder = nn.ModuleList([double_conv(a, b, b, **block) for a, b in zip([w[0] if halvings else i, *w], w)])
        self.bottom = double_conv(w[-1], 2 * w[-1], w[-1], **block)
        self.decoder = nn.ModuleList([double_conv(2 * a, a, b, **block) for a, b in zip(w, [w[0], *w])])
        self.features = nn.Sequential(OrderedDict(conv=nn.Conv2d(w[0], features, 3, padding=1), relu=nn.ReLU()))
        self.head = nn.Conv2d(features, k, 1)

    def forward(self, x):
        skips = []
        for block in self.before:
            x = F.max_pool2d(block(x), 2)
        for block in self.encoder:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for skip, block in zip(reversed(skips), reversed(self.decoder)):
            x = block(join(skip, F.interpolate(x, scale_factor=2, mode="nearest")))
        return F.interpolate(self.head(self.features(x)), scale_factor=2 ** len(self.before), mode="nearest")


TWINS = {
    "unet": UNet,
    "stardist": StarDist,
    "residual_unet": ResidualUNet,
    "attention_unet": AttentionUNet,
    "se_unet": SEUNet,
    "scse_unet": ScSEUNet,
    "r2_unet": R2UNet,
    **nested_twins.TWINS,
    **encoder_twins.TWINS,
    **instance_twin.TWINS,
}
"""A class for each network: (image channels, classes, **options) to a module."""


# ---- our weights in a twin, and its gradients by our names -----------------------------------------------------------

LEAVES = {"w": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var",
          "scale": "scale"}  # fmt: skip


def build_twin(architecture):
    """The twin of a network with these options, in float32, with weights of its own."""
    options = architecture.to_json()
    i, k = options.pop("in_channels"), options.pop("num_classes")
    make = TWINS[architecture.name]
    taken = make.__init__.__code__.co_varnames[: make.__init__.__code__.co_argcount]
    return make(i, k, **{name: value for name, value in options.items() if name in taken})


def twin_of(model):
    """The twin of a network, in float64, with its weights."""
    twin = build_twin(model.architecture).double()
    assert sum(p.numel() for p in twin.parameters()) == model.num_params()
    return with_weights(twin, model)


def with_weights(twin, model, path_there=lambda path: path):
    """The twin with a network's weights and statistics; `path_there` says where in the twin one of our paths is."""
    with torch.no_grad():
        for path, array in model.state().items():
            leaf(twin, path_there(path)).copy_(as_torch(twin, path_there(path), array))
    return twin


def leaf(twin, path):
    """The twin's tensor for one of our paths, such as "encoder.0.conv1.w"."""
    owner, _, name = path.rpartition(".")
    return getattr(twin.get_submodule(owner), LEAVES[name])


def axes(twin, path):
    """The order in which our filters' axes stand in PyTorch: of convolutions HWIO to OIHW, of transposed ones HWIO to IOHW."""
    return (2, 3, 0, 1) if isinstance(twin.get_submodule(path.rpartition(".")[0]), nn.ConvTranspose2d) else (3, 2, 0, 1)


def as_torch(twin, path, array):
    """One of our arrays as the twin has it; depthwise filters (size, size, C) are (C, 1, size, size) there."""
    array = np.asarray(array, np.float64)
    array = array[:, :, None] if array.ndim == 3 else array
    return torch.tensor(array.transpose(axes(twin, path)) if array.ndim == 4 else array)


def as_ours(twin, path, shape):
    """The twin's gradient of one of our parameters, of this shape."""
    grad = leaf(twin, path).grad.numpy()
    return (grad.transpose(np.argsort(axes(twin, path))) if grad.ndim == 4 else grad).reshape(shape)


# ---- comparing -------------------------------------------------------------------------------------------------------

EXACT = 1e-9  # in float64, of a whole network, relative to the largest value


def agree(net, twin, x, rng, path_there=lambda path: path):
    """In training, logits, the gradients of the image and of all parameters, and the running statistics are the twin's."""
    image = nchw(x).requires_grad_()
    theirs = twin.train()(image)
    y, cache = net.forward(x, rng=rng)
    dy = rng.standard_normal(y.shape)
    theirs.backward(nchw(dy))
    dx = net.backward(dy, cache)
    same(y, nhwc(theirs), "logits")
    same(dx, nhwc(image.grad), "image")
    grads = net.named_grads()
    assert grads.keys() == net.named_params().keys()
    largest = max(abs(g).max() for g in grads.values())  # a bias before a norm has no gradient but rounding
    for path, g in grads.items():
        same(g, as_ours(twin, path_there(path), g.shape), path, largest)
    for path, a in net.named_buffers().items():
        same(a, leaf(twin, path_there(path)).numpy(), path)


def same(a, b, what, scale=0.0):
    np.testing.assert_allclose(a, b, rtol=0, atol=EXACT * max(abs(b).max(), scale), err_msg=what)


def nchw(x):
    return torch.tensor(np.moveaxis(x, -1, 1).copy())


def nhwc(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)
