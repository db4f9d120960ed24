"""A network from a file of PyTorch-UNet or segmentation_models.pytorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...data import Preprocessing
from ...errors import UserError
from ...models import NetworkOptions, UNetOptions
from ...nn import Module
from ..build import model_of
from ..file import read_safetensors
from .classes import classes_of_values
from .container import is_torch_file, open_torch
from .encoder import identify
from .layout import Layout, axes, find_layout
from .names import read_floats
from .pickles import Refused, Tensor
from .smp import is_smp, read_smp
from .state import find_state, without_prefixes

Found = tuple[NetworkOptions, Preprocessing, dict[str, np.ndarray]]  # the last one: the weights by our paths


def load_torch(path: Path | str, report: Callable[[str], object] | None = print) -> Module:
    """Load a checkpoint of PyTorch-UNet or segmentation_models.pytorch, without PyTorch and without running what is in it.

    Parameters
    ----------
    path : path
        A file of `torch.save`, or a safetensors file with the same keys: of PyTorch-UNet in any of its versions, or of a
        `Unet`, `UnetPlusPlus` or `DeepLabV3Plus` on an encoder that is known here.
    report : callable or None
        Called with a line of text for every key, which says which parameter it became, with lines on prefixes that were taken
        off keys and on what was left out, and with a line on the whole file; None prints nothing.

    Returns
    -------
    Module
        As from `minunet.load`. The file does not say at which scale of the images the network was trained (PyTorch-UNet's
        default is 0.5), so ``model.preprocessing.scale`` is 1. To change it:
        ``model.preprocessing = dataclasses.replace(model.preprocessing, scale=0.5)``.

    Raises
    ------
    UserError
        If the file is damaged, would run code, or its keys are not those of PyTorch-UNet; the first one is named.
    """
    return model_of(*read_torch(path, report), path)


def read_torch(path: Path | str, report: Callable[[str], object] | None = None) -> Found:
    """Network options, preprocessing and weights of a file of PyTorch-UNet; parameters and errors as in `load_torch`."""
    if not is_torch_file(path):
        arrays = read_safetensors(path)[1]
        try:
            arrays, notes = without_prefixes(arrays)
            if is_smp(arrays):
                tell(notes, path, report)
                return read_smp(arrays, arrays.__getitem__, Path(path), report)
            layout = layout_of({key: a.shape for key, a in arrays.items()})
        except Refused as e:
            raise UserError(f"{path} is a safetensors file but not a minunet checkpoint, and {e}") from None
        tell(notes, path, report)
        return to_checkpoint(layout, take_weights(layout, arrays.__getitem__, arrays, report), None, path, report)
    with open_torch(path) as file:
        state, mask_values, notes = find_state(file.content)
        key = next((key for key, t in state.items() if not isinstance(t, Tensor)), None)
        if key is not None:
            raise Refused(f"{ascii(key)[1:-1][:60]} is no tensor, and nothing that PyTorch-UNet keeps beside tensors")
        if is_smp(state):
            tell(notes, path, report)
            return read_smp(state, lambda key: read_floats(file, key, state[key]), Path(path), report)
        layout = layout_of({key: t.shape for key, t in state.items()})
        tell(notes, path, report)
        weights = take_weights(layout, lambda key: read_floats(file, key, state[key]), state, report)
    return to_checkpoint(layout, weights, mask_values, path, report)


def layout_of(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """As `find_layout`; where it is an encoder alone, the refusal says how it is used."""
    try:
        return find_layout(shapes)
    except Refused:
        held = identify(shapes)
        if held is None:
            raise
        raise Refused(
            f"it holds {held} alone, which is no whole network: train --encoder {held} --encoder-weights FILE starts from it"
        ) from None


def tell(notes: list[str], path: Path | str, report: Callable[[str], object] | None) -> None:
    """Report what was taken off keys, and left out."""
    for note in notes if report else ():
        report(f"{path}: {note}")  # type: ignore[misc]


def take_weights(
    layout: Layout,
    read: Callable[[str], np.ndarray],
    keys: Mapping[str, Any],
    report: Callable[[str], object] | None = None,
) -> dict[str, np.ndarray]:
    """Our parameters by path, float32 and in our order of axes.

    Parameters
    ----------
    layout : Layout
    read : callable
        Takes a key and returns its tensor as an array.
    keys : mapping
        The keys that the file has.
    report : callable, optional
        As in `load_torch`.
    """
    weights: dict[str, np.ndarray] = {}
    for key, entry in layout.entries().items():
        if entry.path is None:
            if report and key in keys:
                report(f"{key} is not needed")
            continue
        array = read(key)
        with np.errstate(over="ignore"):  # of float64 to float32; `load_weights` checks later that weights are finite
            array = np.ascontiguousarray(array.transpose(axes(key, array.ndim)), np.float32)
        weights[entry.path] = array
        if report:
            report(f"{key} {entry.shape} -> {entry.path} {array.shape}")
    return weights


def to_checkpoint(
    layout: Layout,
    weights: dict[str, np.ndarray],
    mask_values: Any,
    path: Path | str,
    report: Callable[[str], object] | None = None,
) -> Found:
    """Network options, preprocessing and weights in the form of our own checkpoints, for a network of this layout."""
    classes, told = classes_of_values(mask_values, max(layout.num_classes, 2), path)
    up = "bilinear" if layout.up is None else "transpose"
    widths = [[list(w) for w in layout.encoder], [list(w) for w in layout.decoder], *([layout.up] if layout.up else [])]
    options = UNetOptions(layout.in_channels, layout.num_classes, widths=widths, conv_bias=layout.conv_bias, up=up)
    preprocessing = Preprocessing(layout.in_channels, classes, normalise="255")
    if report:
        report(
            f"{path}: {sum(a.size for a in weights.values()):,} values, {layout.in_channels} channels, {up}, "
            f"{layout.num_classes} classes {'as in its mask_values' if told else '(it has no mask_values)'}: "
            f"{classes.describe()}; the scale of its training is not in it, 1 is assumed"
        )
    return options, preprocessing, weights
