"""What people run: seconds an epoch of ``minunet train``, beside the same loop in PyTorch, and how long steps wait for data.

    python bench/default_job.py [--jobs default nuclei tiffs zarr] [--data DATA] [--turns 3] [--batches 25]
    python bench/default_job.py --table                 write the table of what has been measured into docs/speed.md

    default     the command without arguments: generated cells, 128x128
    nuclei      --data DATA/dsb2018/stage1_train --target border, docs/accuracy.md's first
    tiffs       20 generated TIFFs of 2048x2048 pixels in 16 bit
    zarr        100 images of 512x512 out of one generated zarr

A turn is an epoch, or its first `--batches`. Contestants take turns; both take their batches from minunet's loader, with its
augmentation, in the background. PyTorch has the same network, loss and optimiser, in the faster of its two memory layouts. A
step waits where it asks for a batch that is not ready; the loader's share is its thread's CPU time by the turn's wall time.
A turn that ends is a line in bench/results/default_job.jsonl; what stands there from this machine is not measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from peers import LAYOUTS, Setting, torch_unet
from report import RESULTS, ROOT, machine, write_between
from tables import in_seconds, table

from minunet.data import Batches, ImageSet
from minunet.data.arrays import ArraySet
from minunet.train.arguments import Arguments
from minunet.train.config import TrainingConfig, training_config
from minunet.train.session import make_model, open_data, with_target
from minunet.train.step import TrainingStep

JOBS = ("default", "nuclei", "tiffs", "zarr")
BESIDE = ("default", "nuclei")  # those that PyTorch does, too
SPLIT = ROOT / "bench" / "splits" / "dsb2018_val.txt"
Step = Callable[..., Any]

# ---- the jobs --------------------------------------------------------------------------------------------------------


def generated(count: int, size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images (size, size) uint16 of bright blobs, and their masks of 0 and 255."""
    images, masks = [], []
    for number in range(count):
        rng = np.random.default_rng(number)
        coarse = rng.random((size // 16, size // 16)) < 0.2
        mask = np.kron(coarse, np.ones((16, 16), bool))
        images.append((800 + 2000 * mask + rng.normal(0, 200, mask.shape)).astype(np.uint16))
        masks.append(np.where(mask, 255, 0).astype(np.uint8))
    return images, masks


def write_tiffs(folder: Path, count: int, size: int) -> None:
    """A data set of TIFFs in 16 bit."""
    import tifffile

    for kind, arrays in zip(("imgs", "masks"), generated(count, size)):
        (folder / kind).mkdir(parents=True)
        for number, a in enumerate(arrays):
            tifffile.imwrite(folder / kind / f"{number:03d}.tif", a)


def out_of_zarr(folder: Path, count: int, size: int) -> ArraySet:
    """The images of a zarr (count, size, size), as `minunet.fit` takes them."""
    import zarr

    images, masks = (np.stack(arrays) for arrays in generated(count, size))
    zarr.save(folder / "images.zarr", images)
    return ArraySet(zarr.open(folder / "images.zarr", mode="r"), masks)


def opened(job: str, data: Path | None, folder: Path) -> tuple[Arguments, ImageSet, list[int]]:
    """A job's arguments, its images, and which of them train."""
    if job == "zarr":
        images = out_of_zarr(folder, 100, 512)
        return Arguments(), images, images.split(10.0)[0]
    values: dict[str, Any] = {}
    if job == "nuclei":
        if data is None:
            raise SystemExit("the nuclei need --data DIR, the folder that holds dsb2018/stage1_train")
        values = {"data": str(data / "dsb2018" / "stage1_train"), "target": "border", "val_files": str(SPLIT)}
    if job == "tiffs":
        write_tiffs(folder, 20, 2048)
        values = {"data": str(folder)}
    args, given = Arguments(**values, quiet=True), set(values)
    dataset, (train, _) = open_data(args, None)
    return *with_target(args, given, dataset, train, lambda *_: None), train


# ---- the contestants -------------------------------------------------------------------------------------------------


def ours(args: Arguments, dataset: ImageSet, config: TrainingConfig) -> Step:
    """A training step of minunet's, of a batch."""
    step, count = TrainingStep(make_model(args, set(), dataset), config), iter(range(sys.maxsize))
    return lambda *batch: step(next(count), config.learning_rate, *batch)


def theirs(layout: str, base_width: int, dataset: ImageSet, config: TrainingConfig) -> Step:
    """PyTorch's, in a memory layout."""
    import torch
    from numba import get_num_threads

    torch.set_num_threads(get_num_threads())
    form = {"PyTorch NCHW": torch.contiguous_format, "PyTorch channels_last": torch.channels_last}[layout]
    net = torch_unet(Setting(base_width=base_width), dataset.channels, dataset.preprocessing.outputs()[-1])
    net = net.to(memory_format=form).train()
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate)

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=form)
        optimizer.zero_grad()
        loss = torch_loss(net(x), torch.from_numpy(labels))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def torch_loss(logits: Any, labels: Any) -> Any:
    """ "ce+dice" of minunet/ops/loss.py in PyTorch: logits (N, K, H, W), labels (N, H, W), -1 where they do not count."""
    from torch.nn import functional

    seen = (labels >= 0).unsqueeze(1)
    p = logits.softmax(1) * seen
    true = functional.one_hot(labels.clamp(min=0), logits.shape[1]).permute(0, 3, 1, 2) * seen
    both, either = (p * true).sum((0, 2, 3)), (p + true).sum((0, 2, 3))
    return functional.cross_entropy(logits, labels, ignore_index=-1) + 1 - ((2 * both + 1) / (either + 1)).mean()


