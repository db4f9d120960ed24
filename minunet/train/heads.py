"""The heads of networks: deep supervision, and how those of polygons begin.

Deep supervision is the loss of a network that has several heads, such as one at every level of its decoder.

    loss = sum over the heads k of  head_weights[k] * loss_k

Each loss is normalised by the pixels of its own head, so that a small head counts as much as its weight says. A head that is
smaller than the image is compared with the labels (and weights) at the pixels nearest to the middles of its own. Heads of
weight 0 cost nothing: they have no loss, and `None` stands for their gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..array import Array, get_array_module
from ..nn import Module

HEAD = "head."  # how the names of the last layers' parameters begin
FAINT = 0.1  # how much of their random start the filters of distances keep
Weights = Sequence[float]


def heads_loss(
    loss: Callable[..., Any], head_weights: Weights, heads: Sequence[Array], labels: Any,
    weights: Any = None, **options: Any,
) -> tuple[Any, list]:  # fmt: skip
    """The weighted sum of the heads' losses, and the caches for `heads_gradients`.

    Parameters
    ----------
    loss : function
        A loss of `minunet.ops`: (logits, labels, weight=..., **options) to (loss, cache).
    head_weights : one number for each head
    heads : sequence of (N, h, w, K) arrays
    labels : (N, H, W) integer array
    weights : (N, H, W) float array, optional
    """
    total: Any = None
    caches: list[Any] = []
    for share, logits in zip(head_weights, heads, strict=True):
        if share == 0:
            caches.append(None)
            continue
        own = [a if a is None else at_nearest(a, logits.shape[1:3]) for a in (labels, weights)]
        value, cache = loss(logits, own[0], weight=own[1], **options)
        caches.append(cache)
        value = value if share == 1 else share * value
        total = value if total is None else total + value
    if total is None:
        raise ValueError(f"head_weights {tuple(head_weights)}: one must be above 0, or nothing is learned")
    return total, caches


def heads_gradients(backward: Callable[..., Any], head_weights: Weights, caches: Sequence[Any]) -> list[Any]:
    """The gradient of the sum with respect to every head's logits; None for a head of weight 0."""
    return [None if c is None else backward(float(share), c) for share, c in zip(head_weights, caches, strict=True)]


def at_nearest(a: Array, size: tuple[int, ...]) -> Array:
    """Labels or weights (N, H, W) at a smaller size (h, w): pixel r of h is taken from floor((r + 1/2) H / h).

    >>> import numpy as np
    >>> at_nearest(np.arange(6)[None, None], (1, 3))[0, 0]
    array([1, 3, 5])
    """
    if tuple(a.shape[1:3]) == tuple(size):
        return a
    xp, sides = get_array_module(a), list(zip(a.shape[1:3], size))
    if all(n % m == 0 for n, m in sides):
        rows, columns = (slice(n // m // 2, None, n // m) for n, m in sides)
        return xp.ascontiguousarray(a[:, rows, columns])
    rows, columns = ((2 * xp.arange(m) + 1) * n // (2 * m) for n, m in sides)
    return a[:, rows[:, None], columns]


def begin_with_circles(model: Module) -> None:
    """Let a new network of polygons give nearly circles of the typical radius everywhere; other networks stay as they are.

    Filters that start as those before a ReLU make distances as large as the objects, at random, and to unlearn that takes an
    optimiser of small steps some hundred of them.
    """
    if model.preprocessing.rays is None:
        return
    for name, p in model.named_params().items():
        if name.startswith(HEAD):
            if p.ndim == 1:
                p[1:] = 1
            else:
                p[..., 1:] *= FAINT
