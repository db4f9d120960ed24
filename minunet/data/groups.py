"""Kinds of images in a data set: by colour and brightness, or as a file says.

A network that does well on average may never have learnt a kind of which there are few images. So scores are also reported by
kind, and training can take as many patches of each (--even-groups).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .split import find_named, read_names

COLOURED = 0.04  # mean difference between the largest and the smallest channel, of normalised intensity, from which on it shows
OTHER = "other"  # images that a file does not name


def look_of(image: np.ndarray) -> str:
    """What an image is like: "grey on dark", "grey on light", "colour on dark" or "colour on light".

    Parameters
    ----------
    image : (H, W, C) float32 array
        Normalised to about 0..1, as in a sample. The median tells what the background is like.

    Examples
    --------
    >>> look_of(np.full((8, 8, 1), 0.1)), look_of(np.full((8, 8, 3), [0.9, 0.7, 0.8]))
    ('grey on dark', 'colour on light')
    """
    part = image[::2, ::2, :3]
    coloured = part.shape[-1] == 3 and float(np.ptp(part, axis=-1).mean()) > COLOURED
    return f"{'colour' if coloured else 'grey'} on {'light' if np.median(part) > 0.5 else 'dark'}"


def read_groups(path: str | Path, names: Sequence[str], complete: bool = True) -> list[str]:
    """The kind of every image, from a file with a line for each image (or folder): its name, a comma or a tab, its kind.

    Parameters
    ----------
    path : path
        UTF-8 or UTF-16 text. Names may be paths, as in lists of images. Images that are not in it are of the kind "other".
    names : names of the images
    complete : bool
        Whether these are all images, so that a line with another name is an error.

    Raises
    ------
    UserError
        If the file cannot be read, or a line has no kind or names no image.
    """
    found = [OTHER] * len(names)
    lines = read_names(path)
    for number, line in enumerate(lines, start=1):
        name, *more = next(csv.reader([line], delimiter="\t" if "\t" in line else ","))
        kind = more[0].strip() if len(more) == 1 else ""
        if not kind:
            raise UserError(f"{path}: line {number} is {line[:60]!r}: write an image's name, a comma, and its kind")
        try:
            for i in find_named(names, [name.strip()]):
                found[i] = kind
        except UserError as e:
            if not complete or (number == 1 and len(lines) > 1):  # the columns' titles
                continue
            raise UserError(f"{path}: line {number}: {e}") from None
    return found
