"""What a network's outputs mean: probabilities of classes, or star-convex polygons."""

from __future__ import annotations

from ..array import Array
from ..nn import Module
from ..ops import class_probabilities
from .stars import star_maps


def maps_of(model: Module, logits: Array, scale: float = 1.0) -> Array:
    """The maps of an image, (..., K), from the network's outputs.

    Parameters
    ----------
    model : Module
        If it has `preprocessing` with rays, its outputs are polygons; else logits of classes.
    logits : (..., outputs) float array
    scale : float
        Pixels of the network's image for one of the image that the maps are of.

    Returns
    -------
    (..., K) float array
        The classes' probabilities, at least two; or the probability of an object and the distances to its outline in pixels.
    """
    known = getattr(model, "preprocessing", None)
    if known is None or known.rays is None:
        return class_probabilities(logits)
    return star_maps(logits, known.rays.unit / scale)
