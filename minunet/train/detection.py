"""The loss of a network that finds objects one by one (`minunet.models.instance_net`).

    loss = focal(class) + giou(box) + cross-entropy(centre-ness) + 6.125 * cross-entropy(mask)

Only the focal loss is of all locations; it and the centre-ness are divided by the number of those that have an object. The
boxes' loss is their mean, in which a location counts as much as it is central, and the masks' is the mean over at most 100
locations of an image, each within the true box. A location off the middle of its object sees the far side badly: its
centre-ness,

    sqrt(min(left, right) / max(left, right) * min(up, down) / max(up, down))        1 in the middle, 0 on the box,

is learnt, and lowers its score. Sources: Tian et al. 2019, FCOS, arXiv:1904.01355 (in its improved version); Rezatofighi et al.
2019, arXiv:1902.09630; Bolya et al. 2019, YOLACT, arXiv:1904.02689.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import Array, get_array_module, to_numpy
from ..data.boxes import assign, boxes_at, mask_in, places
from ..models.instance_net import BESIDES, STRIDES
from ..ops import (
    Crop,
    giou,
    giou_backward,
    prototype_masks,
    prototype_masks_backward,
    sigmoid_bce,
    sigmoid_bce_backward,
    sigmoid_focal,
    sigmoid_focal_backward,
)
from .distributed.world import ALONE, World

MASK_WEIGHT = 6.125
MOST_MASKS = 100  # in an image


def detection_loss(heads: list[Array], numbers: Any, world: World = ALONE) -> tuple[Any, tuple]:
    """The loss of the outputs for images whose objects are known.

    Parameters
    ----------
    heads : list of arrays
        What the network gives: levels (N, h, w, 6 + k), and prototypes (N, h, w, k).
    numbers : (N, H, W) integer array
        The objects' numbers, 0 in the background, -1 where nothing counts.
    world : World
        The ranks that have parts of the batch: what is divided by is counted on all of them, and the loss is that of all.

    Returns
    -------
    loss : scalar, of the dtype of the heads for a process by itself
    cache : tuple for `detection_loss_backward`
    """
    *levels, prototypes = heads
    xp, N, k = get_array_module(prototypes), len(prototypes), prototypes.shape[-1]
    numbers = to_numpy(numbers)
    found = assign(numbers, [y.shape[1:3] for y in levels], STRIDES)
    at, stride = (a[found.location] for a in places([y.shape[1:3] for y in levels], STRIDES))
    flat = xp.concatenate([y.reshape(N, y.shape[1] * y.shape[2], y.shape[3]) for y in levels], axis=1)
    own = flat[xp.asarray(found.image), xp.asarray(found.location)]
    n, dtype = flat.shape[-1] - BESIDES - k, flat.dtype
    there = np.broadcast_to(found.there[..., None], (*found.there.shape, n))
    true = found.boxes[found.owner]
    middle = centrality(true, at)
    central = xp.asarray(middle, dtype)
    chosen = spread(found.image)
    held, owner = np.unique(found.owner[chosen], return_inverse=True)
    crops = [crop_of(numbers, found.objects[i], found.boxes[i], xp) for i in held]
    scale = xp.asarray(stride[:, None], dtype)

    focal, c_focal = sigmoid_focal(flat[..., :n], xp.asarray(there))
    boxes = boxes_at(own[:, n : n + 4], xp.asarray(at, dtype), scale)
    box, c_box = giou(boxes, xp.asarray(true, dtype), central)
    centre, c_centre = sigmoid_bce(own[:, n + 4], central)
    mask, c_mask = prototype_masks(prototypes, own[xp.asarray(chosen)][:, n + BESIDES :], owner, crops)
    shares = shares_of(world, int((there == 1).sum()), float(middle.sum()), len(own), len(chosen))
    (loss,) = world.totals(sum(dtype.type(s) * part for s, part in zip(shares, (focal, box, centre, mask))))
    where = found.image, found.location, chosen, scale
    return loss, ([y.shape for y in levels], flat.shape, where, shares, (c_focal, c_box, c_centre, c_mask))


def detection_loss_backward(dloss: float, cache: tuple) -> list[Array]:
    """The gradients of `detection_loss` for the heads, times the scalar dloss."""
    shapes, (N, L, C), (image, location, chosen, scale), shares, (c_focal, c_box, c_centre, c_mask) = cache
    dclass = sigmoid_focal_backward(dloss * shares[0], c_focal)
    xp, n = get_array_module(dclass), dclass.shape[-1]
    down = xp.zeros((len(location), C), dclass.dtype)
    dtop, dleft, dbottom, dright = xp.split(scale * giou_backward(dloss * shares[1], c_box), 4, axis=1)
    down[:, n : n + 4] = xp.concatenate([dright, dbottom, -dleft, -dtop], axis=1)  # as in boxes_at
    down[:, n + 4] = sigmoid_bce_backward(dloss * shares[2], c_centre)
    dprototypes, dcoefficients = prototype_masks_backward(dloss * shares[3], c_mask)
    down[xp.asarray(chosen), n + BESIDES :] = dcoefficients
    dflat = xp.zeros((N, L, C), dclass.dtype)
    dflat[..., :n] = dclass
    dflat[xp.asarray(image), xp.asarray(location)] += down  # each location once
    ends = np.cumsum([h * w for _, h, w, _ in shapes])
    return [*(d.reshape(shape) for d, shape in zip(xp.split(dflat, ends[:-1].tolist(), axis=1), shapes)), dprototypes]


def shares_of(world: World, positives: int, weight: float, located: int, masked: int) -> tuple[float, ...]:
    """By what the loss's four terms are multiplied, from this rank's counts: of positives, weights of boxes, locations, masks.

    The first two have been divided by this rank's own counts, the others by nothing.
    """
    P, W, L, M = (float(n) for n in world.totals(positives, weight, located, masked))
    return max(positives, 1) / max(P, 1), (weight or 1) / (W or 1), 1 / max(L, 1), MASK_WEIGHT / max(M, 1)


def centrality(boxes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """How central locations (P, 2) are in their boxes (P, 4): from 0 to 1."""
    before, after = at - boxes[:, :2], boxes[:, 2:] - at
    return np.sqrt((np.minimum(before, after) / np.maximum(before, after)).prod(1))


def spread(image: np.ndarray) -> np.ndarray:
    """Indices of at most `MOST_MASKS` of the locations of every image, evenly chosen; `image` (P,) is sorted."""
    _, first, count = np.unique(image, return_index=True, return_counts=True)
    own = [f + np.arange(min(c, MOST_MASKS)) * c // min(c, MOST_MASKS) for f, c in zip(first, count)]
    return np.concatenate([*own, np.zeros(0, np.int64)]).astype(np.int64)


def crop_of(numbers: np.ndarray, which: tuple[int, int], box: np.ndarray, xp: Any) -> Crop:
    """An object, its image and number, in its box at the resolution of the prototypes."""
    image, number = which
    top, left, truth = mask_in(numbers[image], number, box, STRIDES[0] // 2)
    return Crop(image, top, left, xp.asarray(truth))
