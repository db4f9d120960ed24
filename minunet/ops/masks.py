"""Masks of objects as sums of prototypes (Bolya et al. 2019, YOLACT, arXiv:1904.02689, section 3), and their loss.

The network gives k prototypes, maps of the whole image (N, H, W, k), and for every object that it finds k coefficients c. The
object's mask is sigmoid(z) with one logit for a pixel,

    z = P c        or for several coefficients of one object, Z = P C^T

so an object's masks are a 1x1 convolution of the prototypes with its coefficients as filters, and are computed as one. (A
matrix product of NumPy's would wake the threads of its library, which stay awake for some 20 ms afterwards, on the cores that
the kernels need.)

Only the object's box counts, so that a mask need not know of others far away: the loss is the mean of the cross-entropies in
the true box, and so a large object counts as much as a small one. With the truth T, and w = 1 / area in the box where pixels
count and 0 elsewhere,

    L = sum of w (log(1 + exp(Z)) - T Z)        dZ = w (sigmoid(Z) - T)        dP = dZ C        dC = dZ^T P

Several objects read the same pixels of the prototypes, so dP is the sum over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..array import Array, get_array_module
from .conv import conv2d, conv2d_backward
from .detection import sigmoid_bce, sigmoid_bce_backward
from .lazy import materialize


class Crop(NamedTuple):
    """An object's box in a batch of maps, and its mask there.

    Attributes
    ----------
    image, top, left : int
        The image's number in the batch, and the box's first row and column.
    truth : (h, w) array
        1 in the object, 0 outside, and negative where a pixel does not count.
    """

    image: int
    top: int
    left: int
    truth: Array


def prototype_masks(
    prototypes: Array, coefficients: Array, owner: Sequence[int] | np.ndarray, crops: Sequence[Crop]
) -> tuple[Any, tuple]:
    """Sum over coefficients of the mean cross-entropy between the mask that they give and the object's, in its box.

    Parameters
    ----------
    prototypes : (N, H, W, k) float array
    coefficients : (M, k) float array
    owner : (M,) integers
        Which of the objects each row of coefficients describes.
    crops : sequence of Crop
        The objects.

    Returns
    -------
    loss : scalar of the dtype of prototypes; 0 without coefficients
    cache : tuple for `prototype_masks_backward`

    Raises
    ------
    ValueError
        If coefficients and prototypes are not equally many, or a box lies outside of the map.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> prototypes = np.ones((1, 2, 2, 3))
    >>> loss, cache = ops.prototype_masks(prototypes, np.zeros((1, 3)), [0], [ops.Crop(0, 0, 0, np.ones((2, 2)))])
    >>> print(round(float(loss), 4))  # log 2: as likely as not
    0.6931
    """
    xp, owner = get_array_module(prototypes), np.asarray(owner, np.int64)
    k = prototypes.shape[-1]
    if coefficients.shape != (len(owner), k):
        raise ValueError(f"coefficients {coefficients.shape} are not {len(owner)} rows, one for each owner, of {k}")
    loss, pieces = xp.zeros((), prototypes.dtype), []
    for n in np.unique(owner):
        crop, rows = crops[int(n)], xp.asarray(np.flatnonzero(owner == n))
        seen = prototypes[_place(crop, prototypes.shape)][None]  # (1, h, w, k)
        z, conv = conv2d(seen, coefficients[rows].T[None, None])
        truth = xp.broadcast_to(xp.asarray(crop.truth)[None, ..., None], z.shape)  # (1, h, w, its own)
        own, its = sigmoid_bce(materialize(z), truth, (truth >= 0) / max(crop.truth.size, 1))
        loss = loss + own
        pieces.append((crop, rows, sigmoid_bce_backward(1.0, its), conv))
    return loss, (prototypes, coefficients, pieces)


def prototype_masks_backward(dloss: float, cache: tuple) -> tuple[Array, Array]:
    """Gradients of `prototype_masks` for the prototypes and the coefficients, see above, times the scalar dloss."""
    prototypes, coefficients, pieces = cache
    xp = get_array_module(prototypes)
    dprototypes, dcoefficients = xp.zeros_like(prototypes), xp.zeros_like(coefficients)
    for crop, rows, dz, conv in pieces:
        dseen, dw, _ = conv2d_backward(dloss * dz, conv)
        dprototypes[_place(crop, prototypes.shape)] += materialize(dseen)[0]
        dcoefficients[rows] = dw[0, 0].T
    return dprototypes, dcoefficients


def _place(crop: Crop, shape: tuple[int, ...]) -> tuple[int, slice, slice]:
    """Where a box lies in a batch of maps (N, H, W, k)."""
    h, w = crop.truth.shape
    place = crop.image, slice(crop.top, crop.top + h), slice(crop.left, crop.left + w)
    if min(crop[:3]) < 0 or crop.image >= shape[0] or crop.top + h > shape[1] or crop.left + w > shape[2]:
        raise ValueError(f"a box of {h} x {w} at {crop[:3]} lies outside of {shape[0]} maps of {shape[1]} x {shape[2]}")
    return place
