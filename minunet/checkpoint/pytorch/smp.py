"""Networks of segmentation_models.pytorch: `Unet`, `UnetPlusPlus` and `DeepLabV3Plus`, from their tensors' names and shapes.

Their encoders have torchvision's names, as ours do. Of the rest, what the shapes cannot tell is in the config.json that
`save_pretrained` writes beside the weights; without that file the package's own defaults are assumed, and that is said: output
stride 16 of a DeepLab, no interpolation but the nearest, and images in 0..1 of which ImageNet's mean was taken off and which
were divided by its standard deviation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...data import Preprocessing
from ...errors import UserError
from ...models import (
    DeepLabV3PlusOptions,
    EncoderUNetOptions,
    EncoderUNetPlusPlusOptions,
    NetworkOptions,
    outline,
)
from ...models.encoders import ENCODERS, imagenet
from .classes import classes_of_values
from .encoder import identify, some
from .layout import COUNTER
from .names import STANDARDISE, as_ours, entries_of
from .pickles import Refused
from .state import SMP_FIRST as FIRST

HEAD = "segmentation_head.0.weight"
STEM = {"mobilenet_v2": 32}  # channels of the first convolution; of all others 64
DEEPLAB = {
    "head": "segmentation_head.0", "project.conv": "decoder.aspp.0.project.0", "project.norm": "decoder.aspp.0.project.1",
    "mean.conv": "decoder.aspp.0.convs.4.1", "mean.norm": "decoder.aspp.0.convs.4.2", "after.depthwise": "decoder.aspp.1.0",
    "after.conv": "decoder.aspp.1.1", "after.norm": "decoder.aspp.2", "low.conv": "decoder.block1.0",
    "low.norm": "decoder.block1.1", "fuse.depthwise": "decoder.block2.0.0", "fuse.conv": "decoder.block2.0.1",
    "fuse.norm": "decoder.block2.1",
}  # fmt: skip
EXCITATIONS = {"channel.excite.conv1": "cSE.1", "channel.excite.conv2": "cSE.3", "spatial.excite.conv": "sSE.0"}
NEVER_RUN = ("classification_head.", "decoder.blocks.4.attention1.", "decoder.blocks.x_0_4.attention1.")
FIXED = {  # settings that shapes do not tell, and the only value of each that is known here
    "encoder_depth": 5, "decoder_interpolation": "nearest", "decoder_atrous_rates": [12, 24, 36],
}  # fmt: skip
Shapes = Mapping[str, tuple[int, ...]]


def is_smp(keys: Mapping[str, Any]) -> bool:
    """Whether these are the keys of a network of segmentation_models.pytorch."""
    return HEAD in keys and any(first in keys for first in FIRST)


def settings_beside(path: Path) -> dict[str, Any]:
    """What the config.json of `save_pretrained` beside a file says; empty if there is none, or another program's."""
    try:
        found = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("encoder_name"), str) else {}


def read_smp(
    keys: Mapping[str, Any],
    read: Callable[[str], np.ndarray],
    path: Path,
    report: Callable[[str], object] | None = None,
) -> tuple[NetworkOptions, Preprocessing, dict[str, np.ndarray]]:
    """Network options, preprocessing and weights; `read` gives the tensor of a key as an array.

    Raises
    ------
    Refused
        If it is no network that is known here, or its tensors are others than those of such a network.
    UserError
        If it has more classes than there may be.
    """
    shapes = {key: tuple(t.shape) for key, t in keys.items() if not key.endswith(COUNTER)}
    beside = settings_beside(path)
    options, place = described(shapes, beside)
    model = outline(options)
    entries, own = entries_of(model, place), model.state()
    missing = [key for key in entries if key not in shapes]
    surplus = [
        key for key in shapes if key not in entries and not key.startswith(NEVER_RUN) and "decoder.center." not in key
    ]
    if missing:
        raise Refused(f"it lacks {some(missing)}, which {options.name} on {options.encoder} has")  # type: ignore[attr-defined]
    if surplus:
        raise Refused(f"it has {some(surplus)}, which {options.name} has not here")
    for key, spec in entries.items():
        if shapes[key] != spec.shape:
            raise Refused(f"{key} has the shape {shapes[key]}, {spec.shape} was expected")
    weights = {str(spec.path): as_ours(read(key), own[str(spec.path)]) for key, spec in entries.items()}
    mean, std = imagenet(options.in_channels)
    weights |= {f"encoder.{STANDARDISE}.{name}": np.array(a, np.float32) for name, a in (("mean", mean), ("std", std))}
    classes, _ = classes_of_values(None, max(options.num_classes, 2), path)
    if report:
        left = sorted(key for key in shapes if key not in entries)
        assumed = "" if beside else "; without config.json its other settings are taken to be the package's defaults"
        report(
            f"{path}: {options.name} on {options.encoder}, {options.in_channels} channels, "  # type: ignore[attr-defined]
            f"{options.num_classes} outputs, all {len(entries)} tensors; images are taken in 0..1, less ImageNet's mean, over "
            f"its standard deviation{assumed}" + (f"; left out, as never run: {some(left)}" if left else "")
        )
    return options, Preprocessing(options.in_channels, classes, normalise="255"), weights


