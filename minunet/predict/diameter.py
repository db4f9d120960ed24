"""Objects of another size than those that a network was trained on: how wide they are, and at which scale it sees them.

A network finds objects of the size that it knows best. So a network that is shown larger ones finds pieces of them that look
as large as those that it knows, and of smaller ones it finds few, or clumps. What it finds at one size of the image hardly
tells, then; but the part of the image in its middle is looked at in five sizes, and where the objects come nearest to what
the network knows, they are right most often: in pieces and clumps sizes are mixed. Their median is what is taken.

`segment` takes a scale; `segment_objects` and ``predict`` also a diameter, or "auto".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.instance_labels import limit_numbers
from ..data.objects import areas_and_sides, diameter
from ..data.preprocess import MAX_SCALE
from ..errors import UserError
from ..nn import Module
from .inference import preprocessing_of

SIZES = (1, 0.5, 2, 0.25, 4)  # of the image that are looked at, as shares of the size that the network would see
LOOKED_AT = 384  # rows and columns that the network sees each time, at most


def known_diameter(model: Module) -> float:
    """How wide the objects were that a network was trained on, in pixels as it sees them; UserError if that is not known."""
    size = preprocessing_of(model).objects
    if size is None:
        raise UserError(
            "--diameter: the network does not know how wide the objects of its training were, as only trainings on masks that "
            "number objects store it: give --scale"
        )
    return size.diameter


def scale_for(model: Module, px: float) -> float:
    """The factor for images whose objects are `px` pixels wide; UserError if it would be above `MAX_SCALE`."""
    scale = known_diameter(model) / px
    if scale > MAX_SCALE:
        raise UserError(
            f"--diameter {px:g}: the network knows objects of {known_diameter(model):.0f} pixels, so images would be magnified "
            f"{scale:.0f} times, {MAX_SCALE} is the most: give the diameter in pixels, or --scale"
        )
    return scale


def measured_diameter(model: Module, image: Any, find: Callable[[np.ndarray, float], np.ndarray]) -> float | None:
    """The median diameter of the objects in the middle of an image, in its pixels; None if there are none.

    Parameters
    ----------
    model : Module
    image : (H, W) or (H, W, C) array, or what `open_large` gives
    find : function
        From a part of the image and a scale to the numbers of its objects (h, w).
    """
    known, nearest, found = known_diameter(model), np.inf, None
    for size in SIZES:
        scale = preprocessing_of(model).scale * size
        if scale > MAX_SCALE:
            continue
        side = round(LOOKED_AT / scale)
        starts = [max(0, (n - side) // 2) for n in image.shape[:2]]
        part = np.asarray(image[tuple(slice(start, start + side) for start in starts)])
        areas = areas_and_sides(limit_numbers(find(part, scale)))[0]
        if not areas:
            continue
        px = diameter(float(np.median(areas)))
        unlike = abs(np.log(px * scale / known))
        if unlike < nearest:
            nearest, found = unlike, px
    return found
