"""What is looked at before a run begins: that settings and images suit each other, and what is needed at the end is there,
pictures with the images' names, and space for checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..data import ImageSet
from ..errors import UserError
from ..models import ARCHITECTURES
from ..nn import Module
from . import figures
from .config import TrainingConfig

STATES = {"sgd": 1, "rmsprop": 2}  # arrays of the weights' size that an optimiser keeps, at most; 2 for all others
PICTURES = 4 << 20  # bytes of curves.png and predictions.png, about


def check_pictures(names: Sequence[str]) -> None:
    """UserError if Matplotlib cannot draw here, or cannot write these names."""
    try:
        figures.try_names(names)
    except Exception as e:  # a broken installation, a font cache that cannot be written, ...
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise UserError(
            f"the run's pictures could not be drawn at its end ({reason}); mend Matplotlib's installation"
        ) from e


def check_space(folder: Path, model: Module, config: TrainingConfig) -> None:
    """UserError if the disk has no room for best.safetensors, last.safetensors, and a new one before it replaces an old one."""
    arrays = 1 + STATES.get(config.optimizer, 2) + bool(config.ema)
    size = 4 * model.num_params() * arrays
    there = sum((folder / name).exists() for name in ("best.safetensors", "last.safetensors"))
    needed, free = (3 - there) * size + PICTURES, shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:,.0f} MB are free, the run's checkpoints and pictures need {needed / 1e6:,.0f} MB; free "
            f"some space, or choose another --out"
        )


def check_share(config: TrainingConfig, ranks: int) -> None:
    """UserError if a batch has less patches than there are ranks."""
    if config.batch_size < ranks:
        raise UserError(
            f"--batch-size {config.batch_size} is divided among {ranks} ranks: take {ranks} or more, or start fewer ranks"
        )


def check_classes(outputs: int, loss: str, dataset: ImageSet) -> None:
    """UserError if a network of so many outputs cannot be trained on the masks with that loss."""
    K, allowed = dataset.classes.num_classes, dataset.preprocessing.outputs()
    if (target := dataset.preprocessing.target) in ("stardist", "instances"):
        if loss != TrainingConfig.loss:
            raise UserError(f"--loss {loss} is of classes: leave it out, --target {target} has a loss of its own")
        if outputs not in allowed and target == "instances":
            raise UserError(f"--classes {outputs}, but --target instances has one kind of objects: leave it out")
        if outputs not in allowed:
            raise UserError(
                f"--classes {outputs}, but polygons of {allowed[0] - 1} rays have {allowed[0]} outputs: leave it out"
            )
    if loss == "bce" and (1 not in allowed or outputs != 1):
        raise UserError(f"--loss bce is for two classes and --classes 1; the masks hold {K} classes: use --loss ce")
    if outputs not in allowed:
        raise UserError(f"--classes {outputs}, but the masks hold {K} classes: {dataset.classes.describe()}")


def check_target(network: str, target: str) -> None:
    """UserError if a network is not made for a target: one that finds objects one by one, or one with an output a pixel."""
    if finds_objects(network) != (target == "instances"):
        if target == "instances":
            raise UserError(f"--target instances is for --arch instance_net, not {network or 'this network'}")
        raise UserError(f"--arch {network} is for --target instances, not {target}: leave the target out")


def finds_objects(network: str) -> bool:
    """Whether an architecture finds objects one by one, and so needs ``--target instances``."""
    return bool(getattr(ARCHITECTURES.get(network), "finds_objects", False))


def check_class_weights(config: TrainingConfig, dataset: ImageSet) -> None:
    """UserError unless there is a weight for each class, and one that is above 0."""
    weights, names = config.class_weights, dataset.classes.names
    if weights and dataset.preprocessing.one_by_one:
        target = dataset.preprocessing.target
        raise UserError(f"--class-weights are of classes: leave them out, --target {target} has a loss of its own")
    if weights and (len(weights) != len(names) or not any(weights)):
        raise UserError(
            f"--class-weights: {', '.join(f'{w:g}' for w in weights)} are not {len(names)} weights, at least one above 0: give "
            f"one for each class, in the order {', '.join(names)}"
        )


def check_crop(model: Module, config: TrainingConfig, dataset: ImageSet) -> None:
    """UserError, with the nearest sizes that fit, if the network cannot take the training patches."""
    sizes = {(config.crop, config.crop)} if config.crop else set(dataset.sizes)
    for size in sizes:
        try:
            model.check_size(*size)
        except ValueError as e:
            raise UserError(f"--crop {config.crop}: {e}") from e
