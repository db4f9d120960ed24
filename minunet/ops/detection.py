"""Losses of detectors: focal loss of independent classes, cross-entropy of a share, and the generalised IoU of boxes.

Focal loss (Lin et al., arXiv:1708.02002, equation 5). Every location has a logit for each class, and most are background: a sum
of their cross-entropies would drown the objects. With t in {0, 1}, s = 1 for t = 1 and -1 else, p_t = sigmoid(s z) the
probability of the truth, and a_t = alpha for t = 1 and 1 - alpha else,

    L = -a_t (1 - p_t)^g log p_t

By dp_t/dz = s p_t (1 - p_t) and d log p_t / dz = s (1 - p_t) the product rule gives

    dz = a_t s (1 - p_t)^g (g p_t log p_t + p_t - 1)

log p_t = -log(1 + exp(-s z)) comes from the logit: a probability that is rounded to 0 or 1 has no logarithm. The sum is divided
by the number of positives, at least 1, and not by that of all locations.

Cross-entropy of a share t from 0 to 1, such as how central a location is (Tian et al., arXiv:1904.01355), has the slope that it
has for a class: L = log(1 + exp(z)) - t z, dz = sigmoid(z) - t. It is least, but not 0, where sigmoid(z) = t.

Generalised IoU (Rezatofighi et al., arXiv:1902.09630). Of two boxes with intersection I, union U and smallest common hull V,

    L = 1 - GIoU = 2 - I / U - U / V        from 0 (equal) to 2 (far apart); unlike that of I / U, its gradient is not 0 there

U = A + B - I with the areas A and B, so that of the predicted box only A, I and V remain:

    dL = (I / U^2 - 1 / V) dA  +  (1 / V - 1 / U - I / U^2) dI  +  U / V^2 dV

An area is height times width, and moves with a side by the other extent: dA/dbottom = width, dA/dtop = -width. I moves with a
side of the box only where that is the inner one of the two (and the boxes meet), V only where it is the outer one.
"""

from __future__ import annotations

from typing import Any

from ..array import Array, get_array_module
from .activation import sigmoid
from .dispatch import accelerated


@accelerated
def sigmoid_focal(
    logits: Array, targets: Array, alpha: float = 0.25, gamma: float = 2.0, ignore: int = -1
) -> tuple[Any, tuple]:
    """Focal loss of classes that do not exclude each other, divided by the number of positives.

    Parameters
    ----------
    logits : float array of any shape, such as (N, H, W, K)
    targets : integer array of that shape
        1 where the location shows the class, 0 where not, or `ignore`.
    alpha : float
        Weight of the positives; 1 - alpha is that of the others.
    gamma : float
        How fast the loss of what is right already fades.
    ignore : int
        Locations with this target do not count.

    Returns
    -------
    loss : scalar of the dtype of logits
    cache : tuple for `sigmoid_focal_backward`

    Raises
    ------
    ValueError
        If the shapes disagree.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> loss, cache = ops.sigmoid_focal(np.zeros(4), np.array([1, 0, 0, -1]))
    >>> round(float(loss), 4), round((0.25 + 0.75 + 0.75) * 0.5**2 * float(np.log(2)), 4)
    (0.3033, 0.3033)
    """
    if logits.shape != targets.shape:
        raise ValueError(f"targets have shape {targets.shape}, logits {logits.shape}: they must agree")
    xp = get_array_module(logits)
    positive = targets == 1
    weight = xp.where(positive, alpha, 1 - alpha).astype(logits.dtype) * (targets != ignore)
    weight = weight / xp.maximum(positive.sum(), 1).astype(logits.dtype)
    sign = xp.where(positive, 1, -1).astype(logits.dtype)
    log_p = _log_sigmoid(sign * logits)
    wrong = xp.exp(_log_sigmoid(-sign * logits))  # 1 - p_t, with all its digits
    return -(weight * wrong**gamma * log_p).sum(), (sign * weight, log_p, wrong, gamma)


@accelerated
def sigmoid_focal_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `sigmoid_focal` for the logits, see above, times the scalar dloss."""
    signed, log_p, wrong, gamma = cache
    return dloss * signed * wrong**gamma * (gamma * (1 - wrong) * log_p - wrong)


@accelerated
def sigmoid_bce(logits: Array, targets: Array, weight: Array | None = None) -> tuple[Any, tuple]:
    """Sum of the cross-entropies between shares and the sigmoids of logits.

    Parameters
    ----------
    logits : float array of any shape
    targets : float array of that shape
        From 0 to 1.
    weight : float array of that shape, optional

    Returns
    -------
    loss : scalar of the dtype of logits
    cache : tuple for `sigmoid_bce_backward`

    Raises
    ------
    ValueError
        If the shapes disagree.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> loss, cache = ops.sigmoid_bce(np.zeros(2), np.array([0.5, 1.0]))
    >>> print(round(float(loss), 4))  # twice log 2
    1.3863
    >>> ops.sigmoid_bce_backward(1.0, cache).tolist()
    [0.0, -0.5]
    """
    if logits.shape != targets.shape or (weight is not None and weight.shape != logits.shape):
        raise ValueError(
            f"targets have shape {targets.shape}, logits {logits.shape}: they must agree, and weights fit them"
        )
    xp = get_array_module(logits)
    targets = targets.astype(logits.dtype)
    each = xp.maximum(logits, 0) - targets * logits + xp.log1p(xp.exp(-xp.abs(logits)))
    share = None if weight is None else weight.astype(logits.dtype)
    return (each if share is None else share * each).sum(), (logits, targets, share)


@accelerated
def sigmoid_bce_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `sigmoid_bce` for the logits, see above, times the scalar dloss."""
    logits, targets, share = cache
    dlogits = dloss * (sigmoid(logits)[0] - targets)
    return dlogits if share is None else share * dlogits


