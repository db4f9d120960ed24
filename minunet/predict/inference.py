"""From an image to its classes: what `minunet.segment`, `python -m minunet.predict` and validation do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..array import Array, get_array_module, to_numpy
from ..data import ClassMap, Preprocessing, prepare
from ..data.files.windows import Windows
from ..data.preprocess import Stretch, mirrored, scaled_size
from ..errors import UserError
from ..nn import Module
from ..ops import class_probabilities
from .detections import DetectingTiles, Detections, Seen, find_detections, heads_of, separate_detections
from .maps import maps_of
from .options import DEFAULTS, PredictionOptions
from .separation import UNTUNED, separation_of
from .stars import Objects, cell_of, check_split, draw, find_objects, separate_stars
from .stitching import BLOCK, census, lay_blocks, numbering
from .tiles import Block, Tiles, best_tile, whole_fits
from .tta import SYMMETRIES

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)  # of polygons, at which a training is scored


def segment(
    model: Module, image: Any, threshold: float | None = None, scale: float | None = None, tile: int | None = None,
    overlap: int | None = None, tta: int | None = None, out: Any = None,
) -> Any:  # fmt: skip
    """Segment one image.

    Parameters
    ----------
    model : Module
        A network from `minunet.load`.
    image : (H, W) or (H, W, channels) array
        As it comes from the file: 8 or 16 bit or float, grey, RGB or RGBA; it is normalised as in training. It may also be a
        memory map, a zarr array, or what `minunet.data.open_large` gives; by tiles it is then never whole in memory.
    threshold : float in (0, 1), optional
        With two classes: a pixel is foreground if its probability of foreground is above this, by default 0.5. After
        ``--target stardist``: what polygons are drawn, by default as the training found best.
    scale : float, optional
        Factor by which the image is resized for the network, by default that of the training. The result always has the
        image's own size.
    tile : int, optional
        Side of the tiles in pixels; 0 for no tiles. If not given, tiles are used if the whole image does not fit into memory.
        Either way the result is the same, except for the networks that `minunet.predict.tiles` names.
    overlap : int, optional
        How many pixels the network sees around a tile; by default as many as it needs.
    tta : int from 1 to 8, optional
        Over how many flips and rotations the probabilities are averaged: 4 for the rotations, 8 for all. By default as the
        checkpoint says: 1, or what ``train --tta`` set (``--recipe paper`` sets 4).
    out : optional
        Where to write instead of a new array: an (H, W) array, memory map or zarr array.

    Returns
    -------
    (H, W) uint8 array of class numbers, or `out`

    Examples
    --------
    >>> model = minunet.load("runs/cells/best.safetensors")  # doctest: +SKIP
    >>> mask = minunet.segment(model, image)  # doctest: +SKIP
    """
    options = PredictionOptions(threshold=threshold, scale=scale, tile=tile, overlap=overlap, tta=tta)
    tiles = make_tiles(model, image, options)
    out = np.empty(tiles.size, np.uint8) if out is None else out
    if model.preprocessing.one_by_one:
        objects, table, _, blocks = found_objects(model, tiles, options, tiles.size)
        for rows, columns in blocks:
            out[rows, columns] = (table[objects.draw(rows, columns)] > 0).astype(np.uint8)
        return out
    for rows, columns, p in tiles:
        out[rows, columns] = classify(semantic(model, p), options.mask_threshold)
    return out


def found_objects(
    model: Module, tiles: Iterable[Any], options: PredictionOptions, size: tuple[int, int]
) -> tuple[Objects | Detections, np.ndarray, int, list[tuple[slice, slice]]]:  # fmt: skip
    """An image's objects from a network that finds them one by one; what `numbering` gives; blocks that are the image."""
    check_split(options.split)
    how, known = separation_of(model, options), model.preprocessing
    objects: Objects | Detections
    if known.rays:
        objects = find_objects(tiles, how, cell_of(known.rays, options.scale or known.scale))
    else:
        objects = find_detections(tiles, how)
    blocks = [block.core for block in lay_blocks(size, BLOCK, 0).values()]
    counted = (census(objects.draw(*block), block) for block in blocks)
    return objects, *numbering(len(objects.boxes), counted, how.min_size), blocks


