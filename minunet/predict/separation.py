"""How a loaded network's output becomes objects: by the options, else as its training found, else as suits any objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data.objects import Separation
from ..nn import Module
from .options import DEFAULTS, PredictionOptions

UNTUNED = {"classes": Separation(), "border": Separation(neck=0.8), "stardist": Separation(threshold=0.4, min_size=5),
           "instances": Separation(threshold=0.3, min_size=5, nms=0.5)}  # fmt: skip
"""By target: what holds for a network that nobody tuned, which may miss many borders."""

SEEN = {**UNTUNED, "border": Separation(neck=0.3, smooth=0.0)}
"""By target: what holds where all borders are seen. Cells that fill the image have few necks narrower than themselves."""


def separation_of(model: Module, options: PredictionOptions = DEFAULTS) -> Separation:
    """How a loaded network's output becomes objects, in pixels of the image: by the options, else as its training found."""
    known = model.preprocessing
    how = UNTUNED[known.target]
    if known.separation:
        how = known.separation.magnified(1 / (options.scale or known.scale))
    given = {name: getattr(options, name) for name in ("threshold", "neck", "smooth", "min_size", "nms")}
    return replace(how, **{name: value for name, value in given.items() if value is not None})


def reach_of(model: Module, how: Separation, options: PredictionOptions = DEFAULTS) -> int:
    """How far objects reach, in pixels of the image, with the smoothing: what a block has to see around itself."""
    known = model.preprocessing
    extent = known.objects.extent / (options.scale or known.scale) if known.objects else 0
    return int(np.ceil(extent + 4 * how.smooth))
