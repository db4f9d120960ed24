"""Run-length encoding (RLE) of masks, in Kaggle's format: "1 3 10 5" are the pixels 1, 2, 3 and 10 to 14.

Pixels are numbered from 1, down the columns: 1 is the top left one, 2 the one below it. A submission to the Data Science Bowl
2018 is a CSV with the columns ImageId and EncodedPixels and a row for every object. An image without objects has one row in
which EncodedPixels is empty. Objects do not overlap.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..cli import csv_text
from ..errors import UserError

HEADER = ["ImageId", "EncodedPixels"]


def encode(labels: np.ndarray) -> list[str]:
    """The run lengths of every object of a label image, in the order of their numbers.

    Parameters
    ----------
    labels : (H, W) integer array of instance numbers, 0 for background

    Returns
    -------
    list of str, one for each object

    Examples
    --------
    >>> encode(np.array([[1, 0], [1, 2]]))
    ['1 2', '4 1']
    """
    pixels = np.concatenate([[0], labels.T.ravel(), [0]])
    # where the value changes, which is where runs begin: pixel numbers from 0
    bounds = np.flatnonzero(pixels[1:] != pixels[:-1])
    starts, lengths, owners = bounds[:-1], np.diff(bounds), pixels[bounds[:-1] + 1]
    kept = np.flatnonzero(owners)
    kept = kept[np.argsort(owners[kept], kind="stable")]
    runs = np.stack([starts[kept] + 1, lengths[kept]], axis=1)
    cuts = np.flatnonzero(np.diff(owners[kept])) + 1
    return [" ".join(map(str, own.ravel().tolist())) for own in np.split(runs, cuts) if own.size]


def decode(objects: list[str], shape: tuple[int, int]) -> np.ndarray:
    """The label image of run lengths, objects numbered from 1 in their order.

    Parameters
    ----------
    objects : list of str
        The run lengths of each object.
    shape : (H, W)

    Returns
    -------
    (H, W) int32 array

    Raises
    ------
    ValueError
        If run lengths are no pairs of integers, leave the image, are not in order, or overlap an earlier object.

    Examples
    --------
    >>> decode(["1 2", "4 1"], (2, 2)).tolist()
    [[1, 0], [1, 2]]
    """
    height, width = shape
    flat = np.zeros(height * width, np.int32)
    for number, text in enumerate(objects, start=1):
        try:
            starts, lengths = np.array([int(word) for word in text.split()]).reshape(-1, 2).T
        except ValueError:
            raise ValueError(f"object {number}: {text[:40]!r} is no pairs of whole numbers") from None
        ends = starts + lengths
        if starts.size == 0 or lengths.min() < 1 or starts[0] < 1 or ends[-1] > flat.size + 1:
            raise ValueError(f"object {number}: run lengths {text[:40]!r} leave the {width}x{height} pixels")
        if (starts[1:] < ends[:-1]).any():
            raise ValueError(f"object {number}: its runs are not in order, or overlap")
        for start, end in zip((starts - 1).tolist(), (ends - 1).tolist()):
            if flat[start:end].any():
                raise ValueError(f"object {number} overlaps object {flat[start:end].max()}")
            flat[start:end] = number
    return flat.reshape(width, height).T


def write_submission(path: Path | str, images: Mapping[str, list[str]]) -> None:
    """Write a submission: the run lengths of every image's objects, by the image's name."""
    rows = ([name, text] for name, objects in images.items() for text in objects or [""])
    write_atomically(path, csv_text([HEADER, *rows], formulas=True).encode())


def read_submission(path: Path | str) -> dict[str, list[str]]:
    """Read a submission: the run lengths of every image's objects, by the image's name; [] for an image without objects.

    Further columns, as in the published solutions, are ignored.

    Raises
    ------
    UserError
        If the file cannot be read, or lacks one of the two columns.
    """
    images: dict[str, list[str]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(HEADER) <= set(reader.fieldnames or ()):
                raise UserError(f"{path}: a CSV with the columns {', '.join(HEADER)} was expected")
            for row in reader:
                objects = images.setdefault(row["ImageId"], [])
                if (row["EncodedPixels"] or "").strip():
                    objects.append(row["EncodedPixels"])
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{path}: cannot be read as a submission ({e})") from e
    return images
