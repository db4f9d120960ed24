"""The U-Net's backward: wiring

Lesson 05, about 45 minutes. Do crop_concat first. NumPy may be imported, nothing else.

Write `unet_backward`: call the parts' backwards in the right order, each with the right gradient. What forward hands
over twice must get the sum of both gradients. The parts are those of a real U-Net, which runs in the grader's process.

Grade it with:  python -m minunet.grade unet_backward.py
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray

# ---- yours -----------------------------------------------------------------------------------------------------------


def unet_backward(dy: Array, back: Callable[[str, Any], Any], depth: int) -> Array:
    """The gradient of a U-Net's image from that of its output.

    back(part, dy) is the backward of one part: it takes the gradient of what the part gave, notes the gradients of its
    parameters, and returns the gradient of what it took; each may be called once. The parts, in the order of the forward:

        encoder.0  pool.0  encoder.1  pool.1 ...  bottom  ...  up.1  join.1  decoder.1  up.0  join.0  decoder.0  head

    encoder.l feeds both pool.l and the skip; join.l puts the skip and what comes from up.l together, and its backward returns
    two gradients, (dskip, dup).
    """
    raise NotImplementedError
