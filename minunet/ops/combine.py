"""Maps into one: sums, and gates.

A sum hands its gradient to every summand as it is, y = a + b + ...: da = db = dy.

A gate weighs the values of a map by a number for each pixel, for each channel, or for each value:

    y = x * a        and by the product rule        dx = dy * a,        da = dy * x

When one number of a weighs many values of x, it gets the sum of their gradients. So da is summed over exactly the axes along
which a has one entry where x has many: over rows and columns for a gate of channels, a (N, 1, 1, C), and over the channels
for a gate of pixels, a (N, H, W, 1). Sums run in float64, whatever x is.

Unlike a ReLU's, a gate's backward needs all of x.

Sources: He et al. (sums), arXiv:1512.03385; Hu, Shen and Sun (channels), arXiv:1709.01507; Oktay et al. (pixels),
arXiv:1804.03999; Roy, Navab and Wachinger (both), arXiv:1803.02579.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..array import Array
from .dispatch import accelerated


@accelerated
def add(arrays: Sequence[Array]) -> tuple[Array, tuple]:
    """The sum of two or more arrays of one shape.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> y, cache = ops.add([np.ones((1, 1, 1, 2)), np.ones((1, 1, 1, 2))])
    >>> y.ravel()
    array([2., 2.])
    >>> [dx.shape for dx in ops.add_backward(y, cache)]
    [(1, 1, 1, 2), (1, 1, 1, 2)]

    Raises
    ------
    ValueError
        If their shapes differ: broadcast arrays would need a sum in the backward.
    """
    first, *others = arrays
    if any(a.shape != first.shape for a in others):
        raise ValueError(f"a sum needs maps of one shape, not {', '.join(str(a.shape) for a in arrays)}")
    y = first
    for a in others:
        y = y + a
    return y, (len(arrays),)


@accelerated
def add_backward(dy: Array, cache: tuple) -> tuple[Array, ...]:
    """Gradient of `add`: for every summand dy itself, the same array, so that nobody may write into it."""
    (count,) = cache
    return (dy,) * count


@accelerated
def gate(x: Array, a: Array) -> tuple[Array, tuple]:
    """x * a, for a map and a gate.

    Parameters
    ----------
    x : (N, H, W, C) float array
    a : (N, 1, 1, C), (N, H, W, 1) or (N, H, W, C) float array
        A number for each channel, pixel or value; any axis may have one entry.

    Returns
    -------
    y : (N, H, W, C) float array
    cache : tuple for `gate_backward`; holds x and a themselves, not copies

    Raises
    ------
    ValueError
        If a is not broadcast to the shape of x.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> x, a = np.full((1, 2, 3, 2), 5.0), np.array([1.0, 0.5]).reshape(1, 1, 1, 2)
    >>> y, cache = ops.gate(x, a)
    >>> y[0, 0, 0].tolist()
    [5.0, 2.5]
    >>> dx, da = ops.gate_backward(np.ones_like(y), cache)
    >>> dx[0, 0, 0].tolist(), da.tolist()
    ([1.0, 0.5], [[[[30.0, 30.0]]]])
    """
    if len(a.shape) != len(x.shape) or any(m not in (1, n) for n, m in zip(x.shape, a.shape)):
        raise ValueError(f"a gate of shape {a.shape} does not fit a map of shape {x.shape}")
    return x * a, (x, a)


@accelerated
def gate_backward(dy: Array, cache: tuple) -> tuple[Array, Array]:
    """Gradients of `gate`: dy (N, H, W, C) to dx, and to da, summed over the axes along which a was broadcast."""
    x, a = cache
    along = tuple(axis for axis, (n, m) in enumerate(zip(x.shape, a.shape)) if m != n)
    da = dy * x
    return dy * a, da.sum(along, dtype=np.float64, keepdims=True).astype(x.dtype) if along else da
