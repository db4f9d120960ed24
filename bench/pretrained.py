"""The nuclei network that ships: trained, scored by kind of image, and written with its card, by one command.

    python bench/pretrained.py DATA [--minutes M] [--threads N]    trains, or goes on; then scores the validation images
    python bench/pretrained.py DATA --cooldown                     lets the learning rate fall to 0, from where the training is
    python bench/pretrained.py DATA --test [--ship]                scores the test images, too, and writes the files

DATA holds dsb2018 and dsb2018_more (BBBC038, CC0). bench/splits/nuclei_*.txt say which images train, validate and test; the
test images are not even in the folder of links that the training sees. A run stops after --minutes and is saved; the same
command goes on with it, until all epochs are done. Every scoring is appended to bench/results/nuclei.jsonl. --ship writes
minunet/models/shipped/nuclei.safetensors and .toml, and their page in docs/models, with pictures of the worst images.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from nuclei_card import Row, by_kind, cooldown, epochs_done, failures, hours, page, short_card, table
from nuclei_lists import FOLDERS, SPLITS, kinds
from report import RESULTS, ROOT, machine
from tqdm import tqdm

import minunet
from minunet.atomic import write_atomically
from minunet.checkpoint.file import restate
from minunet.data import open_dataset, read_names
from minunet.metrics.instances import ObjectCounts, overlaps
from minunet.predict.overlay import boundary, save_png, to_rgb
from minunet.train.tuning import add_objects

EPOCHS = 85
COMMON = ["--target", "border", "--channels", "3", "--even-groups"]
RECIPE = [
    *COMMON, "--bent", "0.6", "--zoom", "1.5", "--invert", "0.1", "--recolour", "0.3",
    "--schedule", "constant", "--ema", "0.998", "--seed", "0",
]  # fmt: skip
COOLDOWN = [
    *COMMON, "-e", "6", "--zoom", "1.25", "--recolour", "0.1",
    "--schedule", "cosine", "-l", "0.0007", "--freeze", "encoder:0", "--seed", "1",
]  # fmt: skip
SCORES = RESULTS / "nuclei.jsonl"
SHIPPED = ROOT / "minunet" / "models" / "shipped"
CARD = ROOT / "docs" / "models"
TRUE, FOUND = (255, 210, 0), (0, 200, 255)  # colours of outlines
PICTURE = 512  # rows and columns of a picture, at most

Segment = Callable[[np.ndarray], np.ndarray]


# ---- training --------------------------------------------------------------------------------------------------------


def linked(data: Path, out: Path, lists: tuple[str, ...]) -> Path:
    """A folder in the layout dsb2018 of links to the images of some of the lists."""
    folder = out / f"images_{'_'.join(lists)}"
    inside = folder / "stage1_train"
    inside.mkdir(parents=True, exist_ok=True)
    for name in (n for part in lists for n in read_names(SPLITS / f"nuclei_{part}.txt")):
        place = next(data / f / "stage1_train" / name for f in FOLDERS if (data / f / "stage1_train" / name).is_dir())
        if not (inside / name).exists():
            (inside / name).symlink_to(place.resolve(), target_is_directory=True)
    return folder


def groups(data: Path, out: Path) -> Path:
    """A file of kinds that give as many patches each: small, middle and large fluorescence, and what is dark on light."""

    def group(kind: str, size: str) -> str:
        return (
            {"256x256": "small", "360x360": "middle"}.get(size, "large") if kind == "fluorescence" else "dark on light"
        )

    path, tested = out / "groups.csv", set(read_names(SPLITS / "nuclei_test.txt"))
    lines = [f"{image},{group(*stratum)}\n" for image, stratum in kinds(data).items() if image not in tested]
    path.write_text("".join(lines))
    return path


def train_command(data: Path, out: Path, epochs: int, threads: int | None) -> list[str]:
    """The training, as a user would type it."""
    return [*common(data, out, threads), "-e", str(epochs), *RECIPE, "--out", str(out / "run"), "--resume", "auto"]


def cooldown_command(data: Path, out: Path, threads: int | None) -> list[str]:
    """Some more epochs from there, in which the learning rate falls to 0."""
    begin = ["-f", str(out / "run" / "last.safetensors"), "--out", str(cooldown(out)), "--resume", "auto"]
    return [*common(data, out, threads), *COOLDOWN, *begin]


def common(data: Path, out: Path, threads: int | None) -> list[str]:
    flags = ["-m", "minunet.train", "--data", str(data), "--val-files", "bench/splits/nuclei_validation.txt"]
    return [*flags, "--groups", str(out / "groups.csv"), *(["--threads", str(threads)] if threads else [])]


def carry_out(command: list[str], minutes: float) -> bool:
    """Train, or go on, for so many minutes at most; whether all epochs are done."""
    running = subprocess.Popen([sys.executable, *command], cwd=ROOT)
    try:
        running.wait(60 * minutes)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGTERM)  # it saves its state, and stops
    status = running.wait()
    if status not in (0, 130):
        raise SystemExit(f"the training ended with status {status}")
    return status == 0


def tuned(data: Path, out: Path) -> minunet.nn.Module:
    """The network of the best epoch, and how its output becomes objects: tuned on all validation images, of which a training,
    which is in a hurry, takes some."""
    best = weights(out)
    model = minunet.load(best)
    images = open_dataset(linked(data, out, ("train", "validation")), channels=model.preprocessing.channels)
    parts = images.split(names=read_names(SPLITS / "nuclei_validation.txt"))
    found = add_objects(model, images, *parts, pixels=1 << 30)
    print("objects:", found)
    restate(best, model.preprocessing)
    return model


def weights(out: Path) -> Path:
    """Of the best epoch of the cooldown, if there was one after the last epoch, else of the run."""
    cooled = cooldown(out) / "best.safetensors"
    return cooled if cooled.exists() else out / "run" / "best.safetensors"


# ---- scores ----------------------------------------------------------------------------------------------------------


def score(segment: Segment, data: Path, part: str, out: Path, channels: int) -> list[Row]:
    """The scores of every image of a list; and pictures of those that came out worst, in `out`.

    `segment` makes of an image's pixels (H, W, channels), as they are in its file, the numbers of its objects (H, W).
    """
    strata, rows = kinds(data), []
    images = open_dataset(linked(data, out, (part,)), channels=channels)
    (out / f"pictures_{part}").mkdir(exist_ok=True)
    for index, entry in enumerate(tqdm(images.entries, unit="image", disable=None)):
        pixels, truth = entry.read_image(images.channels), images[index].instances
        began = time.perf_counter()
        found = segment(pixels)
        name = Path(entry.name).name
        rows.append(
            {"image": name, "kind": strata[name][0], **counted(truth, found), "seconds": time.perf_counter() - began}
        )
        save_png(out / f"pictures_{part}" / f"{name}.png", picture(pixels, truth, found))
    return rows


def counted(truth: np.ndarray, found: np.ndarray) -> Row:
    """Precision at IoU 0.5 and its mean up to 0.95, and what is merged and split, of an image."""
    counts = ObjectCounts()
    counts.add(truth, found)
    table = overlaps(truth, found)
    held = np.bincount(table.predicted[2 * table.shared > table.truth_area[table.truth]])
    return {
        "precision_50": counts.precision(50), "mean_precision": counts.mean_precision(), "objects": counts.truth,
        "merged": counts.merged, "in_merged": int(held[held > 1].sum()), "split": counts.split,
    }  # fmt: skip


def picture(image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The true outlines, in yellow, beside those found, in blue: (h, w, 3) uint8."""
    sides = []
    for labels, colour in ((truth, TRUE), (found, FOUND)):
        shown = to_rgb(image).copy()
        shown[boundary(labels)] = colour
        sides.append(shown[:PICTURE, :PICTURE])
    return np.concatenate([sides[0], np.full_like(sides[0][:, :4], 255), sides[1]], axis=1)