# ---- the measurement -------------------------------------------------------------------------------------------------


class Watched(Batches):
    """Batches whose loader notes the CPU time that it takes."""

    cpu = 0.0

    def _make(self, epoch: int, patches: list[tuple[int, int]]) -> tuple[np.ndarray, ...]:
        began = time.thread_time()
        batch = super()._make(epoch, patches)
        self.cpu += time.thread_time() - began
        return batch


def turn(step: Step, batches: Watched, epoch: int, most: int) -> dict[str, float]:
    """An epoch's first batches: how many, seconds of each, and the shares of waiting and of the loader's CPU time."""
    batches.cpu, waited, count = 0.0, 0.0, 0
    began = asked = time.perf_counter()
    for batch in islice(batches.epoch(epoch), most):
        waited += time.perf_counter() - asked
        step(*batch)
        count, asked = count + 1, time.perf_counter()
    seconds = asked - began
    return {"batches": count, "seconds": seconds / count, "waits": waited / seconds, "loader": batches.cpu / seconds}


def measure(
    job: str, data: Path | None, turns: int, most: int, put: Callable[..., None], done: Callable[..., int]
) -> None:
    """All turns of a job that are not there yet."""
    with tempfile.TemporaryDirectory() as folder:
        args, dataset, train = opened(job, data, Path(folder))
        config = training_config(args)
        batches = Watched(dataset, train, **config.of_patches())
        steps = {"minunet": ours(args, dataset, config)}
        if job in BESIDE:
            steps |= {name: theirs(name, args.base_width, dataset, config) for name in LAYOUTS}
        tried = {}
        for who, step in steps.items():
            turn(step, batches, 0, 1)
            tried[who] = turn(step, batches, 0, 3)["seconds"]  # the kernels are compiled, the images read
        if job in BESIDE:
            del steps[max(LAYOUTS, key=tried.__getitem__)]
        for number in range(turns):
            for who, step in steps.items():
                if done(job, who) <= number:
                    found = turn(step, batches, number, most)
                    put(job=job, who=who, epoch=len(batches), **found)


def summed(rows: list[dict[str, Any]]) -> str:
    """The table: medians of the turns."""
    body = []
    for job in dict.fromkeys(row["job"] for row in rows):
        own = [row for row in rows if row["job"] == job]
        of = {who: [row for row in own if row["who"].startswith(who)] for who in ("minunet", "PyTorch")}
        seconds = {who: statistics.median(r["seconds"] for r in its) for who, its in of.items() if its}
        if "minunet" not in seconds:
            continue
        number, ours = own[0]["epoch"], seconds["minunet"]
        other = seconds.get("PyTorch")
        waits, loader = (100 * statistics.median(r[key] for r in of["minunet"]) for key in ("waits", "loader"))
        theirs = f"{in_seconds(other * number)} ({other / ours:.2f})" if other else ""
        body.append([job, f"{number}", in_seconds(ours * number), theirs, f"{waits:.1f} %", f"{loader:.0f} %"])
    return table(["job", "batches", "minunet, an epoch", "PyTorch", "waits for data", "loader, of a core"], body)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--jobs", nargs="*", choices=JOBS, default=JOBS)
    p.add_argument("--data", type=Path, help="the folder that holds dsb2018/stage1_train")
    p.add_argument("--turns", type=int, default=3)
    p.add_argument("--batches", type=int, default=25, help="of a turn, at most")
    p.add_argument("--out", type=Path, default=RESULTS / "default_job.jsonl")
    p.add_argument("--table", action="store_true", help="write the table into docs/speed.md, and measure nothing")
    args, here = p.parse_args(), machine()
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    rows = [row for row in rows if args.table or row["machine"] == here]

    def put(**row: Any) -> None:
        rows.append({**row, "machine": here, "date": date.today().isoformat()})
        with args.out.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(" ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)

    for job in [] if args.table else args.jobs:
        measure(job, args.data, args.turns, args.batches, put, lambda *k: sum((r["job"], r["who"]) == k for r in rows))
    if args.table:
        about = f"{max(1, len(rows))} turns, medians; in brackets how many times minunet's time; {rows[-1]['machine']}."
        write_between("default-job", f"{summed(rows)}\n\n{about}", "docs/speed.md")
    print(summed(rows))


if __name__ == "__main__":
    main()
