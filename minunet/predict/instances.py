"""From class probabilities to separate objects.

Objects that touch are one region of foreground. They are told apart in three steps:

1. Height: how deep in an object a pixel lies, by the distance transform: of the foreground, or, if the network was trained on
   a class for borders (``--target border``), of the inside, which is the foreground where inside is likelier than border. There
   the height is multiplied by p(inside) / (p(inside) + p(border)), so that faint borders are valleys, too. Depth counts from
   borders and not from the background, so that cells that fill the image without a gap have one hill each.
2. Seeds: the hilltops of the height, one for each object. A hilltop is a seed if every path from it to a higher one leads
   down to less than `neck` times its own height: where two objects touch, there is a neck narrower than both. As `neck` is a
   share of the height, it suits small and large objects alike. A border between two objects is a valley down to 0, and a neck
   of 0 leaves it to the borders alone. A piece of inside of few pixels is no seed: it is the end of an object behind a place
   so narrow that it is all border. Few are less than a fifth of `min_size`, or than CRUMB. A region of foreground without a
   seed is one object.
3. Every seed grows down its hill until it meets another one: a watershed.

Objects of fewer than `min_size` pixels are dropped.

A network of star-convex polygons (``--target stardist``) has other steps, see stars.py, and so has one of boxes and masks
(``--target instances``), see detections.py.

The numbers, a `Separation`, are tuned at the end of a training, on its validation images, and stored in the checkpoint.
Which are best depends on the network: one that sees all borders needs no necks, and one that misses some does.

Sources: Vincent and Soille 1991, Watersheds in digital spaces, doi:10.1109/34.87344; Vincent 1993, Morphological
reconstruction, doi:10.1109/83.217222 (the hills: h-maxima, here of the logarithm, where a share is a difference); Caicedo et
al. 2019, doi:10.1002/cyto.a.23863 (a class for borders; its pieces of inside as seeds).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..data.instance_labels import renumber
from ..data.objects import Separation
from ..nn import Module
from .detections import Seen, separate_detections
from .diameter import measured_diameter, scale_for
from .inference import class_map, found_objects, make_tiles, probabilities
from .options import AUTO, Diameter, PredictionOptions
from .separation import SEEN, separation_of
from .stars import cell_of, check_split, separate_stars

CRUMB = 4  # pixels; an object of 6 by 6 pixels with a border of 2 has such an inside
SIDES = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)  # objects are 4-connected, and so are the ways over hills


def segment_objects(
    model: Module,
    image: np.ndarray,
    threshold: float | None = None,
    scale: float | None = None,
    min_size: int | None = None,
    split: bool = True,
    neck: float | None = None,
    smooth: float | None = None,
    nms: float | None = None,
    diameter: Diameter = None,
) -> np.ndarray:
    """Segment one image into separate objects; parameters as in `minunet.segment` and `label_objects`.

    `diameter`, in place of `scale`, is how wide objects are in pixels of the image, or "auto" to measure that: the image is
    resized so that the network sees them as large as those that it was trained on. The result has the image's own size.
    Threshold, least size, neck, smoothing and suppression are those that the training found best unless they are given.

    Returns
    -------
    (H, W) int32 array of object numbers, 0 for background

    Examples
    --------
    >>> model = minunet.load("runs/nuclei/best.safetensors")  # doctest: +SKIP
    >>> labels = minunet.segment_objects(model, image)  # doctest: +SKIP
    """
    options = PredictionOptions(
        threshold=threshold, scale=scale, min_size=min_size, split=split, neck=neck, smooth=smooth, nms=nms,
        diameter=diameter,
    )  # fmt: skip
    options, _ = resampled(model, image, options)
    how, known, scale = separation_of(model, options), model.preprocessing, options.scale
    if known.target == "instances":
        tiles = make_tiles(model, image, options)
        objects, table, _, _ = found_objects(model, tiles, options, tiles.size)
        return table[objects.draw(slice(0, tiles.size[0]), slice(0, tiles.size[1]))].astype(np.int32)
    cell = cell_of(known.rays, scale or known.scale) if known.rays else 1
    return renumber(separate(probabilities(model, image, scale), target_of(model), how, split, cell), how.min_size)


def resampled(model: Module, image: Any, options: PredictionOptions) -> tuple[PredictionOptions, float | None]:
    """The options for an image with the scale that their diameter means, which may have to be measured; and the diameter.

    Without objects to measure the scale is that of the training, and the diameter None.
    """
    px = options.diameter
    if px is None:
        return options, None
    options = replace(options, diameter=None)
    if px == AUTO:
        px = measured_diameter(
            model,
            image,
            lambda part, scale: segment_objects(model, part, options.threshold, scale, split=options.split),
        )
    return (options, None) if px is None else (replace(options, scale=scale_for(model, float(px))), float(px))


def label_objects(
    p: np.ndarray, target: str = "classes", threshold: float = 0.5, min_size: int = SEEN["classes"].min_size,
    split: bool = True, neck: float | None = None, smooth: float | None = None, nms: float | None = None,
) -> np.ndarray:  # fmt: skip
    """Separate objects, from class probabilities.

    Parameters
    ----------
    p : (H, W, K) float array
        Class 0 is background; with the target "border" class 1 is the inside of objects and class 2 their border. With
        "stardist" the probability of an object and the distances, in pixels, to its outline.
    target : "classes", "border" or "stardist"
        What the network was trained on.
    threshold : float
        A pixel is foreground if the probabilities of all classes but 0 add up to more than this; with "stardist" its polygon
        may be an object.
    min_size : int
        Objects of fewer pixels are dropped; with the target "border" they become part of an object that they touch, if their
        inside has less than a fifth of that.
    split : bool
        Whether regions are split at necks and borders; if not, objects are the 4-connected regions of foreground, which
        suits shapes that are not round (neurites, vessels).
    neck : float, optional
        Two hills are one object if the pass between them is higher than this share of the lower hill: from 0, where they are
        two only if the valley goes down to 0, to 1. By default 0.9, and 0.3 with the target "border", which suits a network
        that sees all borders. For one that misses some, 0.8 and a smoothing of 1 find more of the objects.
    smooth : float, optional
        Sigma of the Gaussian that smooths the hills, in pixels. By default 1, and 0 with the target "border".
    nms : float, optional
        With the target "stardist": of two polygons that share more than this of the smaller one, only the more probable one is
        an object. By default 0.4.

    Returns
    -------
    (H, W) int32 array, objects numbered from 1 without gaps in the order of their first pixels
    """
    given = {"neck": neck, "smooth": smooth, "nms": nms}
    how = replace(
        SEEN.get(target, Separation()),
        threshold=threshold,
        min_size=min_size,
        **{name: value for name, value in given.items() if value is not None},
    )
    return renumber(separate(p, target, how, split), min_size)


def separate(p: Any, target: str, how: Separation, split: bool = True, cell: int = 1) -> np.ndarray:
    """As `label_objects`, but objects smaller than ``how.min_size`` are not dropped, and numbered in any order.

    `cell` is that of `minunet.predict.stars`. With the target "instances" p is a `Seen` of `minunet.predict.detections`.
    """
    import scipy

    if isinstance(p, Seen):
        check_split(split)
        return separate_detections(p, how)
    least = {"classes": 2, "border": 3, "stardist": 5}
    if target not in least or p.ndim != 3 or p.shape[-1] < least[target]:
        raise ValueError(f"probabilities of shape {p.shape} with the target {target!r}")
    if target == "stardist":
        check_split(split)
        return separate_stars(p, how, cell)
    from skimage.segmentation import watershed

    foreground = p[..., 1:].sum(-1) > how.threshold
    if not split:
        return renumber(scipy.ndimage.label(foreground)[0])
    core = foreground
    if target == "border":
        inside = p[..., 1] / np.maximum(p[..., 1] + p[..., 2], 1e-6)
        core = without_crumbs(foreground & (inside > 0.5), max(CRUMB, how.min_size / 5))
    # the image's edges are outside; half the memory in float32, here and in all that follows
    height = scipy.ndimage.distance_transform_edt(np.pad(core, 1))[1:-1, 1:-1].astype(np.float32)
    if target == "border":
        height *= inside
        del inside
    height = scipy.ndimage.gaussian_filter(height, how.smooth, output=height) if how.smooth else height
    height *= foreground
    seeds, count = scipy.ndimage.label(hilltops(height, how.neck))
    regions, _ = scipy.ndimage.label(foreground)
    seeded = np.zeros(regions.max(initial=0) + 1, bool)
    seeded[regions[seeds > 0]] = True
    np.copyto(seeds, count + regions, where=foreground & ~seeded[regions])
    return watershed(-height, seeds, mask=foreground)


def without_crumbs(core: np.ndarray, least: float) -> np.ndarray:
    """A mask (H, W) without its 4-connected pieces of fewer pixels than `least`."""
    import scipy

    pieces, _ = scipy.ndimage.label(core)
    kept = np.bincount(pieces.ravel()) >= least
    kept[0] = False
    return kept[pieces]


def hilltops(height: np.ndarray, neck: float) -> np.ndarray:
    """The hilltops that count as seeds, (H, W) bool, from heights (H, W) of 0 or more."""
    from skimage.morphology import local_maxima, reconstruction

    log = np.log(np.maximum(height, 1e-6))
    share = np.log(max(neck, 1e-3))
    return local_maxima(reconstruction(log + share, log, footprint=SIDES), connectivity=1) & (height > 0)


def target_of(model: Module) -> str:
    """What a loaded network was trained on: "classes", "border", "stardist" or "instances"."""
    return model.preprocessing.target


def output_names(model: Module) -> list[str]:
    """The names of a loaded network's outputs, in their order; of polygons that of their probability alone."""
    names = class_map(model).names
    if model.preprocessing.one_by_one:
        return names[1:]
    return [names[0], "inside", "border"] if target_of(model) == "border" else names
