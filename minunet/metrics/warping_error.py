"""The warping error of Jain et al. 2010: counts topological errors of a segmentation, and not shifted borders.

The true mask is deformed towards the prediction by flipping pixels, one at a time, as long as no flip changes the topology: no
object appears or vanishes, merges or splits, no hole opens or closes. The pixels that then still differ are topological errors:

    warping error = (pixels in which the deformed truth differs from the prediction) / (pixels)

A flip keeps the topology if the pixel is *simple*: among its eight neighbours the foreground makes up one 4-connected
component that touches the pixel by a side, and the background one 8-connected component (Bertrand & Malandain 1994; in the
plane that is enough). Objects are 4-connected and background 8-connected; beyond the image's edge lies background.

Jain's minimum over all deformations is approached greedily, as in other implementations: pixels that differ and are simple
are flipped until there are none. The order is fixed: the four sublattices of even and odd rows and columns in turns. Pixels
of one sublattice are not neighbours, so flipping them together equals flipping them one by one. How far borders may move is
not limited (there is no mask), and a probability map is taken at one threshold, not at its best one.

Source: Jain et al. 2010, Boundary learning by optimization with topological constraints, CVPR, doi:10.1109/CVPR.2010.5539950.
"""

from __future__ import annotations

from functools import cache

import numpy as np

# (row, column) of the eight neighbours, going round the pixel; bit i of a neighbourhood's code is neighbour i
AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


def warping_error(truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Share of the pixels in which the prediction differs from the truth, once that is deformed towards it.

    Parameters
    ----------
    truth, predicted : (H, W) bool arrays
    valid : (H, W) bool array, optional
        False where the truth is not annotated: such pixels count as predicted rightly.

    Returns
    -------
    float, nan if no pixel is valid

    Examples
    --------
    Two cells that are predicted as one: a single pixel cannot be flipped. A border that is shifted costs nothing.

    >>> truth = np.array([[1, 1, 0, 1, 1]], bool)
    >>> float(warping_error(truth, np.ones((1, 5), bool))), float(warping_error(truth, np.array([[1, 0, 0, 1, 1]], bool)))
    (0.2, 0.0)
    """
    pixels = truth.size if valid is None else np.count_nonzero(valid)
    return topological_errors(truth, predicted, valid) / pixels if pixels else float("nan")


def topological_errors(truth: np.ndarray, predicted: np.ndarray, valid: np.ndarray | None = None) -> int:
    """The number of pixels that still differ after the deformation; parameters as in `warping_error`."""
    if valid is not None:
        truth = np.where(valid, truth, predicted)
    return int(np.count_nonzero(deform(truth, predicted) != predicted))


def deform(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The true mask, deformed towards the predicted one without a change of topology: (H, W) bool."""
    padded = np.pad(np.asarray(truth, bool), 1)
    target = np.pad(np.asarray(predicted, bool), 1)
    width = padded.shape[1]
    flat, steps = padded.ravel(), [row * width + column for row, column in AROUND]
    rows, columns = np.nonzero(padded != target)
    apart = rows * width + columns  # the pixels that differ
    sublattice = 2 * (rows % 2) + columns % 2
    simple, idle = simple_points(), 0
    turn = 0
    while idle < 4 and apart.size:
        mine = np.flatnonzero(sublattice == turn % 4)
        codes = sum(flat[apart[mine] + step].astype(np.uint8) << i for i, step in enumerate(steps))
        flipped = mine[simple[codes]] if mine.size else mine
        flat[apart[flipped]] ^= True
        apart, sublattice = np.delete(apart, flipped), np.delete(sublattice, flipped)
        idle, turn = (0 if flipped.size else idle + 1), turn + 1
    return padded[1:-1, 1:-1]


@cache
def simple_points() -> np.ndarray:
    """Whether a pixel is simple, for each of the 256 codes of its neighbourhood: (256,) bool."""
    import scipy

    table = np.zeros(256, bool)
    for code in range(256):
        patch = np.zeros((3, 3), bool)
        for i, (row, column) in enumerate(AROUND):
            patch[1 + row, 1 + column] = code >> i & 1
        foreground, _ = scipy.ndimage.label(patch)
        sides = foreground[[0, 1, 1, 2], [1, 0, 2, 1]]
        ring = ~patch
        ring[1, 1] = False
        _, background = scipy.ndimage.label(ring, np.ones((3, 3)))
        table[code] = len(np.unique(sides[sides > 0])) == 1 and background == 1
    return table


def separated(labels: np.ndarray) -> np.ndarray:
    """The mask of instances, with a line of background between those that touch.

    Of two neighbouring pixels in different objects the upper or left one becomes background.

    Parameters
    ----------
    labels : (H, W) integer array of instance numbers, 0 for background

    Returns
    -------
    (H, W) bool array

    Examples
    --------
    >>> separated(np.array([[1, 1, 2, 2, 0]])).astype(int).tolist()
    [[1, 0, 1, 1, 0]]
    """
    mask = labels > 0
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        mask[here] &= (labels[here] == labels[there]) | (labels[there] == 0)
    return mask
