"""A training step and an inference beside PyTorch's: the same network, batch, threads and run, in turns.

    python bench/step.py [--size 256] [--base-width 64] [--batch 1] [--repeats 7] [--reference] [--readme]

PyTorch is measured in both memory formats and its better one counts. A training step is forward, cross-entropy, backward and
SGD with momentum, after three steps to warm up. Figures are medians of alternating runs; ratios are of those medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from report import machine, save, write_into_readme

import minunet
from minunet import ops
from minunet.models import UNet
from minunet.optim import SGD


def ours(x: np.ndarray, labels: np.ndarray, base_width: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Functions that do one inference and one training step with minunet."""
    net = UNet(x.shape[-1], 2, base_width=base_width)
    optimizer = SGD(net, 1e-3, momentum=0.9)

    def step() -> None:
        logits, cache = net.forward(x)
        _, loss_cache = ops.softmax_cross_entropy(logits, labels)
        net.zero_grad()
        net.backward(ops.softmax_cross_entropy_backward(1.0, loss_cache), cache)
        optimizer.step()

    return lambda: net(x), step


def torch_unet(channels: int, base_width: int):
    """The same network from PyTorch's layers."""
    from torch import cat, nn

    def block(i: int, o: int) -> nn.Module:
        layers = []
        for a, b in ((i, o), (o, o)):
            layers += [nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            w = [base_width * 2**i for i in range(5)]
            self.down = nn.ModuleList(block(i, o) for i, o in zip([channels, *w], w))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * o, o, 2, 2) for o in w[:4])
            self.dec = nn.ModuleList(block(2 * o, o) for o in w[:4])
            self.head, self.pool = nn.Conv2d(w[0], 2, 1), nn.MaxPool2d(2)

        def forward(self, x):
            skips = []
            for block in self.down[:-1]:
                x = block(x)
                skips.append(x)
                x = self.pool(x)
            x = self.down[-1](x)
            for i in reversed(range(4)):
                x = self.dec[i](cat([skips[i], self.up[i](x)], 1))
            return self.head(x)

    return Net()


def theirs(x: np.ndarray, labels: np.ndarray, base_width: int, channels_last: bool):
    """Functions that do one inference and one training step with PyTorch."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = torch_unet(x.shape[-1], base_width).to(memory_format=layout)
    tx = torch.tensor(np.moveaxis(x, -1, 1).copy()).contiguous(memory_format=layout)
    tl = torch.tensor(labels)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)

    def infer() -> None:
        net.eval()
        with torch.inference_mode():
            net(tx)

    def step() -> None:
        net.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(tx), tl).backward()
        optimizer.step()

    return infer, step


def measure(runners: dict[str, Callable[[], None]], repeats: int, warm_up: int = 3) -> dict[str, float]:
    """Median seconds of every runner, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    for i in range(warm_up + repeats):
        for name, run in runners.items():
            began = time.perf_counter()
            run()
            if i >= warm_up:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", type=int, default=256, help="rows and columns of the image")
    p.add_argument("--base-width", type=int, default=64)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--repeats", type=int, default=7)
    p.add_argument("--reference", action="store_true", help="our plain ops, without kernels")
    p.add_argument("--readme", action="store_true", help="write the figures into the README")
    args = p.parse_args()
    minunet.use("reference" if args.reference else "fast")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((args.batch, args.size, args.size, 3), np.float32)
    labels = rng.integers(0, 2, x.shape[:3])
    pairs = {
        "minunet": ours(x, labels, args.base_width),
        "PyTorch NCHW": theirs(x, labels, args.base_width, False),
        "PyTorch channels_last": theirs(x, labels, args.base_width, True),
    }
    lines = ["| | minunet | PyTorch, its better layout | PyTorch's time / ours |", "| --- | --- | --- | --- |"]
    result = {}
    for i, what in enumerate(("inference", "training step")):
        t = measure({name: pair[i] for name, pair in pairs.items()}, args.repeats)
        peer = min(t["PyTorch NCHW"], t["PyTorch channels_last"])
        lines.append(f"| {what} | {t['minunet']:.2f} s | {peer:.2f} s | {peer / t['minunet']:.2f} |")
        result[what] = t
    shape = f"{args.size}x{args.size}, batch {args.batch}, base width {args.base_width}, BatchNorm, float32"
    lines += ["", f"{shape}; medians of {args.repeats} alternating runs; {machine()}."]
    print("\n".join(lines))
    if args.readme:
        save("step", {"setting": shape, "seconds": result})
        write_into_readme("step", "\n".join(lines))


if __name__ == "__main__":
    main()
