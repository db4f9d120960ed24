"""The attention gate's backward

Lesson 13, about 45 minutes. Do conv_backward first. NumPy may be imported, nothing else.

Write `attention_gate_backward`. The forward is given: x @ theta is a 1x1 convolution. Read it from its last line to its
first. What was used twice gets the sum of two gradients; what was broadcast along an axis gets the sum over that axis.
The six gradients count by themselves: return None for what you have not written yet. Do not change dy or the cache.

Grade it with:  python -m minunet.grade attention_gate.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- given -----------------------------------------------------------------------------------------------------------


def attention_gate(
    skip: Array, signal: Array, theta: Array, phi: Array, bias: Array, psi: Array
) -> tuple[Array, tuple]:
    """Weigh every pixel of a skip by a number from 0 to 1, which is made of the skip and of a signal of the same size.

        z = ReLU(skip @ theta + signal @ phi + bias)        a = sigmoid(z @ psi)        y = skip * a

    skip (N, H, W, C), signal (N, H, W, G), theta (C, M), phi (G, M), bias (M,), psi (M, 1) to (y, cache), y (N, H, W, C); a is
    (N, H, W, 1), one number for all channels of a pixel.
    """
    z = np.maximum(skip @ theta + signal @ phi + bias, 0)
    a = 1 / (1 + np.exp(-(z @ psi)))
    return skip * a, (skip, signal, theta, phi, psi, z, a)


# ---- yours -----------------------------------------------------------------------------------------------------------


def attention_gate_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Gradients of `attention_gate`: dy (N, H, W, C) to (dskip, dsignal, dtheta, dphi, dbias, dpsi), in the arrays' shapes."""
    skip, signal, theta, phi, psi, z, a = cache
    raise NotImplementedError
