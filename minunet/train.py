"""``python -m minunet.train``: train a U-Net on generated cells or on your own images.

Everything goes into a run folder: history.csv, curves.png, predictions.png, best.safetensors, last.safetensors.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from . import draw, kernels
from .checkpoint import build_model, load_weights, read_checkpoint
from .cli import HelpFormatter, number, run
from .data import LAYOUTS, NORMALISATIONS, ClassMap, ImageSet, SyntheticCells, open_dataset, read_names
from .device import select_device
from .errors import UserError
from .inference import classify, predict_logits, true_labels
from .metrics import Confusion
from .models import ARCHITECTURES
from .nn import Module
from .ops import class_probabilities
from .optim import OPTIMIZERS, Schedule
from .trainer import Config, Trainer

EXAMPLES = """
examples:
  python -m minunet.train                                    generated cells, about a minute
  python -m minunet.train --data DSB2018 -e 30 --crop 256    your images; the layout is recognised
  python -m minunet.train --resume runs/cells/last.safetensors
  python -m minunet.train --data MINE -f runs/cells/best.safetensors   start from learned weights

layouts of --data:
  folder     imgs/ (or images/) and masks/, masks named like the image or with _mask or _masks
  dsb2018    stage1_train/<id>/images and <id>/masks, one nucleus a file
  isbi2012   image/ and label/ PNG slices, or train-volume.tif and train-labels.tif
