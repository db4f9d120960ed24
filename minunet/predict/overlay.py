"""Pictures of results: classes tinted, instances outlined, errors beside the truth.

The colours of instances, of errors and of the second of two classes are defined here; the colours of three classes or more are
those of their masks, or of `palette` (data/classes.py).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_atomically
from ..data import ClassMap, normalise
from ..data.files.pixel_size import PixelSize

# colours that people with any colour vision can tell apart (Okabe and Ito)
TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = (86, 180, 233), (230, 159, 0), (204, 121, 167)
FOREGROUND = (0, 158, 115)
BAND = 1 << 22  # pixels of an image that are read at once, about
OBJECTS = np.array(
    [(86, 180, 233), (230, 159, 0), (0, 200, 140), (240, 228, 66), (235, 125, 190), (255, 100, 30)], np.uint8
)


def save_png(path: Path, pixels: np.ndarray, pixel: PixelSize | None = None) -> None:
    """Write (H, W) or (H, W, 3) uint8 pixels as PNG, whole or not at all; with the size of a pixel, if it is known."""
    from PIL import Image

    buffer = io.BytesIO()
    dpi = {"dpi": tuple(25400 / n for n in pixel.in_microns())} if pixel else {}
    Image.fromarray(pixels).save(buffer, format="PNG", **dpi)
    write_atomically(path, buffer.getvalue())


def to_rgb(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) of any type and range as (H, W, 3) uint8, stretched to its percentiles.

    Of more than three channels the first three are shown; of two the first in magenta, the second in green.
    """
    if image.shape[-1] == 2:
        return np.dstack([to_rgb(image[..., i : i + 1])[..., 0] for i in (0, 1, 0)])
    image = (255 * np.clip(normalise(image[..., :3]), 0, 1)).astype(np.uint8)
    return image if image.shape[-1] == 3 else image[..., :1].repeat(3, -1)


def boundary(labels: np.ndarray) -> np.ndarray:
    """Where one of a pixel's four neighbours has another label: (H, W) bool."""
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, :-1] != labels[:, 1:], labels[:-1] != labels[1:]
    edge[:, :-1] |= across
    edge[:, 1:] |= across
    edge[:-1] |= down
    edge[1:] |= down
    return edge


def overlay(image: np.ndarray, labels: np.ndarray, classes: ClassMap) -> np.ndarray:
    """The image with its classes tinted and outlined: in the colours of the classes, or in green if there are only two.

    Parameters
    ----------
    image : (H, W, C) array
    labels : (H, W) integer array of class numbers; class 0 is left as it is
    classes : ClassMap

    Returns
    -------
    (H, W, 3) uint8 array
    """
    colours = classes.decode(np.arange(classes.num_classes)) if classes.num_classes > 2 else [(0, 0, 0), FOREGROUND]
    tint = np.asarray(colours, np.float32)[labels]
    rgb = to_rgb(image).astype(np.float32)
    foreground = labels > 0
    edge = boundary(labels) & foreground
    strength = np.where(edge, 1.0, np.where(foreground, 0.25, 0.0))[..., None]
    return ((1 - strength) * rgb + strength * tint).astype(np.uint8)


def object_outlines(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image with the outermost pixels of every object in one of six colours: (H, W, 3) uint8.

    Parameters
    ----------
    image : (H, W, C) array
    labels : (H, W) integer array of object numbers; 0 is left as it is
    """
    rgb = to_rgb(image)
    edge = boundary(np.pad(labels, 1))[1:-1, 1:-1] & (labels > 0)  # also where the image cuts an object
    rgb[edge] = OBJECTS[labels[edge] % len(OBJECTS)]
    return rgb


class Overview:
    """An overlay that is made part by part; of a large image it takes only every k-th row and column.

    Parameters
    ----------
    size : (H, W) of the image
    dtype : dtype of the labels
    most : int, optional
        Most rows and columns of the picture; as large as the image if not given.
    """

    def __init__(self, size: tuple[int, int], dtype: Any, most: int | None = None) -> None:
        self.every = -(-max(size) // most) if most else 1
        self.labels = np.zeros((-(-size[0] // self.every), -(-size[1] // self.every)), dtype)

    def put(self, rows: slice, columns: slice, labels: np.ndarray) -> None:
        """Enter the labels (h, w) of a part of the image."""
        self.enter(rows, columns, sampled(rows, columns, labels, self.every))

    def enter(self, rows: slice, columns: slice, taken: np.ndarray) -> None:
        """Enter what `sampled` gives of a part of the image."""
        r, c = -(-rows.start // self.every), -(-columns.start // self.every)
        self.labels[r : r + taken.shape[0], c : c + taken.shape[1]] = taken

    def picture(self, image: Any, classes: ClassMap | None) -> np.ndarray:
        """The overlay (h, w, 3) uint8; the image is read in bands. If `classes` is None, the labels number objects."""
        k, (H, W) = self.every, image.shape[:2]
        rows = k * max(1, BAND // (k * W))
        bands = [slice(r, min(H, r + rows)) for r in range(0, H, rows)]
        seen = np.concatenate([image[band, slice(0, W)][::k, ::k].copy() for band in bands])
        return object_outlines(seen, self.labels) if classes is None else overlay(seen, self.labels, classes)


def sampled(rows: slice, columns: slice, labels: np.ndarray, every: int) -> np.ndarray:
    """Every k-th row and column, from the image's first, of the labels (h, w) of a part of the image."""
    return labels[-rows.start % every :: every, -columns.start % every :: every]


def errors(image: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """True positives (blue), false positives (orange) and false negatives (pink) over a dimmed image: (H, W, 3) uint8.

    A foreground pixel with the wrong foreground class counts as a false negative. Where truth is -1 nothing is marked.
    """
    rgb = to_rgb(image).astype(np.float32) * 0.5
    seen = truth >= 0
    for where, colour in (
        (seen & (truth > 0) & (prediction == truth), TRUE_POSITIVE),
        (seen & (truth == 0) & (prediction > 0), FALSE_POSITIVE),
        (seen & (truth > 0) & (prediction != truth), FALSE_NEGATIVE),
    ):
        strength = 0.35 if colour == TRUE_POSITIVE else 0.85
        rgb[where] = (1 - strength) * rgb[where] + strength * np.array(colour, np.float32)
    return rgb.astype(np.uint8)
