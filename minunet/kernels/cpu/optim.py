"""The optimisers' steps on the CPU: one pass over the parameters, the gradient and the optimiser's state, all in place.

    for each number, in parallel:   read p, g and the state;   apply the rule;   write p and the state

The plain rules make a temporary array for each operation; here an update takes only the time of its memory traffic. Operations
have the order and dtype of the plain rules.

Shapes: any; all arrays contiguous, float32 or float64.

Measure: python bench/pointwise.py
"""

from __future__ import annotations

import math

from numba import prange

from ...array import Array
from .launch import kernel, ready


def sgd_step(
    p: Array, g: Array, velocity: Array, lr: float, momentum: float = 0.9, nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """The kernel of `optim.sgd_step`."""
    number = p.dtype.type
    sgd(p.reshape(-1), ready(g).reshape(-1), velocity.reshape(-1),
        number(lr), number(momentum), bool(nesterov), number(weight_decay))  # fmt: skip


def adam_step(
    p: Array, g: Array, m: Array, s: Array, steps: int, lr: float, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> None:  # fmt: skip
    """The kernel of `optim.adam_step`."""
    number = p.dtype.type
    keep, pull = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    adam(p.reshape(-1), ready(g).reshape(-1), m.reshape(-1), s.reshape(-1),
         number(lr), number(1 - beta1), number(1 - beta2), number(1 - beta1**steps), number(1 - beta2**steps),
         number(eps), number(keep), number(pull))  # fmt: skip


def rmsprop_step(
    p: Array, g: Array, s: Array, velocity: Array, lr: float, momentum: float = 0.9, decay: float = 0.99,
    eps: float = 1e-8, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """The kernel of `optim.rmsprop_step`."""
    number = p.dtype.type
    rmsprop(p.reshape(-1), ready(g).reshape(-1), s.reshape(-1), velocity.reshape(-1),
            number(lr), number(momentum), number(1 - decay), number(eps), number(weight_decay))  # fmt: skip


# ---- the compiled loops: flat arrays, and scalars of their dtype -----------------------------------------------------


@kernel
def sgd(p, g, velocity, lr, momentum, nesterov, weight_decay):
    """`optim.sgd_step`."""
    for n in prange(p.size):
        slope = g[n] + weight_decay * p[n]
        v = momentum * velocity[n] + slope
        velocity[n] = v
        p[n] -= lr * (slope + momentum * v if nesterov else v)


@kernel
def adam(p, g, m, s, lr, new1, new2, started1, started2, eps, keep, pull):
    """`optim.adam_step` with new = 1 - beta, started = 1 - beta^steps; p * keep decays decoupled, g + pull * p does not."""
    for n in prange(p.size):
        slope = g[n] + pull * p[n]
        m[n] += new1 * (slope - m[n])
        s[n] += new2 * (slope * slope - s[n])
        p[n] = p[n] * keep - lr * (m[n] / started1) / (math.sqrt(s[n] / started2) + eps)


@kernel
def rmsprop(p, g, s, velocity, lr, momentum, new, eps, weight_decay):
    """`optim.rmsprop_step` with new = 1 - decay."""
    for n in prange(p.size):
        slope = g[n] + weight_decay * p[n]
        s[n] += new * (slope * slope - s[n])
        velocity[n] = momentum * velocity[n] + slope / (math.sqrt(s[n]) + eps)
        p[n] -= lr * velocity[n]
