"""How much faster two ranks train than one: seconds a step, and where they go.

    python bench/scale.py                 measure: one rank with one core, and two with one core each, in turns
    python bench/scale.py --table         write the table and the model of many ranks into docs/scale.md

Two processes of MPI, each bound to a core, take turns: rank 0 trains a step by itself, on its own patches, while rank 1 sleeps;
then both train a step on as many patches each. So whatever else the machine does meets both alike. Each turn is a row in
bench/results/scale.jsonl, and a run that was stopped is gone on with. Medians count.

The parts of a step of two: `norms` is what the batch norms' sums took (there the slower rank is waited for, too), `losses`
those of the losses, `waited` the wait for gradients after the backward, and `behind` what their sums took beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from report import machine, write_between

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "bench" / "results" / "scale.jsonl"
PARTS = ("norms", "losses", "waited", "behind")
NETWORK_BYTES, MESSAGE, HIDDEN = 25e9 / 8, 30e-6, 2 / 3
"""The model's assumptions: bytes a second, seconds of a small message, and the share of a step that a backward takes."""


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--width", type=int, default=64)
    p.add_argument("--size", type=int, default=256)
    p.add_argument("--images", type=int, default=4, help="patches of a rank")
    p.add_argument("--turns", type=int, default=5)
    p.add_argument("--minutes", type=float, default=6.0, help="begin no turn that would end later")
    p.add_argument("--rows", type=Path, default=ROWS)
    p.add_argument("--table", action="store_true")
    p.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.table:
        write_between("scale", table(newest(read(args.rows))), "docs/scale.md")
    elif args.rank:
        measure(args)
    else:
        launcher = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if not launcher:
            sys.exit("there is no mpiexec: pip install '.[mpi]'")
        again = [f"--{name}={getattr(args, name)}" for name in ("width", "size", "images", "turns", "minutes", "rows")]
        environment = os.environ | {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [launcher, "-n", "2", sys.executable, "-u", "-m", "mpi4py", __file__, "--rank", *again]
        sys.exit(subprocess.call(command, env=environment))


# ---- a rank ----------------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> None:
    """One of the two processes."""
    from minunet.train.distributed import launched
    from minunet.train.distributed.world import ALONE

    began, spent = time.perf_counter(), dict.fromkeys(PARTS, 0.0)
    world: Any = launched()
    if world.size != 2:
        sys.exit(f"{world.size} ranks were started, not 2: launcher and library are of different MPIs")
    setting = {"width": args.width, "size": args.size, "images": args.images, "machine": machine()}
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[world.rank % len(cores)]})
    done = sum({name: row[name] for name in setting} == setting for row in read(args.rows)) if world.rank == 0 else 0
    watch(world, "totals", spent, lambda parts: "norms" if len(parts) == 3 else "losses")
    watch(world, "add_gradients", spent, lambda parts: "behind")
    alone, together = trained(args, ALONE) if world.rank == 0 else None, trained(args, world)
    watch(together.joined, "finish_gradients", spent, lambda parts: "waited")
    with together.joined():
        for turn in range(world.gather(done)[0] - 1, args.turns):  # the first turn compiles, and takes memory
            start = time.perf_counter()
            seconds = step(alone, args, turn) if alone else 0.0
            world.wait()
            spent.update(dict.fromkeys(PARTS, 0.0))
            both = max(world.gather(step(together, args, turn)))
            of_ranks = world.gather(dict(spent))
            if world.rank == 0 and turn >= 0 and turn >= done:
                row = {"date": str(date.today()), **setting, "parameters": together.model.num_params(), "one": seconds,
                       "two": both, **{name: statistics.mean(s[name] for s in of_ranks) for name in PARTS}}  # fmt: skip
                with open(args.rows, "a") as f:
                    f.write(json.dumps(row) + "\n")
                print(
                    f"turn {turn + 1}: one {seconds:.2f} s, two {both:.2f} s, {2 * seconds / both:.2f} times",
                    flush=True,
                )
            took = time.perf_counter() - start
            if world.any(time.perf_counter() - began + took > 60 * args.minutes):
                break
    world.leave()


