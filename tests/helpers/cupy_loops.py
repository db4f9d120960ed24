"""For which dtypes CuPy's functions have kernels ("loops"), and so of which dtype their results are; no GPU is needed.

CuPy takes a function's first loop to whose types its arguments can be cast without loss. Where one is missing, the next wider
one serves, without a word: `where` and `clip` have none for bfloat16, and give float32; so does bfloat16 times a Python float,
which NumPy promotes to float64. The table is CuPy's, 14.2.0; a test compares it with the installed one. Letters are NumPy's,
and E is bfloat16, of the package ml_dtypes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

INTEGERS = "bBhHiIlLqQ"
REAL = INTEGERS + "eEfd"
FLOATS = "eEfdFD"


def same(letters: Iterable[str], arguments: int = 1) -> list[str]:
    """Loops whose arguments and result are of one dtype."""
    return [f"{c * arguments}>{c}" for c in letters]


def truth(arguments: str) -> list[str]:
    """Loops whose result is a boolean."""
    return [f"{a}>?" for a in arguments.split()]


BY_NAMES = {
    "add fmax fmin maximum minimum multiply subtract": same("?" + REAL + "FD", 2),
    "power": ["??>b", *same(REAL + "FD", 2)],
    "divide": ["qq>d", "qQ>d", "Qq>d", "QQ>d", *same(FLOATS, 2)],
    "floor_divide fmod remainder": same(REAL, 2),
    "logaddexp": same("eEfd", 2),
    "absolute": [*same("?" + REAL), "F>f", "D>d"],
    "negative positive max min": same("?" + REAL + "FD"),
    "conjugate reciprocal sign square": same(REAL + "FD"),
    "ceil floor trunc": same("?" + REAL),
    "arctan cos exp exp2 expm1 log log10 log1p log2 rint sin sqrt tan tanh": same(FLOATS),
    "sum prod": ["?>l", *(f"{c}>{'l' if c in 'bhil' else 'L'}" for c in INTEGERS[:8]), *same("qQ" + FLOATS)],
    "equal not_equal greater greater_equal less less_equal": truth("?? qq QQ qQ Qq ee EE ff dd FF DD"),
    "logical_and logical_or": truth("?? qq QQ qQ Qq ee EE ff dd"),
    "logical_not": truth("? b B h H i I l L q Q e f d"),
    "isfinite isinf isnan": truth("e E f d F D"),
    "any all": truth("? B h H i I l L q Q e f d F D"),
    "bitwise_and bitwise_or bitwise_xor": same("?" + INTEGERS, 2),
    "invert": same("?" + INTEGERS),
    "where": ["???>?", *(f"?{c}{c}>{c}" for c in INTEGERS + "efdFD")],
    "clip": same("?" + INTEGERS + "efd", 3),
}
LOOPS = {name: loops for names, loops in BY_NAMES.items() for name in names.split()}
"""The loops of each function, in the order in which CuPy looks at them: "?ee>e" has three arguments and one result."""


def result(name: str, arguments: tuple) -> np.dtype | None:
    """The dtype that CuPy's function gives for arrays and scalars; None for a function without loops.

    Raises
    ------
    TypeError
        If no loop fits.
    """
    if name == "matmul":  # no ufunc there: cuBLAS, for the dtype that both promote to
        return np.promote_types(*(a.dtype for a in arguments))
    loops = LOOPS.get(name)
    if loops is None or len(arguments) < (count := loops[0].index(">")):
        return None
    kinds = [_kind(a) for a in arguments[:count]]
    if name == "where":
        kinds[0] = np.dtype(bool), False
    return _first(name, *zip(*kinds))


def _kind(a: Any) -> tuple[np.dtype, Any]:
    """An argument's dtype; and its type, if it is a number of Python, which takes the dtype of the arrays beside it."""
    if a is None:  # no bound
        return np.dtype(bool), False
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype, False
    return np.dtype(type(a)), type(a) if type(a) is not bool else False


@functools.cache
def _first(name: str, dtypes: tuple, weak: tuple) -> np.dtype:
    """As CuPy's `_Ops._guess_routine_from_in_types`."""
    arrays = [_rank(d.type) for d, w in zip(dtypes, weak) if not w]
    numbers = [_rank(w) for w in weak if w]
    weak = weak if arrays and numbers and max(arrays) >= max(numbers) else (False,) * len(weak)
    for loop in LOOPS[name]:
        into, out = loop.split(">")
        if all(_fits(d, w, dtype_of(c)) for d, w, c in zip(dtypes, weak, into)):
            return dtype_of(out)
    raise TypeError(f"CuPy's {name} has no loop for {dtypes}")


def _fits(dtype: np.dtype, weak: Any, into: np.dtype) -> bool:
    return np.can_cast(dtype, into) or bool(weak and _promoted(weak, into) == into)


def _promoted(weak: type, into: np.dtype) -> Any:
    try:
        return np.result_type(weak(0), into)
    except TypeError:
        return None


def _rank(kind: type) -> int:
    """Of booleans, integers, floats, and what NumPy does not know, such as bfloat16."""
    ranks = (np.bool_, bool), (np.integer, int), (np.inexact, float, complex)
    return next((i for i, known in enumerate(ranks) if issubclass(kind, known)), len(ranks))


@functools.cache
def dtype_of(letter: str) -> np.dtype:
    """Of a loop's letter. Without ml_dtypes nothing is bfloat16, and its loops can be float16's."""
    if letter != "E":
        return np.dtype(letter)
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype("e")
    return np.dtype(ml_dtypes.bfloat16)


def installed() -> dict[str, list[str]]:
    """The same table of the CuPy that is installed."""
    import cupy
    from cupy._core import _routines_logic, _routines_math, _routines_statistics
    from cupy._sorting import search

    apart = {
        **{"where": search._where_ufunc, "clip": _routines_math._clip, "max": _routines_statistics.amax},
        **{
            "sum": _routines_math.sum_auto_dtype,
            "prod": _routines_math.prod_auto_dtype,
            "min": _routines_statistics.amin,
        },
        **{"any": _routines_logic.any, "all": _routines_logic.all},
    }

    def loops(function: Any) -> list[str]:
        names = [["".join(t.char for t in part) for part in (op.in_types, op.out_types)] for op in function._ops.ops]
        return [">".join(n) for n in names if "V" not in n[0]]  # V: structures

    return {name: loops(apart.get(name, getattr(cupy, name))) for name in LOOPS}
