"""The loss of star-convex polygons (Schmidt et al. 2018, arXiv:1806.03535): from each pixel, how far its object's outline is.

A pixel has 1 + R outputs: z, the logit of an object's probability, and r_k, the distance to the outline along ray k of R. The
target has as many channels: the probability p, which falls from 1 in the middle of an object to 0 outside, and the distances
d_k. Distances count in any unit, the same in both.

With the pixels' weights w (0 where p is negative: such pixels do not count), W = sum of w and S = sum of w p,

    L = 1/W sum of w BCE(z, p)  +  a/S sum of w p D(r, d)  +  b/W sum of w (1 - p) D(r, 0),        D(r, d) = mean of |r_k - d_k|

where BCE is log(1 + e^z) - p z. So distances count where an object is, and most in its middle, where an outline is best seen;
the small last term keeps them from growing where nothing else holds them. If W or S is 0, what is divided by it is 0.

The binary cross-entropy has the slope sigmoid(z) - p for any p from 0 to 1, and |x| the slope sign(x), 0 at 0. W and S depend
on the target alone, so they are constants:

    dz = w/W (sigmoid(z) - p)                dr_k = a w p / (S R) sign(r_k - d_k)  +  b w (1 - p) / (W R) sign(r_k)
"""

from __future__ import annotations

from typing import Any

from ..array import Array, get_array_module
from .activation import sigmoid
from .dispatch import accelerated


@accelerated
def star_loss(
    logits: Array, target: Array, weight: Array | None = None, distances: float = 1.0, outside: float = 1e-4
) -> tuple[Any, tuple]:
    """The loss of star-convex polygons.

    Parameters
    ----------
    logits : (N, H, W, 1 + R) float array
        The logit of an object's probability, and the distances along R rays.
    target : (N, H, W, 1 + R) float array
        The probability, negative where a pixel does not count, and the distances.
    weight : (N, H, W) float array, optional
        A weight for every pixel.
    distances, outside : float
        How much the distances count within objects and outside, a and b above.

    Returns
    -------
    loss : scalar of the dtype of logits
    cache : tuple for `star_loss_backward`

    Raises
    ------
    ValueError
        If the shapes disagree or there are no rays.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> logits, target = np.zeros((1, 1, 2, 5)), np.zeros((1, 1, 2, 5))
    >>> target[0, 0, 0] = [1, 2, 2, 2, 2]  # one pixel of an object, two units from its outline
    >>> loss, cache = ops.star_loss(logits, target)
    >>> print(round(float(loss), 4))  # log 2 and 2
    2.6931
    >>> ops.star_loss_backward(1.0, cache)[0, 0, 0].tolist()
    [-0.25, -0.25, -0.25, -0.25, -0.25]
    """
    xp = get_array_module(logits)
    if logits.shape != target.shape or logits.shape[-1] < 2:
        raise ValueError(f"logits of shape {logits.shape} and target of shape {target.shape}: both have 1 + R channels")
    target = xp.asarray(target, logits.dtype)
    z, r, p, d = logits[..., 0], logits[..., 1:], target[..., 0], target[..., 1:]
    seen = (p >= 0).astype(logits.dtype)
    if weight is not None:
        seen = seen * xp.asarray(weight, logits.dtype)
    total, inside = at_least_one(seen.sum(dtype=xp.float64)), at_least_one((seen * p).sum(dtype=xp.float64))
    bce = xp.maximum(z, 0) - z * p + xp.log1p(xp.exp(-xp.abs(z)))
    loss = (seen * bce).sum() / total + distances * (seen * p * xp.abs(r - d).mean(-1)).sum() / inside
    loss = loss + outside * (seen * (1 - p) * xp.abs(r).mean(-1)).sum() / total
    return loss.astype(logits.dtype), (logits, target, seen, total, inside, distances, outside)


@accelerated
def star_loss_backward(dloss: float, cache: tuple) -> Array:
    """Gradient of `star_loss` with respect to the logits, see above, times the scalar dloss."""
    logits, target, seen, total, inside, distances, outside = cache
    xp = get_array_module(logits)
    r, p, d, R = logits[..., 1:], target[..., :1], target[..., 1:], logits.shape[-1] - 1
    dlogits = xp.empty_like(logits)
    dlogits[..., 0] = sigmoid(logits[..., 0])[0] - target[..., 0]
    dlogits[..., 0] *= seen * (dloss / total)
    here = dloss / R * seen[..., None]
    dlogits[..., 1:] = here * (distances / inside * p * xp.sign(r - d) + outside / total * (1 - p) * xp.sign(r))
    return dlogits


def at_least_one(total: Any) -> Any:
    """A sum of weights to divide by: 1 where it is 0."""
    xp = get_array_module(total)
    return xp.where(total > 0, total, 1.0)[()]  # NumPy's a number, CuPy's still on the GPU
