"""``python -m minunet.evaluate``: score segmentations against the truth, pixel by pixel and object by object.

--pred is a folder that minunet.predict wrote (or any folder of label images or masks), a single file, or the CSV of a
submission. --truth is such a folder or file, or a data set as minunet.train takes it. Images are paired by name, without the
endings _labels, _mask, _masks and _cp_masks. A file with several values above 0 holds object numbers; in a mask with only one
such value, objects are the 4-connected regions. With --classes the values are classes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .atomic import check_writable
from .cli import HelpFormatter, add_quiet, printable, run, typed
from .data import LAYOUTS, read_names
from .data.groups import look_of, read_groups
from .data.label_images import Conventions, list_label_images, list_stored, match_names
from .data.layouts.ctc import TRUTHS
from .data.layouts.source import some
from .data.mask_scan import MASK_KINDS, ignored_values
from .data.rle import encode, write_submission
from .data.split import find_named
from .errors import UserError
from .metrics import best_threshold, instances, per_class, per_object, warping_error
from .metrics.confusion import Confusion
from .metrics.evaluation import Evaluation

EXAMPLES = """
examples:
  %(prog)s --pred out --truth masks
  %(prog)s --pred out --truth DSB2018 --val-files held_out.txt --csv scores.csv
  %(prog)s --pred out --truth MINE --classes
  %(prog)s --pred out --submission submission.csv
