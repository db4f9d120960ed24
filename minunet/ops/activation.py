"""Activations: ReLU, ReLU6, leaky ReLU, sigmoid, tanh, scaled exponential, softmax.

Elementwise functions have a diagonal Jacobian: dx = f'(x) * dy. The backward of ReLU needs only where x is positive, one byte a
value; those of sigmoid and tanh only the output, since s' = s (1 - s) and t' = 1 - t^2. Softmax couples the K channels of a
pixel: with p_k = exp(x_k) / sum exp(x_j),

    d p_j / d x_k = p_j ([j = k] - p_k)        so        dx_k = p_k (dy_k - sum_j dy_j p_j).

The scaled exponential y = exp(s x) of a learned number s has dx = dy y s and ds = sum of dy y x. Above s x = LARGEST it is
constant, and both are 0 there: exp of a number that a network may give overflows.

At the kink of a ReLU (x = 0) any value between the two one-sided slopes is a subgradient; here it is the slope for x < 0.
ReLU6, min(max(x, 0), 6), has a second kink at 6, where the slope is 0 here, as in PyTorch.
"""

from __future__ import annotations

from ..array import Array, get_array_module
from .dispatch import accelerated

LARGEST = 10.0  # exponent: exp of it, 22026, still is a number in half precision


@accelerated
def relu(x: Array) -> tuple[Array, tuple]:
    """max(x, 0), for an array of any shape; the cache is the mask x > 0.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> y, cache = ops.relu(np.array([-1.0, 2.0]))
    >>> y
    array([0., 2.])
    >>> ops.relu_backward(np.array([5.0, 5.0]), cache)
    array([0., 5.])
    """
    mask = x > 0
    return get_array_module(x).maximum(x, 0), (mask,)


@accelerated
def relu_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `relu`: dy where x was positive."""
    (mask,) = cache
    return dy * mask


@accelerated
def relu6(x: Array) -> tuple[Array, tuple]:
    """min(max(x, 0), 6), for an array of any shape; the cache is the mask 0 < x < 6.

    Source: Howard et al., "MobileNets", arXiv:1704.04861, and its code; the bound keeps values within few bits.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> ops.relu6(np.array([-1.0, 2.0, 9.0]))[0]
    array([0., 2., 6.])
    """
    xp = get_array_module(x)
    return xp.minimum(xp.maximum(x, 0), 6), ((x > 0) & (x < 6),)


@accelerated
def relu6_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `relu6`: dy where x was between 0 and 6."""
    (mask,) = cache
    return dy * mask


@accelerated
def leaky_relu(x: Array, slope: float = 0.01) -> tuple[Array, tuple]:
    """x where positive, slope * x elsewhere; the cache is the mask x > 0 and the slope."""
    mask = x > 0
    return x * _slopes(mask, slope, x), (mask, slope)


@accelerated
def leaky_relu_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `leaky_relu`: dy where x was positive, slope * dy elsewhere."""
    mask, slope = cache
    return dy * _slopes(mask, slope, dy)


def _slopes(mask: Array, slope: float, like: Array) -> Array:
    """1 where the mask is True, else the slope, of the dtype of `like`: a `where` of bfloat16 maps would be float32 in CuPy."""
    return get_array_module(mask).where(mask, 1, slope).astype(like.dtype)


@accelerated
def sigmoid(x: Array) -> tuple[Array, tuple]:
    """1 / (1 + exp(-x)), computed so that nothing overflows; the cache is the output.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> ops.sigmoid(np.array([0.0, -1000.0]))[0]
    array([0.5, 0. ])
    """
    xp = get_array_module(x)
    y = xp.exp(xp.minimum(x, 0)) / (
        1 + xp.exp(-xp.abs(x))
    )  # above 0 that is 1 / (1 + exp(-x)), below exp(x) / (1 + exp(x))
    return y, (y,)


@accelerated
def sigmoid_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `sigmoid`: dy * y * (1 - y)."""
    (y,) = cache
    return dy * y * (1 - y)


@accelerated
def tanh(x: Array) -> tuple[Array, tuple]:
    """The hyperbolic tangent; the cache is the output."""
    y = get_array_module(x).tanh(x)
    return y, (y,)


@accelerated
def tanh_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `tanh`: dy * (1 - y^2)."""
    (y,) = cache
    return dy * (1 - y * y)


@accelerated
def scaled_exp(x: Array, scale: Array) -> tuple[Array, tuple]:
    """exp(scale * x) of an array of any shape and a learned number (1,), constant where scale * x is above `LARGEST`.

    Source: Tian et al. 2019, FCOS, arXiv:1904.01355, section 3.2: distances are positive, and each level has a scale.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> y, cache = ops.scaled_exp(np.array([0.0, 1.0]), np.array([2.0]))
    >>> y.round(3).tolist()
    [1.0, 7.389]
    >>> dx, dscale = ops.scaled_exp_backward(np.array([1.0, 1.0]), cache)
    >>> dx.round(3).tolist(), dscale.round(3).tolist()
    ([2.0, 14.778], [7.389])
    """
    xp = get_array_module(x)
    exponent = x * scale.astype(x.dtype)
    y = xp.exp(xp.minimum(exponent, x.dtype.type(LARGEST)))
    return y, (x, scale, y)


@accelerated
def scaled_exp_backward(dy: Array, cache: tuple) -> tuple[Array, Array]:
    """Gradients of `scaled_exp` with respect to x and scale, see above."""
    x, scale, y = cache
    xp = get_array_module(dy)
    moving = dy * y * (x * scale.astype(x.dtype) < LARGEST)
    return moving * scale.astype(x.dtype), (moving * x).sum(dtype=xp.float64).astype(scale.dtype).reshape(1)


@accelerated
def softmax(x: Array) -> tuple[Array, tuple]:
    """Softmax over the last axis (channels), shifted by the maximum; the cache is the output.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> ops.softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))[0]
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    xp = get_array_module(x)
    e = xp.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, (y,)


@accelerated
def softmax_backward(dy: Array, cache: tuple) -> Array:
    """Gradient of `softmax`: y * (dy - sum over channels of dy * y)."""
    (y,) = cache
    return y * (dy - (dy * y).sum(-1, keepdims=True))
