"""VGG, ResNet and MobileNetV2 written with PyTorch's layers under torchvision's names, and the networks on top of them."""

from collections import OrderedDict
from itertools import pairwise
from unittest import mock

import pytest
import torch
from torch import nn

F = nn.functional


class Tapped(nn.Module):
    """A chain of named layers that gives the maps after some of them."""

    def __init__(self, layers, taps, image):
        super().__init__()
        for name, m in layers.items():
            place, _, last = name.rpartition(".")
            if place and not hasattr(self, place):
                self.add_module(place, nn.Module())
            (getattr(self, place) if place else self).add_module(last, m)
        self.order, self.taps, self.image = list(layers), taps, image

    def forward(self, x):
        features = [x] if self.image else []
        for name in self.order:
            x = self.get_submodule(name)(x)
            if name in self.taps:
                features.append(x)
        return features


def vgg(channels, stages, widths, norm):
    layers, taps = [], []
    for number, out in zip(stages, widths):
        for _ in range(number):
            layers += [nn.Conv2d(channels, out, 3, padding=1), *([nn.BatchNorm2d(out)] if norm else []), nn.ReLU()]
            channels = out
        taps.append(f"features.{len(layers) - 1}")
        layers.append(nn.MaxPool2d(2))
    return Tapped({f"features.{n}": m for n, m in enumerate(layers)}, [*taps, f"features.{len(layers) - 1}"], False)


class Unit(nn.Module):
    def __init__(self, i, mid, stride, dilation, bottleneck):
        super().__init__()
        o = 4 * mid if bottleneck else mid
        three = {"kernel_size": 3, "padding": dilation, "dilation": dilation, "bias": False}
        if bottleneck:
            self.conv1, self.bn1 = nn.Conv2d(i, mid, 1, bias=False), nn.BatchNorm2d(mid)
            self.conv2, self.bn2 = nn.Conv2d(mid, mid, stride=stride, **three), nn.BatchNorm2d(mid)
            self.conv3, self.bn3 = nn.Conv2d(mid, o, 1, bias=False), nn.BatchNorm2d(o)
        else:
            self.conv1, self.bn1 = nn.Conv2d(i, mid, stride=stride, **three), nn.BatchNorm2d(mid)
            self.conv2, self.bn2 = nn.Conv2d(mid, mid, **three), nn.BatchNorm2d(mid)
        if stride > 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))
        self.bottleneck = bottleneck

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def resnet(channels, units, widths, bottleneck, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)):
    """`dilations` are those of all units of a stage but its first, which has the dilation of the stage before."""
    w = widths[0]
    layers = {
        "conv1": nn.Conv2d(channels, w, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(w), "relu": nn.ReLU(),
        "maxpool": nn.MaxPool2d(3, 2, 1),
    }  # fmt: skip
    i, before = w, 1
    for n, (number, mid, stride, dilation) in enumerate(zip(units, widths, strides, dilations), 1):
        o = 4 * mid if bottleneck else mid
        rest = [Unit(o, mid, 1, dilation, bottleneck) for _ in range(number - 1)]
        layers[f"layer{n}"] = nn.Sequential(Unit(i, mid, stride, before, bottleneck), *rest)
        i, before = o, dilation
    return Tapped(layers, ["relu", "layer1", "layer2", "layer3", "layer4"], True)


class Inverted(nn.Module):
    def __init__(self, i, o, wider, stride, dilation):
        super().__init__()
        m = i * wider
        filters = nn.Conv2d(m, m, 3, stride, dilation, dilation, groups=m, bias=False)
        self.conv = nn.Sequential(
            *([conv_norm_act(nn.Conv2d(i, m, 1, bias=False), m)] if wider > 1 else []),
            conv_norm_act(filters, m), nn.Conv2d(m, o, 1, bias=False), nn.BatchNorm2d(o),
        )  # fmt: skip
        self.adds = stride == 1 and i == o

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


def conv_norm_act(conv, channels):
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU6())


