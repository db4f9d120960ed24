"""Where a run of ``minunet train`` writes, and what it starts from: nothing, a checkpoint's weights, or a run to go on with."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint.load import Checkpoint, read_checkpoint
from ..cli import quoted
from ..data.objects import ObjectSize
from ..errors import UserError
from ..models import NetworkOptions, UNetOptions, outline
from .arguments import AUTO, TITLE, Arguments, from_checkpoint, kept
from .checks import UNLIKE
from .config import TrainingConfig
from .parts import ENCODER, NORMS, members
from .run_folder import RunFolder, open_run, part_of

MAY_CHANGE = (
    "resume",
    "data",
    "device",
    "graph",
    "epochs",
    "patience",
    "threads",
    "quiet",
)  # what --resume may come with

SLOWER = 3  # with --load: the learning rate is divided by it
FROZEN = 5  # and the epochs by this one: so many begin with a frozen encoder


def folder_of(args: Arguments) -> RunFolder:
    """The folder of the run that is resumed, or --out, or a new one under runs/."""
    if args.resume == AUTO:
        if not args.out:
            raise UserError(f"--resume {AUTO} needs --out DIR: the folder of the run to begin, or to go on with")
    elif args.resume:
        if not Path(args.resume).is_file():
            open_run(args.resume)  # which says that there is none
        return RunFolder(Path(args.resume).parent)
    if args.out:
        return RunFolder(args.out)
    kind = Path(args.data).resolve().name[:60] if args.data else "cells"
    path = f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{kind}"
    made = (Path(f"{path}_{n}" if n > 1 else path) for n in count(1))
    return RunFolder(next(folder for folder in made if is_new(folder)))


def is_new(folder: Path) -> bool:
    """Make a folder; False if there is one, such as that of another run that began in this second."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError:  # which is said when the folder is used
        pass
    return True


def start_from(args: Arguments, given: set[str], folder: RunFolder) -> tuple[Arguments, set[str], Checkpoint | None]:
    """The arguments, completed from the checkpoint that is resumed or loaded, if there is one; and that checkpoint.

    `--resume auto` resumes if the folder holds a checkpoint. UserError if a new run would overwrite what the folder holds.
    """
    begun = args.resume == AUTO
    if begun:
        args = replace(args, resume=str(folder.last) if folder.last.exists() else None)
    if args.resume:
        file = open_run(args.resume)
        return resumed(args, given, file, begun), given & set(MAY_CHANGE), file
    folder.check_unused()
    config = folder.path / "config.toml"
    if config.exists() and not config.read_bytes().startswith(TITLE.encode()):
        raise UserError(f"{config} is not a run's, which would write over it: choose another --out")
    if args.load and args.encoder_weights:
        raise UserError(f"--encoder-weights: {args.load} holds the encoder's weights, too; leave out one of the two")
    if args.load:
        file = read_checkpoint(args.load)
        return following(args, given, file), given, file
    return args, given, None


def resumed(args: Arguments, given: set[str], file: Checkpoint, begun: bool) -> Arguments:
    """The arguments of the run to resume, with those that may change replaced.

    `begun`: the others in `given` are those that the run began with; UserError if one is not.
    """
    path = str(args.resume)
    if not part_of(file, path, "arguments"):
        raise UserError(f"{path} is of a training in Python: minunet.fit(..., resume={path!r}) goes on with it")
    stored = from_checkpoint(part_of(file, path, "arguments"), path)
    typed = kept(args)
    other = sorted(name for name in given - set(MAY_CHANGE) if not begun or typed.get(name) != kept(stored).get(name))
    named = ", ".join("--" + name.replace("_", "-") for name in other)
    if other and begun:
        raise UserError(
            f"{path} is of a run with another {named}; --resume {AUTO} goes on with the flags that the run began with: give "
            f"these, or choose another --out"
        )
    if other:
        raise UserError(
            f"--resume continues a run in its folder, with its own flags; leave out {named}, or start a new run from its "
            f"weights with -f {quoted(path)}"
        )
    return replace(stored, **{name: getattr(args, name) for name in given & set(MAY_CHANGE)})


def following(args: Arguments, given: set[str], file: Checkpoint) -> Arguments:
    """The arguments with network and preprocessing of a loaded checkpoint, and with small steps, except those in `given`."""
    options = file.architecture
    if "arch" in given and options.name != args.arch:
        raise UserError(
            f"{args.load} holds a network of the kind {options.name}, not {args.arch}: leave out --arch {args.arch}"
        )
    values: dict[str, Any] = {"arch": options.name}
    known = file.preprocessing
    values |= {name: getattr(known, name) for name in ("channels", "normalise", "scale", "tta")}
    of_classes = given & {"classes", "class_weights"} or args.loss == "bce"
    own_loss = known.target not in ("classes", "border")
    if not (of_classes or (own_loss and (args.weight_map or args.loss != TrainingConfig.loss))):
        values |= {"target": known.target} | ({"rays": known.rays.count} if known.rays else {})
    values |= gently(args, options)
    if isinstance(options, UNetOptions):  # of others the flags are used only where they are given
        values |= {"up": options.up, "norm": options.norm or "none", "padding": options.padding}
        if options.widths:  # these two are for display: the network gets the checkpoint's widths
            encoder, decoder = options.widths[:2]
            values |= {"base_width": int(np.ravel(encoder[0])[0]), "depth": len(decoder)}
        else:
            values |= {"base_width": options.base_width, "depth": options.depth}
    return replace(args, **{name: value for name, value in values.items() if name not in given})


def gently(args: Arguments, options: NetworkOptions) -> dict[str, Any]:
    """How a network goes on from learned weights: at a lower rate, and with its encoder frozen at first, its norms throughout.

    Steps as large as those from a random start lose what was learned, on a handful of images more than these give back. At
    first, while a new head or the decoder finds its way, large gradients would only disturb the encoder, which is worth most.
    And the statistics of a few images are worse than those of the many that it comes from.
    """
    frozen, network = args.epochs // FROZEN, outline(options)
    first = [f"{ENCODER}:{frozen}"] * bool(frozen and members(network, ENCODER))
    norms = [NORMS] * bool(members(network, NORMS))
    return {"learning_rate": args.learning_rate / SLOWER, "freeze": () if args.graph else (*first, *norms)}


def told_start(args: Arguments, given: set[str], file: Checkpoint, sizes: ObjectSize | None) -> str:
    """From which weights a training starts, and how carefully; a note if the network knows objects of another size."""
    known, careful = file.preprocessing, []
    if "learning_rate" not in given:
        careful.append(f"learning rate {args.learning_rate:.2g}, {SLOWER:g} times below the usual (--learning-rate)")
    if "freeze" not in given and args.freeze:
        careful.append(f"frozen: {' '.join(map(str, args.freeze))} (--freeze)")
    lines = [f"from        {args.load}" + (": " + "; ".join(careful) if careful else "")]
    ratio = known.objects.diameter / sizes.diameter if known.objects and sizes else 1
    if not 1 / UNLIKE < ratio < UNLIKE:
        lines.append(
            f"note: the network sees objects of {sizes.diameter if sizes else 0:.0f} pixels, those that it knows have "
            f"{known.objects.diameter if known.objects else 0:.0f}: --scale {args.scale * ratio:.2g} lets it see them so large"
        )
    return "\n".join(lines)
