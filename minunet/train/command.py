"""``python -m minunet.train``: train a U-Net on generated cells or on your own images.

Everything goes into a run folder: history.csv, curves.png, predictions.png, best.safetensors, last.safetensors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..array import to_numpy
from ..checkpoint.build import build_model, check_arch, load_weights
from ..checkpoint.load import read_checkpoint
from ..cli import run, use_threads
from ..data import ClassMap, ImageSet, SyntheticCells, open_dataset, read_names
from ..data.sample import true_labels
from ..data.targets import Target, TargetSet
from ..errors import UserError
from ..kernels.device import describe, select_device
from ..metrics import Confusion
from ..nn import Module, draw_uniform
from ..ops import class_probabilities
from ..predict import overlay
from ..predict.inference import classify, predict_logits
from . import figures
from .arguments import make_parser as make_parser
from .arguments import parse
from .config import Config
from .trainer import Trainer

RESUME_FLAGS = ("resume", "data", "device", "graph", "epochs", "threads")  # what may be given with --resume


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return run(lambda: train(*parse(argv)))


def train(args: argparse.Namespace, given: set[str] | None = None) -> int:
    """Train as the flags say; `given` names those that were typed. Returns the exit status."""
    classes, weights = None, None
    if args.resume:
        args, meta, weights = resume_flags(args, given or set())
        classes = ClassMap.from_json(meta["data"]["classes"])
    elif args.load:
        meta, weights, _ = read_checkpoint(args.load)
        follow_checkpoint(args, given or set(), meta)
    if weights is not None:
        check_arch(args.resume or args.load, meta["arch"], args.arch)
    use_threads(args.threads)
    xp = select_device(args.device)
    if args.amp and xp is np:
        print("note: --amp has no effect on the CPU, where everything is computed in float32")
    data, split = open_data(args, classes)
    dataset = set_target(args, given or set(), data, split[0])
    print(dataset.describe())
    print_split(dataset, *split)
    print(f"device      {describe(xp, args.device)}")

    model = make_model(args, data.classes, dataset)
    if args.recipe == "paper" and "crop" not in (given or set()) and not args.resume:
        args.crop = min(args.crop, model.fit_size(max(map(max, dataset.sizes))))  # no tile beyond the largest image
    if weights is not None:
        load_weights(model, weights, args.resume or args.load)
    config = make_config(args)
    check_crop(model, config, dataset)
    if config.batch_size == 1 and args.norm == "batch":
        print(
            "note: batch norm sees one image a step (-b 1); where images differ, predictions suffer: try --norm group"
        )
    out = choose_run_folder(args)
    trainer = Trainer(model, dataset, *split, config, out, xp, flags_to_keep(args), args.graph)
    if args.resume:
        trainer.resume(Path(args.resume))
    size = f"{model.num_params():,} parameters, base width {args.base_width}, depth {args.depth}"
    print(f"network     {args.arch}, {size}\nrun folder  {out}\n")
    if xp is np:
        compile_kernels()

    with run_folder(out):
        if not trainer.run():
            print(f"\nstopped in epoch {trainer.place.epoch + 1}; everything is saved. To go on:")
            print(f"  python -m minunet.train --resume {out / 'last.safetensors'}")
            return 130
        finish(trainer, args)
    return 0


# ---- before ----------------------------------------------------------------------------------------------------------


def resume_flags(
    args: argparse.Namespace, given: set[str]
) -> tuple[argparse.Namespace, dict[str, Any], dict[str, np.ndarray]]:
    """The interrupted run's flags, with those that may change; its metadata and weights."""
    meta, weights, _ = read_checkpoint(args.resume)
    other = sorted(given - set(RESUME_FLAGS))
    if other:
        named = ", ".join("--" + name.replace("_", "-") for name in other)
        raise UserError(
            f"--resume continues a run in its folder, with its own flags; leave out {named}, or start a new run from its "
            f"weights with -f {args.resume}"
        )
    if "flags" not in meta["train"]:
        raise UserError(f"{args.resume} is not from a training run; start one from its weights with -f {args.resume}")
    kept = {**vars(args), **meta["train"]["flags"]}
    kept.update({name: getattr(args, name) for name in given})
    return argparse.Namespace(**kept), meta, weights