"""

RUN_FLAGS = ("resume", "out", "device", "epochs")  # what may be given again with --resume


def make_parser() -> argparse.ArgumentParser:
    """The flags, in the order in which people need them."""
    d = Config()
    p = argparse.ArgumentParser(
        prog="python -m minunet.train",
        usage="%(prog)s [--data PATH] [flags]",
        formatter_class=HelpFormatter,
        epilog=EXAMPLES,
        description=__doc__,
    )
    g = p.add_argument_group("data")
    g.add_argument("--data", metavar="PATH", help="folder of images and masks (default: generated cells)")
    g.add_argument("--layout", choices=["auto", *LAYOUTS], default="auto", help="how --data is laid out")
    g.add_argument("-v", "--validation", type=number(float, 0, 90), default=10.0, metavar="PERCENT",
                   help="share of the images held out to validate")  # fmt: skip
    g.add_argument("--val-files", metavar="FILE", help="text file that lists the images to validate on, one a line")
    g.add_argument(
        "-s", "--scale", type=number(float, 0, 16, above=True), default=1.0, help="factor for the images' size"
    )
    g.add_argument("-c", "--classes", type=number(int, 1, 64), metavar="N",
                   help="output channels; 1 means a sigmoid (default: as many as the masks have values)")  # fmt: skip
    g.add_argument(
        "--channels", type=number(int, 1), metavar="N", help="image channels (default: 1 if all are grey, else 3)"
    )
    g.add_argument("--normalise", choices=NORMALISATIONS, default="percentile", help="what is done to grey values")
    g.add_argument("--crop", type=number(int, 0), default=d.crop, metavar="PIXELS",
                   help="side of the training patches; 0 trains on whole images")  # fmt: skip
    g.add_argument("--augment", action=argparse.BooleanOptionalAction, default=d.augment,
                   help="flip, rotate, deform and relight the patches")  # fmt: skip

    g = p.add_argument_group("network")
    g.add_argument("--arch", choices=sorted(ARCHITECTURES), default="unet", help="architecture")
    g.add_argument(
        "--base-width",
        type=number(int, 1),
        default=16,
        metavar="N",
        help="channels of the first level; the paper's is 64",
    )
    g.add_argument("--depth", type=number(int, 1, 8), default=4, metavar="N", help="number of poolings")
    g.add_argument(
        "--up", choices=["transpose", "bilinear", "nearest"], default="transpose", help="how maps grow again"
    )
    g.add_argument("--bilinear", action="store_const", dest="up", const="bilinear", help="the same as --up bilinear")
    g.add_argument(
        "--norm", choices=["batch", "group", "none"], default="batch", help="normalisation after convolutions"
    )
    g.add_argument(
        "--padding", choices=["same", "valid"], default="same", help="valid: the paper's unpadded convolutions"
    )
    g.add_argument(
        "--dropout", type=number(float, 0, 0.95), default=0.0, metavar="RATE", help="at the end of the contracting path"
    )
    g.add_argument("-f", "--load", metavar="FILE", help="checkpoint to take the initial weights from")

    g = p.add_argument_group("training")
    g.add_argument(
        "-e",
        "--epochs",
        type=number(int, 1),
        help=f"passes over the images (default: {d.epochs}; 8 on generated cells)",
    )
    g.add_argument("-b", "--batch-size", type=number(int, 1), default=d.batch_size, metavar="N", help="patches a step")
    g.add_argument("-l", "--learning-rate", "--lr", type=number(float, 0, above=True), default=d.learning_rate, metavar="RATE",
                   help="learning rate at the start")  # fmt: skip
    g.add_argument(
        "--loss", choices=["ce", "bce", "dice", "ce+dice", "focal"], default=d.loss, help="what is minimised"
    )
    g.add_argument("--optimizer", choices=sorted(OPTIMIZERS), default=d.optimizer, help="how weights are updated")
    g.add_argument("--momentum", type=number(float, 0, 1), default=d.momentum, help="of sgd and rmsprop")
    g.add_argument(
        "--weight-decay", type=number(float, 0), default=d.weight_decay, help="pull of the weights towards 0"
    )
    g.add_argument("--schedule", choices=Schedule.names, default=d.schedule, help="the learning rate over time")
    g.add_argument(
        "--clip", type=number(float, 0), default=d.clip, metavar="NORM", help="longest gradient (default: no limit)"
    )
    g.add_argument("--seed", type=number(int, 0), default=d.seed, help="of weights, split, patches and dropout")
    g.add_argument("--amp", action="store_true", help="mixed precision on a GPU; on the CPU everything stays float32")

    g = p.add_argument_group("run")
    g.add_argument("--out", metavar="DIR", help="run folder (default: a new one under runs/)")
    g.add_argument("--resume", metavar="FILE", help="last.safetensors of a run to continue, with that run's flags")
    g.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where to compute")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = make_parser()
    args = parser.parse_args(argv)
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    return run(lambda: train(args, given))


def train(args: argparse.Namespace, given: set[str]) -> int:
    """Train as the flags say; `given` names those that are not at their default."""
    resume = Path(args.resume) if args.resume else None
    classes, weights = None, None
    if resume:
        args, meta, weights = resume_flags(args, given, resume)
        classes = ClassMap.from_json(meta["data"]["classes"])
    xp = select_device(args.device)
    if args.amp:
        print("note: --amp has no effect here, everything is computed in float32")
    dataset, split = open_data(args, classes)
    print(dataset.describe())
    print_split(dataset, *split)

    model = make_model(args, dataset)
    if weights is None and args.load:
        weights = read_checkpoint(args.load)[1]
    if weights is not None:
        load_weights(model, weights, args.resume or args.load)
    config = make_config(args)
    check_crop(model, config, dataset)
    out = make_run_folder(args, resume)
    trainer = Trainer(model, dataset, *split, config, out, xp, flags_to_keep(args))
    if resume:
        trainer.resume(resume)
    print(
        f"network     {args.arch}, {model.num_params():,} parameters, base width {args.base_width}, depth {args.depth}"
    )
    print(f"run folder  {out}\n")
    if xp is np:
        compile_kernels()

    if not trainer.run():
        print(f"\nstopped in epoch {trainer.place.epoch + 1}; everything is saved. To go on:")
        print(f"  python -m minunet.train --resume {out / 'last.safetensors'}")
        return 130
    finish(trainer, args)
    return 0


# ---- before ----------------------------------------------------------------------------------------------------------


def resume_flags(
    args: argparse.Namespace, given: set[str], path: Path
) -> tuple[argparse.Namespace, dict[str, Any], dict[str, np.ndarray]]:
    """The interrupted run's flags, with those that may change; its metadata and weights."""
    meta, weights, _ = read_checkpoint(path)
    other = sorted(given - set(RUN_FLAGS) - {"data"})
    if other:
        named = ", ".join("--" + name.replace("_", "-") for name in other)
        raise UserError(f"--resume continues a run with its own flags; leave out {named}, or start anew with -f {path}")
    if "flags" not in meta.get("train", {}):
        raise UserError(f"{path} is not from a training run; start one from its weights with -f {path}")
    kept = {**vars(args), **meta["train"]["flags"], "resume": str(path), "device": args.device}
    for name in given & {"data", "out", "epochs"}:
        kept[name] = getattr(args, name)
    return argparse.Namespace(**kept), meta, weights


