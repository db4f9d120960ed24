"""What star-convex polygons cost on the CPU: their targets and their loss in training, half a million proposals in prediction.

python bench/stars.py [--threads N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

import minunet
from minunet import ops
from minunet.cli import use_threads
from minunet.data import SyntheticCells
from minunet.data.objects import Rays, Separation
from minunet.data.stars import star_targets
from minunet.predict.stars import find_objects

RAYS = Rays(32, 10.0)


def seconds(run: Callable[[], Any], turns: int = 3) -> float:
    """The least time of some turns, after one that compiles."""
    times = []
    for _ in range(turns + 1):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int)
    use_threads(parser.parse_args().threads)
    cells = SyntheticCells(8, size=128)
    target = np.stack([star_targets(sample.instances, RAYS) for sample in cells])
    logits = np.random.default_rng(0).standard_normal(target.shape).astype(np.float32)

    def both() -> None:
        ops.star_loss_backward(1.0, ops.star_loss(logits, target)[1])

    took = seconds(lambda: [star_targets(sample.instances, RAYS) for sample in cells])
    print(f"targets of 8 patches of 128 x 128 pixels    {1e3 * took:8.1f} ms")
    print(f"loss and its gradient for them              {1e3 * seconds(both):8.1f} ms")
    with minunet.use("reference"):
        print(f"the same by the plain op                    {1e3 * seconds(both):8.1f} ms")
    # a field of cells, probable everywhere: 524,288 proposals
    maps = np.tile(target.reshape(2, 512, 128, 33).transpose(1, 0, 2, 3).reshape(512, 256, 33), (1, 4, 1))
    maps[..., 1:] = np.maximum(maps[..., 1:] * RAYS.unit, 2)
    maps[..., 0] = np.random.default_rng(1).uniform(0.5, 1, maps.shape[:2])
    part = [(slice(0, 512), slice(0, 1024), maps)]
    found = find_objects(part, Separation(), 1)
    took = seconds(lambda: find_objects(part, Separation(), 1), 1)
    print(f"{len(found.polygons.scores):,} proposals, {len(found.boxes):,} objects       {1e3 * took:8.1f} ms")


if __name__ == "__main__":
    main()
