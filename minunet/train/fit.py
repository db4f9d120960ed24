"""Training as a function: from images and masks to a network and its history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, overload

import numpy as np
from tqdm import tqdm

from ..checkpoint.build import load_weights
from ..checkpoint.load import read_checkpoint
from ..checkpoint.pytorch.encoder import load_encoder
from ..data import ImageSet
from ..data.arrays import ArraySet, JoinedSet
from ..data.targets import Target, TargetSet
from ..errors import UserError, shown
from ..kernels.device import select_device
from ..models import OPTIONS, Ensemble, NetworkOptions, build
from ..nn import Module
from .beforehand import check_class_weights, check_classes, check_crop, check_share, check_target, finds_objects
from .callbacks import Callback, Progress, as_callback
from .config import TrainingConfig, score_of
from .distributed.world import ALONE, World
from .heads import begin_with_circles
from .network import FOR_POLYGONS, MADE_FOR
from .run_folder import RunFolder, folder_on, open_run, restore, stored_config
from .trainer import Trainer
from .tuning import Tuned, add_objects

DEVICES = ("auto", "cpu", "cuda")
BASE_WIDTH = 16  # of the network if none is given; the paper's is 64

Callbacks = Iterable[Callback | Callable[[dict[str, Any]], Any]]


@dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes
    ----------
    model : Module
        With the weights of the best epoch, ready for `minunet.segment`.
    history : list of dict
        One row for each epoch: "epoch", "train_loss", "val_loss", "val_dice", "val_iou", "seconds", "val_accuracy",
        "learning_rate" and "dice_<class>".
    finished : bool
        False if a callback stopped the training; True if it came to the last epoch, or stopped early by `patience`.
    tuned : Tuned, optional
        How the network's output is divided into objects, if the masks tell them apart; also in ``model.preprocessing``.
    """

    model: Module
    history: list[dict[str, Any]]
    finished: bool
    tuned: Tuned | None = None

    @property
    def best(self) -> dict[str, Any]:
        """The row of the epoch with the best validation score, the last one if nothing was held out.

        ValueError if no epoch was finished.
        """
        return max(reversed(self.history), key=score_of) if self.history[:-1] else max(self.history, key=score_of)


