"""``python -m minunet.evaluate``: score segmentations against the truth, pixel by pixel and object by object.

--pred is a folder of what minunet.predict wrote (or of anybody's label images or masks), one file, or a submission's CSV.
--truth is such a folder or file too, or a data set as minunet.train takes it. Images are paired by name, whatever of _labels,
_mask, _masks or _cp_masks follows it. A file with several values above 0 holds object numbers; in a mask with only one,
objects are the 4-connected regions. With --classes the values are classes.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import metrics
from .atomic import write_atomically
from .cli import HelpFormatter, run, typed
from .data import LAYOUTS, open_dataset, read_names
from .data.label_images import Reader, list_label_images, match_names, read_truth
from .data.layouts.source import list_images, some
from .data.rle import encode, write_submission
from .errors import UserError
from .metrics import instances as object_metrics
from .metrics import per_class as class_scores
from .metrics import warping_error as warping
from .metrics.instances import PERCENTS, ObjectCounts

EXAMPLES = """
examples:
  python -m minunet.evaluate --pred out --truth masks
  python -m minunet.evaluate --pred out --truth DSB2018 --val-files held_out.txt --csv scores.csv
  python -m minunet.evaluate --pred out --truth MINE --classes
  python -m minunet.evaluate --pred out --submission submission.csv
"""
PIXELS = """Scores of pixels: foreground is what lies in an object.

    Dice          2 TP / (2 TP + FP + FN)        IoU  TP / (TP + FP + FN)
    pixel error   share of the pixels that are foreground in one and background in the other

Pooled over the pixels of all images, or as the mean of images. Where nothing was to be found and nothing was, Dice and IoU
are 1.
"""
ROWS = {  # what the summary shows of each score, and which of its two averages is the usual one: 0 pooled, 1 mean of images
    "dice": ("Dice", 0),
    "iou": ("IoU", 0),
    "pixel_error": ("pixel error", 0),
    "precision_50": ("precision at IoU 0.50", 1),
    "precision_75": ("precision at IoU 0.75", 1),
    "mean_precision": ("precision, mean of IoU 0.50 to 0.95", 1),
    "panoptic_quality": ("panoptic quality", 0),
    "seg": ("SEG", 0),
    "adapted_rand_error": ("adapted Rand error", 1),
    "warping_error": ("warping error", 1),
}
COUNTS = {"merged": "merged pairs", "split": "split pairs"}
COLUMNS = {"true": 6, "found": 6, "Dice": 7, "AP50": 7, "AP": 7, "PQ": 7, "SEG": 7, "merged": 7, "split": 6}
MOST = 20  # images in the printed table


class Scores:
    """What is counted of one image, or of several that were added up."""

    def __init__(self) -> None:
        self.pixels, self.objects, self.warped = metrics.Confusion(2), ObjectCounts(), 0

    def add(self, truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None) -> None:
        """Count an image's object numbers (H, W); `valid` as in `ObjectCounts.add`."""
        true_mask = (truth > 0).astype(np.int64)
        self.pixels.add(true_mask if valid is None else np.where(valid, true_mask, -1), predicted > 0)
        self.objects.add(truth, predicted, valid)
        self.warped += warping.topological_errors(warping.separated(truth), warping.separated(predicted), valid)

    def __iadd__(self, other: Scores) -> Scores:
        self.pixels.counts += other.pixels.counts
        self.objects += other.objects
        self.warped += other.warped
        return self

    def values(self) -> dict[str, float]:
        """The scores by their names in the CSV."""
        o, seen = self.objects, int(self.pixels.counts.sum())
        precisions = {f"precision_{percent}": float(p) for percent, p in zip(PERCENTS, o.precisions())}
        return {
            "true_objects": o.truth, "predicted_objects": o.predicted, "dice": self.pixels.mean_dice(),
            "iou": self.pixels.mean_iou(), "pixel_error": 1 - self.pixels.pixel_accuracy(), **precisions,
            "mean_precision": o.mean_precision(), "panoptic_quality": o.panoptic_quality(), "seg": o.seg(),
            "adapted_rand_error": o.adapted_rand_error(), "warping_error": self.warped / seen if seen else float("nan"),
            "merged": o.merged, "split": o.split,
        }  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    definitions = "\n\n".join(
        text or "" for text in (PIXELS, object_metrics.__doc__, warping.__doc__, f"--classes: {class_scores.__doc__}")
    )
    p = argparse.ArgumentParser(
        prog=typed("evaluate"),
        formatter_class=HelpFormatter,
        description=__doc__,
        epilog=f"{EXAMPLES}\nwhat the scores mean:\n\n{definitions}",
    )
    p.add_argument("--pred", required=True, metavar="PATH", help="what was predicted")
    p.add_argument("--truth", metavar="PATH", help="what is true")
    p.add_argument("--layout", choices=["auto", "files", *LAYOUTS], default="auto",
                   help="of --truth; auto: files if it holds any, else a data set's layout, which is recognised")  # fmt: skip
    p.add_argument("--val-files", metavar="FILE", help="text file that lists the images to score, one a line")
    p.add_argument("--partial", action="store_true",
                   help="the truth outlines only some objects: pixels in none of them do not count")  # fmt: skip
    p.add_argument("--classes", action="store_true",
                   help="score class by class instead of objects: the masks' values or colours are classes")  # fmt: skip
    p.add_argument("--csv", metavar="FILE", help="write the scores of every image")
    p.add_argument(
        "--submission", metavar="FILE", help="write what was predicted as a Kaggle submission of run lengths"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: evaluate(make_parser().parse_args(argv)))


