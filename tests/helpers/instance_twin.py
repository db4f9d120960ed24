"""The detector with masks in PyTorch, written from the papers of FPN, FCOS and YOLACT."""

from collections import OrderedDict

import numpy as np
import torch
from helpers.encoder_twins import encoder as make_encoder
from torch import nn
from torch.nn import functional as F


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


class InstanceNet(nn.Module):
    def __init__(self, i, k, encoder, encoder_width, width, tower, prototypes):
        super().__init__()
        self.encoder, channels = make_encoder(encoder, i, encoder_width)
        three = lambda i, o, **more: nn.Conv2d(i, o, 3, padding=1, **more)  # noqa: E731
        self.lateral = nn.ModuleList([nn.Conv2d(c, width, 1) for c in channels[2:]])
        self.smooth = nn.ModuleList([three(width, width) for _ in range(4)])
        groups = int(np.gcd(width, 32))
        towers = [
            [
                layer
                for n in range(1, tower + 1)
                for layer in (
                    (f"conv{n}", three(width, width, bias=False)),
                    (f"norm{n}", nn.GroupNorm(groups, width)),
                    (f"relu{n}", nn.ReLU()),
                )
            ]
            for _ in range(2)
        ]
        self.class_tower, self.box_tower = (nn.Sequential(OrderedDict(layers)) for layers in towers)
        self.classes, self.distances = three(width, k), three(width, 4)
        self.centre, self.coefficients = three(width, 1), three(width, prototypes)
        self.exp = nn.ModuleList([Scale() for _ in range(4)])
        layers = [layer for n in range(1, 5) for layer in ((f"conv{n}", three(width, width)), (f"relu{n}", nn.ReLU()))]
        layers.insert(6, ("up", nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)))
        layers += [("conv5", nn.Conv2d(width, prototypes, 1)), ("relu5", nn.ReLU())]
        self.prototypes = nn.Sequential(OrderedDict(layers))

    def forward(self, x):
        features, above, levels = self.encoder(x)[2:], None, []
        for side, smooth, feature in zip(self.lateral[::-1], self.smooth[::-1], features[::-1]):
            here = side(feature)
            above = here if above is None else here + F.interpolate(above, size=here.shape[2:], mode="nearest")
            levels.insert(0, smooth(above))
        heads = []
        for level, scale in zip(levels, self.exp):
            box = self.box_tower(level)
            distances = torch.exp(scale.scale * self.distances(box))
            answers = (
                self.classes(self.class_tower(level)),
                distances,
                self.centre(box),
                torch.tanh(self.coefficients(box)),
            )
            heads.append(torch.cat(answers, 1))
        return [*heads, self.prototypes(levels[0])]


TWINS = {"instance_net": InstanceNet}
