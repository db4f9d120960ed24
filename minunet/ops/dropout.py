"""Dropout: while training, every value is zeroed with probability `rate`.

The values that are left are divided by 1 - rate, so that the expectation does not change, and inference needs no dropout at
all. For a given mask this is a linear map with a diagonal matrix; its gradient is the same map.

Source: Srivastava et al., "Dropout", JMLR 15 (2014), in the "inverted" form.
"""

from __future__ import annotations

import numpy as np

from ..array import Array, get_array_module


def dropout(x: Array, rate: float, rng: np.random.Generator) -> tuple[Array, tuple]:
    """Zero values of x at random.

    Parameters
    ----------
    x : float array of any shape
    rate : float in [0, 1)
        Share of the values that is zeroed.
    rng : numpy.random.Generator
        The mask is drawn from it, on every device alike, so that the same seed gives the same mask everywhere.

    Returns
    -------
    y : float array of the shape of x
    cache : tuple for `dropout_backward`; holds the mask (bool)

    Raises
    ------
    ValueError
        If rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in [0, 1), not {rate}")
    mask = get_array_module(x).asarray(rng.random(x.shape, np.float32) >= rate)
    return x * mask / x.dtype.type(1 - rate), (mask, rate)  # a Python float would make bfloat16 float32


def dropout_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `dropout`: the same mask and scale, applied to dy."""
    mask, rate = cache
    return dy * mask / dy.dtype.type(1 - rate)