# ---- what ships ------------------------------------------------------------------------------------------------------


def ship(model: minunet.nn.Module, out: Path, rows: dict[str, list[Row]], threads: int | None) -> None:
    """Write the network, its card in short, and its card with pictures."""
    from minunet.export import main as export

    file = SHIPPED / "nuclei.safetensors"
    if export(["-m", str(weights(out)), "-o", str(file), "--half", "-q"]):
        raise SystemExit("the network could not be written")
    scored = {part: by_kind(own) for part, own in rows.items()}
    write_atomically(SHIPPED / "nuclei.toml", short_card(model, out, scored["test"]).encode())
    command = " ".join(["python", *train_command(Path("IMAGES"), Path("RUN"), EPOCHS, None)])
    after = " ".join(["python", *cooldown_command(Path("IMAGES"), Path("RUN"), None)])
    after = after.replace(cooldown(Path("RUN")).name, cooldown(out).name)
    CARD.mkdir(exist_ok=True)
    text = page(model, out, scored, rows["test"], threads, file.stat().st_size, [command, after])
    write_atomically(CARD / "nuclei.md", text.encode())
    for row in failures(rows["test"]):
        pictured = out / "pictures_test" / f"{row['image']}.png"
        write_atomically(CARD / f"nuclei_{row['image'][:12]}.png", pictured.read_bytes())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds dsb2018 and dsb2018_more")
    parser.add_argument("--minutes", type=float, default=95, help="stop after so many, to go on later (default: 95)")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--threads", type=int, help="of the training (default: all cores)")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "nuclei", help="where the run is kept")
    parser.add_argument("--cooldown", action="store_true", help="end with a learning rate that falls to 0")
    parser.add_argument("--test", action="store_true", help="score the test images; no training")
    parser.add_argument("--ship", action="store_true", help="write the network into the package, with its card")
    args = parser.parse_args(argv)
    data, out = args.data.resolve(), args.out.resolve()
    if not (args.test or args.ship):
        images = linked(data, out, ("train", "validation"))
        groups(data, out)
        make = cooldown_command(images, out, args.threads) if args.cooldown else None
        if not carry_out(make or train_command(images, out, args.epochs, args.threads), args.minutes):
            print("stopped; the same command goes on")
        if not epochs_done(out):
            return 130
    model, rows = tuned(data, out), {}
    for part in ("validation", "test")[: 1 + (args.test or args.ship)]:
        rows[part] = score(partial(minunet.segment_objects, model), data, part, out, model.preprocessing.channels)
        row = {
            "list": part,
            "epochs": epochs_done(out),
            "hours": hours(out),
            "weights": weights(out).parent.name,
            "recipe": [RECIPE, COOLDOWN],
            "machine": machine(),
        }
        with open(SCORES, "a") as file:
            file.write(json.dumps({**row, **by_kind(rows[part])}) + "\n")
        print(f"{part}:\n{table(by_kind(rows[part]))}")
    if args.ship:
        ship(model, out, rows, args.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
