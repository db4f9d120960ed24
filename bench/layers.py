"""Where a training step goes: every layer of the U-Net, ours beside PyTorch's (channels last) where it is installed.

    python bench/layers.py [--size 256] [--base-width 64] [--batch 1] [--seconds 1] [--slowest] [--plain] [--json]

Each layer is timed by itself, on random numbers of the shape that it meets in the network: a 3x3 convolution with the norm
and the ReLU behind it (and the joint with the skip before it) as one block, forward and backward through its modules. Not
in the table is what lies between layers: the sum of the two gradients of a skip, and memory that no layer finds warm.

GFLOP/s are those of direct convolution, 2*KH*KW*C*K operations an output pixel, for forward and backward together; the
backward does twice the forward's work (data and weight gradient). "share" is the layer's part of our sum. PyTorch is spared
the gradient of the image, as in a training step; our first layer computes it. Contestants take turns; medians count.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from report import machine, save
from tqdm import tqdm

import minunet
from minunet import nn, ops
from minunet.models import UNet
from minunet.models.blocks import Join
from minunet.optim import SGD

try:
    import torch
except ImportError:
    torch = None

Pair = tuple[Callable[[], Any], Callable[[Any], Any]]
"""A forward, and a backward that is given what the forward returned."""


class Layer(NamedTuple):
    """A layer's name in the network, its kind, its input (N, H, W, C), and its output channels.

    The optimiser has no input; its K is the network's base width.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    K: int

    def gflop(self) -> float:
        """Operations of a forward: 2*KH*KW*C*K an output pixel, an input pixel for the up-convolution."""
        taps = {"first": 9, "conv": 9, "join": 9, "up": 4, "head": 1}.get(self.kind, 0)
        return 2e-9 * math.prod(self.shape) * taps * self.K