def evaluate(args: argparse.Namespace) -> int:
    """Score, and write what was asked for."""
    if not (args.truth or args.submission):
        raise UserError("nothing to do: give --truth PATH to score against, or --submission FILE to write run lengths")
    if args.classes:
        return evaluate_classes(args)
    predicted = list_label_images(Path(args.pred))
    if args.submission:
        submit(Path(args.submission), predicted)
    if not args.truth:
        return 0
    truths = list_truths(Path(args.truth), args.layout)
    pairs = match(truths, predicted, args)
    images = {}
    total = Scores()
    for name, other in tqdm(pairs.items(), unit="image", disable=None, leave=False):
        labels, valid = truths[name]()
        if args.partial:
            valid = labels > 0 if valid is None else valid & (labels > 0)
        scores = Scores()
        scores.add(labels, predicted[other](labels.shape), valid)
        total += scores
        images[name] = scores.values()
    if args.csv:
        write_table(Path(args.csv), images)
    print(report(images, total.values()))
    return 0


def evaluate_classes(args: argparse.Namespace) -> int:
    """Score class by class."""
    if args.submission or args.partial:
        raise UserError(f"{'--submission' if args.submission else '--partial'} is of objects; leave out --classes")
    predicted = list_label_images(Path(args.pred), objects=False)
    truths, classes = class_scores.list_class_truths(Path(args.truth), args.layout)
    counts = class_scores.score_classes(truths, predicted, match(truths, predicted, args), classes)
    total = metrics.Confusion(classes.num_classes)
    for image in counts.values():
        total.counts += image.counts
    images = {name: class_scores.score_columns(c, classes.names) for name, c in counts.items()}
    if args.csv:
        write_table(Path(args.csv), images)
    print(class_scores.class_report(images, class_scores.score_columns(total, classes.names), classes))
    return 0


def match(truths: dict[str, Any], predicted: dict[str, Reader], args: argparse.Namespace) -> dict[str, str]:
    """The prediction of every true image, of those listed if there is a list."""
    if args.val_files:
        truths = choose(truths, read_names(args.val_files), args.val_files)
    in_order = Path(args.pred).is_file() and Path(args.pred).suffix.lower() != ".csv"
    pairs, surplus = match_names(list(truths), list(predicted), in_order)
    if surplus and not args.val_files:
        print(f"note: {len(surplus)} predictions are of no image with a truth, and are left out: {some(surplus)}")
    return pairs


# ---- what is true ----------------------------------------------------------------------------------------------------

Truth = tuple[np.ndarray, np.ndarray | None]  # object numbers (H, W), and where they count, (H, W) bool or None


