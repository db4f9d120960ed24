"""Which library an array belongs to: the array's type *is* the device.

Ops are written once, against ``xp``, and run on NumPy and CuPy arrays alike::

    xp = get_array_module(x)
    y = xp.maximum(x, 0)
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# numpy.ndarray or cupy.ndarray. CuPy has NumPy's interface and no types of its own, so to a type checker this is NumPy's
# array. Outside of the kernels, lazy maps (`ops/lazy.py`) count as arrays, too.
Array: TypeAlias = NDArray[Any]


def get_array_module(*arrays: Array) -> ModuleType:
    """Return ``cupy`` if any of the arrays lives on the GPU, else ``numpy``.

    CuPy is never imported here: if it has not been imported yet, none of the arrays can be CuPy's.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.array import get_array_module
    >>> get_array_module(np.zeros(3)).__name__
    'numpy'
    """
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(a, cupy.ndarray) for a in arrays):
        return cupy
    return np


def to_numpy(a: Array) -> np.ndarray:
    """Copy an array to the host; a NumPy array is returned as it is."""
    return a.get() if hasattr(a, "get") else np.asarray(a)