def watch(of: Any, name: str, spent: dict[str, float], part: Any) -> None:
    """Count the seconds in a method."""
    plain = getattr(of, name)

    def run(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return plain(*args)
        finally:
            spent[part(args)] += time.perf_counter() - start

    setattr(of, name, run)


def trained(args: argparse.Namespace, world: Any) -> Any:
    """A training step of the default training's settings."""
    from minunet.models import UNetOptions, build
    from minunet.train.config import TrainingConfig
    from minunet.train.step import TrainingStep

    model = build(UNetOptions(in_channels=3, num_classes=2, base_width=args.width))
    return TrainingStep(model, TrainingConfig(crop=args.size), world=world)


def step(training: Any, args: argparse.Namespace, number: int) -> float:
    """The seconds of a step on random images."""
    import numpy as np

    rng = np.random.default_rng([abs(number), training.world.rank])
    images = rng.random((args.images, args.size, args.size, 3), np.float32)
    labels = (images[..., 0] > 0.8).astype(np.int64)
    training.world.wait()
    start = time.perf_counter()
    training(max(number, 0), 1e-3, images, labels)
    return time.perf_counter() - start


# ---- the table -------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, Any]]:
    """The rows so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def newest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the last one's setting."""
    if not rows:
        sys.exit("there are no rows: python bench/scale.py")
    names = [name for name in rows[-1] if name not in ("date", "one", "two", *PARTS)]
    return [row for row in rows if all(row.get(name) == rows[-1][name] for name in names)]


def modelled(ranks: int, seconds: float, parameters: int, norms: int) -> float:
    """Seconds a step of so many ranks, if one takes `seconds` on its patches."""
    if ranks == 1:
        return seconds
    sending = 2 * (ranks - 1) / ranks * 4 * parameters / NETWORK_BYTES
    messages = 2 * norms * 2 * math.log2(ranks) * MESSAGE
    return seconds + max(0.0, sending - HIDDEN * seconds) + messages


def table(rows: list[dict[str, Any]]) -> str:
    """The section of docs/scale.md."""
    last, half = rows[-1], {name: statistics.median(row[name] for row in rows) for name in ("one", "two", *PARTS)}
    gain = statistics.median(2 * row["one"] / row["two"] for row in rows)
    compute = half["two"] - half["norms"] - half["losses"] - half["waited"]
    lines = [
        f"A U-Net of width {last['width']}, {last['images']} patches of {last['size']} x {last['size']} a rank, one core a "
        f"rank, {len(rows)} turns, {last['date']}, {last['machine']}:",
        "",
        "| ranks | seconds a step | computing | norms' sums | losses' sums | gradients waited for | gradients sent behind |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| 1 | {half['one']:.2f} | {half['one']:.2f} | | | | |",
        f"| 2 | {half['two']:.2f} | {compute:.2f} | {half['norms']:.3f} | {half['losses']:.3f} | {half['waited']:.3f} | "
        f"{half['behind']:.3f} |",
        "",
        f"Two ranks train {gain:.2f} times as many patches a second as one. What the sums of norms took is for the most part "
        "the wait for the slower rank.",
        "",
        "Modelled for machines of one rank, 25 Gbit/s between them, and the step of one rank above; measured on one machine:",
        "",
        "| ranks | seconds a step | times one rank | measured |",
        "| --- | --- | --- | --- |",
    ]  # fmt: skip
    for n in (1, 2, 4, 8, 16, 32, 64):
        seconds = modelled(n, half["one"], last["parameters"], 18)
        measured = {1: "1.00", 2: f"{gain:.2f}"}.get(n, "")
        lines.append(f"| {n} | {seconds:.2f} | {n * half['one'] / seconds:.2f} | {measured} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