def flags_to_keep(args: argparse.Namespace) -> dict[str, Any]:
    """The flags for the checkpoints, with whole paths, so that --resume works from any folder."""
    flags = {k: v for k, v in vars(args).items() if k not in ("resume", "load", "out", "device")}
    for name in ("data", "val_files"):
        flags[name] = flags[name] and str(Path(flags[name]).resolve())
    return flags


def open_data(args: argparse.Namespace, classes: ClassMap | None) -> tuple[ImageSet, tuple[list[int], list[int]]]:
    """The data set and its split into images to train and to validate on."""
    dataset: ImageSet
    if args.data is None:
        dataset = SyntheticCells(220, size=128, seed=args.seed, channels=args.channels or 1)
    else:
        dataset = open_dataset(args.data, args.layout, args.channels, args.normalise, args.scale, classes)
    names = read_names(args.val_files) if args.val_files else None
    try:
        return dataset, dataset.split(args.validation, args.seed, names)
    except UserError as e:
        raise UserError(f"{args.val_files or args.data or 'generated cells'}: {e}") from e


def print_split(dataset: ImageSet, train: list[int], validation: list[int]) -> None:
    """Say which images are trained on and which are held out."""
    held = ", ".join(dataset.names[i][:12] for i in validation[:4])
    more = f" and {len(validation) - 4} more" if len(validation) > 4 else ""
    print(f"split       {len(train)} to train, {len(validation)} to validate: {held}{more}")


def make_model(args: argparse.Namespace, dataset: ImageSet) -> Module:
    """The network for a data set, knowing how its images were prepared."""
    K = dataset.classes.num_classes
    outputs = args.classes or (1 if args.loss == "bce" else K)
    if outputs != K and not (outputs == 1 and K == 2):
        raise UserError(f"--classes {outputs}, but the masks hold {K} classes: {dataset.classes.describe()}")
    if args.loss == "bce" and outputs != 1:
        raise UserError(f"--loss bce is for two classes and one output channel, the masks hold {K}: use --loss ce")
    model = build_model(
        args.arch,
        {
            "in_channels": dataset.channels, "num_classes": outputs, "base_width": args.base_width, "depth": args.depth,
            "up": args.up, "norm": None if args.norm == "none" else args.norm, "padding": args.padding,
            "dropout": args.dropout, "seed": args.seed,
        },
    )  # fmt: skip
    model.data = {
        "channels": dataset.channels, "normalise": args.normalise, "scale": args.scale,
        "classes": dataset.classes.to_json(),
    }  # fmt: skip
    return model


def make_config(args: argparse.Namespace) -> Config:
    """What shapes the training, out of all flags."""
    if args.epochs is None:
        args.epochs = Config.epochs if args.data else 8
    return Config(**{f.name: getattr(args, f.name) for f in fields(Config)})


