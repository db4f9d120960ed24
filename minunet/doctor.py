"""``minunet doctor PATH``: find common problems of a data set before they cost an evening.

Looks at every image and mask, at the split into training and validation, at the sizes that the network takes, at the GPU, and
with -m at the predictions of a trained network for these images. Says for every problem what to do. Exit status 1 if there is
one, else 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from .checkpoint.load import load
from .cli import HelpFormatter, add_quiet, number, run, typed
from .data import LAYOUTS, NORMALISATIONS, TRUTHS, Preprocessing, to_channels
from .data.checks import Survey, shortened, survey
from .data.findings import Findings
from .data.layouts.find import find_source
from .data.mask_scan import MASK_KINDS, ignored_values
from .errors import UserError
from .kernels.gpu import gpu_status, has_nvidia_gpu
from .metrics import Confusion
from .nn import Module
from .predict.inference import class_map, segment
from .train.arguments import Arguments
from .train.checks import examine_images, examine_objects, examine_sizes, examine_split
from .train.config import TrainingConfig

EXAMPLES = """
examples:
  %(prog)s DATA
  %(prog)s DATA -m runs/RUN/best.safetensors
  %(prog)s IMAGES -m nuclei   without masks: are objects too small or too large for it?
"""
LOOKED_AT = 6  # images that a network is tried on
SIDE = 512  # pixels of each
SAME = 0.999  # share of pixels from which on an answer is one class everywhere
POOR = 0.2  # Dice below which a network is not for these images


def make_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    p = argparse.ArgumentParser(
        prog=typed("doctor"), formatter_class=HelpFormatter, epilog=EXAMPLES, description=__doc__
    )
    p.add_argument("path", metavar="PATH", help="a data set, as minunet.train takes it with --data")
    p.add_argument("-m", "--model", metavar="FILE", help="a checkpoint to try on these images, or nuclei")
    p.add_argument(
        "--json", action="store_true", help="print one JSON object: every finding with the images it is about"
    )
    add_quiet(p, "print troubles and notes only")
    g = p.add_argument_group("as for minunet.train")
    g.add_argument("--layout", choices=["auto", *LAYOUTS], default="auto", help="how PATH is laid out")
    g.add_argument("--truth-kind", choices=TRUTHS, default="auto", help="of layout ctc: which truth")
    g.add_argument("--masks", choices=MASK_KINDS, default="auto", help="what the values of masks stand for")
    g.add_argument(
        "--ignore", nargs="+", default=[], metavar="VALUE", help="values of masks that do not count, such as 255"
    )
    g.add_argument("--axes", metavar="LETTERS", help="the axes of TIFF and .npy images, such as ZYX, CYX or YXC")
    g.add_argument("-v", "--validation", type=number(float, 0, 90), default=10.0, metavar="PERCENT",
                   help="share of the images held out for validation")  # fmt: skip
    g.add_argument("--val-files", metavar="FILE", help="text file that lists the images to validate on")
    g.add_argument("--normalise", choices=NORMALISATIONS, default="percentile", help="how grey values are normalised")
    g.add_argument(
        "--crop", type=number(int, 0), default=TrainingConfig.crop, metavar="PIXELS", help="side of training patches"
    )
    g.add_argument("--depth", type=number(int, 1, 8), default=4, metavar="N", help="number of poolings")
    g.add_argument("--padding", choices=["same", "valid"], default="same", help="of the convolutions")
    g.add_argument("--seed", type=number(int, 0), default=0, help="of the split")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: doctor(make_parser().parse_args(argv)))


def doctor(args: argparse.Namespace) -> int:
    """Examine, report, and return 1 if there is trouble."""
    options = {name: value for name, value in vars(args).items() if name != "json"}
    findings = examine(**{**options, "quiet": args.quiet or args.json})
    troubles = findings.troubles
    if args.json:
        print(
            json.dumps({"path": args.path, "troubles": troubles, "findings": [asdict(f) for f in findings]}, indent=2)
        )
        return 1 if troubles else 0
    for finding in findings:
        if not (args.quiet and finding.severity == "ok"):
            print(finding)
    if not args.quiet:
        print(f"\n{troubles} trouble{'s' * (troubles != 1)} found" if troubles else "\nno trouble found")
    return 1 if troubles else 0


def examine(
    path: str | Path,
    model: str | Path | None = None,
    *,
    layout: str = "auto",
    truth_kind: str = "auto",
    masks: str = "auto",
    ignore: Sequence[object] = (),
    validation: float = 10.0,
    val_files: str | Path | None = None,
    normalise: str = "percentile",
    crop: int = TrainingConfig.crop,
    depth: int = 4,
    padding: str = "same",
    seed: int = 0,
    axes: str | None = None,
    quiet: bool = True,
) -> Findings:
    """All that is to be said of a data set, of a network for it, and of this machine.

    Parameters
    ----------
    path : path
        The data set's folder.
    model : path or None
        A checkpoint to try on these images.
    layout, truth_kind, masks, ignore, normalise, axes
        As for `minunet.data.open_dataset`, where `truth_kind` is called `truth`.
    validation : float
        Percent of the images that are held out, drawn with `seed` unless the file `val_files` lists them.
    crop, depth, padding
        Side of the training patches in pixels, number of poolings and padding of the network that is to be trained.
    quiet : bool
        Show no progress.

    Returns
    -------
    Findings
        A list of `minunet.data.findings.Finding`, each with its name, severity, files, text and advice.

    Raises
    ------
    UserError
        If there is no such folder, or an argument is out of range; everything else that is wrong is a finding.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such folder")
    Arguments(layout=layout, truth_kind=truth_kind, validation=validation, normalise=normalise, crop=crop, depth=depth,
              padding=padding, seed=seed)  # fmt: skip  # which checks them
    findings = Findings()
    network = examine_model(model, findings) if model else None
    try:
        source = find_source(path, layout, truth_kind, axes)
    except UserError as e:
        if not (network and examine_images(network, Path(path), axes, findings)):
            findings.trouble("names", str(e))
    else:
        findings.ok("names", f"{len(source.entries)} images of the layout {source.layout}, each with its mask")
        for note in source.notes:
            findings.ok(*note.split(maxsplit=1))
        for text in source.left_out:
            findings.note("left out", text, "right if these are no images to train on")
        method = network.preprocessing.normalise if network else normalise
        classes = class_map(network) if network else source.classes if masks == "auto" else None
        values = ignored_values(ignore)
        classes = classes and classes.ignoring(values)
        seen = survey(source, classes, method, findings, quiet, masks, values)
        held = examine_split(seen, source.ordered, validation, seed, val_files, findings)
        examine_sizes(network, crop, depth, padding, seen, findings)
        examine_objects(network, crop, depth, padding, seen, findings)
        examine_channels(network, seen, findings)
        if network:
            try_out(network, seen, held, findings)
    examine_gpu(findings)
    return findings