def described(shapes: Shapes, beside: dict[str, Any]) -> tuple[NetworkOptions, Callable[[str], str]]:
    """The options of the network that has these tensors, and the name there of each of our layers."""
    first = next(shapes[key] for key in FIRST if key in shapes)
    name = beside.get("encoder_name") or identify(shapes, "encoder.")
    if name not in ENCODERS:
        raise Refused(f"its encoder{f' {ascii(name)[:40]}' if name else ''} is none of {', '.join(ENCODERS)}")
    for setting, value in FIXED.items():
        if beside.get(setting, value) != value:
            raise Refused(f"its config.json says {setting} {ascii(beside[setting])[:40]}; only {value} is known here")
    if len(first) != 4 or len(shapes[HEAD]) != 4 or 0 in (*first, *shapes[HEAD]):
        raise Refused("its first and last convolutions are not of 4 dimensions that are none of them 0")
    shared: dict[str, Any] = {
        "in_channels": first[1], "num_classes": shapes[HEAD][0], "encoder": name, "standardise": "imagenet",
        "encoder_width": first[0] / STEM.get(str(name), 64),
    }  # fmt: skip
    scse: dict[str, Any] = {"attention": "scse" if any(".attention2.attention.cSE." in key for key in shapes) else None}
    try:
        if any(key.startswith("decoder.blocks.x_") for key in shapes):
            return EncoderUNetPlusPlusOptions(**shared, **scse, decoder_width=shapes[HEAD][1]), place_in_nested
        if "decoder.blocks.0.conv1.0.weight" in shapes:
            return EncoderUNetOptions(**shared, **scse, decoder_width=shapes[HEAD][1]), place_in_unet
        if "decoder.aspp.0.convs.0.0.weight" in shapes:
            separable = "decoder.aspp.0.convs.1.0.0.weight" in shapes
            stride, dropout = beside.get("encoder_output_stride", 16), beside.get("decoder_aspp_dropout", 0.5)
            options = DeepLabV3PlusOptions(
                **shared,
                width=shapes[HEAD][1],
                output_stride=stride,
                separable=separable,
                dropout=dropout,
                layout="smp",
            )
            return options, lambda layer: place_in_deeplab(layer, separable)
    except UserError as e:
        raise Refused(f"of its settings, {e}") from None
    raise Refused("its decoder is none of those of Unet, UnetPlusPlus and DeepLabV3Plus of segmentation_models.pytorch")


def place_in_block(block: str, part: str) -> str:
    """The name there of a layer of a decoder's block, such as "conv1", "norm2" or "attention1.spatial.excite.conv"."""
    if part.startswith("attention"):
        attention, _, place = part.partition(".")
        return f"{block}.{attention}.attention.{EXCITATIONS[place]}"
    return f"{block}.conv{part[-1]}.{int(part.startswith('norm'))}"


def place_in_unet(layer: str) -> str:
    """The name there of a layer of `EncoderUNet`."""
    part, _, rest = layer.partition(".")
    if part == "center":
        return f"decoder.center.{int(rest[-1]) - 1}.{int(rest.startswith('norm'))}"
    if part == "decoder":
        level, _, rest = rest.partition(".")
        return place_in_block(f"decoder.blocks.{4 - int(level)}", rest)
    return "segmentation_head.0" if part == "head" else layer


def place_in_nested(layer: str) -> str:
    """The name there of a layer of `EncoderUNetPlusPlus`: X(i, j) is x_D_L, with L counted from below, and D = L - j + 1."""
    part, _, rest = layer.partition(".")
    if part == "node":
        i, j, rest = rest.split(".", 2)
        below = 4 - int(i)
        return place_in_block(f"decoder.blocks.x_{below - int(j) + 1}_{below}", rest)
    return "segmentation_head.0" if part == "head" else layer


def place_in_deeplab(layer: str, separable: bool) -> str:
    """The name there of a layer of `DeepLabV3Plus`."""
    part, _, rest = layer.partition(".")
    if part == "encoder":
        return layer
    if part == "branches":
        number, _, kind = rest.partition(".")
        split = separable and number != "0"
        conv = {"depthwise": "0.0", "conv": "0.1" if split else "0", "norm": "1"}[kind]
        return f"decoder.aspp.0.convs.{number}.{conv}"
    return DEEPLAB[layer]
