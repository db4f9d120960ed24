"""The convolutions of ResNet, MobileNetV2 and DeepLab's head, ours beside PyTorch's in its better layout.

    python bench/convs.py [--size 256] [--batch 1] [--seconds 1] [--only WORD] [--plain] [--json]

Each convolution is timed by itself, forward and backward (both gradients, also of the image), on random numbers of the shape
that it meets in the network. PyTorch runs in both layouts, and the ratio is that of its faster one to ours: above 1 we are
faster. Contestants take turns; medians count. --only takes those whose network or kind contains a word: "mobilenet", "1x1".
"""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple

import numpy as np
from layers import Pair, measure, plainly
from report import machine, save
from tqdm import tqdm

from minunet import ops

try:
    import torch
except ImportError:
    torch = None

LAYOUTS = ("torch nhwc", "torch nchw")


class Conv(NamedTuple):
    """A convolution of a network: `divisor` of the image's size at its input, channels, and how it slides."""

    networks: str
    divisor: int
    C: int
    K: int  # 0: depthwise
    side: int = 3
    stride: int = 1
    dilation: int = 1

    @property
    def kind(self) -> str:
        """As in "3x3/2 d6 depthwise"."""
        stride, dilation = f"/{self.stride}" * (self.stride > 1), f" d{self.dilation}" * (self.dilation > 1)
        return f"{self.side}x{self.side}{stride}{dilation}" + " depthwise" * (not self.K)

    def gflop(self, N: int, size: int) -> float:
        """Operations of a forward."""
        pixels = N * math.ceil(size / self.divisor / self.stride) ** 2
        return 2e-9 * pixels * self.side**2 * self.C * (self.K or 1)


CONVS = [
    Conv("resnet", 1, 3, 64, 7, 2),
    Conv("resnet18 resnet34", 4, 64, 64),
    Conv("resnet18 resnet34", 4, 64, 128, 3, 2),
    Conv("resnet18 resnet34", 4, 64, 128, 1, 2),
    Conv("resnet18 resnet34", 8, 128, 128),
    Conv("resnet18 resnet34", 8, 128, 256, 3, 2),
    Conv("resnet18 resnet34", 8, 128, 256, 1, 2),
    Conv("resnet18 resnet34", 16, 256, 256),
    Conv("resnet18 resnet34", 16, 256, 512, 3, 2),
    Conv("resnet18 resnet34", 16, 256, 512, 1, 2),
    Conv("resnet18 resnet34", 32, 512, 512),
    Conv("resnet50", 4, 64, 64, 1),
    Conv("resnet50", 4, 64, 256, 1),
    Conv("resnet50", 4, 256, 64, 1),
    Conv("resnet50", 4, 128, 128, 3, 2),
    Conv("resnet50", 8, 128, 512, 1),
    Conv("resnet50", 4, 256, 512, 1, 2),
    Conv("resnet50", 8, 512, 128, 1),
    Conv("resnet50", 8, 256, 256, 3, 2),
    Conv("resnet50", 16, 256, 1024, 1),
    Conv("resnet50", 16, 1024, 256, 1),
    Conv("resnet50", 16, 512, 512, 3, 2),
    Conv("resnet50", 16, 1024, 2048, 1, 2),
    Conv("resnet50", 32, 512, 2048, 1),
    Conv("resnet50", 32, 2048, 512, 1),
    Conv("mobilenet", 1, 3, 32, 3, 2),
    Conv("mobilenet", 2, 32, 0),
    Conv("mobilenet", 2, 32, 16, 1),
    Conv("mobilenet", 2, 16, 96, 1),
    Conv("mobilenet", 2, 96, 0, 3, 2),
    Conv("mobilenet", 4, 96, 24, 1),
    Conv("mobilenet", 4, 24, 144, 1),
    Conv("mobilenet", 4, 144, 0),
    Conv("mobilenet", 4, 144, 24, 1),
    Conv("mobilenet", 4, 144, 0, 3, 2),
    Conv("mobilenet", 8, 192, 0),
    Conv("mobilenet", 8, 192, 32, 1),
    Conv("mobilenet", 8, 192, 0, 3, 2),
    Conv("mobilenet", 16, 64, 384, 1),
    Conv("mobilenet", 16, 384, 0),
    Conv("mobilenet", 16, 576, 96, 1),
    Conv("mobilenet", 16, 576, 0, 3, 2),
    Conv("mobilenet", 32, 960, 0),
    Conv("mobilenet", 32, 160, 960, 1),
    Conv("mobilenet", 32, 320, 1280, 1),
    Conv("efficientnet", 4, 144, 0, 5, 2),
    Conv("efficientnet", 16, 672, 0, 5),
    Conv("deeplab", 4, 256, 48, 1),
    Conv("deeplab", 4, 304, 0),
    Conv("deeplab", 4, 304, 256, 1),
    Conv("deeplab", 4, 304, 256),
    Conv("deeplab", 16, 512, 512, 3, 1, 2),
    Conv("deeplab", 16, 2048, 256, 1),
    Conv("deeplab", 16, 2048, 256, 3, 1, 6),
    Conv("deeplab", 16, 2048, 256, 3, 1, 12),
    Conv("deeplab", 16, 2048, 0, 3, 1, 12),
    Conv("deeplab", 8, 2048, 256, 3, 1, 12),
    Conv("deeplab", 16, 1280, 256, 1),
]  # fmt: skip


# ---- the contestants -------------------------------------------------------------------------------------------------


