"""What a call pays before its kernel starts: the check that all sizes agree (kernels/shapes.py), and all of the choice.

    python bench/dispatch.py

In microseconds, the least of 25 turns of 1000 calls, since other programs disturb; the arrays' sizes do not matter.
"""

from __future__ import annotations

import argparse
import sys
import timeit
from collections.abc import Callable

import numpy as np
from report import machine

from minunet import ops
from minunet.kernels.shapes import SHAPES
from minunet.ops import dispatch

LIMIT = 3  # microseconds, for the check


def cases(rng: np.random.Generator) -> dict[str, tuple]:
    """Arguments of every op that has a kernel for NumPy arrays."""
    x, w, up = (rng.standard_normal(s, np.float32) for s in ((2, 64, 64, 20), (3, 3, 20, 16), (2, 2, 20, 8)))
    c, labels, (p, g, m, s) = x[0, 0, 0].copy(), rng.integers(0, 20, x.shape[:3]), rng.random((4, 1 << 16), np.float32)
    forward = {"conv2d": (x, w, c[:16]), "conv_transpose2d": (x, up, c[:8]), "batch_norm": (x, c, c)}
    forward |= {"group_norm": (x, c, c, 4), "softmax_cross_entropy": (x, labels), "soft_dice": (x, labels)}
    forward |= dict.fromkeys(("max_pool2d", "avg_pool2d", "upsample_nearest", "upsample_bilinear"), (x,))
    forward |= dict.fromkeys(("relu", "leaky_relu", "softmax"), (x,))
    found = {"sgd_step": (p, g, m, 0.1), "adam_step": (p, g, m, s, 3, 0.1), "rmsprop_step": (p, g, m, s, 0.1)}
    for name, args in forward.items():
        y, cache, *_ = getattr(ops, name).plain(*args)
        found |= {name: args, f"{name}_backward": (np.ones_like(y) if np.ndim(y) else 1.0, cache)}
    return found


def microseconds(call: Callable) -> float:
    return min(timeit.repeat(call, number=1000, repeat=25)) * 1e3


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print(f"{machine()}\n{'microseconds':<32}{'sizes':>8}{'choice':>8}")
    checks = []
    for name, args in cases(np.random.default_rng(0)).items():
        assert dispatch.find_kernel(name, *args) is not None, name
        checks.append(microseconds(lambda name=name, args=args: SHAPES[name](*args)))
        choice = microseconds(lambda name=name, args=args: dispatch.find_kernel(name, *args))
        print(f"{name:<32}{checks[-1]:>8.2f}{choice:>8.2f}", flush=True)
    print(f"{'most':<32}{max(checks):>8.2f}  (limit {LIMIT})")
    return int(max(checks) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
