"""Normalisation: batch norm and group norm.

Both standardise x over a set of M values and then scale and shift every channel:

    xhat = (x - mean) * rstd,   rstd = 1 / sqrt(var + eps),        y = gamma * xhat + beta

Batch norm takes the set to be one channel of the whole batch, M = N*H*W; group norm one group of channels of one image,
M = H*W*C/groups.

The backward. gamma and beta see only sums over what shares them: dbeta = sum dy, dgamma = sum dy * xhat. For x, let
g = gamma * dy be the gradient of xhat. x_i moves xhat_i directly, and *every* xhat_j through the mean and the variance:

    d xhat_j / d x_i  =  rstd * ( [i = j]  -  1/M  -  xhat_i * xhat_j / M )

(1/M comes from the mean. The last term comes from the variance, whose derivative is 2 (x_i - mean) / M, since
sum (x - mean) = 0.) Times g_j, and summed over j:

    dx_i = rstd * ( g_i  -  mean(g)  -  xhat_i * mean(g * xhat) )

So dx has no component along the constant vector, and none along xhat: shifting or stretching the set changes nothing. That is
why a gradient check with dy = 1 is blind here: both sides are about 0 whatever the code does.

With given statistics (at inference) mean and rstd are constants: dx = rstd * g.

Sums run in float64 whatever x is: E[x^2] - mean^2 would cancel, and so would a long float32 sum.

Sources: Ioffe and Szegedy, arXiv:1502.03167; Wu and He, arXiv:1803.08494.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..array import Array, get_array_module
from .dispatch import accelerated

BATCH = (0, 1, 2)  # the axes that one channel of a batch extends over

Op = TypeVar("Op", bound=Callable[..., Any])


def widened(op: Op) -> Op:
    """Decorate an op or its backward, so that it computes in float32 when maps come in half precision.

    The result is in half precision again, and the cache holds x as it came.
    """

    @functools.wraps(op)
    def run(a: Array, *args: Any, **options: Any) -> Any:  # op(x, gamma, ...) or op_backward(dy, cache)
        if a.dtype.itemsize > 2:
            return op(a, *args, **options)
        if isinstance(args[0], tuple):
            x, *rest = args[0]
            args = ((x.astype(np.float32), *rest),)
        result, *others = op(a.astype(np.float32), *args, **options)
        if isinstance(others[0], tuple):
            others[0] = (a, *others[0][1:])
        return (result.astype(a.dtype), *others)

    return run  # type: ignore[return-value]


@accelerated
@widened
def batch_norm(
    x: Array, gamma: Array, beta: Array, mean: Array | None = None, var: Array | None = None, eps: float = 1e-5
) -> tuple[Array, tuple, tuple[Array, Array]]:
    """Standardise every channel over the batch, or with given statistics.

    Parameters
    ----------
    x : (N, H, W, C) float array
    gamma, beta : (C,) float arrays
        Scale and shift.
    mean, var : (C,) float arrays, optional
        Statistics to use, as at inference; without them those of this batch.
    eps : float
        Added to the variance.

    Returns
    -------
    y : (N, H, W, C) float array
    cache : tuple for `batch_norm_backward`; holds x itself, not a copy
    statistics : ((C,), (C,)) float arrays
        The mean and the (biased) variance that were used; the module keeps running averages of them.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> x = np.array([0.0, 2.0, 4.0, 6.0]).reshape(1, 2, 2, 1)
    >>> y, cache, (mean, var) = ops.batch_norm(x, gamma=np.ones(1), beta=np.zeros(1), eps=0.0)
    >>> mean, var
    (array([3.]), array([5.]))
    >>> y.ravel().round(3)
    array([-1.342, -0.447,  0.447,  1.342])
    """
    from_batch = mean is None
    if mean is None or var is None:
        mean, var = _moments(x, BATCH)
    rstd = (1 / (var + eps) ** 0.5).astype(x.dtype)
    y = (x - mean) * (gamma * rstd) + beta
    return y, (x, gamma, mean, rstd, from_batch), (mean, var)


@accelerated
@widened
def batch_norm_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm`: dy (N, H, W, C) to dx, dgamma and dbeta."""
    x, gamma, mean, rstd, from_batch = cache
    xhat = (x - mean) * rstd
    dgamma, dbeta = _sum(dy * xhat, BATCH), _sum(dy, BATCH)
    dx = dy
    if from_batch:
        M = x.size // x.shape[-1]
        dx = dy - dbeta / M - xhat * (dgamma / M)  # mean(g) and mean(g * xhat), with gamma taken out
    return dx * (gamma * rstd), dgamma, dbeta


