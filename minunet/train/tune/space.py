"""What is searched: settings of a training by the names of its flags, each with the values that it may take.

A space is a dictionary, the same in Python, in the study and, with dashes in the names, in a TOML file. A setting has a list of
values, or a range::

    learning-rate = {low = 1e-4, high = 1e-2, log = true}
    depth = {low = 3, high = 5}
    loss = ["ce", "ce+dice"]

A setting that has no effect beside others is not drawn: an option that a network lacks, the zoom where no patch is bent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ...errors import LISTS, UserError, shown, why_not, why_not_one
from ..arguments import FIELDS, Arguments
from ..config_file import read_toml
from ..network import NETWORK_FLAGS

Space = dict[str, Any]

SEARCHABLE = (
    "arch", *NETWORK_FLAGS, "init", "optimizer", "learning_rate", "encoder_lr", "momentum", "weight_decay", "schedule", "clip",
    "ema", "batch_size", "loss", "crop", "foreground_share", "even_groups", "augment", "bent", "zoom", "elastic",
    "interpolation", "invert", "recolour",
)  # fmt: skip
"""In the order in which they are drawn. What is not here says what is learnt, on which images, or for how long."""
OF_LOADED = ("arch", *NETWORK_FLAGS, "init")  # which a checkpoint decides that a training starts from
BENT = ("zoom", "elastic", "interpolation")  # of patches that are bent
DISTORTED = ("bent", *BENT, "invert", "recolour")  # of patches that are augmented
RANGE = ("low", "high", "log")


# ---- where a space comes from ----------------------------------------------------------------------------------------


def default_space(args: Arguments, given: set[str]) -> Space:
    """What is searched unless a file says otherwise: the settings around the defaults that nobody has typed.

    `args` are those of the default trial, adapted to the target and to a checkpoint. Networks are tried only where the U-Net
    would be trained, and only those that have the options that were typed.
    """
    from ...models import options_of

    own, largest = options_of(args.arch).own(), int(math.log2(args.crop)) - 2 if args.crop >= 8 else 5
    space: Space = {
        "arch": ["unet", "residual_unet", "attention_unet", "unet_plus_plus"],
        "base_width": sorted({args.base_width, 8, 16, 24, 32}),
        "depth": {"low": max(args.depth - 1, 1), "high": max(args.depth, min(args.depth + 1, largest))},
        "optimizer": ["adam", "rmsprop", "sgd"],
        "learning_rate": {"low": 3e-4, "high": 2e-2, "log": True},
        "batch_size": [4, 8, 16],
        "loss": ["ce+dice", "ce", "dice", "focal"],
        "bent": {"low": 0.0, "high": 1.0},
        "zoom": {"low": 1.0, "high": 1.6},
    }
    fixed = set(given)
    if args.arch != "unet" or args.encoder:
        fixed |= {"arch", *(name for name in NETWORK_FLAGS if name not in own)}
    if args.load:
        fixed |= set(OF_LOADED)
    if args.target in ("stardist", "instances"):
        fixed |= {"loss"}  # they have their own
    if not args.augment:
        fixed |= set(DISTORTED)
    typed = given & set(NETWORK_FLAGS)
    space["arch"] = [name for name in space["arch"] if typed <= set(options_of(name).own())]
    return {name: values for name, values in space.items() if name not in fixed and count(values) > 1}


def read_space(path: str | Path, given: Iterable[str] = ()) -> Space:
    """The space in a TOML file.

    Raises
    ------
    UserError
        Naming the file, and the setting and its value, if it cannot be read, a setting is unknown, cannot be searched or was
        also typed as a flag (it is in `given`), or if a value is not allowed.
    """
    found, space = read_toml("--space", path), {}
    for key, values in found.items():
        name = key.replace("-", "_")
        if name not in SEARCHABLE:
            near = get_close_matches(name, SEARCHABLE, 1)
            hint = f"did you mean {dashed(near[0])}?" if near else f"these can: {', '.join(map(dashed, SEARCHABLE))}"
            raise UserError(f"--space {path}: {shown(key)} cannot be searched; {hint}")
        if name in given:
            raise UserError(f"--space {path}: {key} is also given as --{dashed(name)}: leave out one of the two")
        problem = why_no_values(name, values)
        if problem:
            raise UserError(f"--space {path}: {key} = {problem}")
        space[name] = values
    if not space:
        raise UserError(f"--space {path}: holds no setting to search; a line such as batch-size = [4, 8] is one")
    return {name: space[name] for name in SEARCHABLE if name in space}


def why_no_values(name: str, values: Any) -> str | None:
    """What is wrong with the values that a setting may take; None if nothing is."""
    field = FIELDS[name]
    kind = str(field.type).removesuffix(" | None")
    if isinstance(values, list):
        if not values:
            return "[] is empty: list the values to try"
        if len(set(map(repr, values))) < len(values):
            return f"{shown(values)} holds a value twice"
        return next((problem for v in values if (problem := why_not(field, v))), None)
    if not isinstance(values, dict):
        return f"{shown(values)} is neither a list of values nor a range {{low = ..., high = ...}}"
    if kind not in ("int", "float") or kind in LISTS:
        return f"{shown(values)} is a range, but this is no number: list the values to try"
    unknown = [key for key in values if key not in RANGE]
    if unknown or not {"low", "high"} <= values.keys():
        return f"{shown(values)} has {'an unknown ' + shown(unknown[0]) if unknown else 'not both low and high'}"
    low, high, log = values["low"], values["high"], values.get("log", False)
    for value in (low, high):
        if problem := why_not_one(kind, value, field.metadata):
            return problem
    if not isinstance(log, bool):
        return f"{shown(values)}: log is true or false"
    if not low < high:
        return f"{shown(values)}: low must be below high"
    return f"{shown(values)}: low must be above 0 where log is true" if log and not low > 0 else None


# ---- what is in it ---------------------------------------------------------------------------------------------------


def dashed(name: str) -> str:
    """A setting's name as a flag has it."""
    return name.replace("_", "-")


