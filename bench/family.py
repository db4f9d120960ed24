"""The family of networks beside each other: what each costs, how fast it is beside PyTorch, and what it scores on nuclei.

    python bench/family.py                              parameters and arithmetic, and time and memory at 256 x 256
    python bench/family.py --data DATA/dsb2018          the scores: every network trained on the same images
    python bench/family.py --table                      write the tables of what has been measured so far into docs/family.md

Each measurement that ends is appended to bench/results/family.jsonl, and none that stands there is made again: so a long bench
can be stopped, and goes on. Times and memory are of the networks in their papers' widths, ours and PyTorch's in turns in one
process, and memory in one process each. For the scores a network's width is chosen so that it has 1.9 million parameters,
within a tenth (networks with a classification encoder are as they are); bench/splits/dsb2018_val.txt lists the images that are
scored, bench/splits/dsb2018_family_val.txt those by which the best epoch and the separation of objects are chosen.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from child import take_turns
from memory import MIB, process_peak
from report import RESULTS, ROOT, machine, write_between
from tqdm import tqdm

from minunet.data import open_dataset, read_names
from minunet.models import OPTIONS, build, outline
from minunet.models.command import costs
from minunet.train.config import TrainingConfig
from minunet.train.step import TrainingStep

sys.path.insert(0, str(ROOT / "tests"))  # PyTorch's networks are those that the tests compare with

SIZE, CHANNELS, CLASSES, REPEATS = 256, 3, 2, 7
PARAMETERS, WITHIN = 1.9e6, 0.1
BATCH = {("deeplab_v3plus", "training"): 2}
"""Images of a batch where it is not one: PyTorch refuses the batch norm of a single value, which ASPP's image pooling gives."""
LAYOUTS = ("contiguous_format", "channels_last")
TASKS = ("inference", "training")
MOST_USED = ("unet", "unet_plus_plus", "attention_unet", "nnunet", "deeplab_v3plus")
"""With three seeds each; the others have one."""

HELD, CHOOSE = ROOT / "bench" / "splits" / "dsb2018_val.txt", ROOT / "bench" / "splits" / "dsb2018_family_val.txt"
FLAGS = ["--channels", "3"]
PAGE = "docs/family.md"
OWN = {"nnunet": {"stages": 6}}
"""Further options for the scores: nnU-Net plans its stages by the patch, of 128 pixels here."""

Runner = Callable[[], Any]


# ---- time and memory -------------------------------------------------------------------------------------------------