@accelerated
@widened
def shared_batch_norm_backward(
    dy: Array, cache: tuple, total: Callable[..., Sequence[Array]]
) -> tuple[Array, Array, Array]:
    """`batch_norm_backward` of a part of a batch of which other processes have the rest; forward was given all's statistics.

    Parameters
    ----------
    dy : (N, H, W, C) float array
    cache : tuple
        That of `batch_norm`.
    total : function
        Called with dgamma and dbeta, (C,) arrays, and M: returns their sums over all processes, as float64.

    Returns
    -------
    dx : (N, H, W, C) float array
        The sums over the whole batch belong in here alone.
    dgamma, dbeta : (C,) float arrays
        Of this part: whoever adds up the processes' gradients gets those of the batch.
    """
    x, gamma, mean, rstd, _ = cache
    xhat = (x - mean) * rstd
    dgamma, dbeta = _sum(dy * xhat, BATCH), _sum(dy, BATCH)
    g, b, M = total(dgamma, dbeta, x.size // x.shape[-1])
    dx = dy - (b / M).astype(x.dtype) - xhat * (g / M).astype(x.dtype)
    return dx * (gamma * rstd), dgamma, dbeta


@accelerated
def running_average(
    mean: Array, var: Array, batch_mean: Array, batch_var: Array, M: int, momentum: float = 0.1
) -> None:
    """Move the running statistics (C,) towards those of a batch with M values a channel, in place.

    running = (1 - momentum) * running + momentum * batch, the variance unbiased (times M / (M - 1)), as PyTorch has it.
    """
    for running, batch in ((mean, batch_mean), (var, batch_var * (M / max(M - 1, 1)))):
        running *= 1 - momentum
        running += momentum * batch


@accelerated
@widened
def group_norm(x: Array, gamma: Array, beta: Array, groups: int, eps: float = 1e-5) -> tuple[Array, tuple]:
    """Standardise every group of channels of every image.

    Parameters
    ----------
    x : (N, H, W, C) float array
    gamma, beta : (C,) float arrays
    groups : int
        A divisor of C; 1 is layer norm, C instance norm.
    eps : float
        Added to the variance.

    Returns
    -------
    y : (N, H, W, C) float array
    cache : tuple for `group_norm_backward`

    Raises
    ------
    ValueError
        If groups does not divide C.
    """
    N, H, W, C = x.shape
    if C % groups:
        raise ValueError(f"{C} channels do not divide into {groups} groups")
    grouped = x.reshape(N, H * W, groups, C // groups)
    mean, var = _moments(grouped, (1, 3), keepdims=True)  # (N, 1, groups, 1)
    rstd = (1 / (var + eps) ** 0.5).astype(x.dtype)
    xhat = ((grouped - mean) * rstd).reshape(x.shape)
    return xhat * gamma + beta, (x, gamma, mean, rstd)


@accelerated
@widened
def group_norm_backward(dy: Array, cache: tuple) -> tuple[Array, Array, Array]:
    """Gradients of `group_norm`: dy (N, H, W, C) to dx, dgamma and dbeta."""
    x, gamma, mean, rstd = cache
    N, H, W, C = x.shape
    grouped = (N, H * W, mean.shape[2], C // mean.shape[2])
    xhat = (x.reshape(grouped) - mean) * rstd
    g = (dy * gamma).reshape(grouped)
    M = H * W * grouped[3]
    dx = rstd * (g - _sum(g, (1, 3), True) / M - xhat * (_sum(g * xhat, (1, 3), True) / M))
    return dx.reshape(x.shape), _sum(dy * xhat.reshape(x.shape), BATCH), _sum(dy, BATCH)


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
    """A sum accumulated in float64, in the dtype of x."""
    return x.sum(axes, dtype=np.float64, keepdims=keepdims).astype(x.dtype)


def _moments(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> tuple[Array, Array]:
    """Mean and biased variance, in two passes: the second subtracts the mean before it squares."""
    xp = get_array_module(x)
    mean = x.mean(axes, dtype=np.float64, keepdims=True).astype(x.dtype)
    var = xp.square(x - mean).mean(axes, dtype=np.float64, keepdims=True).astype(x.dtype)
    return (mean, var) if keepdims else (mean.squeeze(axes), var.squeeze(axes))
