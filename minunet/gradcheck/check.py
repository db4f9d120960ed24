"""The gradient checker.

Let y = f(x), dy a random array of y's shape, and L = <y, dy> the sum of their products. A backward f* is right if
dx = f*(dy) is the gradient of L. Three ways to see it:

full        every element of every argument:  dx[i] = (L(x + h e_i) - L(x - h e_i)) / 2h  + O(h^2)
projected   some random directions v of length 1:  <dx, v> = (L(x + h v) - L(x - h v)) / 2h  + O(h^2)
adjoint     for a linear f, without differences:  <f(x), dy> = <x, f*(dy)>

How a check can mislead, and what is done about it:

* Differences of float32 numbers are mostly rounding noise. So everything runs in float64, with h = 1e-5.
* dy = 1 hides errors that cancel in a sum (batch norm's dx is then about 0, right or wrong). So dy is random.
* A kink or tie between x - h and x + h spoils the difference. So `draw` makes inputs that keep away from both. Also, a cache
  holds decisions (ReLU's mask, the pool's winners) as booleans and integers; if they differ between the two sides, the
  difference is rejected and counted.
* A gradient that is 0 on paper may be 1e-20 here. So errors are measured against the largest element of the gradient, and the
  rounding error of the difference itself, about 1e-15 * |y dy| / h, is allowed for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..array import Array, get_array_module
from ..nn import Module
from .report import ArgumentCheck, GradientError, GradientReport
from .subjects import ModuleSubject, PairSubject

EPS = np.finfo(np.float64).eps
TOLERANCE = {"full": 1e-7, "projected": 1e-7, "adjoint": 1e-12}


def check(
    target: Module | tuple[Callable, Callable],
    *inputs: Any,
    mode: str = "full",
    wrt: Sequence[str] | None = None,
    directions: int | Sequence[Array] = 3,
    h: float = 1e-5,
    tolerance: float | None = None,
    seed: int = 0,
    raises: bool = True,
    name: str | None = None,
    **options: Any,
) -> GradientReport:
    """Check a backward against its forward.

    Parameters
    ----------
    target : (forward, backward) or Module
        A pair of functions as in `minunet.ops`, or a module. For a module, a float64 copy is checked; dropout draws the same
        mask every time, and the running statistics are restored.
    *inputs : arrays and whatever else forward takes
        Float arrays are checked (as float64 copies; adjoint keeps their dtype); labels and None are passed on. The gradients
        that backward returns must be in the order of the arguments. A module takes x alone.
    mode : {"full", "projected", "adjoint"}
        See the head of this module. "adjoint" needs a forward that is linear in each argument of `wrt`.
    wrt : names, optional
        The arguments to check: those of forward's signature, or "x" and the parameters' dotted paths; by default all.
    directions : int or arrays
        For "projected": how many random directions to try, or the directions themselves (of the first argument).
    h : float
        Step of the differences.
    tolerance : float, optional
        Largest error allowed, as a share of the largest element of the gradient; 1e-7, for "adjoint" 1e-12 in float64
        and 1e-5 in float32, as a share of sum |y dy|.
    seed : int
        For dy and the directions.
    raises : bool
        Whether a wrong gradient raises.
    name : str, optional
        What to call it in the report.
    **options
        Passed to forward, and not checked.

    Returns
    -------
    GradientReport

    Raises
    ------
    GradientError
        If a gradient is wrong, missing, of another shape, or if inputs or dy were modified.
    ValueError, TypeError
        If there is nothing to check, or forward is none.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> from minunet.gradcheck import check, draw
    >>> rng = np.random.default_rng(0)
    >>> report = check((ops.conv2d, ops.conv2d_backward), draw((1, 4, 5, 2), rng), draw((3, 3, 2, 3), rng), stride=2)
    >>> report.ok
    True
    >>> doubled = check((ops.relu, lambda dy, cache: 2 * ops.relu_backward(dy, cache)), draw((3, 4), rng), raises=False)
    >>> doubled.rows[0].note
    'it is 2 times what it should be, everywhere'
    """
    kind: Any = ModuleSubject if isinstance(target, Module) else PairSubject
    if mode not in TOLERANCE:
        raise ValueError(f"mode must be one of {tuple(TOLERANCE)}, not {mode!r}")
    if not isinstance(target, (Module, tuple)):
        raise TypeError(f"the first argument is a pair (forward, backward) or a Module, not {type(target).__name__}")
    subject = kind(target, inputs, options, seed, mode)
    unknown = set(wrt or ()) - subject.arrays.keys()
    if unknown or not subject.arrays:
        raise ValueError(f"no float argument {sorted(unknown) or ''} to check; there are {list(subject.arrays)}")
    report = GradientReport(name or subject.name, mode, seed, tolerance or TOLERANCE[mode])
    rng = np.random.default_rng(seed)
    arrays_before = copy.deepcopy(subject.arrays)
    y, cache = subject.run()
    if mode != "adjoint" and y.dtype != np.float64:
        raise ValueError(f"forward gave {y.dtype} for float64 inputs: differences would be noise; keep the dtype of x")
    dy = get_array_module(y).asarray(rng.standard_normal(np.shape(y)), y.dtype)[()]
    dy_before = copy.deepcopy(dy)
    try:
        grads = subject.gradients(dy, cache)
    except Exception as e:  # a student's backward may raise anything: that is a finding, not a crash
        note = f"backward raised {type(e).__name__}: {e}"
        report.rows.append(ArgumentCheck("", 0, 0, None, np.nan, np.nan, np.inf, False, note))
        if raises:
            raise GradientError(report) from e
        return report

    for argument in wrt or subject.arrays:
        x, dx = subject.arrays[argument], grads.get(argument)
        wrong = _misfit(x, dx)
        if wrong:
            report.rows.append(ArgumentCheck(argument, 0, 0, None, np.nan, np.nan, np.inf, False, wrong))
        elif mode == "adjoint":
            report.rows.append(_adjoint(argument, x, dx, y, dy, tolerance))
        else:
            probes = list(_elements(x) if mode == "full" else _directions(x, directions, rng))
            row = _differences(subject, argument, dx, dy, probes, h, report.tolerance)
            if not row.ok:  # f may be too curved for h: then the error falls with h^2, and a wrong gradient's does not
                finer = _differences(subject, argument, dx, dy, probes, h / 10, report.tolerance)
                row = finer if finer.ok else row
            report.rows.append(row)
    for changed in _changed({**arrays_before, "dy": dy_before}, {**subject.arrays, "dy": dy}):
        report.rows.append(ArgumentCheck(changed, 0, 0, None, np.nan, np.nan, np.inf, False, "was modified in place"))
    if raises and not report.ok:
        raise GradientError(report)
    return report


def draw(shape: int | Sequence[int], rng: np.random.Generator, gap: float = 1e-3) -> np.ndarray:
    """Random float64 values, in random order and sign, that lie at least `gap` away from 0 and from each other.

    They are inputs for functions with a kink at 0 (ReLU) or with ties (max-pool): with gap = 100 h no finite difference
    straddles one.

    Parameters
    ----------
    shape : int or ints
    rng : numpy.random.Generator
    gap : float

    Returns
    -------
    array of that shape

    Examples
    --------
    >>> import numpy as np
    >>> from minunet.gradcheck import draw
    >>> values = np.sort(np.abs(draw((4, 5), np.random.default_rng(0))), axis=None)
    >>> bool(values[0] >= 1e-3 and np.diff(values).min() >= 1e-3)
    True
    """
    n = int(np.prod(shape))
    step = max(gap, 2 / max(n, 1))
    values = step * (1 + np.arange(n) + rng.uniform(-0.2, 0.2, n)) - step / 2
    return (rng.permutation(values) * rng.choice([-1.0, 1.0], n)).reshape(shape)


# ---- the three ways --------------------------------------------------------------------------------------------------


def _differences(
    subject: Any, argument: str, dx: Array, dy: Any, probes: list, h: float, tolerance: float
) -> ArgumentCheck:
    """Compare <dx, v> with central differences of L along every probe v."""
    x = subject.arrays[argument]
    x0 = x.copy()
    found: list[tuple[Any, float, float]] = []
    rejected, noise = 0, 0.0
    for index, v in probes:
        sides = []
        for sign in (1, -1):
            x[...] = x0 + sign * h * v if index is None else x0
            if index is not None:
                x[index] += sign * h
            y, cache = subject.run()
            sides.append((y.copy(), cache))  # a crop's y is a view of x, which is about to change
        (plus, cache_plus), (minus, cache_minus) = sides
        if not _same_decisions(cache_plus, cache_minus):
            rejected += 1
            continue
        numeric = float(((plus - minus) * dy).sum() / (2 * h))
        noise = max(noise, 4 * EPS * float(((plus * dy) ** 2).sum() ** 0.5) / h)
        found.append((index, float(dx[index] if index is not None else (dx * v).sum()), numeric))
    x[...] = x0
    return _judge(argument, dx, found, rejected, noise, tolerance)


def _judge(argument: str, dx: Array, found: list, rejected: int, noise: float, tolerance: float) -> ArgumentCheck:
    if len(found) <= rejected and dx.size:
        note = "most differences straddle a kink or tie: draw other inputs, see minunet.gradcheck.draw"
        return ArgumentCheck(argument, len(found), rejected, None, np.nan, np.nan, np.inf, False, note)
    if not found:
        return ArgumentCheck(argument, 0, 0, None, 0.0, 0.0, 0.0, True, "it is empty")
    analytic, numeric = np.array([f[1] for f in found]), np.array([f[2] for f in found])
    worst = int(np.argmax(abs(analytic - numeric)))
    in_directions = found[worst][0] is None
    largest = float(np.sqrt((dx**2).mean())) if in_directions else float(abs(analytic).max())
    scale = max(largest, float(abs(numeric).max()))
    scale = max(scale, noise / tolerance)  # below this, rounding in the differences hides the answer
    error = float(abs(analytic[worst] - numeric[worst])) / scale if scale else 0.0
    ok = error <= tolerance
    note = "" if ok else _likely(analytic, numeric, tolerance * scale)
    return ArgumentCheck(
        argument, len(found), rejected, found[worst][0], float(analytic[worst]), float(numeric[worst]),
        error, ok, note,
    )  # fmt: skip


def _likely(analytic: np.ndarray, numeric: np.ndarray, allowed: float) -> str:
    """A remark on how the two differ, where it is simple."""
    if not np.isfinite(analytic).all():
        return "it is not finite"
    if abs(analytic).max() <= allowed:
        return "it is zero everywhere"
    if abs(numeric).max() <= allowed:
        return "it should be zero everywhere"
    factor = float(analytic @ numeric / (numeric @ numeric))
    if abs(factor - 1) > 1e-5 and abs(analytic - factor * numeric).max() <= 100 * allowed * max(1, abs(factor)):
        return f"it is {factor:.6g} times what it should be, everywhere"
    wrong = int((abs(analytic - numeric) > allowed).sum())
    return f"{wrong} of {len(analytic)} are wrong"


def _adjoint(argument: str, x: Array, dx: Array, y: Array, dy: Any, tolerance: float | None) -> ArgumentCheck:
    """<y, dy> against <x, dx>, both summed in float64."""
    left = float((y.astype(np.float64) * dy).sum())
    right = float((x.astype(np.float64) * dx).sum())
    scale = float(abs(y.astype(np.float64) * dy).sum())
    error = abs(left - right) / scale if scale else 0.0
    allowed = tolerance or (TOLERANCE["adjoint"] if x.dtype == np.float64 else 1e-5)
    return ArgumentCheck(argument, 1, 0, None, right, left, error, error <= allowed)


def _elements(x: Array) -> Iterator[tuple[tuple[int, ...], None]]:
    for index in np.ndindex(*x.shape):
        yield index, None


def _directions(x: Array, directions: int | Sequence[Array], rng: np.random.Generator) -> Iterator[tuple[None, Array]]:
    """Directions of length 1: in each, every element moves by little."""
    if isinstance(directions, int):
        directions = [get_array_module(x).asarray(rng.standard_normal(x.shape)) for _ in range(directions)]
    for v in directions:
        yield None, v / (v**2).sum() ** 0.5


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _misfit(x: Array, dx: Any) -> str:
    if dx is None:
        return "backward gave no gradient for it"
    if np.shape(dx) != x.shape:
        return f"the gradient has shape {np.shape(dx)}, the argument {x.shape}"
    return ""


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name, a in before.items() if not bool(((a == after[name]) | (a != a)).all())]


def _decisions(cache: Any) -> Iterator[Array]:
    """The boolean and integer arrays in a cache: masks and winners."""
    if isinstance(cache, (list, tuple)):
        for part in cache:
            yield from _decisions(part)
    elif hasattr(cache, "dtype") and np.ndim(cache) and cache.dtype.kind in "biu":
        yield cache


def _same_decisions(a: Any, b: Any) -> bool:
    return all(bool((p == q).all()) for p, q in zip(_decisions(a), _decisions(b)))
