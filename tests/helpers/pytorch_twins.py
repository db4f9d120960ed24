"""PyTorch-UNet's networks written with PyTorch's layers, in every layout that its checkpoints have had."""

import numpy as np
import torch
from torch import nn

F = nn.functional


def double_conv(i, o, mid, bias):
    return nn.Sequential(
        nn.Conv2d(i, mid, 3, padding=1, bias=bias), nn.BatchNorm2d(mid), nn.ReLU(),
        nn.Conv2d(mid, o, 3, padding=1, bias=bias), nn.BatchNorm2d(o), nn.ReLU(),
    )  # fmt: skip


class Named(nn.Module):
    """A module under a name, for the sake of its keys."""

    def __init__(self, name, inner):
        super().__init__()
        setattr(self, name, inner)
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(x)


class TwinUNet(nn.Module):
    """The network with the keys of PyTorch-UNet.

    `old` gives the names before October 2019; `halves` says whether the blocks of an interpolating network have a middle of
    half their input, and the bottom is halved with it; `keeps` whether transposed convolutions keep their channels, as they
    did where the bottom is half as wide.
    """

    def __init__(
        self, channels, classes, base=4, depth=4, bilinear=False, bias=False, old=False, halves=True, keeps=False
    ):
        super().__init__()
        self.depth = depth
        kind, down_name = ("conv", "mpconv") if old else ("double_conv", "maxpool_conv")
        w = [base * 2**level for level in range(depth + 1)]
        if bilinear or keeps:
            w[-1] //= 2

        def block(i, o, mid=None):
            return Named(kind, double_conv(i, o, mid or o, bias))

        self.inc = Named("conv", block(channels, w[0])) if old else block(channels, w[0])
        for n in range(1, depth + 1):
            self.add_module(f"down{n}", Named(down_name, nn.Sequential(nn.MaxPool2d(2), block(w[n - 1], w[n]))))
        below = w[-1]
        for n in range(1, depth + 1):
            skip = w[depth - n]
            gives = below if bilinear or keeps else below // 2
            up = nn.Module()
            up.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            if not bilinear:
                up.up = nn.ConvTranspose2d(below, gives, 2, stride=2)
            takes = skip + gives
            out = max(skip // 2, base) if bilinear or keeps else skip
            up.conv = block(takes, out, takes // 2 if bilinear and halves else None)
            self.add_module(f"up{n}", up)
            below = out
        self.outc = Named("conv", nn.Conv2d(below, classes, 1))

    def forward(self, x):
        skips = [self.inc(x)]
        for n in range(1, self.depth + 1):
            skips.append(getattr(self, f"down{n}")(skips[-1]))
        x = skips.pop()
        for n in range(1, self.depth + 1):
            up, skip = getattr(self, f"up{n}"), skips.pop()
            x = up.up(x)
            dh, dw = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
            x = F.pad(x, [dw // 2, dw - dw // 2, dh // 2, dh - dh // 2])
            x = up.conv(torch.cat([skip, x], 1))
        return self.outc(x)


def randomise(net, seed=0):
    """Random norms and running statistics, where a mistake might hide; PyTorch's own random filters. Returns the net."""
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for name, tensor in (*m.named_parameters(), *m.named_buffers()):
                if name in ("weight", "running_var"):
                    tensor.data.uniform_(0.5, 1.5, generator=g)
                elif name != "num_batches_tracked":
                    tensor.data.normal_(0, 0.3, generator=g)
                else:
                    tensor.fill_(17)
        elif isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            for p in m.parameters():
                p.data.uniform_(-1, 1, generator=g).mul_((3 / max(1, m.weight[0].numel())) ** 0.5)
    return net.eval()


def outputs(net, x):
    """A twin's logits of images (N, H, W, C), (N, H, W, K)."""
    with torch.no_grad():
        return np.moveaxis(net(torch.tensor(np.moveaxis(x, -1, 1).copy())).numpy(), 1, -1)


LAYOUTS = {
    "transposed": {},
    "bilinear": {"bilinear": True},
    "transposed with biases (1.0, 2.0)": {"bias": True},
    "bilinear with biases (1.0, 2.0)": {"bilinear": True, "bias": True},
    "before October 2019": {"bilinear": True, "bias": True, "old": True, "halves": False},
    "before October 2019, transposed": {"bias": True, "old": True, "keeps": True},
    "between, without middles": {"bilinear": True, "bias": True, "halves": False},
    "between, transposed that keep": {"bias": True, "keeps": True},
    "three poolings": {"depth": 3},
}