def probabilities(
    model: Module, image: Any, scale: float | None = None, tile: int | None = None, overlap: int | None = None,
    tta: int | None = None,
) -> np.ndarray:  # fmt: skip
    """The classes' probabilities for one image, (H, W, num_classes) float32; parameters as in `segment`."""
    if model.preprocessing.target == "instances":
        raise UserError("this network finds objects one by one, and gives no map of probabilities: use segment_objects")
    tiles = make_tiles(model, image, PredictionOptions(scale=scale, tile=tile, overlap=overlap, tta=tta))
    whole: np.ndarray | None = None
    for rows, columns, p in tiles:
        if p.shape[:2] == tiles.size:
            return p
        whole = np.empty((*tiles.size, p.shape[2]), np.float32) if whole is None else whole
        whole[rows, columns] = p
    assert whole is not None  # an image has pixels
    return whole


def make_tiles(
    model: Module, image: Any, options: PredictionOptions = DEFAULTS, stretch: Stretch | None = None
) -> Tiles | WholeImage | DetectingTiles:  # fmt: skip
    """An image in tiles, or in a single one; iterate over the result to get the tiles with their probabilities.

    For a network of boxes and masks a tile comes with what the network sees, see `minunet.predict.detections`. `stretch` is
    that of the image's intensity, if it is known already.

    Raises
    ------
    ValueError
        If it is no image, or the network has no `preprocessing`.
    """
    image = image if hasattr(image, "shape") else np.asarray(image)
    if len(image.shape) not in (2, 3) or 0 in image.shape:
        raise ValueError(f"an image is (rows, columns) or (rows, columns, channels), not {image.shape}")
    known = preprocessing_of(model)
    tile, scale, tta = options.tile, options.scale or known.scale, options.tta or known.tta
    if tile is None and whole_fits(model, scaled_size(image.shape[:2], scale)):
        tile = 0
    if known.target == "instances":
        check_numbers(image if tile == 0 else ())
        windows = Windows(image, known.channels, known.normalise, scale, stretch)
        return DetectingTiles(model, windows, best_tile(model) if tile is None else tile, options.overlap, tta)
    if tile == 0:
        return WholeImage(model, np.asarray(image), scale, tta)
    windows = Windows(image, known.channels, known.normalise, scale, stretch)
    return Tiles(model, windows, tile or best_tile(model), options.overlap, tta)


class WholeImage:
    """An image that goes through the network in one piece; used like `Tiles` of a single tile."""

    note = ""

    def __init__(self, model: Module, image: np.ndarray, scale: float, tta: int = 1) -> None:
        check_numbers(image)
        self.model, self.scale, self.symmetries = model, scale, SYMMETRIES[:tta]
        self.image = image if image.ndim == 3 else image[..., None]
        self.size: tuple[int, int] = (image.shape[0], image.shape[1])

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Block]:
        return self.blocks()

    def blocks(self, done: Callable[[], Any] = lambda: None) -> Iterator[Block]:
        """As in `Tiles`."""
        yield slice(0, self.size[0]), slice(0, self.size[1]), self.probabilities()
        done()

    def probabilities(self) -> np.ndarray:
        """(H, W, num_classes) float32."""
        known: Preprocessing = self.model.preprocessing
        x = prepare(self.image, known.channels, known.normalise, self.scale)
        total: Array = np.zeros((), np.float32)
        for symmetry in self.symmetries:
            logits = symmetry.back(to_numpy(predict_logits(self.model, symmetry.turn(x)[None]))[0])
            if known.rays:
                logits = logits[..., [0, *(1 + symmetry.rays_back(known.rays.count))]]
            if logits.shape[:2] != self.size:
                logits = resize(logits, self.size)
            total = total + maps_of(self.model, logits, x.shape[0] / self.size[0]) / np.float32(len(self.symmetries))
        return total


def check_numbers(image: Any) -> None:
    """ValueError if an image holds infinity, or nothing but NaN."""
    if np.isinf(image).any() or (np.size(image) and np.isnan(image).all()):
        raise ValueError("the image holds infinity, or nothing but NaN: replace them by numbers")


def semantic(model: Module, p: np.ndarray) -> np.ndarray:
    """The probabilities of the masks' classes, from those of the network's outputs.

    For a network with the target "border", (H, W, 3) becomes (H, W, 2): inside and border are foreground. Others are unchanged.
    """
    if model.preprocessing.target != "border":
        return p
    return np.stack([p[..., 0], p[..., 1] + p[..., 2]], axis=-1)