def numbers(conv: Conv, N: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, w and dy of a convolution."""
    rng, side, H = np.random.default_rng(0), conv.side, size // conv.divisor
    shape = (side, side, conv.C, conv.K) if conv.K else (side, side, conv.C)
    out = math.ceil(H / conv.stride)
    shapes = (N, H, H, conv.C), shape, (N, out, out, conv.K or conv.C)
    return tuple(on_a_line(rng.standard_normal(s, np.float32)) for s in shapes)  # type: ignore[return-value]


def on_a_line(a: np.ndarray) -> np.ndarray:
    """A copy that starts on a cache line, as every map within a network does, ours and PyTorch's."""
    room = np.empty(a.size + 16, a.dtype)
    start = -room.ctypes.data % 64 // a.itemsize
    copy = room[start : start + a.size].reshape(a.shape)
    copy[...] = a
    return copy


def ours(conv: Conv, N: int, size: int) -> Pair:
    """Minunet's op, padded as the networks pad."""
    x, w, dy = numbers(conv, N, size)
    padding = conv.dilation * (conv.side - 1) // 2
    forward, backward = (
        (ops.conv2d, ops.conv2d_backward) if conv.K else (ops.depthwise_conv2d, ops.depthwise_conv2d_backward)
    )
    return (
        lambda: forward(x, w, None, conv.stride, padding, conv.dilation),
        lambda result: backward(dy, result[1]),
    )


def theirs(conv: Conv, N: int, size: int, layout: str) -> Pair:
    """PyTorch's."""
    x, w, dy = numbers(conv, N, size)
    memory = torch.channels_last if layout == "torch nhwc" else torch.contiguous_format
    filters = w.transpose(3, 2, 0, 1) if conv.K else w.transpose(2, 0, 1)[:, None]
    tx, tw, tdy = (
        torch.from_numpy(a).contiguous(memory_format=memory)
        for a in (x.transpose(0, 3, 1, 2), filters, dy.transpose(0, 3, 1, 2))
    )
    tx, tw = tx.requires_grad_(), tw.requires_grad_()
    how = {
        "stride": conv.stride,
        "padding": conv.dilation * (conv.side - 1) // 2,
        "dilation": conv.dilation,
        "groups": 1 if conv.K else conv.C,
    }
    return (
        lambda: torch.nn.functional.conv2d(tx, tw, **how),
        lambda y: torch.autograd.grad(y, (tx, tw), tdy),
    )


# ---- the measurement -------------------------------------------------------------------------------------------------


def measure_all(convs: list[Conv], N: int, size: int, seconds: float, plain: bool) -> list[dict[str, Any]]:
    """A row a convolution, with {contestant: (forward, backward)} in milliseconds."""
    rows = []
    with tqdm(convs, leave=False) as bar:
        for conv in bar:
            bar.set_description(f"{conv.networks} {conv.kind}")
            pairs = {"ours": ours(conv, N, size)}
            if torch is not None:
                pairs.update({layout: theirs(conv, N, size, layout) for layout in LAYOUTS})
            if plain:
                pairs["plain"] = plainly(ours(conv, N, size))
            rows.append({
                "networks": conv.networks, "kind": conv.kind, "shape": numbers(conv, N, size)[0].shape, "K": conv.K or conv.C,
                "gflop": 3 * conv.gflop(N, size), "ms": measure(pairs, seconds),
            })  # fmt: skip
    return rows


def ratios(ms: dict[str, Any]) -> tuple[float, float]:
    """How many times faster than PyTorch's better layout we are: in a forward, and in a forward and backward."""
    forward, both = (min(pick(ms[layout]) for layout in LAYOUTS) / pick(ms["ours"]) for pick in (lambda t: t[0], sum))
    return forward, both


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text: for each contestant forward and backward, for ours the speed, and the ratios."""
    names = list(rows[0]["ms"])
    head = f"{'':18s}{'kind':18s}{'input':>16s}{'K':>6s}" + "".join(f"{n:>12s}{'back':>8s}" for n in names)
    compared = LAYOUTS[0] in names
    lines = [head + f"{'GFLOP/s':>9s}" + "   forward  with backward" * compared]
    for row in rows:
        line = f"{row['networks']:18s}{row['kind']:18s}{'x'.join(map(str, row['shape'])):>16s}{row['K']:>6}"
        line += "".join(f"{row['ms'][n][0]:12.2f}{row['ms'][n][1]:8.2f}" for n in names)
        line += f"{1e3 * row['gflop'] / sum(row['ms']['ours']):9.0f}"
        lines.append(line + ("{:9.2f}x{:9.2f}x".format(*ratios(row["ms"])) if compared else ""))
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", type=int, default=256, help="rows and columns of the image; a multiple of 32")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--seconds", type=float, default=1, help="time for each convolution")
    p.add_argument("--only", default="", help="only those whose network or kind contains this")
    p.add_argument("--plain", action="store_true", help="also the plain ops, which are slow")
    p.add_argument("--json", action="store_true", help="write the figures into bench/results/convs.json")
    args = p.parse_args()
    convs = [c for c in CONVS if args.only in f"{c.networks} {c.kind}"]
    if args.size < 32 or args.size % 32 or not convs:
        p.error(f"--size {args.size} must be a multiple of 32, and --only {args.only!r} must leave something")
    rows = measure_all(convs, args.batch, args.size, args.seconds, args.plain)
    print(table(rows))
    setting = f"{args.size}x{args.size}, batch {args.batch}, float32"
    print(f"\nmilliseconds; {setting}; medians in turns; {machine()}")
    if args.json:
        save("convs", {"setting": setting, "convs": rows})


if __name__ == "__main__":
    main()
