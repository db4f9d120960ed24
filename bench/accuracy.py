"""How well it segments real images in a stated time: the README's figures, by the README's commands.

    python bench/accuracy.py DATA [--only dsb2018] [--seeds 0 1 2] [--readme]

DATA holds dsb2018/stage1_train (Data Science Bowl 2018, BBBC038) and isbi2012 (membranes). Every run is the command that a
user would type; the images held out are listed in bench/splits/. Needs about half an hour for all on two cores.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import ROOT, machine, save, write_into_readme

RUNS: dict[str, dict[str, Any]] = {
    "dsb2018": {
        "title": "nuclei (DSB 2018)",
        "path": "dsb2018/stage1_train",
        "flags": ["-e", "8"],
        "columns": ["dice_nucleus"],
    },
    "isbi2012": {
        "title": "membranes (ISBI 2012)",
        "path": "isbi2012",
        "flags": ["-e", "40"],
        "columns": ["dice_membrane", "dice_cell"],
    },
}


def command(name: str, data: str, seed: int, out: str) -> list[str]:
    """The training command of a run."""
    run = RUNS[name]
    flags = [*run["flags"], "--val-files", f"bench/splits/{name}_val.txt", "--seed", str(seed), "--out", out]
    return ["-m", "minunet.train", "--data", f"{data}/{run['path']}", *flags]


def train(name: str, data: str, seed: int) -> dict[str, float]:
    """Train once; the last epoch's scores (no choosing among epochs) and the seconds of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        out, began = f"{folder}/run", time.perf_counter()
        subprocess.run([sys.executable, *command(name, data, seed, out)], cwd=ROOT, check=True)
        seconds = time.perf_counter() - began
        with open(f"{out}/history.csv") as f:
            last = list(csv.DictReader(f))[-1]
    return {"seed": seed, "seconds": seconds, **{c: float(last[c]) for c in RUNS[name]["columns"]}}


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: medians over the seeds, and the commands."""
    lines = ["| data | held out | Dice | minutes | seeds |", "| --- | --- | --- | --- | --- |"]
    for name, runs in results.items():
        held = len(
            [x for x in (ROOT / f"bench/splits/{name}_val.txt").read_text().splitlines() if not x.startswith("#")]
        )
        scores = [
            f"{c.removeprefix('dice_')} {statistics.median(r[c] for r in runs):.3f}" for c in RUNS[name]["columns"]
        ]
        minutes = statistics.median(r["seconds"] for r in runs) / 60
        lines.append(f"| {RUNS[name]['title']} | {held} images | {', '.join(scores)} | {minutes:.1f} | {len(runs)} |")
    lines += [
        "",
        f"Medians over the seeds, after the last epoch, Dice pooled over all pixels of the held-out images; {machine()}:",
        "",
        "```sh",
    ]
    lines += ["python " + " ".join(command(name, "DATA", 0, f"runs/{name}")) for name in results]
    return "\n".join([*lines, "```"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds dsb2018 and isbi2012")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS), help="which data sets")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="one run each (ISBI: the first only)")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    args = parser.parse_args()
    results = {}
    for name in args.only:
        seeds = args.seeds if name == "dsb2018" else args.seeds[:1]
        results[name] = [train(name, str(args.data.resolve()), seed) for seed in seeds]
        save(f"accuracy_{name}", {"runs": results[name], "command": command(name, "DATA", 0, f"runs/{name}")})
    print(table(results))
    if args.readme:
        write_into_readme("accuracy", table(results))


if __name__ == "__main__":
    main()