@accelerated
def giou(boxes: Array, targets: Array, weight: Array | None = None) -> tuple[Any, tuple]:
    """Weighted mean of 1 - GIoU, the generalised intersection over union, of pairs of boxes.

    Parameters
    ----------
    boxes, targets : (..., 4) float arrays
        Top, left, bottom and right of each box. A predicted box that is turned inside out has the area 0.
    weight : (...) float array, optional
        Of each pair, such as a centre-ness; with a sum of 0 the loss is 0.

    Returns
    -------
    loss : scalar of the dtype of boxes
    cache : tuple for `giou_backward`

    Raises
    ------
    ValueError
        If the shapes disagree.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> box, beside = np.array([0.0, 0.0, 2.0, 2.0]), np.array([0.0, 2.0, 2.0, 4.0])
    >>> float(ops.giou(box, box)[0]), float(ops.giou(box, beside)[0]), float(ops.giou(box, beside + [0, 4, 0, 4])[0])
    (0.0, 1.0, 1.5)
    """
    if (
        boxes.shape != targets.shape
        or boxes.shape[-1] != 4
        or (weight is not None and weight.shape != boxes.shape[:-1])
    ):
        raise ValueError(f"boxes {boxes.shape} and targets {targets.shape} must be (..., 4), and weights fit them")
    xp = get_array_module(boxes)
    share = xp.ones(boxes.shape[:-1], boxes.dtype) if weight is None else weight.astype(boxes.dtype)
    total = share.sum()
    share = share / xp.where(total > 0, total, 1)
    tiny = xp.finfo(boxes.dtype).tiny
    inner, hull = (
        _extent(*_meeting(boxes, targets, xp.maximum, xp.minimum)),
        _extent(*_meeting(boxes, targets, xp.minimum, xp.maximum)),
    )
    own = _extent(boxes[..., :2], boxes[..., 2:])
    intersection = inner.prod(-1)
    union = xp.maximum(own.prod(-1) + _extent(targets[..., :2], targets[..., 2:]).prod(-1) - intersection, tiny)
    around = xp.maximum(hull.prod(-1), tiny)
    loss = (share * (2 - intersection / union - union / around)).sum()
    return loss, (boxes, targets, share, own, inner, hull, union, around)


@accelerated
def giou_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `giou` for the predicted boxes (..., 4), see above, times the scalar dloss; the targets get none."""
    boxes, targets, share, own, inner, hull, union, around = cache
    xp = get_array_module(boxes)
    intersection = inner.prod(-1)
    per_area = intersection / union**2 - 1 / around
    per_intersection = 1 / around - 1 / union - intersection / union**2
    per_hull = union / around**2
    begins, ends = (boxes[..., :2], targets[..., :2]), (boxes[..., 2:], targets[..., 2:])
    other = lambda extents: extents[..., ::-1]  # noqa: E731  (an area moves with a side by the other extent)
    meet = (intersection > 0)[..., None]
    d_own = per_area[..., None] * other(own) * (own > 0)
    d_inner = per_intersection[..., None] * other(inner) * meet
    d_hull = per_hull[..., None] * other(hull)
    d_begin = -(d_own + d_inner * (begins[0] > begins[1]) + d_hull * (begins[0] < begins[1]))
    d_end = d_own + d_inner * (ends[0] < ends[1]) + d_hull * (ends[0] > ends[1])
    return dloss * share[..., None] * xp.concatenate([d_begin, d_end], axis=-1)


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _log_sigmoid(z: Array) -> Array:
    """log(1 / (1 + exp(-z))), without overflow."""
    xp = get_array_module(z)
    return xp.minimum(z, 0) - xp.log1p(xp.exp(-xp.abs(z)))


def _meeting(boxes: Array, targets: Array, begin: Any, end: Any) -> tuple[Array, Array]:
    """The upper left and the lower right corner of two boxes' intersection, or of their hull."""
    return begin(boxes[..., :2], targets[..., :2]), end(boxes[..., 2:], targets[..., 2:])


def _extent(begin: Array, end: Array) -> Array:
    """Height and width (..., 2) between two corners, at least 0."""
    return get_array_module(begin).maximum(end - begin, 0)