def follow_checkpoint(args: argparse.Namespace, given: set[str], meta: dict[str, Any]) -> None:
    """Take the network's shape and the preparation of images from a checkpoint, except what was typed."""
    options = meta["options"]
    shape = {k: v for k, v in options.items() if k not in ("in_channels", "num_classes", "dropout", "seed", *given)}
    if given & {"base_width", "depth"}:
        shape.pop("widths", None)
    elif shape.get("widths"):
        args.base_width, args.depth = int(np.ravel(shape["widths"][0][0])[0]), len(shape["widths"][1])
    args.network = shape
    vars(args).update(
        {k: v or "none" for k, v in shape.items() if k in ("base_width", "depth", "up", "norm", "padding")}
    )
    vars(args).update({k: meta["data"][k] for k in ("channels", "normalise") if k not in given})


def flags_to_keep(args: argparse.Namespace) -> dict[str, Any]:
    """The flags for the checkpoints, with whole paths, so that --resume works from any folder."""
    flags = {k: v for k, v in vars(args).items() if k not in ("resume", "load", "out", "device", "graph", "threads")}
    for name in ("data", "val_files", "cache"):
        flags[name] = flags[name] and str(Path(flags[name]).resolve())
    return flags


def open_data(args: argparse.Namespace, classes: ClassMap | None) -> tuple[ImageSet, tuple[list[int], list[int]]]:
    """The data set and its split into images to train and to validate on."""
    dataset: ImageSet
    if args.data is None:
        dataset = SyntheticCells(220, size=128, seed=args.seed, channels=args.channels or 1)
    else:
        dataset = open_dataset(args.data, args.layout, args.channels, args.normalise, args.scale, classes, args.truth)
    names = read_names(args.val_files) if args.val_files else None
    try:
        return dataset, dataset.split(args.validation, args.seed, names)
    except UserError as e:
        raise UserError(f"{args.val_files or args.data or 'generated cells'}: {e}") from e


def set_target(args: argparse.Namespace, given: set[str], dataset: ImageSet, train: list[int]) -> ImageSet:
    """The data set with the labels and weights that the flags ask for."""
    if args.recipe == "paper" and "weight_map" not in given and args.w0 and dataset[train[0]].instances is None:
        args.w0 = 0.0
        print("note: these masks do not tell objects apart, so the paper's weight map only balances the classes (w0 0)")
    target = Target(args.target, args.border_width, args.weight_map, args.balance, args.w0, args.sigma, args.cache)
    return dataset if target.is_plain else TargetSet(dataset, target, train)


def print_split(dataset: ImageSet, train: list[int], validation: list[int]) -> None:
    """Say which images are trained on and which are held out."""
    held = ", ".join(dataset.names[i][:12] for i in validation[:4])
    more = f" and {len(validation) - 4} more" if len(validation) > 4 else ""
    print(f"split       {len(train)} to train, {len(validation)} to validate: {held}{more}")


def make_model(args: argparse.Namespace, masks: ClassMap, dataset: ImageSet) -> Module:
    """The network for a data set, knowing how its images were prepared and what its masks mean."""
    K = dataset.classes.num_classes
    outputs = args.classes or (1 if args.loss == "bce" else K)
    if args.loss == "bce" and (K != 2 or outputs != 1):
        raise UserError(f"--loss bce is for two classes and --classes 1; the masks hold {K} classes: use --loss ce")
    if outputs != K and not (outputs == 1 and K == 2):
        raise UserError(f"--classes {outputs}, but the masks hold {K} classes: {dataset.classes.describe()}")
    model = build_model(
        args.arch,
        {
            "in_channels": dataset.channels, "num_classes": outputs, "base_width": args.base_width, "depth": args.depth,
            "up": args.up, "norm": None if args.norm == "none" else args.norm, "padding": args.padding,
            "dropout": args.dropout, "seed": args.seed, **(getattr(args, "network", None) or {}),  # as -f's file has it
        },
    )  # fmt: skip
    model.data = {
        "channels": dataset.channels, "normalise": args.normalise, "scale": args.scale,
        "classes": masks.to_json(), "target": args.target, "tta": args.tta,
    }  # fmt: skip
    if args.init == "uniform":
        draw_uniform(model, np.random.default_rng(args.seed))
    return model


def make_config(args: argparse.Namespace) -> Config:
    """What shapes the training, out of all flags."""
    if args.epochs is None:
        args.epochs = Config.epochs if args.data else 5
    return Config(**{f.name: getattr(args, f.name) for f in fields(Config)})