def layers(base: int, N: int, size: int, depth: int = 4) -> Iterator[Layer]:
    """Every layer in the order of the forward; the loss and the optimiser last."""
    for level in range(depth + 1):
        H, K = size >> level, base << level
        name = f"encoder.{level}" if level < depth else "bottom"
        first = Layer(f"{name}.conv1", "first", (N, H, H, 3), K)
        yield Layer(f"{name}.conv1", "conv", (N, H, H, K // 2), K) if level else first
        yield Layer(f"{name}.conv2", "conv", (N, H, H, K), K)
        if level < depth:
            yield Layer(f"pool.{level}", "pool", (N, H, H, K), K)
    for level in reversed(range(depth)):
        H, K = size >> level, base << level
        yield Layer(f"up.{level}", "up", (N, H // 2, H // 2, 2 * K), K)
        yield Layer(f"decoder.{level}.conv1", "join", (N, H, H, 2 * K), K)
        yield Layer(f"decoder.{level}.conv2", "conv", (N, H, H, K), K)
    yield Layer("head", "head", (N, size, size, base), 2)
    yield Layer("loss", "loss", (N, size, size, 2), 2)
    yield Layer("optimiser", "step", (), base)


# ---- the contestants -------------------------------------------------------------------------------------------------


def numbers(layer: Layer) -> tuple[list[np.ndarray], np.ndarray]:
    """Inputs of a layer (two for the joint: the skip, and what comes from below), and the gradient of its output."""
    rng = np.random.default_rng(0)
    (N, H, W, C), scale = layer.shape, {"up": 2, "pool": 0.5}.get(layer.kind, 1)
    widths = (C // 2, C // 2) if layer.kind == "join" else (C,)
    dy = rng.standard_normal((N, int(H * scale), int(W * scale), layer.K), np.float32)
    return [rng.standard_normal((N, H, W, c), np.float32) for c in widths], dy


def ours(layer: Layer) -> Pair:
    """Minunet's layer."""
    if layer.kind == "step":
        return our_step(layer.K)
    C, K, (xs, dy) = layer.shape[3], layer.K, numbers(layer)
    if layer.kind == "loss":
        labels = (dy[..., 0] > 0).astype(np.int64)
        return (
            lambda: ops.softmax_cross_entropy(xs[0], labels),
            lambda result: ops.softmax_cross_entropy_backward(1.0, result[1]),
        )
    if layer.kind in ("first", "conv", "join"):
        block = {"conv": nn.Conv2d(C, K, bias=False), "norm": nn.BatchNorm2d(K), "relu": nn.ReLU()}
        net: nn.Module = nn.Sequential(**({"join": Join()} if layer.kind == "join" else {}), **block)
    else:
        build = {"pool": nn.MaxPool2d, "up": lambda: nn.ConvTranspose2d(C, K), "head": lambda: nn.Conv2d(C, K, size=1)}
        net = build[layer.kind]()

    def backward(result: Any) -> None:
        net.zero_grad()
        net.backward(dy, result[1])

    return lambda: net.forward(tuple(xs) if len(xs) > 1 else xs[0]), backward


def our_step(base: int) -> Pair:
    """SGD on all parameters of the network; a forward of nothing."""
    net = UNet(3, 2, base_width=base)
    for _, module in net.modules():
        module.accumulate(**{name: np.full_like(p, 1e-3) for name, p in module.params.items()})
    optimizer = SGD(net, 1e-6, momentum=0.9)
    return lambda: None, lambda _: optimizer.step()


def theirs(layer: Layer) -> Pair:
    """PyTorch's layer, channels last."""
    if layer.kind == "step":
        return their_step(layer.K)
    C, K, (xs, dy), torch_nn = layer.shape[3], layer.K, numbers(layer), torch.nn
    txs = [torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_(layer.kind != "first") for x in xs]
    if layer.kind == "loss":
        labels = torch.from_numpy((dy[..., 0] > 0).astype(np.int64))
        return (
            lambda: torch_nn.functional.cross_entropy(txs[0], labels),
            lambda loss: torch.autograd.grad(loss, txs),
        )
    build = {
        "pool": lambda: torch_nn.MaxPool2d(2),
        "up": lambda: torch_nn.ConvTranspose2d(C, K, 2, 2),
        "head": lambda: torch_nn.Conv2d(C, K, 1),
    }.get(layer.kind, lambda: torch_block(C, K))
    net = build().to(memory_format=torch.channels_last)
    wanted = [t for t in (*txs, *net.parameters()) if t.requires_grad]
    tdy = torch.from_numpy(dy).permute(0, 3, 1, 2)
    return lambda: net(torch.cat(txs, 1) if len(txs) > 1 else txs[0]), lambda y: torch.autograd.grad(y, wanted, tdy)


def their_step(base: int) -> Pair:
    """PyTorch's SGD on as many parameters."""
    params = [torch.zeros(p.shape, requires_grad=True) for p in UNet(3, 2, base_width=base).named_params().values()]
    for p in params:
        p.grad = torch.full_like(p, 1e-3)
    optimizer = torch.optim.SGD(params, 1e-6, momentum=0.9)
    return lambda: None, lambda _: optimizer.step()


def torch_block(C: int, K: int) -> Any:
    """A 3x3 convolution, norm and ReLU of PyTorch."""
    conv = torch.nn.Conv2d(C, K, 3, padding=1, bias=False)
    return torch.nn.Sequential(conv, torch.nn.BatchNorm2d(K), torch.nn.ReLU(inplace=True))


def plainly(pair: Pair) -> Pair:
    """The same without kernels."""
    forward, backward = pair

    def plain_forward() -> Any:
        with minunet.use("reference"):
            return forward()

    def plain_backward(result: Any) -> None:
        with minunet.use("reference"):
            backward(result)

    return plain_forward, plain_backward


# ---- the measurement -------------------------------------------------------------------------------------------------


def measure(pairs: dict[str, Pair], seconds: float) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each forward and backward, in turns, at least three each after one that does not count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
    began, turns = time.perf_counter(), 0
    while turns < 4 or (time.perf_counter() - began < seconds and turns < 100):
        for name, (forward, backward) in pairs.items():
            start = time.perf_counter()
            result = forward()
            middle = time.perf_counter()
            backward(result)
            end = time.perf_counter()
            if turns:
                times[name].append((1e3 * (middle - start), 1e3 * (end - middle)))
            del result
        turns += 1
    return {name: tuple(statistics.median(t) for t in zip(*its)) for name, its in times.items()}


def measure_all(base: int, N: int, size: int, seconds: float, plain: bool) -> list[dict[str, Any]]:
    """A row a layer, with {contestant: (forward, backward)} in milliseconds."""
    rows = []
    with tqdm(list(layers(base, N, size)), leave=False) as bar:
        for layer in bar:
            bar.set_description(layer.name)
            pairs = {"ours": ours(layer)}
            if torch is not None:
                pairs["torch"] = theirs(layer)
            if plain:
                pairs["plain"] = plainly(ours(layer))
            rows.append({
                "layer": layer.name, "shape": layer.shape, "K": layer.K, "gflop": 3 * layer.gflop(),
                "ms": measure(pairs, seconds),
            })  # fmt: skip
    whole = sum(sum(row["ms"]["ours"]) for row in rows)
    for row in rows:
        row["share"] = sum(row["ms"]["ours"]) / whole
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text: for each contestant forward and backward, for ours the speed and the share."""
    names = list(rows[0]["ms"])
    head = f"{'':16s}{'input':>18s}{'K':>6s}  " + "".join(f"{n + ' forward':>15s}{'backward':>10s}" for n in names)
    lines = [head + f"{'GFLOP/s':>10s}{'share':>8s}" + ("   torch / ours" if "torch" in names else "")]
    total = {n: tuple(sum(row["ms"][n][i] for row in rows) for i in (0, 1)) for n in names}
    sums = {"layer": "sum", "shape": (), "K": "", "gflop": sum(r["gflop"] for r in rows), "ms": total, "share": 1.0}
    for row in [*rows, sums]:
        spent = {n: sum(row["ms"][n]) for n in names}
        line = f"{row['layer']:16s}{'x'.join(map(str, row['shape'])):>18s}{row['K']:>6}  "
        line += "".join(f"{row['ms'][n][0]:15.2f}{row['ms'][n][1]:10.2f}" for n in names)
        line += f"{1e3 * row['gflop'] / spent['ours']:10.0f}" if row["gflop"] else f"{'':10s}"
        line += f"{100 * row['share']:6.1f} %"
        lines.append(line + (f"{spent['torch'] / spent['ours']:14.2f}x" if "torch" in names else ""))
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", type=int, default=256, help="rows and columns of the image; a multiple of 16")
    p.add_argument("--base-width", type=int, default=64)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--seconds", type=float, default=1, help="time for each layer")
    p.add_argument("--slowest", action="store_true", help="the layers that take us longest first, not in network order")
    p.add_argument("--plain", action="store_true", help="also the plain ops, which are slow")
    p.add_argument("--json", action="store_true", help="write the figures into bench/results/layers.json")
    args = p.parse_args()
    if args.size < 16 or args.size % 16:
        p.error(f"--size {args.size}: four poolings need a multiple of 16")
    rows = measure_all(args.base_width, args.batch, args.size, args.seconds, args.plain)
    shown = sorted(rows, key=lambda row: -row["share"]) if args.slowest else rows
    print(table(shown))
    setting = f"{args.size}x{args.size}, batch {args.batch}, base width {args.base_width}, float32"
    print(f"\nmilliseconds; {setting}; medians in turns; {machine()}")
    if args.json:
        save("layers", {"setting": setting, "layers": rows})


if __name__ == "__main__":
    main()