def check_crop(model: Module, config: Config, dataset: ImageSet) -> None:
    """UserError, with the nearest sizes that fit, if the network cannot take the training patches."""
    sizes = {(config.crop, config.crop)} if config.crop else set(dataset.sizes)
    for size in sizes:
        try:
            model.check_size(*size)
        except ValueError as e:
            raise UserError(f"--crop {config.crop}: {e}") from e


def make_run_folder(args: argparse.Namespace, resume: Path | None) -> Path:
    """Make the folder of the run, and see that it can be written to."""
    if args.out is None and resume:
        out = resume.parent
    else:
        kind = Path(args.data).resolve().name if args.data else "cells"
        out = Path(args.out or f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{kind}")
    if not resume and (out / "history.csv").exists():
        raise UserError(
            f"{out} holds a run already; choose another --out, or continue it with --resume {out}/last.safetensors"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise UserError(f"cannot write to {out}: {e.strerror or e}; choose another --out") from e
    return out


def compile_kernels() -> None:
    """Compile the CPU kernels if this machine never has, and show how far it is."""
    if kernels.is_compiled():
        return
    print("compiling the kernels; only the first run on a machine does this", flush=True)
    with tqdm(bar_format="{desc:<32}{bar} {n}/{total}", disable=None, dynamic_ncols=True, leave=False) as bar:

        def show(done: int, total: int, name: str) -> None:
            bar.total, bar.n = total, done
            bar.set_description_str(name)

        kernels.warm_up(progress=show)


# ---- after -----------------------------------------------------------------------------------------------------------


def finish(trainer: Trainer, args: argparse.Namespace) -> None:
    """Draw the run, state the best epoch's scores, and say what to do next."""
    out, history, dataset = trainer.out, trainer.place.history, trainer.dataset
    load_weights(trainer.model, read_checkpoint(out / "best.safetensors")[1], out / "best.safetensors")
    draw.curves(out / "curves.png", history)
    draw.predictions(out / "predictions.png", telling_cases(trainer), dataset.classes)
    best = max(history, key=lambda row: row["val_dice"])
    print(f"\nbest epoch {best['epoch']} on {len(trainer.validation)} validation images, pooled over all pixels:")
    print(f"  Dice {best['val_dice']:.4f}   IoU {best['val_iou']:.4f}   pixel accuracy {best['val_accuracy']:.4f}")
    if dataset.classes.num_classes > 1:
        print("  Dice by class: " + ", ".join(f"{n} {best[f'dice_{n}']:.4f}" for n in dataset.classes.names))
    print(f"\nin {out}: history.csv, curves.png, predictions.png, best.safetensors, last.safetensors")
    images = "IMAGE..."
    if args.data is None:
        examples = out / "examples"
        examples.mkdir(exist_ok=True)
        for i in trainer.validation[:3]:
            draw.save_png(examples / f"{dataset.names[i]}.png", draw.to_rgb(dataset[i].image)[..., 0])
        images = str(examples)
    print(f"next: python -m minunet.predict -m {out / 'best.safetensors'} -i {images} -o {out / 'predicted'}")


def telling_cases(trainer: Trainer, most: int = 4) -> list[dict[str, Any]]:
    """The worst and the best of the validation images, worst first, for the picture of predictions."""
    scored = []
    for i in trainer.validation:
        sample = trainer.dataset[i]
        truth = true_labels(sample)
        prediction = classify(class_probabilities(predict_logits(trainer.model, sample.image[None]))[0])
        confusion = Confusion(trainer.classes.num_classes)
        confusion.add(truth, prediction)
        scored.append((confusion.mean_dice(), i, truth, prediction))
    scored.sort(key=lambda s: s[:2])
    chosen = scored if len(scored) <= most else scored[: most // 2] + scored[-(most // 2) :]
    return [
        {"name": trainer.dataset.names[i], "score": score, "image": trainer.dataset[i].image, "truth": truth,
         "prediction": prediction}
        for score, i, truth, prediction in chosen
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
