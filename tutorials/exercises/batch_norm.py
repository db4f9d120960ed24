"""The backward of batch norm

Lesson 04, about 75 minutes. NumPy may be imported, nothing else.

Write `batch_norm_backward`: from dy to dx, dgamma and dbeta, for

    xhat = (x - mean) * rstd,   rstd = 1 / sqrt(var + eps),        y = gamma * xhat + beta

with mean and (biased) var over the M = N*H*W values of a channel. x moves its xhat directly, and every other xhat of
the channel through the mean and through the variance: do not lose a term. If the statistics were given (from_batch is
False, as at inference) they are constants. Each gradient counts by itself; return None for one that you have not
written. The cache holds (x, gamma, mean, rstd, from_batch).

Grade it with:  python -m minunet.grade batch_norm.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def batch_norm_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm`: dy (N, H, W, C) to dx, dgamma and dbeta."""
    x, gamma, mean, rstd, from_batch = cache
    raise NotImplementedError
