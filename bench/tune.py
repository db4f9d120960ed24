"""What a search is worth on nuclei: the settings that `minunet tune` finds against the default ones.

    python bench/tune.py --data DATA/dsb2018            search for 20 minutes, then train and score both with three seeds
    python bench/tune.py --table                        write the table of what has been measured into docs/tuning.md

The search sees the images to train on, and those of bench/splits/dsb2018_family_val.txt, by which it decides. The images of
bench/splits/dsb2018_val.txt have no part in it, nor in the trainings; each trained network is scored on them once. The default
trains for --epochs epochs; what was found for as many as take the same time, by the seconds an epoch took in the search. Each
measurement that ends is appended to bench/results/tune.jsonl and not made again; a search that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from family import CHOOSE, FLAGS, add, held_out, kept, machines, python, rows_of, spent, spread, training_set
from report import RESULTS, ROOT, write_between

PAGE = "docs/tuning.md"
NAMES = {"default": "default", "found": "found by the search"}


def base_flags(data: Path, out: Path) -> list[str]:
    """What the search and all trainings have in common."""
    return ["--data", str(training_set(data, out)), "--val-files", str(CHOOSE), "--target", "border", *FLAGS]


def search(args: argparse.Namespace, data: Path, out: Path) -> dict[str, Any]:
    """Search, or go on with it: how many trials there were, and what the default and the best of them reached."""
    folder, more = out / "search", args.tune_flags.split()
    flags = ["-e", str(args.search_epochs), "--minutes", str(args.minutes), "--workers", str(args.workers)]
    flags += ["--threads", str(args.threads), "--out", str(folder), *more]
    python("train.tune", *base_flags(data, out), *flags)
    rows = [row for row in rows_of(folder / "trials.csv") if row["state"] == "complete"]
    best = max(rows, key=lambda row: float(row["score"]))
    default = next((row for row in rows if row["default"]), best)
    told = {
        name: {"score": float(row["score"]), "epoch_seconds": float(row["seconds"]) / int(row["epochs"])}
        for name, row in (("default", default), ("found", best))
    }
    ends = {state: sum(r["state"] == state for r in rows_of(folder / "trials.csv")) for state in
            ("complete", "ended early", "failed")}  # fmt: skip
    return {"kind": "search", "minutes": args.minutes, "epochs": args.search_epochs, "trials": ends, **told,
            "settings": (folder / "best.txt").read_text().strip().replace(f"{out}/", "").replace(f"{ROOT}/", ""),
            "threads": args.threads}  # fmt: skip


def score(name: str, seed: int, epochs: int, args: argparse.Namespace, data: Path, out: Path) -> dict[str, Any]:
    """Train with the default or with what was found, segment the images that are held out, and score them once."""
    run = out / f"{name}-{seed}"
    flags = base_flags(data, out) if name == "default" else ["--config", str(out / "search" / "config.toml")]
    flags += ["-e", str(epochs), "--seed", str(seed), "--threads", str(args.threads), *args.train_flags.split()]
    minutes = spent(lambda: python("train", *flags, "--out", str(run), "--resume", "auto"), run)
    return {"kind": "scores", "name": name, "seed": seed, "epochs": epochs, **held_out(run, data),
            "cpu_minutes": minutes, "threads": args.threads}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: both settings beside each other, and whether the gain is more than the seeds' spread."""
    lines = [
        "| settings | validation score in the search | mean precision | at IoU 0.5 | Dice | epochs | CPU minutes |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    found = next(row for row in reversed(rows) if row["kind"] == "search")
    means: dict[str, list[float]] = {}
    scored = [row for row in rows if row["kind"] == "scores"]
    for name, told in NAMES.items():
        runs = [row for row in scored if row["name"] == name]
        if runs:
            means[name] = [r["mean_precision"] for r in runs]
            cells = [f"{found[name]['score']:.4f}"]
            cells += [spread([r[m] for r in runs], ".3f") for m in ("mean_precision", "precision_50", "dice")]
            cells += [str(runs[0]["epochs"]), f"{statistics.fmean(r['cpu_minutes'] for r in runs):.0f}"]
            lines.append(f"| {told} | {' | '.join(cells)} |")
    if len(means) == len(NAMES):
        gain = statistics.fmean(means["found"]) - statistics.fmean(means["default"])
        apart = max(max(values) - min(values) for values in means.values())
        verdict = "more" if gain > apart else "not more"
        lines += [
            "",
            f"What was found gains {gain:+.3f} of mean precision, {verdict} than the {apart:.3f} that seeds lie apart.",
        ]
    counts = ", ".join(f"{n} {state}" for state, n in found["trials"].items())
    lines += [
        "",
        f"A search of {found['minutes']:g} minutes with trials of {found['epochs']} epochs: {counts}. It found",
    ]
    lines += ["", "```text", found["settings"], "```", "", f"({machines([found, *scored])})"]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the data set of nuclei, a folder with stage1_train")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--search-epochs", type=int, default=4, help="of a trial")
    parser.add_argument("--epochs", type=int, default=30, help="of the default's trainings that are scored")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--tune-flags", default="", help="further flags of the search, in one text")
    parser.add_argument("--train-flags", default="", help="further flags of the trainings, in one text")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "tune", help="where search and trainings are kept")
    parser.add_argument("--results", type=Path, default=RESULTS / "tune.jsonl", help="the file of measurements")
    parser.add_argument("--table", action="store_true", help=f"write the table of what has been measured into {PAGE}")
    args = parser.parse_args(argv)
    rows = kept(args.results)
    if args.table:
        write_between("tuned", table(rows), PAGE)
        return 0
    if not args.data:
        parser.error("--data is missing")
    data, out = args.data.resolve(), args.out.resolve()
    found = next((row for row in rows if row["kind"] == "search"), None)
    if found is None:
        found = search(args, data, out)
        add(args.results, found)
    faster = found["default"]["epoch_seconds"] / found["found"]["epoch_seconds"]
    epochs = {"default": args.epochs, "found": max(1, round(args.epochs * faster))}
    done = {(row["name"], row["seed"]) for row in rows if row["kind"] == "scores"}
    for seed in range(args.seeds):
        for name in NAMES:
            if (name, seed) not in done:
                add(args.results, score(name, seed, epochs[name], args, data, out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
