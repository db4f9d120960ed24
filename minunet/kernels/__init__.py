"""The speed: fast twins of the plain ops, and the one place that chooses between them.

An op in :mod:`minunet.ops` is written plainly and decorated with :func:`accelerated`. When it is called, :func:`choose`
looks at its arguments and either names a kernel with the same signature and the same answer, or says None, and then the
op's own body runs. ``minunet.use("reference")`` makes it always say None. The plain body stays reachable as
``op.plain``; tests hold the two equal.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

MODES = ("fast", "reference")
_mode = "fast"


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


def accelerated(plain: F) -> F:
    """Let a fast twin stand in for a plain op whenever :func:`choose` knows one."""

    @functools.wraps(plain)
    def op(*args: Any, **kwargs: Any) -> Any:
        twin = choose(plain.__name__, *args) if _mode == "fast" else None
        return (twin or plain)(*args, **kwargs)

    op.plain = plain  # type: ignore[attr-defined]
    return op  # type: ignore[return-value]


def choose(name: str, *args: Any) -> Callable[..., Any] | None:
    """Return the kernel for the op ``name`` on these arguments, or None for its plain body."""
    x = args[0]
    if type(x) is not np.ndarray or x.dtype not in (np.float32, np.float64):
        return None
    return None