def mobilenet_v2(channels, widths, deep=((2, 1, 1), (2, 1, 1))):
    """`widths`: stem, seven groups, last. `deep`: of the groups at strides 16 and 32 the first unit's stride and dilation, and
    the others' dilation."""
    (s16, first16, rest16), (s32, first32, rest32) = deep
    stem, *ws, last = widths
    plan = [
        (1, 1, 1, 1, 1), (6, 2, 2, 1, 1), (6, 3, 2, 1, 1), (6, 4, s16, first16, rest16), (6, 3, 1, rest16, rest16),
        (6, 3, s32, first32, rest32), (6, 1, 1, rest32, rest32),
    ]  # fmt: skip
    layers = [conv_norm_act(nn.Conv2d(channels, stem, 3, 2, 1, bias=False), stem)]
    i = stem
    for (wider, number, stride, first, rest), o in zip(plan, ws):
        for n in range(number):
            layers.append(Inverted(i, o, wider, stride if n == 0 else 1, first if n == 0 else rest))
            i = o
    layers.append(conv_norm_act(nn.Conv2d(i, last, 1, bias=False), last))
    names = [f"features.{n}" for n in (1, 3, 6, 13, 18)]
    return Tapped({f"features.{n}": m for n, m in enumerate(layers)}, names, True)


def rounded(widths, width):
    return [max(1, round(w * width)) for w in widths]


def encoder(name, channels, width, output_stride=32):
    """An encoder by name; the channels of its features come with it."""
    if name.startswith("vgg"):
        stages = {"11": (1, 1, 2, 2, 2), "16": (2, 2, 3, 3, 3)}[name[3:5]]
        widths = rounded((64, 128, 256, 512, 512), width)
        return vgg(channels, stages, widths, name.endswith("_bn")), [*widths, widths[-1]]
    if name.startswith("resnet"):
        units = (2, 2, 2, 2) if name == "resnet18" else (3, 4, 6, 3)
        how = {32: {}, 16: {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)},
               8: {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}}[output_stride]  # fmt: skip
        widths, last = rounded((64, 128, 256, 512), width), name == "resnet50"
        out = [channels, widths[0], *(4 * w if last else w for w in widths)]
        return resnet(channels, units, widths, last, **how), out
    deep = {32: ((2, 1, 1), (2, 1, 1)), 16: ((2, 1, 1), (1, 1, 2)), 8: ((1, 1, 2), (1, 2, 4))}[output_stride]
    widths = rounded((32, 16, 24, 32, 64, 96, 160, 320, 1280), width)
    return mobilenet_v2(channels, widths, deep), [channels, *(widths[n] for n in (1, 2, 3, 5, 8))]


def chain(*layers):
    return nn.Sequential(OrderedDict(layers))


class ScSE(nn.Module):
    """Roy et al. 2018, with biases."""

    def __init__(self, c):
        super().__init__()
        m = max(1, c // 16)
        self.channel, self.spatial = nn.Module(), nn.Module()
        self.channel.excite = chain(("conv1", nn.Conv2d(c, m, 1)), ("relu", nn.ReLU()), ("conv2", nn.Conv2d(m, c, 1)))
        self.spatial.excite = chain(("conv", nn.Conv2d(c, 1, 1)))

    def forward(self, x):
        s = torch.sigmoid(self.channel.excite(x.mean((2, 3), keepdim=True)))
        return x * s + x * torch.sigmoid(self.spatial.excite(x))


class Block(nn.Module):
    def __init__(self, i, o, attention=None, joined=True):
        super().__init__()
        self.attention1 = ScSE(i) if attention and joined else nn.Identity()
        self.attention2 = ScSE(o) if attention else nn.Identity()
        self.conv1, self.norm1 = nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.norm2 = nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o)

    def forward(self, x):
        x = self.attention1(x)
        return self.attention2(F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))))


class EncoderUNet(nn.Module):
    """segmentation_models.pytorch's decoder, which stretches maps to the size of the skip; on a VGG they are padded."""

    def __init__(self, i, k, encoder, encoder_width, decoder_width, full_resolution_skip, attention):
        super().__init__()
        self.encoder, skips = make_encoder(encoder, i, encoder_width)
        below = skips[-1]
        self.pads, self.full = encoder.startswith("vgg"), full_resolution_skip
        if self.pads:
            self.center = Block(below, below)
        blocks = []
        for level in reversed(range(5)):
            o = decoder_width * 2**level
            joined = level > 0 or self.full
            blocks.insert(0, Block(below + skips[level] * joined, o, attention, joined))
            below = o
        self.decoder, self.head = nn.ModuleList(blocks), nn.Conv2d(below, k, 3, padding=1)

    def forward(self, x):
        *skips, x = self.encoder(x)
        x = self.center(x) if self.pads else x
        for level in reversed(range(5)):
            skip = skips.pop()
            (h, w), (H, W) = x.shape[2:], skip.shape[2:]
            if self.pads:
                x = F.pad(F.interpolate(x, scale_factor=2, mode="nearest"), (0, W - 2 * w, 0, H - 2 * h))
            else:
                x = F.interpolate(x, (H, W), mode="nearest")
            x = self.decoder[level](torch.cat([x, skip], 1) if level or self.full else x)
        return self.head(x)