# ---- the network -----------------------------------------------------------------------------------------------------


def examine_model(file: str | Path, findings: Findings) -> Module | None:
    """Load the checkpoint; None, and a finding, if that fails."""
    try:
        model = load(file)
    except UserError as e:
        findings.trouble("checkpoint", str(e))
        return None
    known: Preprocessing = model.preprocessing
    what = f"{known.channels} channels, {known.normalise} normalisation; {known.classes.describe()}"
    findings.ok("checkpoint", what)
    return model


def examine_channels(model: Module | None, seen: Survey, findings: Findings) -> None:
    """Can the images be given to the network, and does it see what is in them?"""
    if model is None:
        if seen.grey and seen.coloured:
            what = f"{len(seen.grey)} images are grey, {len(seen.coloured)} hold colour ({shortened(seen.coloured)})"
            findings.note(
                "channels",
                what,
                "the network will have 3 channels; with --channels 1 it sees the luminance of all",
                seen.coloured,
            )
        return
    wants = model.preprocessing.channels
    for name, image in seen.images(wants):
        try:
            to_channels(image[:1, :1], wants)
        except UserError:
            return findings.trouble(
                "channels", f"{name} has {image.shape[-1]} channels, the network was trained on {wants}",
                "save the images with the channels that the network knows, or train one on these", [name],
            )  # fmt: skip
    if wants == 1 and seen.coloured:
        findings.note(
            "channels", f"{len(seen.coloured)} images hold colour ({shortened(seen.coloured)}); the network was trained on "
            f"grey and sees their luminance", "if the stain's colour matters, train a network with --channels 3", seen.coloured,
        )  # fmt: skip


def try_out(model: Module, seen: Survey, held: list[int], findings: Findings) -> None:
    """What the network answers on some images: one class everywhere? Anything like the truth?"""
    K = class_map(model).num_classes
    confusion, most, truths = Confusion(K), [], []
    for i in (held + [i for i in range(len(seen.entries)) if i not in held])[:LOOKED_AT]:
        try:
            image, labels = seen.patch(i, SIDE, model.preprocessing.channels)
            answer = segment(model, image)
        except UserError:
            continue  # has been said
        confusion.add(labels, answer)
        most.append(np.bincount(answer.ravel(), minlength=K))
        truths.append(np.bincount(labels[labels >= 0], minlength=K))
    if not most:
        return
    known: Preprocessing = model.preprocessing
    given, true = np.sum(most, 0) / np.sum(most), np.sum(truths, 0) / max(np.sum(truths), 1)
    kept = class_map(model).names[int(given.argmax())]
    if given.max() > SAME and true.max() < SAME:
        findings.trouble(
            "one class", f"the network answers {kept!r} on {100 * given.max():.1f} % of the pixels of {len(most)} images, "
            f"of which {100 * true[given.argmax()]:.1f} % are",
            f"it was trained on {known.normalise} normalisation of {known.channels}-channel images: are these "
            f"of the same kind? If it answers so on its own training images, train longer, with a lower learning rate, and "
            f"with --loss ce+dice",
        )  # fmt: skip
    elif confusion.mean_dice() < POOR:
        findings.trouble(
            "poor answers", f"Dice {confusion.mean_dice():.2f} on {len(most)} images", "are objects light where they were dark "
            "in training, or much larger or smaller (predict --scale)? Else train on images of this kind",
        )  # fmt: skip
    else:
        findings.ok("answers", f"Dice {confusion.mean_dice():.2f} on {len(most)} images")


# ---- the machine -----------------------------------------------------------------------------------------------------


def examine_gpu(findings: Findings) -> None:
    """Is there a GPU that goes unused?"""
    status = gpu_status()
    if status:
        findings.ok("GPU", f"{status.reason} is used")
    elif has_nvidia_gpu():
        findings.trouble("GPU not used", f"there is an NVIDIA GPU here, but {status.reason}")
    else:
        findings.ok("GPU", "none found; everything is computed on the CPU")


if __name__ == "__main__":
    sys.exit(main())