@overload
def fit(dataset: ImageSet, config: TrainingConfig | None = None, /, **settings: Any) -> Fitted: ...
@overload
def fit(images: Any, masks: Any, config: TrainingConfig | None = None, /, **settings: Any) -> Fitted: ...
def fit(
    images: Any, masks: Any = None, config: TrainingConfig | None = None, /, *,
    model: Module | NetworkOptions | str | None = None, target: Target | None = None, validation: Any = 0.1,
    callbacks: Callbacks = (), out: Path | str | RunFolder | None = None, resume: Path | str | None = None,
    device: str = "auto", graph: bool = False, verbose: bool = False, arguments: dict[str, Any] | None = None,
    masks_are: str = "auto", ignore: Sequence[object] = (), encoder_weights: Path | str | None = None,
    world: World = ALONE, **settings: Any,
) -> Fitted:  # fmt: skip
    """Train a network.

    ``fit(images, masks, config)`` takes arrays, ``fit(dataset, config)`` a data set of `minunet.data`.

    Parameters
    ----------
    images : sequence of (H, W) or (H, W, C) arrays, or one array (N, H, W) or (N, H, W, C)
        As they come from files: 8 or 16 bit or float, grey, RGB or RGBA. Or an `ImageSet`, which has its own masks.
    masks : sequence of (H, W) arrays, or one array (N, H, W)
        Class numbers, 0 and 255, object numbers or colours (H, W, 3). Which of these they are is found out as for files, see
        `minunet/data/mask_kinds.py`.
    config : TrainingConfig, optional
        How to train. Any of its fields may also be given by name: ``fit(images, masks, epochs=30, crop=256)``.
    model : Module, NetworkOptions or str, optional
        What to train: a network, which is changed in place, the options to build one from, or the name of an architecture
        (`minunet models` lists them), of base width 16. A network may be of a class of
        your own, but then without `out`. Channels and classes of options become those of the data (but ``num_classes=1``, a
        sigmoid, stays for two classes). If not given, a U-Net of base width 16; for polygons StarDist's network.
    target : Target, optional
        For objects that touch: a border class, star-convex polygons or a weight map, see `minunet.data.targets`. For
        "instance_net" it is Target("instances") unless given.
    validation : optional
        What to validate on: the share of the images to hold out, below 1; indices or names of some of them; or other images, as
        a data set or as (images, masks). With 0 nothing is held out: the network keeps the weights of the last epoch.
    callbacks : functions or `minunet.train.callbacks.Callback` objects
        A function is called after every epoch with its row of history; if it returns True, the training stops there. An object
        can have further methods, such as `on_step`. Exceptions that they raise reach the caller.
    out : path or RunFolder, optional
        Folder for best.safetensors, last.safetensors and history.csv, which has no run in it yet but the one to be resumed;
        without it nothing is written. No other process may train there meanwhile.
    resume : path, optional
        Checkpoint of a run to continue, on the same data. Settings that are not given here are those of the run.
    device : "auto", "cpu" or "cuda"
    graph : bool
        On a GPU: record a step as a CUDA graph and replay it.
    verbose : bool
        Whether to print notes and a line for every epoch, and to show a progress bar.
    arguments : dict, optional
        The arguments of a command line, to be stored in the checkpoints.
    masks_are : "auto", "classes", "objects" or "binary"
        What the values of masks that are arrays stand for.
    ignore : sequence of int or of "red,green,blue"
        Values of masks that are arrays that do not count, such as 255 or -1.
    encoder_weights : path or "imagenet", optional
        Weights that the network's encoder starts from, see `minunet.load_encoder`. A network that is built here, such as with
        ``model=minunet.models.EncoderUNetOptions(encoder="resnet34")``, gets the option ``standardise="imagenet"``.
    world : World
        `minunet.train.distributed.launched()` in a program that ``mpiexec -n N python -m mpi4py`` starts: its processes train
        together, each with the same arguments (``out`` is used by rank 0 alone), and return the same.

    Returns
    -------
    Fitted

    Raises
    ------
    UserError
        If images, masks or a setting cannot be used, the loss is no longer finite, or memory runs out.

    Examples
    --------
    >>> import minunet
    >>> cells = minunet.data.SyntheticCells(8, size=32)
    >>> fitted = minunet.fit(cells, epochs=1, crop=16, model=minunet.models.UNetOptions(base_width=2, depth=1))
    >>> len(fitted.history), minunet.segment(fitted.model, cells[0].image).shape
    (1, (32, 32))
    """
    if isinstance(masks, TrainingConfig | dict):
        masks, config = None, masks
    if device not in DEVICES:
        raise UserError(f"device: {shown(device)} is unknown, choose one of {', '.join(DEVICES)}")
    if "" in (out, resume):
        raise UserError("out and resume name a folder and a file: leave an empty one out")
    if not isinstance(config, TrainingConfig | None):
        raise UserError(
            f"config: {shown(config)} is no TrainingConfig; settings may also be given by name: fit(..., epochs=9)"
        )
    xp = select_device(device)
    world = world.computes_on(xp)
    folder = folder_on(world, out, arguments) if isinstance(out, Path | str) else out
    with folder or nullcontext():
        if folder and not (resume and Path(resume).resolve().parent == folder.path.resolve()):
            folder.check_unused()
        file = world.from_first(lambda: open_run(resume)) if resume else None
        config = with_settings(config or (stored_config(file, str(resume)) if file else TrainingConfig()), settings)
        dataset, train, held = split(as_dataset(images, masks, masks_are, ignore), validation, config.seed)
        if target is None and finds_objects(name_of(file.architecture if file and model is None else model)):
            target = Target("instances")
        if target and not target.is_plain:
            dataset = TargetSet(dataset, target, train, progress=verbose)
        network = network_for(file.architecture if file and model is None else model, dataset, config, encoder_weights)
        if encoder_weights and not file:
            load_encoder(network, encoder_weights, print if verbose else None)
        if folder and not network.architecture.name:
            raise UserError(
                "out: a network of a class of your own cannot be built again from a file; leave `out` away, and keep what "
                "model.state() gives"
            )
        check_crop(network, config, dataset)
        check_class_weights(config, dataset)
        check_share(config, world.size)
        if not held and (config.patience or config.schedule == "plateau"):
            flag = "--patience" if config.patience else "--schedule plateau"
            raise UserError(
                f"{flag} goes by the score of images that are held out, but none are: leave it out, or hold some out"
            )
        followers = [as_callback(c) for c in ([folder] if folder else []) + [*callbacks] + [Progress()] * verbose]
        say = tqdm.write if verbose else silence
        trainer = Trainer(network, dataset, train, held, config, xp, graph, followers, say, world)
        if file and resume:
            restore(trainer, file, Path(resume))
            trainer.state.best = world.from_first(lambda: trainer.state.best)
        world.check_equal("images or settings", lambda: (trainer.images, config, trainer.state))
        finished = trainer.run()
        take_best_weights(trainer, resume)
        tuned = world.from_first(lambda: add_objects(network, dataset, train, held)) if finished else None
        network.preprocessing = world.from_first(lambda: network.preprocessing)
        if tuned and folder:
            folder.restate(network.preprocessing)
    return Fitted(network, trainer.state.history, finished, tuned)


