"""Time the CPU kernels, layer by layer: ours, the plain ops, and PyTorch (channels last) where it is installed.

    python bench/kernels.py [--net 64|16|all] [--seconds 0.5] [--no-plain]

The shapes are those of a 3x3 "same" U-Net with base width 64 on one 256 x 256 image, and with base width 16 on 8
patches of 128 x 128. Contestants take turns and the median counts, since other programs disturb. GFLOP/s are those of
direct convolution, 2*KH*KW*C*K operations an output pixel; the backward does twice the work (data and weight gradient).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from minunet import kernels, ops
from minunet.kernels import use

try:
    import torch
except ImportError:
    torch = None


def layers(base: int, N: int, size: int) -> list[tuple[str, tuple[int, ...]]]:
    """(kind, sizes) of every different layer of a U-Net with 5 levels."""
    found = []
    for level in range(5):
        H, K = size >> level, base << level
        if level:
            found += [("pool", (N, 2 * H, 2 * H, K // 2))]
        found += [("conv", (N, H, H, 3 if level == 0 else K // 2, K)), ("conv", (N, H, H, K, K))]
    for level in range(3, -1, -1):
        H, K = size >> level, base << level
        found += [("up", (N, H // 2, H // 2, 2 * K, K)), ("conv", (N, H, H, 2 * K, K))]
    top = (N, size, size, base)
    return [*found, ("head", (*top, 2)), ("norm", top), ("relu", top)]


def contestants(kind: str, sizes: tuple[int, ...], plain: bool) -> tuple[dict[str, tuple[Callable, Callable]], float]:
    """For each contestant a forward and a backward to time; and the forward's GFLOP."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(sizes[:4], np.float32)
    N, H, W, C = x.shape
    K = sizes[-1]
    size = {"conv": 3, "up": 2, "head": 1}.get(kind, 0)
    w = rng.standard_normal((size, size, C, K), np.float32) / (size * C**0.5 or 1)
    gamma = np.ones(C, np.float32)
    b = np.zeros(K, np.float32) if kind in ("up", "head") else None
    forward = {
        "conv": lambda: ops.conv2d(x, w),
        "head": lambda: ops.conv2d(x, w, b),
        "up": lambda: ops.conv_transpose2d(x, w, b),
        "pool": lambda: ops.max_pool2d(x),
        "norm": lambda: ops.batch_norm(x, gamma, gamma),
        "relu": lambda: ops.relu(x),
    }[kind]
    back_of = {"up": "conv_transpose2d", "pool": "max_pool2d", "norm": "batch_norm", "relu": "relu"}
    backward = getattr(ops, back_of.get(kind, "conv2d") + "_backward")
    y, cache, *_ = forward()
    dy = rng.standard_normal(y.shape, np.float32)

    def plainly(call: Callable) -> Callable:
        def run():
            with use("reference"):
                call()

        return run

    found = {"ours": (forward, lambda: backward(dy, cache))}
    if plain:
        found["plain"] = plainly(forward), plainly(lambda: backward(dy, cache))
    if torch is not None:
        found["torch"] = torch_pair(kind, x, w, b, dy)
    flop = 2e-9 * N * H * W * C * K * size**2
    return found, flop


def torch_pair(
    kind: str, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, dy: np.ndarray
) -> tuple[Callable, Callable]:
    """PyTorch's forward and backward of a layer on the same numbers, channels last."""
    F = torch.nn.functional
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_(True)
    tdy = torch.from_numpy(dy).permute(0, 3, 1, 2)
    order = (2, 3, 0, 1) if kind == "up" else (3, 2, 0, 1)
    tw = torch.from_numpy(w.transpose(order).copy()).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    tb = None if b is None else torch.from_numpy(b).requires_grad_(True)
    gamma = torch.ones(x.shape[-1], requires_grad=True)
    forward = {
        "conv": lambda: F.conv2d(tx, tw, padding=1),
        "head": lambda: F.conv2d(tx, tw, tb),
        "up": lambda: F.conv_transpose2d(tx, tw, tb, stride=2),
        "pool": lambda: F.max_pool2d(tx, 2),
        "norm": lambda: F.batch_norm(tx, None, None, gamma, gamma, True),
        "relu": lambda: F.relu(tx),
    }[kind]
    ty = forward()
    wanted = [t for t in {"norm": (tx, gamma), "pool": (tx,), "relu": (tx,)}.get(kind, (tx, tw, tb)) if t is not None]
    return forward, lambda: torch.autograd.grad(ty, wanted, tdy, retain_graph=True)


def medians(calls: list[Callable], seconds: float) -> list[float]:
    """Median time of each, in milliseconds, taking turns."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    while len(times[0]) < 3 or (time.perf_counter() - start < seconds and len(times[0]) < 50):
        for call, its in zip(calls, times):
            before = time.perf_counter()
            call()
            its.append(1e3 * (time.perf_counter() - before))
    return [float(np.median(its)) for its in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=("64", "16", "all"), default="all", help="base width of the network")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each layer and direction")
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain ops, which are slow")
    options = parser.parse_args()
    kernels.warm_up()
    for base, N, size in [(64, 1, 256), (16, 8, 128)]:
        if options.net not in ("all", str(base)):
            continue
        print(f"\nbase width {base}, batch {N}, {size} x {size}; milliseconds (GFLOP/s)")
        total: dict[str, float] = {}
        for kind, sizes in dict.fromkeys(layers(base, N, size)):
            found, flop = contestants(kind, sizes, not options.no_plain)
            for way, factor in ((0, 1), (1, 2)):
                times = medians([pair[way] for pair in found.values()], options.seconds)
                cells = []
                for name, ms in zip(found, times):
                    total[name] = total.get(name, 0) + ms
                    cells.append(f"{name} {ms:8.2f} ({factor * flop / ms * 1e3 if flop else 0:4.0f})")
                layer = f"{kind:5s}{'x'.join(map(str, sizes)):22s}{('forward', 'backward')[way]:9s}"
                print(layer, "  ".join(cells), flush=True)
        print("all of these:", "  ".join(f"{name} {ms:.0f} ms" for name, ms in total.items()))


if __name__ == "__main__":
    main()
