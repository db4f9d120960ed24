"""The U-Net paper's weight map: which pixels the loss counts most, so that the gaps between touching cells are learned.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))                                               (equation 2)

w_c balances the classes' frequencies; d1 and d2 are the distances from x to the nearest and to the second nearest cell. The
second term, the *separation*, is large in narrow gaps only. Details that the paper does not state are as in the authors' later
release (Falk et al. 2019, Nature Methods 16:67-70):

* The rarest class has w_c = 1, the others less in proportion, so that w0 = 10 is far above both.
* The distance to a cell is that to its nearest pixel: 0 inside it, 1 beside it.
* The separation is added in the background, which includes the seams cut between touching cells (`cut_seams`). Inside the cells
  w is w_c alone.
* Distances are measured to the cells as annotated, before seams are cut, so along a seam d1 = 0 and d2 = 1.

Source: Ronneberger, Fischer and Brox, arXiv:1505.04597, section 3; w0 = 10 and sigma of about 5 pixels are theirs.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from ..atomic import write_atomically
from ..errors import UserError
from .instance_labels import limit_numbers

REACH = 6  # sigmas from which on the separation, less than 2e-8 there, counts as 0


def separation(instances: np.ndarray, sigma: float = 5.0) -> np.ndarray:
    """exp(-(d1 + d2)^2 / (2 sigma^2)) in every pixel, cells included; 0 where there are not two cells in reach.

    Parameters
    ----------
    instances : (H, W) integer array, 0 for background
    sigma : float, in pixels

    Returns
    -------
    (H, W) float32 array
    """
    near, second = nearest_two(instances, int(np.ceil(REACH * sigma)))
    return np.exp(-((near + second) ** 2) / np.float32(2 * sigma**2))


def nearest_two(instances: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the nearest and to the second nearest object, (H, W) float32 each.

    The distance transform of an object is computed in its bounding box, enlarged by `reach` pixels on every side. Distances
    inside that box are exact; outside they are infinite.
    """
    import scipy

    near, second = (np.full(instances.shape, np.inf, np.float32) for _ in range(2))
    instances = limit_numbers(instances)
    for number, box in enumerate(scipy.ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        wider = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        d = scipy.ndimage.distance_transform_edt(instances[wider] != number).astype(np.float32)
        first, other = near[wider], second[wider]  # views
        np.minimum(other, np.maximum(first, d), out=other)
        np.minimum(first, d, out=first)
    return near, second


def cut_seams(instances: np.ndarray) -> np.ndarray:
    """The pixels at which touching objects are cut apart: those with a lower instance number among their eight neighbours.

    Without them no two objects touch, not even by a corner. The seam is one pixel wide and taken from the object with the
    higher number.

    Parameters
    ----------
    instances : (H, W) integer array, 0 for background

    Returns
    -------
    (H, W) bool array

    Examples
    --------
    >>> cut_seams(np.array([[1, 1, 2, 2, 0]])).astype(int).tolist()
    [[0, 0, 1, 0, 0]]
    """
    import scipy

    numbers = np.where(instances > 0, instances, np.iinfo(np.int32).max)
    lowest = scipy.ndimage.minimum_filter(numbers, size=3, mode="nearest")  # a morphological erosion
    return (instances > 0) & (lowest < instances)


def class_balance(counts: np.ndarray) -> np.ndarray:
    """w_c for every class, (K,) float32, from its number of pixels: inverse to it, 1 for the rarest, 0 for none at all."""
    rarest = counts[counts > 0].min(initial=counts.max())
    return np.where(counts > 0, rarest / np.maximum(counts, 1), 0).astype(np.float32)


def cached_separation(instances: np.ndarray, sigma: float, folder: Path | str) -> np.ndarray:
    """`separation`, stored in a folder as <hash of content and sigma>.npy and read from there the next time.

    Raises
    ------
    UserError
        If the folder cannot be made or written to.
    """
    key = hashlib.sha256(f"separation 1 {sigma!r} {instances.shape} {instances.dtype.str}".encode())
    key.update(instances.tobytes())
    path = Path(folder) / f"{key.hexdigest()[:32]}.npy"
    try:
        with open(path, "rb") as f:
            kept = np.load(f, allow_pickle=False)
        if kept.shape == instances.shape and kept.dtype == np.float32:
            return kept
    except (OSError, ValueError, EOFError):  # not there, or damaged: computed again
        pass
    made, buffer = separation(instances, sigma), io.BytesIO()
    np.save(buffer, made)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"cannot make the folder {folder}: {e.strerror or e}; choose another --cache") from e
    write_atomically(path, buffer.getvalue())
    return made
