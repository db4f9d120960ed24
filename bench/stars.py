"""What star-convex polygons cost on the CPU, and what they score beside the border class after the same minutes of training.

    python bench/stars.py                                   their targets, their loss, half a million proposals
    python bench/stars.py DATA [--minutes M] [--seeds N]    both targets on nuclei; DATA is dsb2018, with stage1_train
    python bench/stars.py --table                           what has been measured so far

Both targets are trained for as many epochs as fit into the minutes, measured by two epochs that are thrown away, by the command
that a user would type. bench/splits/dsb2018_val.txt lists the images that are scored, dsb2018_family_val.txt those by which
thresholds are chosen. Each run that ends is appended to bench/results/stars.jsonl, and none that stands there is made again.
bench/results/stars_tried.jsonl holds what was tried to let polygons learn faster, each once, for four minutes of one core and
by the images that choose. What helped was a network with many features before its head, half as large a map, and more, smaller
steps; other losses changed nothing. Outlines that ask the pixels on a ray's way fit better (mean precision), but find
no more nuclei at IoU 0.5 and merge more of them, even if they are only drawn so: predictions do without.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from family import CHOOSE, HELD, add, kept, python, training_set
from report import RESULTS, ROOT

import minunet
from minunet import ops
from minunet.cli import use_threads
from minunet.data import SyntheticCells, open_dataset, read_names
from minunet.data.objects import Rays, Separation
from minunet.data.stars import star_targets
from minunet.predict.stars import find_objects

RAYS = Rays(32, 10.0)
TARGETS = {"border": ["--target", "border"], "stardist": ["--target", "stardist"]}
FIGURES = ("mean_precision", "precision_50", "merged", "split", "minutes")


# ---- costs -----------------------------------------------------------------------------------------------------------


def seconds(run: Callable[[], Any], turns: int = 3) -> float:
    """The least time of some turns, after one that compiles."""
    times = []
    for _ in range(turns + 1):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times[1:])


def costs() -> None:
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


# ---- scores ----------------------------------------------------------------------------------------------------------


def epoch_seconds(run: Path) -> list[float]:
    """What every epoch of a run took, with its validation."""
    with open(run / "history.csv") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


def compare(target: str, seed: int, minutes: float, data: Path, out: Path, threads: int | None) -> dict[str, Any]:
    """Train a target for so many minutes, segment the images that are held out, and score them once."""
    flags = ["--data", str(training_set(data, out)), "--val-files", str(CHOOSE), "--channels", "3", "--seed", str(seed)]
    flags += [*TARGETS[target], *(["--threads", str(threads)] if threads else [])]
    trial = out / f"trial-{target}"
    python("train", *flags, "-e", "2", "--out", str(trial), "--resume", "auto")
    epochs = max(1, round(60 * minutes / epoch_seconds(trial)[1]))
    run = out / f"{target}-{minutes:g}-{seed}"
    python("train", *flags, "-e", str(epochs), "--out", str(run), "--resume", "auto")
    held = set(read_names(HELD))
    images = [str(entry.image) for entry in open_dataset(data).entries if Path(entry.name).name in held]
    python("predict", "-m", str(run / "best.safetensors"), "-i", *images, "-o", str(run / "predicted"), "--instances")
    truth = ["--truth", str(data), "--val-files", str(HELD), "--csv", str(run / "scores.csv")]
    python("evaluate", "--pred", str(run / "predicted"), *truth)
    with open(run / "scores.csv") as file:
        rows = list(csv.DictReader(file))
    means = {m: statistics.fmean(float(r[m]) for r in rows if r[m]) for m in ("mean_precision", "precision_50")}
    sums = {name: sum(int(r[name]) for r in rows) for name in ("merged", "split", "true_objects")}
    took = sum(epoch_seconds(run)) / 60
    return (
        {"target": target, "asked": minutes, "seed": seed, "epochs": epochs, "minutes": took, "threads": threads}
        | means
        | sums
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a row for each target and time, means over the seeds."""
    lines = ["| target | precision, mean of IoU 0.5 to 0.95 | at IoU 0.5 | merged pairs | split | minutes | seeds |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for asked, target in sorted({(r["asked"], r["target"]) for r in rows}):
        runs = [r for r in rows if (r["asked"], r["target"]) == (asked, target)]
        m = {name: statistics.fmean(r[name] for r in runs) for name in FIGURES}
        cells = f"{m['mean_precision']:.3f} | {m['precision_50']:.3f} | {m['merged']:.0f} | {m['split']:.0f}"
        lines.append(f"| {target} | {cells} | {m['minutes']:.1f} | {len(runs)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="the nuclei, a folder with stage1_train")
    parser.add_argument("--minutes", type=float, default=10, help="of every training (default: 10)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS), help="which targets")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "stars", help="where trainings are kept")
    parser.add_argument("--results", type=Path, default=RESULTS / "stars.jsonl", help="the file of measurements")
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    args = parser.parse_args(argv)
    if args.data is None and not args.table:
        use_threads(args.threads)
        costs()
        return 0
    done = {(r["target"], r["seed"], r["asked"]) for r in kept(args.results)}
    for seed, target in [] if args.table else [(s, t) for s in range(args.seeds) for t in args.only]:
        if (target, seed, args.minutes) not in done:
            found = compare(target, seed, args.minutes, args.data.resolve(), args.out.resolve(), args.threads)
            add(args.results, found)
    print(table(kept(args.results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