make_encoder = encoder  # an argument above has its name


class EncoderUNetPlusPlus(nn.Module):
    """segmentation_models.pytorch's, node by node; maps are cut to their skips."""

    def __init__(self, i, k, encoder, encoder_width, decoder_width, attention):
        super().__init__()
        self.encoder, widths = make_encoder(encoder, i, encoder_width)
        self.node = nn.ModuleDict()
        for level in reversed(range(5)):
            self.node[str(level)] = nn.ModuleDict()
            for column in range(1, 6 - level) if level else [5]:
                last = level + column == 5
                below = widths[level + 1] if column == 1 or not last else decoder_width * 2 ** (level + 1)
                skips = column * widths[level] if level else 0
                out = decoder_width * 2**level if last else widths[level]
                self.node[str(level)][str(column)] = Block(below + skips, out, attention, level > 0)
        self.head = nn.Conv2d(decoder_width, k, 3, padding=1)

    def forward(self, x):
        size, maps = x.shape[2:], {(level, 0): f for level, f in enumerate(self.encoder(x))}
        for column in range(1, 5):
            for level in range(1, 6 - column):
                skips = [maps[level, c] for c in reversed(range(column))]
                H, W = skips[0].shape[2:]
                up = F.interpolate(maps[level + 1, column - 1], scale_factor=2, mode="nearest")[:, :, :H, :W]
                maps[level, column] = self.node[str(level)][str(column)](torch.cat([up, *skips], 1))
        up = F.interpolate(maps[1, 4], scale_factor=2, mode="nearest")[:, :, : size[0], : size[1]]
        return self.head(self.node["0"]["5"](up))


