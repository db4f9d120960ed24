"""From class probabilities to separate objects.

Objects that touch are one region of foreground. They are told apart in three steps:

1. The core: with a network that was trained on a class for borders (``--target border``) the pixels that are rather inside
   than border, which the borders hold apart; otherwise all foreground.
2. Seeds: the hills of the core's distance transform, one an object. A hill is a seed if the way from its top to any higher
   one leads down to less than NECK of its height: objects meet in a neck that is narrower than they are. As a share of the
   height, one number does for small and for large objects.
3. Every seed grows down its hill and then into the rest of the foreground until it meets another: a watershed.

Foreground that has no seed is an object of its own, and objects of fewer than `min_size` pixels are dropped.

Sources: Vincent and Soille 1991, Watersheds in digital spaces, doi:10.1109/34.87344; Vincent 1993, Morphological
reconstruction, doi:10.1109/83.217222 (the hills: h-maxima, here of the logarithm, where a share is a difference).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .inference import class_map, probabilities
from .nn import Module

NECK = 0.9  # a neck's width as a share of the smaller object's, from which on the two are one object
SMOOTH = 1.0  # sigma in pixels, of the Gaussian that takes the pixels' steps out of the distance transform
MIN_SIZE = 20  # pixels
EIGHT = np.ones((3, 3), bool)


def segment_objects(
    model: Module,
    image: np.ndarray,
    threshold: float = 0.5,
    scale: float | None = None,
    min_size: int = MIN_SIZE,
    split: bool = True,
) -> np.ndarray:
    """Segment one image into separate objects; parameters as in `minunet.segment` and `label_objects`.

    Returns
    -------
    (H, W) int32 array of object numbers, 0 for background

    Examples
    --------
    >>> model = minunet.load("runs/nuclei/best.safetensors")  # doctest: +SKIP
    >>> labels = minunet.segment_objects(model, image)  # doctest: +SKIP
    """
    return label_objects(probabilities(model, image, scale), target_of(model), threshold, min_size, split)


def label_objects(
    p: np.ndarray, target: str = "classes", threshold: float = 0.5, min_size: int = MIN_SIZE, split: bool = True
) -> np.ndarray:
    """Separate objects of class probabilities.

    Parameters
    ----------
    p : (H, W, K) float array
        Class 0 is background; with the target "border" class 1 is the inside of objects and class 2 their border.
    target : "classes" or "border"
        What the network was trained on.
    threshold : float
        Foreground is where the probabilities of all classes but 0 sum up to more.
    min_size : int
        Objects of fewer pixels are dropped.
    split : bool
        Whether regions are split at their necks; if not, objects are 4-connected regions, which suits shapes that are
        not round (membranes' cells, vessels).

    Returns
    -------
    (H, W) int32 array, objects numbered from 1 without gaps in the order of their first pixels
    """
    if target not in ("classes", "border") or p.ndim != 3 or p.shape[-1] < (3 if target == "border" else 2):
        raise ValueError(f"probabilities of shape {p.shape} with the target {target!r}")
    foreground = p[..., 1:].sum(-1) > threshold
    core = foreground & (p[..., 1] >= p[..., 2]) if target == "border" else foreground
    labels = grow(core, foreground, split)
    unseeded, found = ndimage.label(foreground & (labels == 0))
    if found:
        labels = np.where(unseeded > 0, unseeded + labels.max(), labels)
    return renumber(labels, min_size)


def grow(core: np.ndarray, foreground: np.ndarray, split: bool = True) -> np.ndarray:
    """Seeds from the core, grown over the foreground: (H, W) int32 numbers, 0 where no seed reaches."""
    from skimage.segmentation import watershed

    if not split and core is foreground:
        return ndimage.label(core)[0]
    depth = smooth_depth(core)
    seeds = ndimage.label(hilltops(depth), EIGHT)[0] if split else ndimage.label(core)[0]
    outside = ndimage.distance_transform_edt(~core) if core is not foreground else 0
    return watershed(outside - depth, seeds, mask=foreground)


def smooth_depth(mask: np.ndarray) -> np.ndarray:
    """Distance from the mask's outside, which the image's edges belong to: (H, W) float, smoothed, 0 outside."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return ndimage.gaussian_filter(depth, SMOOTH) * mask


def hilltops(depth: np.ndarray, neck: float = NECK) -> np.ndarray:
    """Where a hill is highest, of the hills that `neck` leaves: (H, W) bool, with a lowland of 0 between regions."""
    from skimage.morphology import local_maxima, reconstruction

    height = np.log(np.maximum(depth, 1e-3))
    return local_maxima(reconstruction(height + np.log(neck), height, footprint=EIGHT)) & (depth > 0)


def renumber(labels: np.ndarray, min_size: int = 0) -> np.ndarray:
    """Objects of at least so many pixels, numbered from 1 without gaps in the order of their first pixels."""
    numbers, first, place, area = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    kept = (numbers > 0) & (area >= min_size)
    new = np.zeros(len(numbers), np.int32)
    new[kept] = 1 + np.argsort(np.argsort(first[kept]))
    return new[place].reshape(labels.shape)


def target_of(model: Module) -> str:
    """What a loaded network was trained on, "classes" or "border"."""
    return model.data.get("target", "classes")


def output_names(model: Module) -> list[str]:
    """What a loaded network's probabilities are of, in their order."""
    names = class_map(model).names
    return [names[0], "inside", "border"] if target_of(model) == "border" else names
