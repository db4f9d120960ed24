"""The ranks that train a network together: `World` is a process by itself, `Ranks` are several.

Step, trainer and loader ask a world for what concerns all ranks: whose share a patch is, sums over all, whether anyone was
asked to stop. By itself, a process is rank 0 of 1: its share is everything, and a sum over all ranks is what it already has.

A kind of ranks (MPI's processes, threads in tests) defines four things: `add`, `add_gradients`, `gather` and `wait`. Every rank
has to call the same of these in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from ...errors import UserError
from ...nn import Module
from .gradients import GradientSums

T = TypeVar("T")


class World:
    """A process that trains by itself.

    Attributes
    ----------
    rank, size : int
        Which of how many.
    """

    rank, size = 0, 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's part of what all ranks together do: every `size`-th, from number `rank` on."""
        return items[self.rank :: self.size]

    def rounds(self, items: Sequence[T]) -> list[T | None]:
        """The same, but as many on all ranks: None at the end of those that have one less."""
        own: list[T | None] = [*self.share(items)]
        return own + [None] * (-(-len(items) // self.size) - len(own))

    def totals(self, *parts: Any) -> tuple[Any, ...]:
        """The sums over all ranks of numbers and arrays; from several ranks they come as float64 arrays."""
        return parts

    def gather(self, value: T) -> list[T]:
        """The values of all ranks."""
        return [value]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return flag

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, which alone calls it."""
        return make()

    def wait(self) -> None:
        """Wait until every rank is here."""

    def check_equal(self, what: str, value: Callable[[], Any]) -> None:
        """UserError if a rank has another value than rank 0; `what` names it."""

    def turns(self) -> list[bool]:
        """For what is done by one rank before the others: the rounds, and whether it is this rank's turn in each."""
        return [True]

    def threads(self) -> int | None:
        """On how many threads this rank should compute, unless told; None for as many as there are."""
        return None

    def computes_on(self, xp: ModuleType) -> World:
        """This world for arrays of xp, numpy or cupy."""
        return self

    def let_first_speak(self) -> None:
        """Before an error is printed: if rank 0 has the same one, it ends the others before they print it again."""

    def leave(self) -> None:
        """At the end of the program: wait for all ranks, so that each may leave with a status of its own."""


class Ranks(World):
    """Several processes, or threads, that train one network."""

    def add(self, a: np.ndarray) -> None:
        """Add up a contiguous array over all ranks, in place."""
        raise NotImplementedError

    def add_gradients(self, a: np.ndarray) -> None:
        """The same for gradients; called from another thread while `add` and `gather` may be running."""
        raise NotImplementedError

    def gather(self, value: T) -> list[T]:
        raise NotImplementedError

    def totals(self, *parts: Any) -> tuple[Any, ...]:
        arrays = [np.asarray(part, np.float64) for part in parts]
        flat = np.concatenate([a.ravel() for a in arrays])
        self.add(flat)
        ends = np.cumsum([a.size for a in arrays])
        return tuple(flat[end - a.size : end].reshape(a.shape) for a, end in zip(arrays, ends))

    def any(self, flag: bool) -> bool:
        return bool(self.totals(flag)[0] > 0)

    def from_first(self, make: Callable[[], T]) -> T:
        value = make() if self.rank == 0 else None
        self.wait()
        return self.gather(value)[0]  # type: ignore[return-value]

    def check_equal(self, what: str, value: Callable[[], Any]) -> None:
        found = value()
        digests = self.gather(hashlib.sha256(found if isinstance(found, bytes) else repr(found).encode()).hexdigest())
        other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), 0)
        if other:
            raise UserError(
                f"rank {other} has other {what} than rank 0: all ranks must see the same files, and run the same version with "
                "the same flags"
            )

    def place_on_node(self) -> int:
        """Which of the ranks of its node this one is."""
        return self.rank

    def gradient_sums(self, model: Module) -> GradientSums:
        """What adds up a model's gradients over the ranks."""
        return GradientSums(model, self.add_gradients)


ALONE = World()
"""The world of a process that trains by itself."""
