"""Gradient descent with momentum

Lesson 06, about 20 minutes. NumPy may be imported, nothing else.

Write `sgd_step`: change the parameters p, and the velocity, in place, given the gradient g (which stays as it is). The
velocity keeps a share `momentum` of itself and adds the gradient; p moves against it by `lr`. Nesterov's variant moves
by the gradient plus `momentum` times the new velocity. Weight decay adds weight_decay * p to the gradient first.

Grade it with:  python -m minunet.grade momentum.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def sgd_step(
    p: Array, g: Array, velocity: Array, lr: float, momentum: float = 0.9, nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """One step of gradient descent with momentum: p and velocity are changed in place; returns None."""
    raise NotImplementedError
