"""From the description and the weights that a file holds to a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..models import ARCHITECTURES, build
from ..models.unet import count_filters
from ..nn import Module


def build_model(arch: str, options: dict[str, Any]) -> Module:
    """Make a network that remembers how it was made."""
    model = build(arch, **options)
    model.origin = {"arch": arch, "options": options}
    return model


def check_described(options: dict[str, Any], weights: dict[str, np.ndarray]) -> None:
    """ValueError if a network with these options would be larger than its weights: before memory is taken for it."""
    described, held = count_filters(**options), sum(a.size for a in weights.values())
    if described > held:
        raise ValueError(f"{described:,} weights are described, the file holds {held:,}")


def check_arch(path: Path | str, arch: str, *known: str) -> None:
    """UserError if a checkpoint holds another architecture than those."""
    if arch not in known:
        raise UserError(f"{path} holds a network of the kind {arch!r}, not {' or '.join(known)}; see --arch")


def load_weights(model: Module, weights: dict[str, np.ndarray], path: Path | str) -> None:
    """Copy weights into a model; UserError, naming the first parameter that does not fit, if they are another network's."""
    try:
        model.load_state(weights)
    except ValueError as e:
        origin = model.origin
        raise UserError(
            f"{path} holds the weights of another network than {origin['arch']} with {origin['options']}: {e}. "
            "To train on from it, give the --base-width, --depth and so on that it was trained with"
        ) from e
    if not all(np.isfinite(a).all() for a in weights.values()):
        raise UserError(
            f"{path} holds weights that are not finite: that training went wrong; use an earlier checkpoint"
        )


def model_of(meta: dict[str, Any], weights: dict[str, np.ndarray], path: Path | str) -> Module:
    """The network that a file of that path holds, ready for `minunet.segment`."""
    check_arch(path, meta["arch"], *ARCHITECTURES)
    try:
        check_described(meta["options"], weights)
        model = build_model(meta["arch"], meta["options"])
    except (TypeError, ValueError, IndexError, OverflowError) as e:
        raise UserError(f"{path}: its description of the network is damaged ({e}); use another copy of it") from e
    model.data = meta["data"]
    load_weights(model, weights, path)
    return model
