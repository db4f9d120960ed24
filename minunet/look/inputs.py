"""The input of the network: the middle of an image, and the true classes of the network's output for it."""

from __future__ import annotations

import numpy as np

from ..data import read_mask
from ..data.instance_labels import limit_numbers
from ..data.preprocess import mirrored, resize_labels
from ..data.targets import border_labels
from ..errors import UserError
from ..nn import Module
from ..predict.inference import class_map
from ..predict.instances import target_of


def read_labels(model: Module, path: str, size: tuple[int, int], scale: float) -> np.ndarray:
    """A mask of an image of that size as the class numbers that the network learned, resized as the image is: (h, w) integers.

    For a network of polygons these are the objects' numbers.

    UserError if the mask cannot be read, has another size, or holds a value that is none of the classes.
    """
    import scipy

    mask = read_mask(path)
    if mask.shape[:2] != size:
        raise UserError(f"--mask {path}: {mask.shape[0]} x {mask.shape[1]} pixels, the image has {size[0]} x {size[1]}")
    if target_of(model) != "classes":
        if mask.ndim == 3:
            raise UserError(f"--mask {path}: a colour mask; this network tells objects: give numbers of objects")
        objects = mask if len(np.unique(mask)) > 2 else scipy.ndimage.label(mask)[0]  # of one value, what is connected
        labels = border_labels(objects) if target_of(model) == "border" else limit_numbers(objects).astype(np.int32)
    elif class_map(model).num_classes == 2 and mask.ndim == 2 and len(np.unique(mask)) > 2:
        labels = (mask > 0).astype(np.uint8)  # numbers of objects
    else:
        labels = class_map(model).encode(mask, path)
    return resize_labels(labels, scale)


def fitting_size(model: Module, n: int) -> int:
    """The most rows (or columns) up to n that pass through the network; the least that do if n are too few."""

    def passes(m: int) -> bool:
        try:
            model.check_size(m, m)
        except ValueError:
            return False
        return True

    fits = [m for m in range(1, n + 1) if passes(m)]
    if fits:
        return fits[-1]
    while not passes(n):
        n += 1
    return n


def cut_middle(
    model: Module, x: np.ndarray, labels: np.ndarray | None, most: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """The middle of an image as the network takes it, and the labels of its output.

    Parameters
    ----------
    model : UNet
    x : (H, W, C) array, prepared
    labels : (H, W) array of class numbers, or None
    most : int
        Rows and columns at most, unless the network needs more.

    Returns
    -------
    x : (h, w, C) array
        Mirrored outwards where the image is smaller than the network needs.
    labels : (oh, ow) int64 array or None
        Of the logits' size, -1 outside the image.
    """
    size = [fitting_size(model, min(n, most)) for n in x.shape[:2]]
    lack = [max(m - n, 0) for m, n in zip(size, x.shape[:2])]
    if any(lack):
        margins = [(n // 2, n - n // 2) for n in lack]
        x = mirrored(x, margins)
        labels = labels if labels is None else np.pad(labels.astype(np.int64), margins, constant_values=-1)
    x = np.ascontiguousarray(middle(x, size))
    if labels is not None:
        labels = middle(labels, [model.output_size(n) for n in size], size).astype(np.int64)
    return x, labels


def middle(a: np.ndarray, size: list[int], window: list[int] | None = None) -> np.ndarray:
    """The middle of a, (H, W, ...), of that size; of its middle window if one is given."""
    if window:
        a = middle(a, window)
    top, left = ((n - m) // 2 for n, m in zip(a.shape, size))
    return a[top : top + size[0], left : left + size[1]]
