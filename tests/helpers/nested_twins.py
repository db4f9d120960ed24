"""UNet++, UNet 3+ and nnU-Net in PyTorch, written from the papers and their code; modules have our parameters' names."""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from minunet.models.nnunet import stages_for


def conv_norm_relu(i, o, norm="batch", bias=False, n=""):
    """3x3 convolution, norm and ReLU, under our names for the nth of a block."""
    layers = OrderedDict({f"conv{n}": nn.Conv2d(i, o, 3, padding=1, bias=bias)})
    if norm:
        layers[f"norm{n}"] = nn.BatchNorm2d(o)
    return nn.Sequential(OrderedDict({**layers, f"relu{n}": nn.ReLU()}))


def double_conv(i, o, **options):
    first, second = conv_norm_relu(i, o, n=1, **options), conv_norm_relu(o, o, n=2, **options)
    return nn.Sequential(OrderedDict([*first.named_children(), *second.named_children()]))


def triangle(modules):
    """{(i, j): module} under the names i.j."""
    rows = {i: nn.ModuleDict({str(j): m for (r, j), m in modules.items() if r == i}) for i, _ in modules}
    return nn.ModuleDict({str(i): row for i, row in rows.items()})


def like(x, other):
    """x with the rows and columns of other: zeros are added, or the last ones are cut off."""
    return F.pad(x, [0, other.shape[3] - x.shape[3], 0, other.shape[2] - x.shape[2]])


class UNetPlusPlus(nn.Module):
    """Zhou et al. 2018, column by column as in the figure."""

    def __init__(self, i, k, base_width, depth, norm="batch", up="transpose", conv_bias=None, deep_supervision=True):
        super().__init__()
        w, self.depth, learned = [base_width * 2**n for n in range(depth + 1)], depth, up == "transpose"
        block = {"norm": norm, "bias": norm is None if conv_bias is None else conv_bias}
        nodes, ups = {}, {}
        for r in range(depth + 1):
            nodes[r, 0] = double_conv(w[r - 1] if r else i, w[r], **block)
            for c in range(1, depth + 1 - r):
                nodes[r, c] = double_conv(c * w[r] + (w[r] if learned else w[r + 1]), w[r], **block)
                bilinear = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
                ups[r, c] = nn.ConvTranspose2d(w[r + 1], w[r], 2, stride=2) if learned else bilinear
        self.node, self.up = triangle(nodes), triangle(ups)
        heads = range(1, depth + 1) if deep_supervision else [depth]
        self.head = nn.ModuleDict({str(c): nn.Conv2d(w[0], k, 1) for c in heads})

    def forward(self, x):
        v = {}
        for r in range(self.depth + 1):
            v[r, 0] = self.node[str(r)]["0"](F.max_pool2d(v[r - 1, 0], 2) if r else x)
        for c in range(1, self.depth + 1):
            for r in range(self.depth + 1 - c):
                row = [v[r, n] for n in range(c)]
                up = like(self.up[str(r)][str(c)](v[r + 1, c - 1]), row[0])
                v[r, c] = self.node[str(r)][str(c)](torch.cat([*row, up], 1))
        heads = [head(v[0, int(c)]) for c, head in self.head.items()]
        return heads[::-1] if self.training else heads[-1]


class UNet3Plus(nn.Module):
    """Huang et al. 2020."""

    def __init__(self, i, k, base_width, depth, norm="batch", conv_bias=None, deep_supervision=True):
        super().__init__()
        w, c, self.depth = [base_width * 2**n for n in range(depth + 1)], base_width, depth
        block, wide = {"norm": norm, "bias": norm is None if conv_bias is None else conv_bias}, c * (depth + 1)
        self.encoder = nn.ModuleList([double_conv(a, b, **block) for a, b in zip([i, *w], w[:-1])])
        self.bottom = double_conv(w[-2], w[-1], **block)
        takes = {(d, n): w[n] if n <= d or n == depth else wide for d in range(depth) for n in range(depth + 1)}
        self.branch = triangle({at: conv_norm_relu(width, c, **block) for at, width in takes.items()})
        self.decoder = nn.ModuleList([conv_norm_relu(wide, wide, **block) for _ in range(depth)])
        heads = [*[wide] * depth, w[-1]] if deep_supervision else [wide]
        self.head = nn.ModuleList([nn.Conv2d(width, k, 3, padding=1) for width in heads])

    def forward(self, x):
        def larger(y, n, to):
            return like(F.interpolate(y, scale_factor=2**n, mode="bilinear", align_corners=False), to) if n else y

        e, image = [], x
        for block in self.encoder:
            e.append(block(x))
            x = F.max_pool2d(e[-1], 2, ceil_mode=True)
        out = {self.depth: self.bottom(x)}
        for d in reversed(range(self.depth)):
            maps = [F.max_pool2d(e[n], 2 ** (d - n), ceil_mode=True) for n in range(d)]
            maps += [e[d], *(larger(out[n], n - d, e[d]) for n in range(d + 1, self.depth + 1))]
            parts = [self.branch[str(d)][str(n)](y) for n, y in enumerate(maps)]
            out[d] = self.decoder[d](torch.cat(parts, 1))
        heads = [larger(head(out[d]), d, image) for d, head in enumerate(self.head)]
        return heads if self.training else heads[0]


class NNUNet(nn.Module):
    """The plain 2-D network of Isensee et al. 2021."""

    def __init__(self, i, k, base_width, stages, widest=512, deep_supervision=True, patch=256):
        super().__init__()
        w = [min(widest, base_width * 2**n) for n in range(stages or stages_for(patch))]
        self.encoder = nn.ModuleList([self.stage(a, b, 2 if n else 1) for n, (a, b) in enumerate(zip([i, *w], w))])
        self.up = nn.ModuleList([nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(w)])
        self.decoder = nn.ModuleList([self.stage(2 * a, a, 1) for a in w[:-1]])
        self.head = nn.ModuleList([nn.Conv2d(a, k, 1) for a in (w[:-1] if deep_supervision else w[:1])])

    @staticmethod
    def stage(i, o, stride):
        layers = OrderedDict()
        for n, (a, s) in enumerate([(i, stride), (o, 1)], 1):
            layers[f"conv{n}"] = nn.Conv2d(a, o, 3, s, padding=1)
            layers[f"norm{n}"] = nn.InstanceNorm2d(o, affine=True)
            layers[f"relu{n}"] = nn.LeakyReLU(0.01)
        return nn.Sequential(layers)

    def forward(self, x):
        skips, heads = [], []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for n in reversed(range(len(skips))):
            x = self.decoder[n](torch.cat([like(self.up[n](x), skips[n]), skips[n]], 1))
            if n < len(self.head):
                heads.insert(0, self.head[n](x))
        return heads if self.training else heads[0]


TWINS = {"unet_plus_plus": UNetPlusPlus, "unet_3plus": UNet3Plus, "nnunet": NNUNet}
