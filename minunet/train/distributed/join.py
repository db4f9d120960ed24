"""The ranks' networks as one: gradients are added up, batch norms share their statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from ...nn import BatchNorm2d, Module
from .batch_norm import OwnBatchNorm2d, SharedBatchNorm2d
from .dropout import OwnRows
from .world import Ranks, World


class Joined:
    """How the ranks' networks act as one: by itself a network needs nothing."""

    def __call__(self) -> AbstractContextManager[Any]:
        """A block in which they do."""
        return nullcontext()

    def own_rows(self, rng: np.random.Generator, count: int) -> Any:
        """The generator for `count` patches of this rank, which are some of those that a single process would draw for."""
        return rng

    def finish_gradients(self) -> None:
        """After a backward: wait until the network's gradients are the sums over all ranks."""

    def finish_step(self) -> None:
        """After the update: what else has to be alike on all ranks."""


class JoinedRanks(Joined):
    """What a training step needs beyond that of a process by itself.

    Parameters
    ----------
    world : Ranks
    networks : sequence of Module
        The network, and its copy in half precision if there is one.
    sync : bool
        Whether a batch norm's batch is that of all ranks.
    """

    def __init__(self, world: Ranks, networks: Sequence[Module], sync: bool) -> None:
        self.world, self.networks, self.sync = world, networks, sync
        self.sums = world.gradient_sums(networks[0])

    @contextmanager
    def __call__(self) -> Iterator[None]:
        norms = [m for network in self.networks for _, m in network.modules() if type(m) is BatchNorm2d]
        for m in norms:  # a change of class, as modules are held in many places
            m.__class__ = SharedBatchNorm2d if self.sync else OwnBatchNorm2d
            m.world = self.world  # type: ignore[attr-defined]
        try:
            with self.sums.watching():
                yield
        finally:
            for m in norms:
                m.__class__ = BatchNorm2d
                del m.world  # type: ignore[attr-defined]

    def own_rows(self, rng: np.random.Generator, count: int) -> Any:
        return OwnRows(rng, self.world.rank, self.world.size, int(self.world.totals(count)[0]))

    def finish_gradients(self) -> None:
        self.sums.finish()

    def finish_step(self) -> None:
        """Without synchronisation the running statistics become the mean of the ranks'."""
        buffers: list[Any] = [] if self.sync else [*self.networks[0].named_buffers().values()]
        if buffers:
            for own, total in zip(buffers, self.world.totals(*buffers)):
                own[...] = total / self.world.size


def join(world: World, networks: Sequence[Module], sync: bool) -> Joined:
    """Join the networks of a world's ranks, which is nothing to do for a process by itself."""
    return JoinedRanks(world, networks, sync) if isinstance(world, Ranks) else Joined()