def conv_norm_relu(i, o, size, dilation=1, separable=False):
    """A layer of DeepLab, under our names."""
    options = {"padding": dilation * (size // 2), "dilation": dilation, "bias": False}
    layers = [("conv", nn.Conv2d(i, o, size, **options))]
    if separable:
        layers = [("depthwise", nn.Conv2d(i, i, size, groups=i, **options)), ("conv", nn.Conv2d(i, o, 1, bias=False))]
    return [*layers, ("norm", nn.BatchNorm2d(o)), ("relu", nn.ReLU())]


class DeepLabV3Plus(nn.Module):
    """As it is usually written in PyTorch."""

    def __init__(self, i, k, encoder, encoder_width, width, output_stride, separable):
        super().__init__()
        self.encoder, channels = make_encoder(encoder, i, encoder_width, output_stride)
        high, low, skip = channels[5], channels[2], max(1, round(48 * encoder_width))
        rates = {16: (6, 12, 18), 8: (12, 24, 36)}[output_stride]
        pyramid = [conv_norm_relu(high, width, 1), *(conv_norm_relu(high, width, 3, r, separable) for r in rates)]
        self.branches = nn.ModuleList([chain(*layers) for layers in pyramid])
        self.mean = chain(("pool", nn.AdaptiveAvgPool2d(1)), *conv_norm_relu(high, width, 1))
        self.project = chain(*conv_norm_relu(5 * width, width, 1))
        self.low = chain(*conv_norm_relu(low, skip, 1))
        self.fuse = chain(*conv_norm_relu(skip + width, width, 3, 1, separable))
        self.head = nn.Conv2d(width, k, 1)

    def forward(self, x):
        size = x.shape[2:]
        _, _, low, _, _, high = self.encoder(x)
        scales = [branch(high) for branch in self.branches]
        scales.append(self.mean(high).expand(-1, -1, *high.shape[2:]))
        x = self.project(torch.cat(scales, 1))
        x = F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=False)
        x = self.head(self.fuse(torch.cat([self.low(low), x], 1)))
        return F.interpolate(x, size, mode="bilinear", align_corners=False)


class SegNet(nn.Module):
    def __init__(self, i, k, base_width, conv_bias):
        super().__init__()
        w = [base_width * n for n in (1, 2, 4, 8, 8)]

        def block(*widths):
            layers = []
            for n, (a, b) in enumerate(pairwise(widths), 1):
                layers += [(f"conv{n}", nn.Conv2d(a, b, 3, padding=1, bias=conv_bias)), (f"norm{n}", nn.BatchNorm2d(b)),
                           (f"relu{n}", nn.ReLU())]  # fmt: skip
            return chain(*layers)

        self.encoder = nn.ModuleList([
            block(i, w[0], w[0]), block(w[0], w[1], w[1]), block(w[1], w[2], w[2], w[2]), block(w[2], w[3], w[3], w[3]),
            block(w[3], w[4], w[4], w[4]),
        ])  # fmt: skip
        self.decoder = nn.ModuleList([
            block(w[0], w[0]), block(w[1], w[1], w[0]), block(w[2], w[2], w[2], w[1]), block(w[3], w[3], w[3], w[2]),
            block(w[4], w[4], w[4], w[3]),
        ])  # fmt: skip
        self.head = nn.Conv2d(w[0], k, 3, padding=1)

    def forward(self, x):
        remembered = []
        for block in self.encoder:
            x = block(x)
            size = x.shape[2:]
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            remembered.append((indices, size))
        for block in reversed(self.decoder):
            indices, size = remembered.pop()
            x = block(F.max_unpool2d(x, indices, 2, output_size=size))
        return self.head(x)


TWINS = {
    "encoder_unet": EncoderUNet,
    "encoder_unet_plus_plus": EncoderUNetPlusPlus,
    "segnet": SegNet,
    "deeplab_v3plus": DeepLabV3Plus,
}


# ---- segmentation_models.pytorch -------------------------------------------------------------------------------------


def import_smp():
    """segmentation_models.pytorch, which needs torchvision; the test is skipped without them.

    torchvision describes its own operators to PyTorch, which fails where they were built for another build of PyTorch. No
    network here uses them.
    """
    reason = (
        "segmentation_models.pytorch, a second oracle, is not installed: pip install timm segmentation-models-pytorch"
    )
    with mock.patch.object(torch.library, "register_fake", lambda *name, **how: lambda described: described):
        pytest.importorskip("torchvision", reason=reason)
        pytest.importorskip("timm", reason=reason)
    return pytest.importorskip("segmentation_models_pytorch", reason=reason)


def smp_path(path):
    """Where in segmentation_models.pytorch's Unet is what we have at a path."""
    head, *rest = path.split(".")
    if head == "head":
        return ".".join(["segmentation_head.0", *rest])
    if head == "center":
        part, name = rest
        return f"decoder.center.{int(part[-1]) - 1}.{int(part.startswith('norm'))}.{name}"
    if head == "decoder":
        level, part, *rest, name = rest
        block = f"decoder.blocks.{4 - int(level)}"
        if part.startswith("attention"):
            place = {"conv1": "cSE.1", "conv2": "cSE.3", "conv": "sSE.0"}[rest[-1]]
            return f"{block}.{part}.attention.{place}.{name}"
        return f"{block}.conv{part[-1]}.{int(part.startswith('norm'))}.{name}"
    return path


def smp_deeplab_path(separable):
    """The same for its DeepLabV3Plus."""
    places = {"head": "segmentation_head.0", "project.conv": "aspp.0.project.0", "project.norm": "aspp.0.project.1",
              "mean.conv": "aspp.0.convs.4.1", "mean.norm": "aspp.0.convs.4.2", "after.depthwise": "aspp.1.0",
              "after.conv": "aspp.1.1", "after.norm": "aspp.2", "low.conv": "block1.0", "low.norm": "block1.1",
              "fuse.depthwise": "block2.0.0", "fuse.conv": "block2.0.1", "fuse.norm": "block2.1"}  # fmt: skip
    for n in range(4):
        split = separable and n > 0
        places[f"branches.{n}.depthwise"] = f"aspp.0.convs.{n}.0.0"
        places[f"branches.{n}.conv"] = f"aspp.0.convs.{n}.0.1" if split else f"aspp.0.convs.{n}.0"
        places[f"branches.{n}.norm"] = f"aspp.0.convs.{n}.1"

    def path_there(path):
        place, _, name = path.rpartition(".")
        if place.startswith("encoder."):
            return path
        return f"{places[place]}.{name}" if place == "head" else f"decoder.{places[place]}.{name}"

    return path_there