# ---- the parts -------------------------------------------------------------------------------------------------------


def as_dataset(images: Any, masks: Any, masks_are: str = "auto", ignore: Sequence[object] = ()) -> ImageSet:
    """Images and masks as a data set, if they are not one already."""
    if isinstance(images, ImageSet):
        if masks is not None:
            raise UserError("a data set has its masks: leave them out")
        if masks_are != "auto" or len(ignore):
            raise UserError("masks_are and ignore are for arrays: give open_dataset masks=... and ignore=...")
        return images
    if masks is None:
        raise UserError("masks are missing: fit(images, masks), or fit(dataset) for a data set of minunet.data")
    return ArraySet(images, masks, masks_are=masks_are, ignore=ignore)


def with_settings(config: TrainingConfig, settings: dict[str, Any]) -> TrainingConfig:
    """The configuration with some values changed; UserError, which suggests the nearest name, for an unknown name."""
    known = [f.name for f in fields(TrainingConfig)]
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise UserError(f"fit has no setting {shown(name)}{f'; did you mean {near[0]}?' if near else ''}")
    return replace(config, **settings)


def split(dataset: ImageSet, validation: Any, seed: int) -> tuple[ImageSet, list[int], list[int]]:
    """The data set, the indices to train on, and those to validate on; `validation` is that of `fit`."""
    n = len(dataset)
    if isinstance(validation, tuple) and len(validation) == 2 and not np.isscalar(validation[0]):
        validation = ArraySet(
            *validation, channels=dataset.channels, normalise=dataset.normalise, scale=dataset.scale, classes=dataset.classes
        )  # fmt: skip
    if isinstance(validation, ImageSet):
        both = JoinedSet(dataset, validation)
        return both, list(range(n)), list(range(n, len(both)))
    if isinstance(validation, int | float | np.floating):
        if not 0 <= validation < 1:
            raise UserError(f"validation: {shown(validation)} is no share of the images: give one from 0 to below 1")
        return dataset, *dataset.split(100 * float(validation), seed)
    if not hasattr(validation, "__iter__"):
        raise UserError(f"validation: {shown(validation)} is no share, indices, names, or data set")
    held = list(validation)
    if all(isinstance(name, str) for name in held):
        return dataset, *dataset.split(names=held)
    if not all(isinstance(i, int | np.integer) and 0 <= i < n for i in held) or len({int(i) for i in held}) != len(
        held
    ):
        raise UserError(f"validation: {shown(held)} are no different indices of {n} images")
    train = sorted(set(range(n)) - {int(i) for i in held})
    if not train or not held:
        raise UserError(
            f"validation: {len(held)} of {n} images are held out; some must be, and some must be left to train on"
        )
    return dataset, train, sorted(int(i) for i in held)


