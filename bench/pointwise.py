"""Time the kernels that are no convolutions against their plain twins: losses, norms, resampling, optimisers.

    python bench/pointwise.py [NAME...] [--seconds 0.5] [--threads N]

Contestants take turns and the least time counts, since these are short and other programs disturb. Sizes are those of the
network's widest level, of the losses at 1280 x 1280 with two classes, and of a network with two million parameters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from minunet import ops, optim
from minunet.kernels import threads


def cases(rng: np.random.Generator) -> dict[str, tuple]:
    """The arguments of every forward op and of every step."""
    x, gamma = rng.standard_normal((1, 256, 256, 64), np.float32), rng.standard_normal(64, np.float32)
    logits, labels = rng.standard_normal((1, 1280, 1280, 2), np.float32), rng.integers(0, 2, (1, 1280, 1280))
    names = [
        "relu",
        "relu6",
        "leaky_relu",
        "sigmoid",
        "max_pool2d",
        "max_pool2d_padded",
        "avg_pool2d",
        "global_avg_pool2d",
    ]
    found: dict[str, tuple] = dict.fromkeys(names, (x,))
    winners = rng.integers(0, 4, x.shape).astype(np.uint8)
    found |= {"add": ([x, x],), "gate": (x, x[:, :1, :1]), "max_unpool2d": (x, winners, (512, 512))}
    found |= dict.fromkeys(["resize_nearest", "resize_bilinear"], (x, (340, 500)))
    found |= dict.fromkeys(["upsample_nearest", "upsample_bilinear"], (x,))
    found |= {"batch_norm": (x, gamma, gamma), "group_norm": (x, gamma, gamma, 8), "softmax": (logits,)}
    found |= dict.fromkeys(["softmax_cross_entropy", "soft_dice"], (logits, labels))
    p, g, m, s = rng.random((4, 2_000_000), np.float32)
    return found | {"sgd_step": (p, g, m, 0.1), "adam_step": (p, g, m, s, 3, 0.1), "rmsprop_step": (p, g, m, s, 0.1)}


def least(calls: list[Callable], seconds: float) -> list[float]:
    """Least time of each, in milliseconds, taking turns."""
    for call in calls:
        call()
    times = [np.inf] * len(calls)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for n, call in enumerate(calls):
            start = time.perf_counter()
            call()
            times[n] = min(times[n], 1e3 * (time.perf_counter() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these ops (default: all)")
    parser.add_argument("--seconds", type=float, default=0.5, help="time for each op and direction")
    parser.add_argument("--threads", type=int, help="threads to compute on")
    options = parser.parse_args()
    if options.threads:
        threads.set_threads(options.threads)
    rng = np.random.default_rng(0)
    print(f"{'milliseconds':<32}{'ours':>9}{'plain':>9}{'ratio':>8}")
    for name, args in cases(rng).items():
        if options.names and name not in options.names:
            continue
        calls = {name: args}
        if not name.endswith("_step"):
            y, cache, *_ = getattr(ops, name)(*args)
            calls[name + "_backward"] = (rng.standard_normal(y.shape, np.float32) if y.shape else 1.0, cache)
        for what, given in calls.items():
            op = getattr(optim if name.endswith("_step") else ops, what)
            calls_of = [lambda op=op, given=given: op(*given), lambda op=op, given=given: op.plain(*given)]
            ours, plain = least(calls_of, options.seconds)
            print(f"{what:<32}{ours:>9.2f}{plain:>9.2f}{plain / ours:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