def classify(p: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Class numbers (H, W) uint8 from probabilities (H, W, K): by the threshold for two classes, else the likeliest class."""
    if p.shape[-1] == 2:
        return (p[..., 1] > threshold).astype(np.uint8)
    return p.argmax(-1).astype(np.uint8)


def outputs_of(outputs: Any, size: tuple[int, ...]) -> Any:
    """Of what `predict_logits` gives, the first image's, of that size: logits (H, W, K), or what a detector sees."""
    return Seen([to_numpy(y[0]) for y in outputs], (size[0], size[1])) if isinstance(outputs, list) else outputs[0]


def predicted_classes(model: Module, logits: Any) -> np.ndarray:
    """The classes (H, W) of an image as the network sees it, from its `outputs_of`; what lies in an object is class 1."""
    rays = model.preprocessing.rays
    if isinstance(logits, Seen):
        how = separation_of(model, PredictionOptions(scale=model.preprocessing.scale))
        return (separate_detections(logits, how) > 0).astype(np.uint8)
    if rays is None:
        return to_numpy(classify(class_probabilities(logits)))
    maps, how = (
        to_numpy(maps_of(model, logits)),
        separation_of(model, PredictionOptions(scale=model.preprocessing.scale)),
    )
    return (separate_stars(maps, how, cell_of(rays, 1.0)) > 0).astype(np.uint8)


def predicted_at(model: Module, logits: Any) -> list[np.ndarray]:
    """What `predicted_classes` gives at each of `THRESHOLDS`, of objects found one by one; of classes only one."""
    rays = model.preprocessing.rays
    if isinstance(logits, Seen):
        whole = slice(0, logits.size[0]), slice(0, logits.size[1])
        found = find_detections([(*whole, [logits])], replace(UNTUNED["instances"], threshold=THRESHOLDS[0]))
        score = np.append(0, found.scores)[found.draw(*whole)]  # the most probable are on top
        return [(score > threshold).astype(np.uint8) for threshold in THRESHOLDS]
    if rays is None:
        return [predicted_classes(model, logits)]
    maps, how = to_numpy(maps_of(model, logits)), replace(UNTUNED["stardist"], threshold=THRESHOLDS[0])
    whole = slice(0, maps.shape[0]), slice(0, maps.shape[1])
    objects = find_objects([(*whole, maps)], how, 2 * cell_of(rays, 1.0))  # a rough score, of many images, is enough
    # the most probable come first: what is an object at a higher threshold is one here, too
    own = np.append(0, objects.polygons.scores[objects.members[objects.starts[:-1]]])
    score = own[draw(objects, *whole)]
    return [(score > threshold).astype(np.uint8) for threshold in THRESHOLDS]


def predict_logits(model: Module, x: Array) -> Any:
    """Logits of the size of the images x (N, H, W, C), for images of any size; of a detector the list of its outputs.

    If the network does not take images of that size (too small for its poolings; unpadded convolutions need a margin and
    certain sizes), they are extended by mirroring, and the logits are cut to the size of the images.
    """
    if getattr(model, "finds_objects", False):
        return heads_of(model, x)
    xp = get_array_module(x, *model.named_params().values())
    x = xp.asarray(x)
    H, W = x.shape[1:3]
    padded_size = [model.fit_size(n) for n in (H, W)]
    before = [(m - n) // 2 for m, n in zip(padded_size, (H, W))]
    margins = [(b, m - n - b) for b, m, n in zip(before, padded_size, (H, W))]
    if any(b + a for b, a in margins):
        x = mirrored(x, margins)
    y = model(x)
    top, left = ((b - (m - o) // 2) for b, m, o in zip(before, padded_size, y.shape[1:3]))
    return y[:, top : top + H, left : left + W]


def resize(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Logits (h, w, K) at another size, by linear interpolation with align_corners=False."""
    from scipy.ndimage import zoom

    factors = (size[0] / logits.shape[0], size[1] / logits.shape[1], 1)
    return zoom(logits, factors, order=1, mode="nearest", grid_mode=True)


def preprocessing_of(model: Module) -> Preprocessing:
    """How images are prepared for a network; ValueError if it was not trained."""
    if not hasattr(model, "preprocessing"):
        raise ValueError("this network was not trained by minunet.train: how images are prepared for it is not known")
    known: Preprocessing = model.preprocessing
    return known


def class_map(model: Module) -> ClassMap:
    """The classes that a loaded network was trained on."""
    return preprocessing_of(model).classes
