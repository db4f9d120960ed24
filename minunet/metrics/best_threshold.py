"""The adapted Rand error at the best threshold, as the ISBI 2012 challenge takes it.

A mask is made of probabilities by a threshold, and objects are its 4-connected regions. A gap of one pixel in a membrane merges
two cells, so that the error hangs on the threshold much more than the pixel error does. The challenge scores probabilities, and
takes each method's best threshold on its test sections. Here the threshold is chosen on some images and used on others, which
is what a user of the network can do; beside it stands the error at 0.5.

Probabilities are read from the files X_probabilities.tif that ``minunet predict --probabilities`` writes. The error is the mean
of images.

Source: Arganda-Carreras et al. 2015, Crowdsourcing the creation of image segmentation algorithms for connectomics,
doi:10.3389/fnana.2015.00142.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.files.images import read_image
from ..errors import UserError
from .instances import ObjectCounts

THRESHOLDS = np.arange(5, 100, 5) / 100


class Chosen(NamedTuple):
    """The adapted Rand error at two thresholds.

    Attributes
    ----------
    threshold : float
        The best one of THRESHOLDS on the images to choose on.
    images : int
        How many these were.
    error_there : float
        Their error at this threshold.
    error, error_at_half : float
        The error of the images to score, at this threshold and at 0.5.
    """

    threshold: float
    images: int
    error_there: float
    error: float
    error_at_half: float

    def __str__(self) -> str:
        return (
            f"adapted Rand error of regions above a threshold: {self.error_at_half:.4f} at 0.50, {self.error:.4f} at "
            f"{self.threshold:.2f}, which is best on {self.images} other images ({self.error_there:.4f} there)"
        )


def choose_threshold(pred: Path, choose_on: dict[str, Any], score: dict[str, Any]) -> Chosen:
    """Choose the threshold on some images, and score others.

    Parameters
    ----------
    pred : Path
        Folder with the probabilities.
    choose_on, score : by name
        Functions that return an image's true objects (H, W), and where they count, (H, W) bool or None.

    Raises
    ------
    UserError
        If an image is among both, has no probabilities, or if these are of another size.
    """
    both = sorted(set(choose_on) & set(score))
    if both:
        raise UserError(f"--choose-threshold: {both[0]} is among the images that are scored; choose on others")
    found = mean_errors(pred, choose_on, THRESHOLDS)
    best = int(np.argmin(found))
    error, at_half = mean_errors(pred, score, np.array([THRESHOLDS[best], 0.5])).tolist()
    return Chosen(float(THRESHOLDS[best]), len(choose_on), float(found[best]), error, at_half)


def mean_errors(pred: Path, images: dict[str, Any], thresholds: np.ndarray) -> np.ndarray:
    """The mean adapted Rand error of images that have objects, at each threshold; UserError if none has."""
    found = np.array([errors(pred, name, read, thresholds) for name, read in images.items()])
    known = found[~np.isnan(found).any(1)] if len(found) else found
    if not len(known):
        raise UserError(f"--choose-threshold: none of {len(images)} images has objects of two pixels or more")
    return known.mean(0)


def errors(pred: Path, name: str, read: Any, thresholds: np.ndarray) -> list[float]:
    """An image's adapted Rand error at each threshold."""
    files = [pred / f"{n}_probabilities.tif" for n in (name, name.rsplit("/", 1)[-1])]
    file = next((f for f in files if f.exists()), files[0])
    if not file.exists():
        raise UserError(f"--choose-threshold needs {file}: predict these images with --probabilities")
    truth, valid = read()
    foreground = 1 - read_image(file)[..., 0]
    if foreground.shape != truth.shape:
        raise UserError(f"{file} is of {foreground.shape[::-1]} pixels, the truth of {truth.shape[::-1]}")
    return [adapted_rand(truth, foreground > threshold, valid) for threshold in thresholds]


def adapted_rand(truth: np.ndarray, mask: np.ndarray, valid: np.ndarray | None) -> float:
    """The adapted Rand error of a mask's 4-connected regions."""
    import scipy

    counts = ObjectCounts()
    counts.add(truth, scipy.ndimage.label(mask)[0], valid)
    return counts.adapted_rand_error()