def default_options(name: str | None, config: TrainingConfig, target: str) -> NetworkOptions:
    """What a network is built from of which only the architecture's name is given, or not even that."""
    polygons, made = target == "stardist", {target: network for network, target in MADE_FOR.items()}
    kind = OPTIONS[name or made.get(target, "unet")]
    width = {"base_width": BASE_WIDTH} if "base_width" in kind.own() else {}
    more = FOR_POLYGONS if polygons and not name else {}
    return kind(seed=config.seed, **width, **kind.for_patches(config.crop), **more)


def network_for(
    model: Module | NetworkOptions | str | None, dataset: ImageSet, config: TrainingConfig, encoder_weights: Any = None
) -> Module:  # fmt: skip
    """The network to train on a data set, with its preprocessing; UserError if network and data do not fit together."""
    prepared = dataset.preprocessing
    allowed = prepared.outputs()
    if isinstance(model, Ensemble):
        raise UserError("an ensemble only predicts: train its members one by one")
    if isinstance(model, Module):
        if not hasattr(model, "architecture"):  # a class of the caller's own
            model.architecture = measured(model, dataset, config)
        options: NetworkOptions = model.architecture
        model.preprocessing = replace(prepared, tta=getattr(getattr(model, "preprocessing", None), "tta", 1))
    elif not isinstance(model, NetworkOptions | None) and not (isinstance(model, str) and model in OPTIONS):
        raise UserError(
            f"model: {shown(model)} is no network, its options, or an architecture's name ({', '.join(OPTIONS)}); minunet.load "
            "reads a network from a file"
        )
    else:
        options = model if isinstance(model, NetworkOptions) else default_options(model, config, prepared.target)
        wanted = 1 if config.loss == "bce" else options.num_classes
        outputs = wanted if wanted in allowed else allowed[-1]
        options = replace(options, in_channels=dataset.channels, num_classes=outputs)
        if encoder_weights and "standardise" in options.own():
            options = replace(options, standardise="imagenet")  # type: ignore[call-arg]
        model = build(options)
        model.preprocessing = prepared
        begin_with_circles(model)
    check_classes(options.num_classes, config.loss, dataset)
    check_target(options.name, prepared.target)
    if options.in_channels != dataset.channels:
        raise UserError(f"the network takes {options.in_channels} channels, the images have {dataset.channels}")
    return model


def name_of(model: Module | NetworkOptions | str | None) -> str:
    """The name of an architecture from what `fit` takes; "" for a class of the caller's own."""
    if isinstance(model, str):
        return model
    options = getattr(model, "architecture", None) if isinstance(model, Module) else model
    return getattr(options, "name", "")


def measured(model: Module, dataset: ImageSet, config: TrainingConfig) -> NetworkOptions:
    """The channels of a network's input and output, found by running it on zeros; UserError if it takes no such images."""
    size = (config.crop, config.crop) if config.crop else dataset.sizes[0]
    try:
        shape = model(np.zeros((1, *size, dataset.channels), np.float32)).shape
    except ValueError as e:
        raise UserError(
            f"the network does not take images of {dataset.channels} channels and {size} pixels: {e}"
        ) from e
    expected = tuple(map(model.output_size, size))
    if shape[1:-1] != expected:
        raise UserError(f"the network gives {shape[1:-1]} pixels for images of {size}, it should give {expected}")
    return NetworkOptions(in_channels=dataset.channels, num_classes=int(shape[-1]))


def silence(note: str) -> None:
    """Say nothing."""


def take_best_weights(trainer: Trainer, resume: Path | str | None) -> None:
    """Give the model the weights of the best epoch, which may lie before the run was resumed."""
    before = Path(resume).parent / "best.safetensors" if resume and trainer.best_weights is None else None
    file = trainer.world.from_first(lambda: read_checkpoint(before) if before and before.exists() else None)
    if file:
        load_weights(trainer.model, file.weights, before or "")
    else:
        trainer.take_best_weights()
