"""The gradient checker itself

Lesson 02, about 45 minutes. NumPy may be imported, nothing else.

Write `numerical_gradient`, which needs nothing but f, and with it `is_gradient`, which tells right backwards from wrong
ones. The grader hands your checker functions of its own, f and backward, right ones and wrong ones; they run in another
process, and all you can do is call them.

Grade it with:  python -m minunet.grade gradient_check.py
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def numerical_gradient(f: Callable[[Array], Array], x: Array, dy: Array, h: float = 1e-5) -> Array:
    """The gradient of L(x) = sum of f(x) * dy by central differences of the step h, in the shape of x.

    f takes an array of x's shape and gives one of dy's. x must be unchanged at the end.
    """
    raise NotImplementedError


def is_gradient(f: Callable[[Array], Array], backward: Callable[[Array, Array], Array], x: Array) -> bool:
    """Whether backward(dy, x) is the gradient of the sum of f(x) * dy: everywhere, and for whatever dy.

    It must see an error of 0.1 % of the gradient's largest element in a single place, however small the gradient is, and one
    that hides where dy = 1; and it must let right ones pass.
    """
    raise NotImplementedError
