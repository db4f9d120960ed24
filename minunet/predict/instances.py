"""From class probabilities to separate objects.

Objects that touch are one region of foreground. They are told apart in three steps:

1. Height: how deep in the foreground a pixel lies, by the distance transform. If the network was trained on a class for borders
   (``--target border``), the height is multiplied by p(inside) / (p(inside) + p(border)), so that borders become valleys.
2. Seeds: the hilltops of the height, one for each object. A hilltop is a seed if every path from it to a higher one leads
   down to less than NECK times its own height: where two objects touch, there is a neck narrower than both. As NECK is a share
   of the height, it suits small and large objects alike.
3. Every seed grows down its hill until it meets another one: a watershed.

Objects of fewer than `min_size` pixels are dropped.

Sources: Vincent and Soille 1991, Watersheds in digital spaces, doi:10.1109/34.87344; Vincent 1993, Morphological
reconstruction, doi:10.1109/83.217222 (the hills: h-maxima, here of the logarithm, where a share is a difference).
"""

from __future__ import annotations

import numpy as np
import scipy

from ..data.instance_labels import renumber
from ..nn import Module
from .inference import class_map, probabilities
from .options import DEFAULTS

NECK = 0.9  # two objects are one if the neck between them is wider than this share of the smaller one's width
SMOOTH = 1.0  # sigma, in pixels, of the Gaussian that smooths the height, which rises in steps of pixels
BORDER = 0.1  # the least factor of a border; nearer to 0, tiny differences would become hills in the logarithm
MIN_SIZE = DEFAULTS.min_size  # pixels
SIDES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)  # objects are 4-connected, and so are the ways over hills


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
    """Separate objects, from class probabilities.

    Parameters
    ----------
    p : (H, W, K) float array
        Class 0 is background; with the target "border" class 1 is the inside of objects and class 2 their border.
    target : "classes" or "border"
        What the network was trained on.
    threshold : float
        A pixel is foreground if the probabilities of all classes but 0 add up to more than this.
    min_size : int
        Objects of fewer pixels are dropped.
    split : bool
        Whether regions are split at necks and borders; if not, objects are the 4-connected regions of foreground, which
        suits shapes that are not round (neurites, vessels).

    Returns
    -------
    (H, W) int32 array, objects numbered from 1 without gaps in the order of their first pixels
    """
    if target not in ("classes", "border") or p.ndim != 3 or p.shape[-1] < (3 if target == "border" else 2):
        raise ValueError(f"probabilities of shape {p.shape} with the target {target!r}")
    from skimage.segmentation import watershed

    foreground = p[..., 1:].sum(-1) > threshold
    inside = p[..., 1] / np.maximum(p[..., 1] + p[..., 2], 1e-6) if target == "border" else np.ones((), p.dtype)
    if not split:
        return renumber(scipy.ndimage.label(foreground)[0], min_size)
    depth = scipy.ndimage.distance_transform_edt(np.pad(foreground, 1))[1:-1, 1:-1]  # the image's edges are outside
    height = (depth * np.maximum(inside, BORDER)).astype(np.float32)  # half the memory, here and in all that follows
    del depth, inside
    height = scipy.ndimage.gaussian_filter(height, SMOOTH) * foreground
    seeds = scipy.ndimage.label(hilltops(height))[0]
    return renumber(watershed(-height, seeds, mask=foreground), min_size)


def hilltops(height: np.ndarray) -> np.ndarray:
    """The hilltops that count as seeds, (H, W) bool, from heights (H, W) of 0 or more."""
    from skimage.morphology import local_maxima, reconstruction

    log = np.log(np.maximum(height, 1e-3))
    return local_maxima(reconstruction(log + np.log(NECK), log, footprint=SIDES), connectivity=1) & (height > 0)


def target_of(model: Module) -> str:
    """What a loaded network was trained on, "classes" or "border"."""
    return model.preprocessing.target


def output_names(model: Module) -> list[str]:
    """The names of a loaded network's outputs, in their order."""
    names = class_map(model).names
    return [names[0], "inside", "border"] if target_of(model) == "border" else names