def list_truths(path: Path, layout: str) -> dict[str, Any]:
    """Functions that read the truth of every image, by name."""
    if layout == "files" or (layout == "auto" and (path.is_file() or not path.is_dir() or list_images(path))):
        return {name: partial(whole, read) for name, read in list_label_images(path).items()}
    dataset = open_dataset(path, layout)
    return {name: partial(read_truth, dataset, i) for i, name in enumerate(dataset.names)}


def whole(read: Reader) -> Truth:
    """A truth from a file: it counts everywhere."""
    return read(None), None


def choose(truths: dict[str, Any], names: list[str], path: str) -> dict[str, Any]:
    """The truths that are listed."""
    last = {name.rsplit("/", 1)[-1]: name for name in truths}
    chosen = {}
    for name in names:
        known = next((key for key in (name, last.get(name), last.get(Path(name).stem)) if key in truths), None)
        if known is None:
            raise UserError(f"{path}: no image is called {name}; the images are called {some(truths)}")
        chosen[known] = truths[known]
    return chosen


# ---- what is written -------------------------------------------------------------------------------------------------


def submit(path: Path, predicted: dict[str, Reader]) -> None:
    """Write a submission, read it again to check it, and say what is in it."""
    rows: dict[str, list[str]] = {}
    shapes = {}
    for name, read in tqdm(predicted.items(), unit="image", disable=None, leave=False):
        labels = read(None)
        rows[name], shapes[name] = encode(labels), labels.shape
    write_submission(path, rows)
    for name, check in list_label_images(path).items():
        check(shapes[name])
    print(f"{path}: {sum(map(len, rows.values()))} objects in {len(rows)} images")


def write_table(path: Path, images: dict[str, dict[str, float]]) -> None:
    """Write every image's scores as CSV; a score that an image has not is left empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["image", *next(iter(images.values()))])
    for name, values in images.items():
        writer.writerow([name, *("" if v != v else f"{v:.6g}" for v in values.values())])
    write_atomically(path, buffer.getvalue().encode())


def report(images: dict[str, dict[str, float]], total: dict[str, float]) -> str:
    """The table of images, the worst ones if there are many, and the summary."""
    shown = sorted(images, key=lambda name: images[name]["mean_precision"])[:MOST] if len(images) > MOST else images
    width = max(len(name[:24]) for name in shown)
    lines = [" " * width + "".join(f"{c:>{w}}" for c, w in COLUMNS.items())]
    lines += [f"{name[:24]:<{width}}" + _row(images[name]) for name in shown]
    if len(images) > MOST:
        lines.append(f"(the {MOST} images of {len(images)} with the lowest AP; --csv writes all)")
    lines += ["", *_summary(images, total)]
    return "\n".join(lines)


def _row(v: dict[str, float]) -> str:
    names = ("dice", "precision_50", "mean_precision", "panoptic_quality", "seg")
    cells = [
        int(v["true_objects"]),
        int(v["predicted_objects"]),
        *(_number(v[n]) for n in names),
        v["merged"],
        v["split"],
    ]
    return "".join(f"{cell:>{w}}" for cell, w in zip(cells, COLUMNS.values()))


def _summary(images: dict[str, dict[str, float]], total: dict[str, float]) -> Iterator[str]:
    """Both averages of every score; the usual one is marked."""
    yield f"{len(images)} images, {total['true_objects']} true objects, {total['predicted_objects']} predicted"
    yield f"{'':<38}{'pooled':>10}{'mean of images':>18}"
    for key, (title, usual) in ROWS.items():
        scores = np.array([values[key] for values in images.values()])
        known = scores[~np.isnan(scores)]
        averages = [total[key], known.mean() if known.size else float("nan")]
        cells = [_number(a) + "* "[usual != i] for i, a in enumerate(averages)]
        yield f"{title:<38}{cells[0]:>11}{cells[1]:>18}".rstrip()
    for key, title in COUNTS.items():
        yield f"{title:<38}{total[key]:>10}{total[key] / len(images):>17.2f}"
    yield "* the average under which the score is usually given; python -m minunet.evaluate --help defines them all"


def _number(value: float) -> str:
    return "none" if value != value else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
