"""Building a network from the description and the weights that a checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..cli import printable
from ..data import Preprocessing
from ..errors import UserError
from ..models import NetworkOptions, build, outline
from ..nn import Module


def check_described(architecture: NetworkOptions, weights: dict[str, np.ndarray]) -> None:
    """ValueError if a network with these options would have more weights than there are; called before memory is taken."""
    described, held = outline(architecture).num_params(), sum(a.size for a in weights.values())
    if described > held:
        raise ValueError(f"{described:,} weights are described, the file holds {held:,}")


def check_together(architecture: NetworkOptions, preprocessing: Preprocessing) -> None:
    """ValueError if network and preprocessing do not fit together: other channels, or another number of outputs."""
    if architecture.in_channels != preprocessing.channels:
        raise ValueError(f"a network of {architecture.in_channels} channels for images of {preprocessing.channels}")
    if architecture.num_classes not in preprocessing.outputs():
        raise ValueError(
            f"num_classes {architecture.num_classes}, but the target {preprocessing.target!r} of "
            f"{preprocessing.classes.num_classes} classes has {' or '.join(map(str, preprocessing.outputs()))}"
        )


def load_weights(model: Module, weights: dict[str, np.ndarray], path: Path | str) -> None:
    """Copy weights into a model; UserError if they do not fit it (naming the first parameter) or are not finite."""
    try:
        model.load_state(weights)
    except ValueError as e:
        raise UserError(
            f"{path} holds the weights of another network than {model.architecture}: {printable(str(e))}. "
            "To train on from it, give the --base-width, --depth and so on that it was trained with"
        ) from e
    if not all(np.isfinite(a).all() for a in weights.values()):
        raise UserError(
            f"{path} holds weights that are not finite: that training went wrong; use an earlier checkpoint"
        )


def model_of(
    architecture: NetworkOptions, preprocessing: Preprocessing, weights: dict[str, np.ndarray], path: Path | str
) -> Module:
    """Build the network that a file holds, ready for `minunet.segment`; `path` is for errors."""
    try:
        check_described(architecture, weights)
        check_together(architecture, preprocessing)
        model = build(architecture)
    except (TypeError, ValueError, IndexError, OverflowError) as e:
        raise UserError(f"{path}: its description of the network is damaged ({e}); use another copy of it") from e
    model.preprocessing = preprocessing
    load_weights(model, weights, path)
    return model
