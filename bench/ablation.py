"""What each of the U-Net paper's choices is worth: switched one at a time, beside the defaults and the whole recipe.

    python bench/ablation.py --data DATA/dsb2018 [--only cross-entropy weight-map] [--epochs 8] [--table]

Every variant is trained by `python -m minunet.train` with the same images held out, and its last weights are scored on those:
Dice of the foreground, pooled over all pixels; mean precision of the objects over IoU 0.5 to 0.95 and precision at 0.5, both
means of the images; merged pairs, true objects that more than half lie in one and the same predicted one; and the training's
minutes. What ran stays in --out: a variant that has its score is not trained again, and one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from report import RESULTS, ROOT, machine, save, write_between
from tqdm import tqdm

import minunet
from minunet.atomic import write_atomically
from minunet.checkpoint.load import read_checkpoint
from minunet.data import open_dataset
from minunet.metrics import Confusion
from minunet.metrics.instances import ObjectCounts
from minunet.predict.inference import classify, probabilities, semantic
from minunet.predict.instances import label_objects, target_of


class Variant(NamedTuple):
    """Flags of a training, of how many rotations its predictions are averaged, and for how many times the epochs it trains."""

    flags: list[str]
    tta: int = 1
    longer: int = 1


# what each name says is what differs from "cross-entropy"; the first is how train works untold, the last the whole recipe
CE = ["--loss", "ce"]
PAPER = ["--recipe", "paper", "--base-width", "16"]
PAGE = "docs/accuracy.md"
VARIANTS = {
    "default-loss": Variant([]),
    "cross-entropy": Variant(CE),
    "weight-map": Variant([*CE, "--weight-map"]),
    "class-balance": Variant([*CE, "--weight-map", "--w0", "0"]),
    "border-class": Variant([*CE, "--target", "border"]),
    "border-and-weights": Variant([*CE, "--target", "border", "--weight-map"]),
    "border-and-w0": Variant([*CE, "--target", "border", "--weight-map", "--no-balance", "--w0", "4"]),
    "rotations-averaged": Variant(CE, tta=4),
    "unpadded": Variant([*CE, "--padding", "valid", "--crop", "316"]),  # 132 pixels out, nearly the others' 128
    "no-norm": Variant([*CE, "--norm", "none"]),
    "elastic-cubic": Variant([*CE, "--bent", "1", "--zoom", "1", "--elastic", "10", "--interpolation", "cubic"]),
    "no-augmentation": Variant([*CE, "--no-augment"]),
    "sgd-0.99": Variant([*CE, "--optimizer", "sgd", "--momentum", "0.99"]),
    "dropout": Variant([*CE, "--dropout", "0.5"]),
    "uniform-init": Variant([*CE, "--init", "uniform"]),
    "one-image-a-step": Variant([*CE, "-b", "1"]),
    "one-image-group-norm": Variant([*CE, "-b", "1", "--norm", "group"]),
    "paper": Variant(PAPER, tta=4),
    "paper-4-times-longer": Variant(PAPER, tta=4, longer=4),
}
NECK, SMOOTH = 0.9, 1.0  # the same for all, since what a training tunes is tuned on the images that are scored here
COLUMNS = {
    "dice": "Dice",
    "precision": "precision",
    "precision_50": "at IoU 0.5",
    "merged": "merged",
    "minutes": "minutes",
}


def train(name: str, data: Path, epochs: int, extra: list[str], out: Path) -> Path:
    """Train a variant, or go on with it, in the folder out; its last weights. With the same flags nothing is left to do."""
    last = out / "last.safetensors"
    if last.exists():
        if read_checkpoint(last).train["state"]["epoch"] == epochs:
            return last
        flags = ["--resume", str(last), "-e", str(epochs)]
    else:
        flags = ["--data", str(data), "-e", str(epochs), "-v", "20", "--seed", "0", "--out", str(out)]
        flags += [*VARIANTS[name].flags, *extra]
    subprocess.run([sys.executable, "-m", "minunet.train", *flags], check=True)
    return last


def score(weights: Path, data: Path, tta: int = 1) -> dict[str, Any]:
    """The scores of a network on the images that were held out while it was trained."""
    model, file = minunet.load(weights), read_checkpoint(weights)
    known = model.preprocessing
    dataset = open_dataset(data, channels=known.channels, normalise=known.normalise)
    held = [i for i, name in enumerate(dataset.names) if name in set(file.train["images"]["validation"])]
    pixels, objects, images = Confusion(2), ObjectCounts(), []
    for i in tqdm(held, desc="scoring", unit="image", leave=False, disable=None):
        sample, entry = dataset[i], dataset.entries[i]
        p = probabilities(model, minunet.data.read_image(entry.image, entry.page), tta=tta)
        pixels.add(sample.labels > 0, classify(semantic(model, p)) > 0)
        image = ObjectCounts()
        image.add(sample.instances, label_objects(p, target_of(model), neck=NECK, smooth=SMOOTH))
        images.append(image)
        objects += image
    with open(weights.with_name("history.csv")) as f:
        seconds = sum(float(row["seconds"]) for row in csv.DictReader(f))
    return {
        "dice": pixels.mean_dice(), "precision": float(np.mean([c.mean_precision() for c in images])),
        "precision_50": float(np.mean([c.precision() for c in images])), "merged": int(objects.merged),
        "split": int(objects.split), "objects": int(objects.truth), "images": len(held), "minutes": seconds / 60,
    }  # fmt: skip


def run(name: str, data: Path, epochs: int, extra: list[str], out: Path) -> dict[str, Any]:
    """A variant's scores, from where it, or one with the same flags, was trained before."""
    variant = VARIANTS[name]
    epochs *= variant.longer
    flags = {"epochs": epochs, "flags": [*variant.flags, *extra], "tta": variant.tta}
    same = (other for other, v in VARIANTS.items() if (v.flags, v.longer) == (variant.flags, variant.longer))
    folder = out / next(same)
    kept = folder / f"score_{name}.json"
    if kept.exists():
        result = json.loads(kept.read_text())
        if {key: result[key] for key in flags} == flags:
            return result
        raise SystemExit(f"{folder} holds {name} with other flags or epochs; remove it, or choose another --out")
    result = {**flags, **score(train(name, data, epochs, extra, folder), data, variant.tta)}
    write_atomically(kept, json.dumps(result, indent=1).encode())
    return result


