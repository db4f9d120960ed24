"""How an op finds its kernel.

An op in :mod:`minunet.ops` is written plainly and decorated with :func:`accelerated`. When it is called, :func:`find_kernel`
asks the backend whose kind of arrays its arguments are: NumPy's or CuPy's. The backend gives a function with the same
signature and the same answer, or None; then the op's own body runs, as it always does under ``minunet.use("reference")``. The
plain body stays reachable as ``op.plain``; tests hold the two equal.

Ops do not import kernels: :mod:`minunet.kernels` calls :func:`register` when it is loaded, which the first op does.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .lazy import any_lazy, materialize_all, materialize_named

F = TypeVar("F", bound=Callable[..., Any])

MODES = ("fast", "reference")
_mode = "fast"


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
    """Enter a backend; of those that own an op's arguments, the first one is asked."""
    _backends.append(backend)


@functools.cache
def backends() -> list[Backend]:
    """All that are registered; the first call loads the package of kernels, which registers its own."""
    importlib.import_module("minunet.kernels")
    return _backends


class use:
    """Choose between the kernels and the plain ops, for good or for a ``with`` block.

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


def are_chosen() -> bool:
    """Whether kernels are to stand in for the plain ops where they can: `use`'s mode is "fast"."""
    return _mode == "fast"


def are_fast() -> bool:
    """Whether kernels stand in for the plain ops on NumPy arrays."""
    on_numpy = next(b for b in backends() if b.owns(()))
    return are_chosen() and on_numpy.compiles()


def accelerated(plain: F) -> F:
    """Decorate a plain op, so that a kernel stands in for it whenever :func:`find_kernel` has one.

    Kernels are asked first with lazy maps as they are, then with the arrays that these stand for; the plain body only ever
    sees arrays.
    """
    name = plain.__name__

    @functools.wraps(plain)
    def op(*args: Any, **options: Any) -> Any:
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