def check_crop(model: Module, config: Config, dataset: ImageSet) -> None:
    """UserError, with the nearest sizes that fit, if the network cannot take the training patches."""
    sizes = {(config.crop, config.crop)} if config.crop else set(dataset.sizes)
    for size in sizes:
        try:
            model.check_size(*size)
        except ValueError as e:
            raise UserError(f"--crop {config.crop}: {e}") from e


def choose_run_folder(args: argparse.Namespace) -> Path:
    """That of the run to be resumed, --out, or a new one; UserError if --out holds a run already."""
    if args.resume:
        return Path(args.resume).parent
    kind = Path(args.data).resolve().name if args.data else "cells"
    out = Path(args.out or f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{kind}")
    for name in ("history.csv", "last.safetensors"):
        if (out / name).exists():
            raise UserError(
                f"{out} holds a run already; choose another --out, or continue it with --resume {out}/last.safetensors"
            )
    return out


@contextmanager
def run_folder(out: Path) -> Iterator[None]:
    """Make the folder of the run, and see that it can be written to; if nothing gets into it, take it away again."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as e:
        raise UserError(f"cannot write to {out}: {e.strerror or e}; choose another --out") from e
    try:
        yield
    finally:
        if not any(out.iterdir()):
            out.rmdir()


def compile_kernels() -> None:
    """Compile the CPU kernels if this machine never has, and show how far it is."""
    from ..kernels.cpu import warm_up  # loads numba, which --help need not wait for

    if warm_up.is_compiled():
        return
    print("compiling the kernels; only the first run on a machine does this", flush=True)
    with tqdm(bar_format="{desc:<32}{bar} {n}/{total}", disable=None, dynamic_ncols=True, leave=False) as bar:

        def show(done: int, total: int, name: str) -> None:
            bar.total, bar.n = total, done
            bar.set_description_str(name)

        warm_up.warm_up(progress=show)


# ---- after -----------------------------------------------------------------------------------------------------------


def finish(trainer: Trainer, args: argparse.Namespace) -> None:
    """Draw the run, state the best epoch's scores, and say what to do next."""
    out, history, dataset = trainer.out, trainer.place.history, trainer.dataset
    load_weights(trainer.model, read_checkpoint(out / "best.safetensors")[1], out / "best.safetensors")
    figures.curves(out / "curves.png", history)
    figures.predictions(out / "predictions.png", telling_cases(trainer), dataset.classes)
    best = max(history, key=lambda row: row["val_dice"])
    print(f"\nbest epoch {best['epoch']} on {len(trainer.validation)} validation images, pooled over all pixels:")
    print(f"  Dice {best['val_dice']:.4f}   IoU {best['val_iou']:.4f}   pixel accuracy {best['val_accuracy']:.4f}")
    scores = {name: best[f"dice_{name}"] for name in dataset.classes.names}
    print("  Dice by class: " + ", ".join(f"{n} {'none' if d is None else f'{d:.4f}'}" for n, d in scores.items()))
    if len(scores) > 2:
        print(f"  Dice of all foreground as one class: {best['dice_all_foreground']:.4f}")
    print(f"\nin {out}: history.csv, curves.png, predictions.png, best.safetensors, last.safetensors")
    images = "IMAGE..."
    if args.data is None:
        examples = out / "examples"
        examples.mkdir(exist_ok=True)
        for i in trainer.validation[:3]:
            overlay.save_png(examples / f"{dataset.names[i]}.png", overlay.to_rgb(dataset[i].image)[..., 0])
        images = str(examples)
    print(f"next: python -m minunet.predict -m {out / 'best.safetensors'} -i {images} -o {out / 'predicted'}")


def telling_cases(trainer: Trainer, most: int = 4) -> list[dict[str, Any]]:
    """The worst and the best of the validation images, worst first, for the picture of predictions."""
    scored = []
    for i in trainer.validation:
        sample = trainer.dataset[i]
        truth = true_labels(sample)
        p = class_probabilities(predict_logits(trainer.model, sample.image[None]))[0]
        prediction = to_numpy(classify(p))
        confusion = Confusion(trainer.classes.num_classes)
        confusion.add(truth, prediction)
        scored.append((confusion.mean_dice(), i, truth, prediction))
    scored.sort(key=lambda s: s[:2])
    chosen = scored if len(scored) <= most else scored[: most // 2] + scored[-(most // 2) :]
    return [
        {"name": trainer.dataset.names[i], "score": score, "image": trainer.dataset[i].image, "truth": truth,
         "prediction": prediction, "weight": trainer.dataset[i].weight}
        for score, i, truth, prediction in chosen
    ]  # fmt: skip
