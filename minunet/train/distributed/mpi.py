"""Ranks that are processes of MPI, on one machine or many.

mpi4py is imported only where `python -m mpi4py` has done so before; it loads whichever MPI library it finds. Messages are NumPy
arrays, sent without a copy. Sums of gradients have a communicator of their own, so that a second thread may wait for them.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from ...errors import UserError
from ...kernels.threads import own_cores
from .world import ALONE, Ranks, World

T = TypeVar("T")

START = "mpiexec -n {n} python -m mpi4py -m minunet.train ..."
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # in which MPICH's and Open MPI's launchers say how many they started
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
LATER = 3.0  # seconds that the others' errors are printed after those of rank 0
PAUSE = 0.005  # seconds between looks in a wait that may be long


def launched() -> World:
    """The world that this process was started in: MPI's, if ``python -m mpi4py`` runs it on several ranks, else itself alone.

    UserError if an MPI launcher started several processes without mpi4py: each would train the same by itself.
    """
    if "mpi4py" in sys.modules:
        MPI: Any = importlib.import_module("mpi4py.MPI")
        return MpiRanks(MPI) if MPI.COMM_WORLD.size > 1 else ALONE
    n = max((int(found) for name in SIZES if (found := os.environ.get(name, "")).isdecimal()), default=1)
    if n > 1:
        raise UserError(
            f"{n} processes were started to train together, but without mpi4py they cannot: {START.format(n=n)} (pip install "
            "'.[mpi]', in a clone)"
        )
    return ALONE


class MpiRanks(Ranks):
    """The processes of MPI's COMM_WORLD.

    Parameters
    ----------
    MPI : module
        mpi4py.MPI.
    """

    def __init__(self, MPI: Any) -> None:
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            raise UserError(
                "this MPI library allows one thread at a time; gradients are sent by a second: take MPICH or Open MPI"
            )
        self.MPI, self.comm = MPI, MPI.COMM_WORLD.Dup()
        self.for_gradients = self.comm.Dup()
        self.rank, self.size = self.comm.rank, self.comm.size
        self.on_node = self.comm.Split_type(MPI.COMM_TYPE_SHARED)

    def add(self, a: np.ndarray) -> None:
        self.comm.Allreduce(self.MPI.IN_PLACE, a, op=self.MPI.SUM)

    def add_gradients(self, a: np.ndarray) -> None:
        self.for_gradients.Allreduce(self.MPI.IN_PLACE, a, op=self.MPI.SUM)

    def gather(self, value: T) -> list[T]:
        return self.comm.allgather(value)  # type: ignore[no-any-return]

    def from_first(self, make: Any) -> Any:
        value = make() if self.rank == 0 else None
        self.wait()
        return self.comm.bcast(value)

    def wait(self) -> None:
        """Wait until every rank is here, and leave the core to others meanwhile: a wait within MPI would keep it busy."""
        arrived = self.comm.Ibarrier()
        while not arrived.Test():
            time.sleep(PAUSE)

    def turns(self) -> list[bool]:
        """Three rounds, and in which of them it is this rank's turn: rank 0, the first rank of each other node, the rest."""
        turn = 0 if self.rank == 0 else 1 if self.on_node.rank == 0 else 2
        return [turn == n for n in range(3)]

    def threads(self) -> int | None:
        if any(name in os.environ for name in THREADS):
            return None
        return threads_of(self.on_node.allgather(own_cores()), self.on_node.rank)

    def place_on_node(self) -> int:
        return int(self.on_node.rank)

    def computes_on(self, xp: ModuleType) -> World:
        if xp is np:
            return self
        from .nccl import NcclRanks

        return NcclRanks(self, xp)

    def let_first_speak(self) -> None:
        if self.rank:
            time.sleep(LATER)

    def leave(self) -> None:
        self.wait()
        self.MPI.Finalize()


def threads_of(cores: list[set[int]], rank: int) -> int:
    """On how many threads a rank computes: a core that several ranks of the node may use is divided among them.

    >>> threads_of([{0, 1, 2, 3}, {0, 1, 2, 3}], 0), threads_of([{0, 1}, {2, 3}], 0), threads_of([{0}] * 3, 1)
    (2, 2, 1)
    """
    return max(1, int(sum(1 / sum(core in other for other in cores) for core in cores[rank]) + 1e-6))
