"""How an op finds its kernel.

An op in :mod:`minunet.ops` is written plainly and decorated with :func:`accelerated`. When it is called, :func:`find_kernel`
asks the backend for the arguments' arrays, NumPy's or CuPy's. The backend returns a kernel, a function with the same signature
and the same result, or None (`kernels/cpu/rules.py` and `kernels/cuda/rules.py` decide). Without a kernel the op's own body
runs, as it always does under ``minunet.use("reference")``. The body is also ``op.plain``; the tests compare it with the
kernels. :func:`replaced` puts functions of somebody else's in the place of ops, kernels and all.

Ops do not import kernels: the first op that is called loads :mod:`minunet.kernels`, which calls :func:`register`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from .lazy import any_lazy, materialize_all, materialize_named

F = TypeVar("F", bound=Callable[..., Any])

MODES = ("fast", "reference")
_mode = "fast"
_replaced: Mapping[str, Callable[..., Any]] = {}


class Backend(Protocol):
    """Kernels for one kind of arrays."""

    def owns(self, args: tuple[Any, ...]) -> bool:
        """Whether an op's arguments are arrays of its kind."""

    def find_kernel(self, name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
        """The kernel for the op `name` on these arguments, or None for its plain body."""

    def compiles(self) -> bool:
        """Whether kernels can run here at all."""


_backends: list[Backend] = []


def register(backend: Backend) -> None:
    """Add a backend. If several own an op's arguments, the one that was registered first is asked."""
    _backends.append(backend)


@functools.cache
def backends() -> list[Backend]:
    """All registered backends; the first call loads the package of kernels, which registers its own."""
    importlib.import_module("minunet.kernels")
    return _backends


class use:
    """Choose between the kernels and the plain ops: from now on, or within a ``with`` block.

    Parameters
    ----------
    mode : {"fast", "reference"}
        "fast" (the default at start) runs a kernel wherever there is one; "reference" runs the plain ops only.

    Examples
    --------
    >>> import minunet
    >>> with minunet.use("reference"):
    ...     pass  # every op here runs its plain body
    """

    def __init__(self, mode: str) -> None:
        global _mode
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, not {mode!r}")
        self._before, _mode = _mode, mode

    def __enter__(self) -> use:
        return self

    def __exit__(self, *exc: object) -> None:
        global _mode
        _mode = self._before


@contextmanager
def replaced(functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """A ``with`` block in which functions run in place of ops.

    Parameters
    ----------
    functions : mapping of str to callable
        By an op's name a function with its signature, which returns what the op returns. It gets arrays, no lazy maps. Both
        halves of a pair belong together, as the cache that one makes is what the other gets.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import ops
    >>> with replaced({"relu": lambda x: (abs(x), ())}):
    ...     ops.relu(np.array([-1.0, 2.0]))[0]
    array([1., 2.])
    """
    global _replaced
    before, _replaced = _replaced, {**_replaced, **functions}
    try:
        yield
    finally:
        _replaced = before


def are_chosen() -> bool:
    """Whether `use` has chosen kernels: its mode is "fast"."""
    return _mode == "fast"


def are_fast() -> bool:
    """Whether kernels run in place of the plain ops on NumPy arrays."""
    on_numpy = next(b for b in backends() if b.owns(()))
    return are_chosen() and on_numpy.compiles()


def accelerated(plain: F) -> F:
    """Decorate a plain op, so that a kernel runs in its place whenever :func:`find_kernel` finds one.

    A kernel is looked for twice: for the arguments as they are, with lazy maps among them, and then for the arrays that these
    stand for. The plain body gets arrays only.
    """
    name = plain.__name__

    @functools.wraps(plain)
    def op(*args: Any, **options: Any) -> Any:
        if name in _replaced:
            return _replaced[name](*materialize_all(args), **materialize_named(options))
        kernel = find_kernel(name, *args, **options) if _mode == "fast" else None
        if kernel is None and any_lazy((args, *options.values())):
            args, options = materialize_all(args), materialize_named(options)
            kernel = find_kernel(name, *args, **options) if _mode == "fast" else None
        return (kernel or plain)(*args, **options)

    op.plain = plain  # type: ignore[attr-defined]
    return op  # type: ignore[return-value]


def find_kernel(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """The kernel for the op ``name`` on these arguments, or None if its plain body is to run."""
    if not args:
        return None
    for backend in backends():
        if backend.owns(args):
            return backend.find_kernel(name, *args, **options)
    return None
