"""What a network gains from a few images of a kind that it has never seen, beside training from scratch: a learning curve.

    python bench/fine_tuning.py DATA [--images N...] [--seeds N] [--list validation|test]
    python bench/fine_tuning.py --page                       writes what has been measured as a page of docs/

DATA holds dsb2018 and dsb2018_more. A network is trained by the recipe of pretrained.py on the images of
bench/splits/nuclei_train.txt that are not of purple-stained tissue. Then, for each number of images of tissue, drawn from the
same list with a seed, one training goes on from it (`train -f`, everything else as it comes) and one begins at random, both for
so many epochs. From 4 images on a quarter of them is held out, as a user would, to choose epoch and thresholds. Scored are the
tissue images of the other list. Each training that ends is appended to bench/results/fine_tuning.jsonl, and none that stands
there is made again.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from family import add, kept, python
from nuclei_lists import FOLDERS, SPLITS, kinds
from pretrained import RECIPE, counted
from report import RESULTS, ROOT

import minunet
from minunet.atomic import write_atomically
from minunet.data import open_dataset, read_names

TISSUE = "stained_tissue"
EPOCHS = {1: 160, 2: 120, 4: 80, 8: 60, 16: 40, 64: 20}  # for so many images: from 160 to 700 steps
BASE_EPOCHS = 20
WAYS = ("as it is", "scratch", "fine-tuned")
SAME = ("--target", "--channels", "--base-width")  # of the recipe, for networks that begin at random
SCRATCH = [text for pair in pairwise(RECIPE) if pair[0] in SAME for text in pair]
PAGE = ROOT / "docs" / "fine_tuning.md"

Row = dict[str, Any]


def links(images: list[str], data: Path, folder: Path) -> Path:
    """A folder in the layout dsb2018 of links to images."""
    inside = folder / "stage1_train"
    inside.mkdir(parents=True, exist_ok=True)
    for name in images:
        place = next(data / f / "stage1_train" / name for f in FOLDERS if (data / f / "stage1_train" / name).is_dir())
        if not (inside / name).exists():
            (inside / name).symlink_to(place.resolve(), target_is_directory=True)
    return folder


def of_list(part: str, data: Path) -> tuple[list[str], list[str]]:
    """The images of a list: of tissue, and the others."""
    strata, names = kinds(data), read_names(SPLITS / f"nuclei_{part}.txt")
    return [n for n in names if strata[n][0] == TISSUE], [n for n in names if strata[n][0] != TISSUE]


def minutes(run: Path) -> float:
    """That a run took, with its validation."""
    with open(run / "history.csv") as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file)) / 60


def base(data: Path, out: Path, epochs: int, more: list[str]) -> Path:
    """The network that has never seen tissue; trained if it is not there."""
    images = links(of_list("train", data)[1], data, out / "others")
    flags = ["--data", str(images), *RECIPE, "-e", str(epochs), "--seed", "0", *more]
    python("train", *flags, "--out", str(out / "base"), "--resume", "auto")
    return out / "base" / "best.safetensors"


def scores(model: minunet.nn.Module, images: Path) -> Row:
    """Means over the images."""
    opened = open_dataset(images, channels=model.preprocessing.channels)
    rows = [
        counted(opened[i].instances, minunet.segment_objects(model, entry.read_image(opened.channels)))
        for i, entry in enumerate(opened.entries)
    ]
    return {name: statistics.fmean(row[name] for row in rows) for name in ("mean_precision", "precision_50")}


def measure(way: str, n: int, seed: int, start: Path, data: Path, out: Path, scored: Path, more: list[str]) -> Row:
    """Train on n images of tissue, and score."""
    drawn = [str(name) for name in np.random.default_rng(seed).permutation(of_list("train", data)[0])[:n]]
    images = links(drawn, data, out / f"tissue-{n}-{seed}")
    flags = SCRATCH if way == "scratch" else ["-f", str(start)]
    run = out / f"{way}-{n}-{seed}"
    held = "25" if n >= 4 else "0"
    flags = [*flags, "--data", str(images), "-v", held, "-e", str(EPOCHS[n]), "--seed", str(seed), *more]
    python("train", *flags, "--out", str(run), "--resume", "auto")
    file = run / ("best.safetensors" if n >= 4 else "last.safetensors")
    return {"way": way, "images": n, "seed": seed, "minutes": minutes(run)} | scores(minunet.load(file), scored)


def table(rows: list[Row]) -> str:
    """Markdown: for each number of images both ways, means over the seeds with the least and the most."""
    lines = [
        "| images | way | precision, mean of IoU 0.5 to 0.95 | at IoU 0.5 | minutes | seeds |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for n, place in sorted({(r["images"], WAYS.index(r["way"])) for r in rows}):
        runs = [r for r in rows if (r["images"], r["way"]) == (n, WAYS[place])]
        spread = []
        for name in ("mean_precision", "precision_50"):
            values = [r[name] for r in runs]
            ends = f" ({min(values):.3f} to {max(values):.3f})" if len(runs) > 1 else ""
            spread.append(f"{statistics.fmean(values):.3f}{ends}")
        took = statistics.fmean(r["minutes"] for r in runs)
        lines.append(f"| {n} | {WAYS[place]} | {' | '.join(spread)} | {took:.1f} | {len(runs)} |")
    return "\n".join(lines)


def page(rows: list[Row]) -> str:
    """The page: a table for each list of images that was scored."""
    parts = [
        "# A few images of a new kind",
        "",
        "A network that has learnt nuclei in fluorescence and brightfield goes on with a few images of purple-stained "
        "tissue, which it has never seen (`train -f`, all else as it comes). Beside it networks of the same size begin at "
        "random, and train for as many epochs. The images are drawn anew for each seed. Means over the seeds, with the least "
        "and the most.",
    ]
    for part in dict.fromkeys(r["list"] for r in rows):
        own = [r for r in rows if r["list"] == part]
        parts += ["", f"## Scored on the {part} images of tissue", "", table(own)]
    parts += [
        "",
        f"`python bench/fine_tuning.py DATA` measures this; {', '.join(sorted({r['machine'] for r in rows}))}.",
        "",
    ]
    return "\n".join(parts)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="folder that holds dsb2018 and dsb2018_more")
    parser.add_argument("--images", type=int, nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--list", choices=["validation", "test"], default="validation", help="which images are scored")
    parser.add_argument("--base", type=Path, help="a network that has not seen tissue (default: trained here)")
    parser.add_argument("--base-epochs", type=int, default=BASE_EPOCHS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fine_tuning", help="where trainings are kept")
    parser.add_argument("--results", type=Path, default=RESULTS / "fine_tuning.jsonl", help="the file of measurements")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.relative_to(ROOT)}, and measure nothing")
    args = parser.parse_args(argv)
    if args.page or args.data is None:
        write_atomically(PAGE, page(kept(args.results)).encode())
        return 0
    data, out = args.data.resolve(), args.out.resolve()
    more = ["--threads", str(args.threads)] if args.threads else []
    start = args.base.resolve() if args.base else base(data, out, args.base_epochs, more)
    scored = links(of_list(args.list, data)[0], data, out / f"scored-{args.list}")
    done = {(r["list"], r["way"], r["images"], r["seed"]) for r in kept(args.results)}
    if (args.list, WAYS[0], 0, 0) not in done:
        found = {"way": WAYS[0], "images": 0, "seed": 0, "minutes": 0.0} | scores(minunet.load(start), scored)
        add(args.results, {"list": args.list, **found})
    for seed in range(args.seeds):
        for n, way in ((n, way) for n in args.images for way in WAYS[1:]):
            if (args.list, way, n, seed) not in done:
                add(args.results, {"list": args.list, **measure(way, n, seed, start, data, out, scored, more)})
    print(table([r for r in kept(args.results) if r["list"] == args.list]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