def images(name: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Random images (N, H, W, C), and their labels (N, H, W)."""
    rng, size = np.random.default_rng(0), (BATCH.get((name, what), 1), SIZE, SIZE)
    return rng.standard_normal((*size, CHANNELS), np.float32), rng.integers(0, CLASSES, size)


def ours(name: str, what: str) -> Runner:
    """One inference, or one training step, of our network."""
    x, labels = images(name, what)
    model = build(name, in_channels=CHANNELS, num_classes=CLASSES)
    if what == "inference":
        return partial(model.forward, x, train=False, keep=False)
    step = TrainingStep(model, TrainingConfig(optimizer="sgd", momentum=0.9, loss="ce", learning_rate=1e-3))
    return partial(step, 0, 1e-3, x, labels)


def pytorch(name: str, what: str, layout: str, threads: int) -> Runner:
    """The same with PyTorch, in a memory layout."""
    import torch
    from helpers.family_twins import build_twin
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    form = getattr(torch, layout)
    x, labels = map(torch.as_tensor, images(name, what))
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=form)
    net = build_twin(OPTIONS[name](in_channels=CHANNELS, num_classes=CLASSES))
    net = net.to(memory_format=form).train(what == "training")

    def infer() -> None:
        with torch.inference_mode():
            net(x)

    if what == "inference":
        return infer
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9)
    made = outline(name)
    shares = (
        (1.0,) * 5 if made.finds_objects else made.head_weights
    )  # a detector's loss is a simpler one here than ours

    def step() -> None:
        optimizer.zero_grad()
        y = net(x)
        loss: Any = 0.0
        for share, head in zip(shares, y if isinstance(y, list) else [y], strict=True):
            if share:
                own = F.interpolate(labels[:, None].float(), head.shape[2:], mode="nearest-exact")[:, 0].long()
                loss = loss + share * F.cross_entropy(head, own)
        loss.backward()
        optimizer.step()

    return step


def contestant(who: str, name: str, what: str, threads: int) -> Runner:
    """Who: "minunet", or a layout of PyTorch's."""
    return ours(name, what) if who == "minunet" else pytorch(name, what, who, threads)


def measure(name: str, threads: int) -> dict[str, Any]:
    """A network's costs, the medians of its times and PyTorch's, in seconds, and the peaks of memory, in MiB."""
    row: dict[str, Any] = {"kind": "costs", "name": name, "threads": threads}
    row |= {
        key: value
        for key, value in costs(name, SIZE, in_channels=CHANNELS, num_classes=CLASSES).items()
        if key != "what"
    }
    for what in TASKS:
        row[what] = in_a_process("time", name, what, threads)
        row[f"{what}_mib"] = {
            who: in_a_process("memory", name, what, threads, who) for who in ("minunet", "channels_last")
        }
    return row


def in_a_process(task: str, *given: Any) -> Any:
    """What `child` finds, in a process of its own, so that nothing else lies in memory."""
    environment = os.environ | {
        f"{library}_NUM_THREADS": str(given[2]) for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")
    }
    command = [sys.executable, __file__, "--child", json.dumps([task, *given])]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(task: str, name: str, what: str, threads: int, who: str = "") -> Any:
    """Medians of everybody's seconds, or the MiB that one of them takes beyond what its libraries take."""
    if task == "memory":
        warm_up(who, name)
        before = process_peak()
        run = contestant(who, name, what, threads)
        for _ in range(3):
            run()
        return (process_peak() - before) / MIB
    seconds: dict[str, list[float]] = {}

    def hear(**said: Any) -> None:
        if said.get("counts"):
            seconds.setdefault(said["who"], []).append(said["seconds"])

    runners = {who: contestant(who, name, what, threads) for who in ("minunet", *LAYOUTS)}
    take_turns(runners, REPEATS, 60.0, hear)
    return {who: statistics.median(taken) for who, taken in seconds.items()}


def warm_up(who: str, name: str) -> None:
    """Load a contestant's kernels, by the network in small: PyTorch's are there at import, ours once they are called."""
    from helpers.family import make

    model, x = make(name), np.zeros((2, 64, 64, 2), np.float32)
    if who == "minunet":
        importlib.import_module("minunet.kernels.cpu.warm_up").warm_up()
        with mock.patch("minunet.kernels.cpu.rules.SMALLEST", 0):  # these maps are so small that plain ops would do
            run(model, x)
    else:
        import torch
        from helpers.family_twins import build_twin

        y = build_twin(model.architecture)(torch.as_tensor(x).permute(0, 3, 1, 2))
        sum(head.sum() for head in (y if isinstance(y, list) else [y])).backward()


def run(model: Any, x: np.ndarray) -> None:
    """Predict, and a training's forward and backward."""
    model.forward(x, train=False, keep=False)
    y, cache = model.forward(x)
    model.backward(y, cache)


# ---- scores ----------------------------------------------------------------------------------------------------------


def width_for(name: str, parameters: float = PARAMETERS) -> dict[str, int]:
    """The options with which a network has about so many parameters; none if it has no width to choose."""
    if "base_width" not in OPTIONS[name].own():
        return {}
    own = OWN.get(name, {})
    kept = {"in_channels": CHANNELS, "num_classes": 3, **own}
    widths = range(4, 65)
    counts = {width: outline(name, base_width=width, **kept).num_params() for width in widths}
    best = min(widths, key=lambda width: abs(counts[width] - parameters))
    if abs(counts[best] / parameters - 1) > WITHIN:
        raise SystemExit(f"{name} has {counts[best]:,} parameters at its nearest width {best}")
    return {"base_width": best, **own}


def training_set(data: Path, out: Path) -> Path:
    """A folder of links to all images but those that are scored."""
    folder, held = out / "images" / "stage1_train", set(read_names(HELD))
    folder.mkdir(parents=True, exist_ok=True)
    for image in sorted((data / "stage1_train").iterdir()):
        if image.is_dir() and image.name not in held and not (folder / image.name).exists():
            (folder / image.name).symlink_to(image.resolve(), target_is_directory=True)
    return folder.parent


def score(name: str, seed: int, data: Path, out: Path, epochs: int, threads: int) -> dict[str, Any]:
    """Train a network, or go on with it, segment the images that are held out, and score them once."""
    options, run = width_for(name), out / f"{name}-{seed}"
    flags = ["--data", str(training_set(data, out)), "--arch", name, "-e", str(epochs), "--seed", str(seed), *FLAGS]
    flags += ["--target", "instances" if outline(name).finds_objects else "border"]
    flags += ["--arch-options", *(f"{key}={value}" for key, value in options.items())] if options else []
    flags += ["--val-files", str(CHOOSE), "--threads", str(threads), "--out", str(run), "--resume", "auto"]
    minutes = spent(lambda: python("train", *flags), run)
    parameters = outline(name, in_channels=CHANNELS, num_classes=3, **options).num_params()
    return {
        "kind": "scores", "name": name, "seed": seed, "epochs": epochs, **options, "parameters": parameters,
        **held_out(run, data), "cpu_minutes": minutes, "threads": threads,
    }  # fmt: skip


def held_out(run: Path, data: Path) -> dict[str, Any]:
    """Segment the images that are held out with a run's best network, and score them: means, and sums of objects."""
    held = set(read_names(HELD))
    entries = [entry for entry in open_dataset(data).entries if Path(entry.name).name in held]
    best = str(run / "best.safetensors")
    python("predict", "-m", best, "-i", *(str(e.image) for e in entries), "-o", str(run / "predicted"), "--instances")
    truth = ["--truth", str(data), "--val-files", str(HELD), "--csv", str(run / "scores.csv")]
    python("evaluate", "--pred", str(run / "predicted"), *truth)
    rows = rows_of(run / "scores.csv")
    means = {m: statistics.fmean(float(r[m]) for r in rows if r[m]) for m in ("dice", "mean_precision", "precision_50")}
    sums = {"merged": sum(int(r["merged"]) for r in rows), "objects": sum(int(r["true_objects"]) for r in rows)}
    return {**means, **sums, "images": len(rows)}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(path) as file:
        return list(csv.DictReader(file))


def spent(train: Callable[[], None], run: Path) -> float:
    """Minutes of the CPU that a training took, which others on the machine hardly change; those of its earlier parts, too."""
    before = os.times()
    try:
        train()
    finally:
        after = os.times()
        seconds = after.children_user + after.children_system - before.children_user - before.children_system
        parts = run.with_name(f"{run.name}-seconds.txt")
        with open(parts, "a") as file:
            file.write(f"{seconds}\n")
    return sum(map(float, parts.read_text().split())) / 60


def python(command: str, *flags: str) -> None:
    subprocess.run([sys.executable, "-m", f"minunet.{command}", *flags], cwd=ROOT, check=True)


# ---- what is kept ----------------------------------------------------------------------------------------------------


def kept(path: Path) -> list[dict[str, Any]]:
    """The measurements so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(path: Path, row: dict[str, Any]) -> None:
    """Append a measurement that has ended."""
    with open(path, "a") as file:
        file.write(json.dumps({**row, "machine": machine()}) + "\n")


def costs_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: what a network costs, a row each; of several measurements of a network the last."""
    lines = [
        "| network | parameters | GFLOP | inference | PyTorch's / ours | training | PyTorch's / ours | memory | in training |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = {row["name"]: row for row in rows if row["kind"] == "costs"}
    for name in (n for n in OPTIONS if n in found):
        row = found[name]
        cells = [f"{row['parameters'] / 1e6:.2f} M", f"{row['gflop']:.0f}"]
        for what in TASKS:
            mine, best = row[what]["minunet"], min(row[what][layout] for layout in LAYOUTS if layout in row[what])
            cells += [f"{mine:.2f} s", f"{best / mine:.2f}"]
        cells += [f"{row[f'{what}_mib']['minunet'] / row[f'{what}_mib']['channels_last']:.2f}" for what in TASKS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"({machines(found.values())})"])


def scores_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: how well trained networks segment the images that are held out."""
    scored: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "scores":
            scored.setdefault(row["name"], []).append(row)
    lines = ["| network | parameters | Dice | mean precision | at IoU 0.5 | merged pairs | CPU minutes | seeds |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name in (n for n in OPTIONS if n in scored):
        runs = scored[name]
        cells = [f"{runs[0]['parameters'] / 1e6:.2f} M"]
        cells += [spread([r[m] for r in runs], ".3f") for m in ("dice", "mean_precision", "precision_50")]
        cells += [spread([r["merged"] for r in runs], ".0f"), f"{statistics.fmean(r['cpu_minutes'] for r in runs):.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join([*lines, "", f"({machines(run for runs in scored.values() for run in runs)})"])


def machines(rows: Iterable[dict[str, Any]]) -> str:
    """On which machines, and on how many of their cores, these were measured."""
    return "; ".join(
        dict.fromkeys(f"{row['machine']}, {row['threads']} thread{'s' * (row['threads'] > 1)}" for row in rows)
    )


def spread(values: list[float], form: str) -> str:
    """The mean, and how far the seeds lie apart."""
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} to {max(values):{form}})"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(OPTIONS), default=list(OPTIONS), help="which networks")
    parser.add_argument(
        "--data", type=Path, help="the data set of nuclei, a folder with stage1_train: measure the scores"
    )
    parser.add_argument(
        "--seeds", type=int, help="how many seeds each network has (default: 3 for the most used, else 1)"
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "family", help="where trainings are kept")
    parser.add_argument("--results", type=Path, default=RESULTS / "family.jsonl", help="the file of measurements")
    parser.add_argument("--table", action="store_true", help=f"write the tables of what has been measured into {PAGE}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(child(*json.loads(args.child))))
        return 0
    rows = kept(args.results)
    if args.table:
        for kind, table in (("costs", costs_table), ("scores", scores_table)):
            if any(row["kind"] == kind for row in rows):
                write_between(kind, table(rows), PAGE)
        return 0
    if args.data:
        done = {(r["name"], r["seed"], r["epochs"]) for r in rows if r["kind"] == "scores"}
        seeds = {name: args.seeds or (3 if name in MOST_USED else 1) for name in args.only}
        runs = [(name, seed) for seed in range(max(seeds.values())) for name in args.only if seed < seeds[name]]
        for name, seed in tqdm([r for r in runs if (*r, args.epochs) not in done], unit="run", disable=None):
            add(args.results, score(name, seed, args.data.resolve(), args.out.resolve(), args.epochs, args.threads))
        return 0
    done_costs = {(r["name"], r["machine"]) for r in rows if r["kind"] == "costs"}
    for name in tqdm([n for n in args.only if (n, machine()) not in done_costs], unit="network", disable=None):
        add(args.results, measure(name, args.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
