"""The learning rate, step by step

Lesson 11, about 30 minutes. NumPy may be imported, nothing else.

Write the schedule by which many networks are trained, a warm-up and then half a cosine, and the range test that finds
its largest rate. Steps are counted from 0.

Grade it with:  python -m minunet.grade schedule.py
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def learning_rate(step: int, total: int, lr: float, warmup: int = 0) -> float:
    """The rate of step number `step`, counted from 0, of `total` steps.

    In the first `warmup` steps it rises evenly, from lr / warmup in step 0 to lr in step warmup - 1. Then it falls along half a
    cosine, from lr in step `warmup` to 0 in step `total`, and stays there.
    """
    raise NotImplementedError


def range_rates(low: float, high: float, steps: int) -> Array:
    """The rates of a range test, (steps,): from low to high, both included, each the one before times the same factor."""
    raise NotImplementedError


def suggest_rate(rates: Array, losses: Array) -> float:
    """The rate that a range test suggests: a fifth of the one at which the smoothed losses are lowest.

    Smoothed is the mean of a loss, the two before and the two after it; at the ends the first and the last are repeated. A loss
    that is not finite counts as infinitely large.
    """
    raise NotImplementedError