def count(values: Any) -> float:
    """How many values there are to try."""
    return len(values) if isinstance(values, list) else math.inf if values["low"] < values["high"] else 1


def holds(values: Any, value: Any) -> bool:
    """Whether a value is one of those that may be tried."""
    if isinstance(values, list):
        return any(type(v) is type(value) and v == value for v in values)
    return isinstance(value, int | float) and bool(values["low"] <= value <= values["high"])


def is_whole(name: str) -> bool:
    """Whether a setting is a whole number."""
    return str(FIELDS[name].type).startswith("int")


def has_effect(name: str, chosen: dict[str, Any], args: Arguments) -> bool:
    """Whether a setting has an effect beside those that were chosen before it, and the others of `args`."""
    from ...models import options_of

    def now(other: str) -> Any:
        return chosen.get(other, getattr(args, other))

    if name in NETWORK_FLAGS:
        return name in options_of(now("arch")).own()
    if name == "momentum":
        return now("optimizer") in ("sgd", "rmsprop")
    if name in DISTORTED:
        return bool(now("augment") and (name not in BENT or now("bent")))
    return True


def draw(trial: Any, space: Space, args: Arguments) -> dict[str, Any]:
    """The settings that Optuna proposes for a trial."""
    chosen: dict[str, Any] = {}
    for name in (n for n in SEARCHABLE if n in space):
        if not has_effect(name, chosen, args):
            continue
        values = space[name]
        if isinstance(values, list):
            chosen[name] = trial.suggest_categorical(name, values)
        else:
            kind = trial.suggest_int if is_whole(name) else trial.suggest_float
            chosen[name] = kind(name, values["low"], values["high"], log=values.get("log", False))
    return chosen


def default_values(space: Space, args: Arguments, given: set[str]) -> dict[str, Any] | None:
    """The default settings as a first trial; None if the space leaves them out.

    A network other than the U-Net has its own depth and the like unless they were typed, see `network_flags`.
    """
    from ...models import options_of

    values: dict[str, Any] = {}
    for name in (n for n in SEARCHABLE if n in space):
        if has_effect(name, values, args):
            arch = values.get("arch", args.arch)
            own = name in NETWORK_FLAGS and name != "base_width" and arch != "unet" and name not in given
            values[name] = getattr(options_of(arch)() if own else args, name)
    return values if all(holds(space[name], value) for name, value in values.items()) else None