"""

Step = Callable[[int, int], object]  # called with the number of images that are done, and of all images


def evaluate(
    pred: str | Path, truth: str | Path, *, layout: str = "auto", val_files: str | Path | None = None,
    partial: bool = False, classes: bool = False, truth_kind: str | None = None, masks: str = "auto",
    ignore: Sequence[object] = (), axes: str | None = None,
    choose_threshold: str | Path | None = None, groups: str | Path | None = None,
    progress: Step = lambda done, total: None,
) -> Evaluation:  # fmt: skip
    """Score segmentations against the truth; prints nothing.

    Parameters
    ----------
    pred : path
        A folder of label images or masks, one file, or a submission's CSV.
    truth : path
        A folder or file of the kind, or a data set.
    layout : str
        Of `truth`: "files", the layout of a data set, or "auto" to recognise it.
    val_files : path, optional
        Text file that lists the images to score, one a line.
    partial : bool
        The truth outlines only some objects: pixels in none of them do not count.
    classes : bool
        Score class by class instead of objects.
    truth_kind : "auto", "gold", "silver" or "complete", optional
        Of a data set of the Cell Tracking Challenge: which truth, see `minunet/data/layouts/ctc.py`. Gold if not given.
    masks : "auto", "classes", "objects" or "binary"
        What the values of masks stand for: in `truth`, and, if these are no label images of ours, in `pred`.
    ignore : sequence of int or of "red,green,blue"
        Values of `truth` that do not count.
    axes : str, optional
        The axes of the images of a data set, see `minunet.data.open_dataset`.
    choose_threshold : path, optional
        Text file that lists images, not those to score: the adapted Rand error is also taken at the threshold that is best on
        these, see `minunet/metrics/best_threshold.py`.
    groups : path, optional
        Text file of lines "image,kind": means are also given by kind. Without it, kinds are told by colour and brightness where
        `truth` is a data set.
    progress : function, optional
        Called with the number of images that are done, and of all images.

    Raises
    ------
    UserError
        If images cannot be read, have no prediction, or do not fit it.

    Examples
    --------
    >>> found = evaluate("out", "masks")  # doctest: +SKIP
    >>> found.mean["mean_precision"]  # doctest: +SKIP
    """
    of_objects = {"--partial": partial, "--truth-kind": truth_kind, "--choose-threshold": choose_threshold}
    if classes and any(of_objects.values()):
        raise UserError(f"{next(f for f, given in of_objects.items() if given)} is of objects; leave out --classes")
    known = Conventions(masks, ignored_values(ignore), axes)
    if classes:
        found = _score_classes(Path(pred), Path(truth), layout, val_files, known, progress)
    else:
        found = _score_objects(
            Path(pred), Path(truth), layout, val_files, partial, truth_kind, known, choose_threshold, progress
        )
    names = list(found.images)
    if groups is not None:
        return replace(found, groups=dict(zip(names, read_groups(groups, names, complete=val_files is None))))
    if known.dataset is None:
        return found
    index = {name: i for i, name in enumerate(known.dataset.names)}
    return replace(found, groups={name: look_of(known.dataset[index[name]].image) for name in names})


def _score_objects(
    pred: Path, truth: Path, layout: str, val_files: str | Path | None, partial: bool, kind: str | None,
    known: Conventions, choose_on: str | Path | None, progress: Step,
) -> Evaluation:  # fmt: skip
    theirs = Conventions(known.masks)
    predicted = list_label_images(pred, theirs)
    truths, notes = per_object.list_object_truths(truth, layout, kind, partial, known)
    others = listed(truths, read_names(choose_on), choose_on) if choose_on else {}
    if others and val_files is None:
        truths = {name: read for name, read in truths.items() if name not in others}
    pairs, left_out = match(truths, predicted, pred, val_files)
    images, total, signs = {}, per_object.Scores(), per_object.PartialTruth()
    for done, (name, other) in enumerate(pairs.items(), start=1):
        labels, valid = truths[name]()
        if partial:
            valid = labels > 0 if valid is None else valid & (labels > 0)
        scores = per_object.Scores()
        found = predicted[other](labels.shape)
        scores.add(labels, found, valid)
        if not partial:
            signs.add(name, labels, found, valid, scores)
        total += scores
        images[name] = scores.values()
        progress(done, len(pairs))
    said = [f"{where}: {note}" for where, found in ((truth, known), (pred, theirs)) for note in found.notes]
    chosen = best_threshold.choose_threshold(pred, others, {name: truths[name] for name in pairs}) if others else None
    left_out = [name for name in left_out if name not in others]
    return Evaluation(images, total.values(), None, left_out, notes + said + signs.notes(), chosen)


def _score_classes(
    pred: Path, truth: Path, layout: str, val_files: str | Path | None, known: Conventions, progress: Step
) -> Evaluation:  # fmt: skip
    predicted = list_stored(pred)
    truths, classes, notes = per_class.list_class_truths(truth, layout, known)
    pairs, left_out = match(truths, predicted, pred, val_files)
    images, total = {}, Confusion(classes.num_classes)
    for done, (name, other) in enumerate(pairs.items(), start=1):
        counts = per_class.count_classes(truths[name](), *predicted[other](None), classes, other)
        total.counts += counts.counts
        images[name] = per_class.score_columns(counts, classes.names)
        progress(done, len(pairs))
    return Evaluation(images, per_class.score_columns(total, classes.names), classes, left_out, notes)


def match(
    truths: dict[str, Any], predicted: dict[str, Any], pred: Path, val_files: str | Path | None
) -> tuple[dict[str, str], list[str]]:
    """The prediction of every true image, of those listed if there is a list; and the predictions of no image."""
    if val_files is not None:
        truths = listed(truths, read_names(val_files), val_files)
    in_order = pred.is_file() and pred.suffix.lower() != ".csv"
    pairs, surplus = match_names(list(truths), list(predicted), in_order)
    return pairs, [] if val_files is not None else surplus


def listed(truths: dict[str, Any], names: list[str], path: str | Path) -> dict[str, Any]:
    """The truths that are listed in a file, by the rule of minunet.train."""
    known = list(truths)
    try:
        return {known[i]: truths[known[i]] for i in find_named(known, names)}
    except UserError as e:
        raise UserError(f"{path}: {e}") from None


def submit(pred: str | Path, path: str | Path, progress: Step = lambda done, total: None) -> tuple[int, int]:
    """Write predicted objects as a Kaggle submission of run lengths, and read it again to check it.

    Returns the numbers of objects and of images in it.
    """
    rows: dict[str, list[str]] = {}
    shapes, predicted = {}, list_label_images(Path(pred))
    for done, (found, read) in enumerate(predicted.items(), start=1):
        labels, name = read(None), printable(found)
        if name in rows:
            raise UserError(f"{pred}: two images are called {name}: rename one")
        rows[name], shapes[name] = encode(labels), labels.shape
        progress(done, len(predicted))
    write_submission(Path(path), rows)
    for name, check in list_label_images(Path(path)).items():
        check(shapes[name])
    return sum(map(len, rows.values())), len(rows)


# ---- the command -----------------------------------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    parts = (per_object.__doc__, instances.__doc__, warping_error.__doc__, f"--classes: {per_class.__doc__}")
    definitions = "\n\n".join(text or "" for text in parts)
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
    p.add_argument("--truth-kind", choices=TRUTHS,
                   help="of layout ctc: gold (the default), silver, gold frames in which every cell is outlined (complete), or "
                        "auto: gold where it is complete, else silver")  # fmt: skip
    p.add_argument("--val-files", metavar="FILE", help="text file that lists the images to score, one a line")
    p.add_argument("--partial", action="store_true",
                   help="the truth outlines only some objects: pixels in none of them do not count")  # fmt: skip
    p.add_argument("--classes", action="store_true",
                   help="score class by class instead of objects: the masks' values or colours are classes")  # fmt: skip
    p.add_argument("--masks", choices=MASK_KINDS, default="auto",
                   help="what the values of masks stand for, where this cannot be told: numbered objects, classes, or a "
                        "foreground with noise")  # fmt: skip
    p.add_argument("--ignore", nargs="+", default=[], metavar="VALUE",
                   help="values of the truth that do not count, such as 255")  # fmt: skip
    p.add_argument(
        "--axes", metavar="LETTERS", help="the axes of a data set's TIFF and .npy images, such as ZYX or CYX"
    )
    p.add_argument("--choose-threshold", metavar="FILE",
                   help="text file that lists other images than those to score: report the adapted Rand error also at the "
                        "threshold that is best on them (needs predict --probabilities)")  # fmt: skip
    p.add_argument("--groups", metavar="FILE",
                   help="lines of an image's name, a comma and its kind: means are also given by kind (default: by colour and "
                        "brightness, where --truth is a data set of images that differ)")  # fmt: skip
    p.add_argument("--csv", metavar="FILE", help="write the scores of every image")
    p.add_argument("--submission", metavar="FILE",
                   help="write what was predicted as a Kaggle submission of run lengths")  # fmt: skip
    p.add_argument("--json", action="store_true", help="print the scores as one JSON object, and nothing else")
    add_quiet(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: answer(make_parser().parse_args(argv)))


def answer(args: argparse.Namespace) -> int:
    """Score, and write what was asked for."""
    if not (args.truth or args.submission):
        raise UserError("nothing to do: give --truth PATH to score against, or --submission FILE to write run lengths")
    if args.classes and args.submission:
        raise UserError("--submission is of objects; leave out --classes")
    for wanted in filter(None, (args.csv, args.submission)):
        check_writable(wanted)
    made: dict[str, Any] = {}
    if args.submission:
        objects, images = submit(args.pred, args.submission, Bar(args.quiet))
        made["submission"] = {"path": args.submission, "objects": objects, "images": images}
        if not args.json:
            print(f"{args.submission}: {objects} objects in {images} images")
    if args.truth:
        found = evaluate(args.pred, args.truth, layout=args.layout, val_files=args.val_files, partial=args.partial,
                         classes=args.classes, truth_kind=args.truth_kind, masks=args.masks, ignore=args.ignore,
                         axes=args.axes,
                         choose_threshold=args.choose_threshold, groups=args.groups,
                         progress=Bar(args.quiet))  # fmt: skip
        if args.csv:
            found.save_csv(args.csv)
        made = found.to_json() | made
        if not args.json:
            tell_notes(found, args.quiet)
            print(found)
    if args.json:
        print(json.dumps(made, indent=2))
    return 0


def tell_notes(found: Evaluation, quiet: bool) -> None:
    """Say what the truth is, and which predictions are of no image with a truth."""
    n, notes = len(found.left_out), list(found.notes)
    if n:
        notes.append(f"{n} predictions are of no image with a truth, and are left out: {some(found.left_out)}")
    for note in notes if not quiet else ():
        print(f"note: {note}")


class Bar:
    """A progress bar, where somebody looks at a terminal."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show that so many of the images are done."""
        if self.bar is None:
            self.bar = tqdm(total=total, unit="image", disable=self.quiet or None, leave=False)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
