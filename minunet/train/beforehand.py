"""What is needed at the end of a run is tried before it begins: pictures with the images' names, and space for checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
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
