"""Pad, crop and concatenate: the plumbing of the skip connections.

They move values and change none, so their gradients move values back: the gradient of a pad is a crop, that of a crop is a pad,
and that of a concatenation is a split. Margins are ((top, bottom), (left, right)), in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..array import Array, get_array_module
from .conv import pad_spatial
from .dispatch import accelerated

Margins = tuple[tuple[int, int], tuple[int, int]]


def pad(x: Array, margins: Margins) -> tuple[Array, tuple]:
    """Zeros around x (N, H, W, C)."""
    return pad_spatial(x, margins), (margins,)


def pad_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `pad`: the margins are cut off again."""
    (margins,) = cache
    return _cut(dy, margins)


def crop(x: Array, margins: Margins) -> tuple[Array, tuple]:
    """Cut the margins off x (N, H, W, C); a view.

    Raises
    ------
    ValueError
        If nothing would be left.
    """
    if any(n - sum(m) < 1 for n, m in zip(x.shape[1:3], margins)):
        raise ValueError(f"margins {margins} leave nothing of {x.shape[1]} x {x.shape[2]} pixels")
    return _cut(x, margins), (margins,)


def crop_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `crop`: what was cut off gets zeros."""
    (margins,) = cache
    return pad_spatial(dy, margins)


@accelerated
def concat(arrays: Sequence[Array]) -> tuple[Array, tuple]:
    """Stack (N, H, W, C1), (N, H, W, C2), ... along the channels, in this order.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> y, cache = ops.concat([np.zeros((1, 2, 2, 3)), np.ones((1, 2, 2, 1))])
    >>> y[0, 0, 0]
    array([0., 0., 0., 1.])
    >>> [dx.shape for dx in ops.concat_backward(y, cache)]
    [(1, 2, 2, 3), (1, 2, 2, 1)]
    """
    return get_array_module(*arrays).concatenate(arrays, axis=-1), tuple(a.shape[-1] for a in arrays)


@accelerated
def concat_backward(dy: Array, cache: tuple) -> tuple[Array, ...]:
    """Gradient of `concat`: dy split again by channels; views."""
    ends = np.cumsum(cache)
    return tuple(dy[..., end - n : end] for n, end in zip(cache, ends))


def _cut(x: Array, margins: Margins) -> Array:
    (top, bottom), (left, right) = margins
    if top == bottom == left == right == 0:
        return x
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]
