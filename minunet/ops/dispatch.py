"""How an op finds its kernel.

An op in :mod:`minunet.ops` is written plainly and decorated with :func:`accelerated`. When it is called, :func:`choose`
asks whoever has kernels for arrays like its arguments. It gets a function with the same signature and the same answer, or
None, and then the op's own body runs. ``minunet.use("reference")`` makes it always None. The plain body stays reachable as
``op.plain``; tests hold the two equal.

Ops know nothing of kernels: :mod:`minunet.kernels` enters itself here, with :func:`register`, when the first op is called.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from .lazy import materialize_all

F = TypeVar("F", bound=Callable[..., Any])

MODES = ("fast", "reference")
_mode = "fast"


class Backend(Protocol):
    """Kernels for one kind of arrays."""

    def owns(self, args: tuple[Any, ...]) -> bool:
        """Whether an op on these arguments is this backend's to choose for."""

    def choose(self, name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
        """The kernel for the op `name` on these arguments, or None for its plain body."""

    def compiles(self) -> bool:
        """Whether kernels can run here at all."""


_backends: list[Backend] = []


def register(backend: Backend) -> None:
    """Enter kernels; the first backend that owns an op's arguments chooses."""
    _backends.append(backend)


@functools.cache
def backends() -> list[Backend]:
    """All that have entered themselves; the package of kernels is loaded for that at its first use."""
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
    return are_chosen() and backends()[-1].compiles()


def accelerated(plain: F) -> F:
    """Let a kernel stand in for a plain op whenever :func:`choose` knows one."""

    @functools.wraps(plain)
    def op(*args: Any, **kwargs: Any) -> Any:
        if _mode == "fast" and (kernel := choose(plain.__name__, *args, **kwargs)):
            return kernel(*args, **kwargs)
        args, kwargs = materialize_all(args), {name: materialize_all(value) for name, value in kwargs.items()}
        kernel = choose(plain.__name__, *args, **kwargs) if _mode == "fast" else None
        return (kernel or plain)(*args, **kwargs)

    op.plain = plain  # type: ignore[attr-defined]
    return op  # type: ignore[return-value]


def choose(name: str, *args: Any, **options: Any) -> Callable[..., Any] | None:
    """Return the kernel for the op ``name`` on these arguments, or None for its plain body."""
    if not args:
        return None
    for backend in backends():
        if backend.owns(args):
            return backend.choose(name, *args, **options)
    return None
