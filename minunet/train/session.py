"""A run of ``minunet train``: makes data, network and run folder from the arguments; `fit` does the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..array import to_numpy
from ..atomic import write_atomically
from ..checkpoint.build import load_weights
from ..checkpoint.load import Checkpoint
from ..checkpoint.pytorch.encoder import load_encoder
from ..cli import outlive_readers, printable, quoted, use_threads
from ..data import ClassMap, ImageSet, SyntheticCells, open_dataset, read_names
from ..data.groups import read_groups
from ..data.objects import ObjectSize, measure_objects
from ..data.targets import Target, TargetSet
from ..errors import UserError
from ..kernels.device import device_name, select_device
from ..models import build
from ..nn import BatchNorm2d, Module, draw_uniform
from .arguments import FIELDS, NETWORK, TITLE, Arguments, kept, make_parser, whole_paths
from .beforehand import check_class_weights, check_classes, check_crop, check_pictures, check_space, check_target
from .callbacks import Callback
from .config import TrainingConfig, training_config
from .config_file import COMMAND_LINE_ONLY, read_config, toml
from .distributed.world import ALONE, World
from .fit import fit
from .heads import HEAD, begin_with_circles
from .network import NETWORK_FLAGS, network_flags, network_options, suited_to_target, told_network
from .report import report
from .run_folder import RunFolder, folder_on
from .signals import StopOnSignal
from .start import folder_of, start_from, told_start
from .trainer import Trainer

AS_TARGET = {"border": " with a border", "stardist": " as polygons", "instances": " as boxes and masks"}
STARTED = "mpiexec -n {n} python -m mpi4py"  # on several ranks, in place of "python"
MEASURED = 20  # images in which objects are measured, before a training that starts from a network
Say = Callable[..., None]


def train(args: Arguments, given: set[str], world: World = ALONE) -> int:
    """Train as the arguments say; `given` names those that were typed or in a file. Returns the exit status.

    Of the ranks of a world, rank 0 alone prints and writes.
    """
    outlive_readers()
    stopper = StopOnSignal(again=1.0 if world.size > 1 else 0.0)
    args = replace(args, quiet=args.quiet or world.rank > 0)
    with stopper.installed():
        path = world.from_first(lambda: folder_of(args).path)
        with folder_on(world, path) as folder:
            status = train_in(folder, args, given, stopper, world)
            world.leave()
            return status


def train_in(folder: RunFolder, args: Arguments, given: set[str], stopper: StopOnSignal, world: World) -> int:
    """Train in a folder that no other process has."""
    say: Say = (lambda *_: None) if args.quiet else print
    quiet = args.quiet
    args, given, file = world.from_first(lambda: start_from(args, given, folder))
    args = replace(args, quiet=quiet or args.quiet)
    threads = args.threads or world.threads()
    use_threads(threads, args.quiet)
    xp = select_device(args.device)
    if args.amp and xp is np:
        say("note: --amp has no effect on the CPU, where everything is computed in float32")
    data, split = open_data(args, file.preprocessing.classes if file and args.resume else None)
    args, dataset = with_target(args, given, data, split[0], say, file)
    if args.groups:
        dataset.groups = read_groups(args.groups, dataset.names)
    say(dataset.describe())
    say(told_split(dataset, *split))
    say(f"device      {device_name(xp, args.device)}")
    if world.size > 1:
        say(told_ranks(world.size, threads, args))

    model = make_model(args, given, dataset, file, say)
    if args.recipe == "paper" and "crop" not in given and not args.resume:  # no tile beyond the largest image
        args = replace(args, crop=min(args.crop, model.fit_size(max(map(max, dataset.sizes)))))
    config = training_config(args)
    check_crop(model, config, dataset)
    check_class_weights(config, dataset)
    if config.class_weights:
        told = ", ".join(f"{n} {w:g}" for n, w in zip(dataset.classes.names, config.class_weights))
        say(f"loss        pixels count by their class: {told}")
    tell_groups(dataset, config, say)
    if config.batch_size == 1 and any(isinstance(m, BatchNorm2d) for _, m in model.modules()):
        say("note: batch norm sees one image a step (-b 1); where images differ, predictions suffer: try --norm group")
    check_pictures([dataset.names[i] for i in split[1][:50]])
    check_space(folder.path, model, config)
    folder.arguments = kept(args)
    if file and args.load and not args.quiet:
        say(told_start(args, given, file, some_sizes(dataset, split[0])))
    say(f"network     {told_network(model, args)}\nrun folder  {folder.path}\n")
    begins = Begin(folder.path / "config.toml", repeating(args, given, folder.path / "config.toml"), args.quiet, world)
    return carry_out(args, model, dataset, split, config, folder, [begins, stopper], world)


def carry_out(
    args: Arguments, model: Module, dataset: ImageSet, split: tuple[list[int], list[int]], config: TrainingConfig,
    folder: RunFolder, callbacks: list[Callback], world: World,
) -> int:  # fmt: skip
    """Train, and report."""
    fitted = fit(
        dataset, config, model=model, validation=split[1] or 0, out=folder, resume=args.resume, device=args.device,
        graph=args.graph, callbacks=callbacks, verbose=not args.quiet, world=world,
    )  # fmt: skip
    if not fitted.finished:
        if not args.quiet:
            print(f"\nstopped in epoch {len(fitted.history) + 1}; everything is saved. To go on:")
            start = STARTED.format(n=world.size) if world.size > 1 else "python"
            print(f"  {start} -m minunet.train --resume {quoted(folder.last)}")
        return 130
    if world.rank == 0:
        report(fitted, dataset, split[1], folder.path, args.data is None, args.quiet, config.even_groups)
    return 0


class Begin(Callback):
    """Before the first step, writes config.toml, and compiles the kernels if this machine never has."""

    def __init__(self, path: Path, text: str, quiet: bool, world: World) -> None:
        self.path, self.text, self.quiet, self.world = path, text, quiet, world

    def on_start(self, trainer: Trainer) -> None:
        """Write, and compile; of several ranks one after the other, so that the others find what the first has compiled."""
        if self.world.rank == 0:
            write_atomically(self.path, self.text.encode())
        for mine in self.world.turns():
            if mine and trainer.xp is np and (self.world.size > 1 or not self.quiet):
                compile_kernels(self.quiet)
            self.world.wait()


# ---- before ----------------------------------------------------------------------------------------------------------


def open_data(args: Arguments, classes: ClassMap | None) -> tuple[ImageSet, tuple[list[int], list[int]]]:
    """The data set and its split into images to train and to validate on."""
    dataset: ImageSet
    if args.data is None:
        dataset = SyntheticCells(220, size=128, seed=args.seed, channels=args.channels or 1)
    else:
        dataset = open_dataset(
            args.data, args.layout, args.channels, args.normalise, args.scale, classes, args.truth_kind,
            args.masks, args.ignore, args.axes,
        )  # fmt: skip
    names = read_names(args.val_files) if args.val_files else None
    try:
        return dataset, dataset.split(args.validation, args.seed, names)
    except UserError as e:
        raise UserError(f"{args.val_files or args.data or 'generated cells'}: {e}") from e


def with_target(
    args: Arguments, given: set[str], dataset: ImageSet, train: list[int], say: Say, file: Checkpoint | None = None
) -> tuple[Arguments, ImageSet]:
    """The data set with the labels and weights that the arguments ask for; and the arguments, adapted to the data.

    A target that only the checkpoint asks for needs masks for it. Polygons go on with the unit of their distances.
    """
    if args.recipe == "paper" and "weight_map" not in given and args.w0 and dataset[train[0]].instances is None:
        args = replace(args, w0=0.0)
        say("note: these masks do not tell objects apart, so the paper's weight map only balances the classes (w0 0)")
    apart = dataset.classes.num_classes == 2 and dataset[train[0]].instances is not None
    if args.load and args.target != "classes" and "target" not in given and not apart:
        say(
            f"note: {args.load} was trained with --target {args.target}; these masks do not tell objects apart: classes it is"
        )
        args = replace(args, target="classes")
    args = suited_to_target(args, given)
    target = Target(
        args.target, args.border_width, args.weight_map, args.balance, args.w0, args.sigma, args.cache, args.rays
    )
    if target.is_plain:
        return args, dataset
    made, known = TargetSet(dataset, target, train, progress=not args.quiet), file and file.preprocessing.rays
    if made.rays and known and made.rays.count == known.count:
        made.rays = known
    return args, made


def some_sizes(dataset: ImageSet, train: list[int]) -> ObjectSize | None:
    """The size of the objects in some of the images to train on, if their masks tell objects apart."""
    found = (dataset[i].instances for i in train[:: -(-len(train) // MEASURED)])
    return measure_objects(numbers for numbers in found if numbers is not None)


def tell_groups(dataset: ImageSet, config: TrainingConfig, say: Say) -> None:
    """How many images there are of each kind, if patches are taken by kind."""
    if config.even_groups:
        kinds = Counter(dataset.groups)
        told = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        say(
            f"groups      {told}" + (": as many patches of each" if len(kinds) > 1 else ": --even-groups has no effect")
        )


def told_ranks(n: int, threads: int | None, args: Arguments) -> str:
    """How many ranks train, and what is not as with one."""
    each = f", {threads} thread{'s' * (threads > 1)} each" if threads else ""
    told = f"ranks       {n}{each}: every batch of {args.batch_size} is divided among them"
    if not args.sync_batch_norm:
        told += "\nnote: --no-sync-batch-norm: batch norms see their own rank's patches; other numbers of ranks train otherwise"
    return told


def told_split(dataset: ImageSet, train: list[int], validation: list[int]) -> str:
    """Which images are trained on and which are held out."""
    if not validation:
        return f"split       {len(train)} to train, none to validate (-v 0): no scores, and the last weights are kept"
    held = ", ".join(printable(dataset.names[i])[:12] for i in validation[:4])
    more = f" and {len(validation) - 4} more" if len(validation) > 4 else ""
    return f"split       {len(train)} to train, {len(validation)} to validate: {held}{more}"


def make_model(
    args: Arguments, given: set[str], dataset: ImageSet, file: Checkpoint | None = None, say: Say = lambda *_: None
) -> Module:
    """The network for a data set, with the preprocessing of its images and the classes of its masks."""
    outputs = args.classes or (1 if args.loss == "bce" else dataset.preprocessing.outputs()[-1])
    if file and args.load and not args.classes and file.architecture.num_classes in dataset.preprocessing.outputs():
        outputs = file.architecture.num_classes
    check_classes(outputs, args.loss, dataset)
    options = network_options(args, given, dataset.channels, outputs, file)
    check_target(options.name, dataset.preprocessing.target)
    model = build(options)
    model.preprocessing = replace(dataset.preprocessing, tta=args.tta)
    if args.init == "uniform":
        draw_uniform(model, np.random.default_rng(args.seed))
    begin_with_circles(model)
    if args.encoder_weights and not args.resume:
        load_encoder(model, args.encoder_weights, lambda note: say(f"encoder     {note}"))
    if file:
        weights = file.weights if args.resume else with_new_head(model, file, dataset, args.load or "", say)
        load_weights(model, weights, args.resume or args.load or "")
    return model


def with_new_head(model: Module, file: Checkpoint, dataset: ImageSet, path: str, say: Say) -> dict[str, np.ndarray]:
    """The weights of a checkpoint; those of the last layer are new ones if the classes are others, which is said."""
    before, now = file.preprocessing, dataset.preprocessing
    theirs, ours = (f"{', '.join(p.classes.names)}{AS_TARGET.get(p.target, '')}" for p in (before, now))
    outputs = file.architecture.num_classes, model.architecture.num_classes
    head = {name: to_numpy(array) for name, array in model.state().items() if name.startswith(HEAD)}
    known = all(name in file.weights for name in head)
    if outputs[0] != outputs[1] and head and known:
        say(f"note: {path} was trained on other classes ({theirs}): its last layer, of {outputs[0]} outputs, is left out, and "
            f"a new one of {outputs[1]} ({ours}) starts at random; all other weights are kept")  # fmt: skip
        return file.weights | head
    if theirs != ours or before.classes.values != now.classes.values:
        say(f"note: the last layer of {path} is kept, too; it was trained on {theirs} and goes on with {ours}")
    return file.weights


def repeating(args: Arguments, given: set[str], path: Path) -> str:
    """The text of config.toml. When a run is resumed, this is its old config.toml with the arguments that were changed.

    The checkpoint cannot replace that file: it does not say how the run began, such as from which weights.
    """
    if args.resume and path.exists():
        with suppress(UserError):  # if the old file is damaged
            values = read_config(path, FIELDS)
            values |= {name: getattr(args, name) for name in given - set(COMMAND_LINE_ONLY)}
            return config_toml(Arguments(**values), set(values))
    return config_toml(args, given)


def config_toml(args: Arguments, given: set[str]) -> str:
    """The text of a file that repeats the run with --config: every value, except those that come from a loaded checkpoint."""
    groups: list[tuple[str, dict[str, Any]]] = []
    values = whole_paths(args).to_json()
    left_out = {name for name in NETWORK if args.load and name not in given} | set(COMMAND_LINE_ONLY)
    left_out |= set(NETWORK_FLAGS) - set(network_flags(args, given))
    for group in make_parser()._action_groups:
        names = dict.fromkeys(a.dest for a in group._group_actions if a.dest in FIELDS and a.dest not in left_out)
        groups.append((group.title or "", {name.replace("_", "-"): values[name] for name in names}))
    return toml(TITLE, groups)


def compile_kernels(quiet: bool = False) -> None:
    """Compile the CPU kernels if this machine never has, and show how far it is."""
    from ..kernels.cpu import warm_up

    if warm_up.is_compiled():
        return
    if not quiet:
        print("compiling the kernels; only the first run on a machine does this", flush=True)
    with tqdm(bar_format="{desc:<32}{bar} {n}/{total}", disable=quiet or None, dynamic_ncols=True, leave=False) as bar:

        def show(bar: tqdm, done: int, total: int, name: str) -> None:
            bar.total, bar.n = total, done
            bar.set_description_str(name)

        warm_up.warm_up(progress=partial(show, bar))