def table(results: dict[str, dict[str, Any]], epochs: int, extra: list[str], measured_on: str | None = None) -> str:
    """Markdown: a row a variant; measured on this machine if no other is named."""
    first = next(iter(results.values()))
    lines = ["| variant | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, r in results.items():
        scores = [f"{r[column]:.3f}" for column in ("dice", "precision", "precision_50")]
        lines.append(f"| {name} | " + " | ".join([*scores, str(r["merged"]), f"{r['minutes']:.1f}"]) + " |")
    held = f"Scored on the {first['images']} images, with {first['objects']} objects, that the seed drew for validation"
    how = ", ".join([f"{epochs} epochs", *([f"`{' '.join(extra)}`"] if extra else []), "last weights", "one seed"])
    return "\n".join([*lines, "", f"{held}; {how}; {measured_on or machine()}."])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="further flags, such as --base-width 32, go to every training",
    )
    parser.add_argument("--data", type=Path, required=True, help="images whose masks number objects, such as DSB 2018")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="which variants")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "ablation", help="where the runs are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for ablation.json")
    parser.add_argument("--table", action="store_true", help=f"write the table into {PAGE}")
    args, extra = parser.parse_known_args(argv)
    results = {}
    for name in tqdm(args.only, unit="variant", disable=None):
        results[name] = run(name, args.data.resolve(), args.epochs, extra, args.out)
        save(
            "ablation",
            {"data": args.data.name, "epochs": args.epochs, "extra": extra, "variants": results},
            args.results,
        )
    print(table(results, args.epochs, extra))
    if args.table:
        write_between("ablation", table(results, args.epochs, extra), PAGE)


if __name__ == "__main__":
    main()
