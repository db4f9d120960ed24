"""The network of a run of ``minunet train``: which flags it gets, and the options that it is built from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..checkpoint.load import Checkpoint
from ..errors import UserError
from ..models import NetworkOptions, UNetOptions, options_of
from ..models.options import unknown_option
from ..nn import Module
from .arguments import Arguments

MADE_FOR = {"stardist": "stardist", "instance_net": "instances"}
"""The targets that networks are made for."""
FOR_POLYGONS: dict[str, Any] = {"grid": 2, "norm": "batch"}
"""Of StarDist's network, where the target is polygons and nobody chose a network: it reads 33 outputs off 128 features in place
of the U-Net's 16, and learns on a map of half the size, with a norm, in a few minutes what the paper's learns in hours."""
POLYGON_RATE = 3e-3
"""The learning rate that goes with it: all begins with circles, and distances have farther to go than a class's logit."""
NETWORK_FLAGS = ("encoder", "base_width", "depth", "up", "norm", "padding", "dropout")
"""Options of networks that are flags."""


def network_flags(args: Arguments, given: set[str]) -> list[str]:
    """The flags whose values the network gets: all for the U-Net; for others those in `given`, and --base-width of a new one.

    UserError, naming flag and architecture, if one was given that the architecture does not have.
    """
    kind = options_of(args.arch)
    if args.recipe == "paper" and args.arch != "unet":
        raise UserError(f"--recipe paper is the U-Net's, not {args.arch}'s: leave it out, or leave out --arch")
    for name in NETWORK_FLAGS:
        if name in given and name not in kind.own():
            raise UserError(f"--{name.replace('_', '-')}: {unknown_option(kind, name)}")
    if args.encoder_weights and "encoder" not in kind.own():
        raise UserError(f"--encoder-weights: {args.arch} has no encoder of another network; give --encoder, too")
    if args.arch == "unet":
        return [name for name in NETWORK_FLAGS if name in kind.own()]
    wanted = given if args.load else given | {"base_width"}
    return [name for name in NETWORK_FLAGS if name in kind.own() and name in wanted]


def suited_to_target(args: Arguments, given: set[str]) -> Arguments:
    """The arguments of a new run with target and network that suit each other, if only one of them is in `given`."""
    if args.resume or args.load:
        return args
    if args.arch in MADE_FOR and "target" not in given:
        return replace(args, target=MADE_FOR[args.arch])
    if args.target == "instances" and "arch" not in given:
        return replace(args, arch="instance_net")
    of_unet = {"arch", "arch_options", *NETWORK_FLAGS} - set(options_of("stardist").own())
    if args.target == "stardist" and args.recipe != "paper" and not given & of_unet:
        options = tuple(f"{name}={value}" for name, value in FOR_POLYGONS.items() if name not in given)
        rate = args.learning_rate if "learning_rate" in given else POLYGON_RATE
        return replace(args, arch="stardist", arch_options=options, learning_rate=rate)
    return args


def network_options(
    args: Arguments, given: set[str], channels: int, outputs: int, file: Checkpoint | None
) -> NetworkOptions:
    """What the network is built from: the arguments, and options of a checkpoint's network for which there is no flag."""
    if file and args.resume:
        return file.architecture
    options = file.architecture if file else options_of(args.arch)()
    chosen = {name: getattr(args, name) for name in network_flags(args, given)}
    if chosen.get("norm") == "none":
        chosen["norm"] = None
    if isinstance(options, UNetOptions) and given & {"base_width", "depth"}:
        chosen["widths"] = None
    if not file:
        chosen |= options.for_patches(args.crop)
    if args.encoder_weights:
        chosen["standardise"] = "imagenet"
    try:
        chosen |= options.from_texts(args.arch_options)
    except UserError as e:
        raise UserError(f"--arch-options: {e}") from None
    return replace(options, in_channels=channels, num_classes=outputs, seed=args.seed, **chosen)


def told_network(model: Module, args: Arguments) -> str:
    """The network in a line: its architecture, parameters and size."""
    options = args if isinstance(model.architecture, UNetOptions) else model.architecture
    sizes = [
        f"{name.replace('_', ' ')} {getattr(options, name)}"
        for name in ("base_width", "depth")
        if hasattr(options, name)
    ]
    sizes[:0] = [f"encoder {options.encoder}"] if hasattr(model.architecture, "encoder") else []
    return ", ".join([args.arch, f"{model.num_params():,} parameters", *sizes, *map(str, args.arch_options)])
