"""Ranks with a GPU each: sums on the GPUs by NCCL, everything else by MPI. Never run on a GPU so far, only on a stand-in.

Sums of gradients run on a stream of their own. A sum waits, by an event, for what the computing stream was given until then;
the computing stream waits for the sums before the optimiser's step, or at once for those of a batch norm. The host waits for
none of them. All sums are started by one thread, and so in the same order on all ranks, as NCCL needs.

A rank whose peer has died waits for ever within a kernel; the launcher, which `python -m mpi4py` tells of an error, ends it.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from ...array import Array
from ...errors import UserError
from ...nn import Module
from .gradients import Bucket, GradientSums
from .world import Ranks

T = TypeVar("T")


class NcclRanks(Ranks):
    """Ranks of which each computes on a GPU of its own.

    Parameters
    ----------
    host : Ranks
        The same ranks, for what is not on a GPU.
    xp : module
        cupy.
    nccl : module, optional
        cupy.cuda.nccl.

    Raises
    ------
    UserError
        If NCCL is missing, or a node has more ranks than GPUs.
    """

    def __init__(self, host: Ranks, xp: ModuleType, nccl: Any = None) -> None:
        nccl = nccl or importlib.import_module("cupy.cuda.nccl")
        if not getattr(nccl, "available", True):
            raise UserError("--device cuda on several ranks needs NCCL: pip install nvidia-nccl-cu12 (or -cu13)")
        self.host, self.xp, self.nccl = host, xp, nccl
        self.rank, self.size = host.rank, host.size
        local, there = host.place_on_node(), int(xp.cuda.runtime.getDeviceCount())
        if local >= there:
            raise UserError(
                f"more ranks than GPUs on a node, which has {there}: start one rank a GPU, or take --device cpu"
            )
        xp.cuda.Device(local).use()
        self.stream = xp.cuda.Stream(non_blocking=True)
        self.comm = nccl.NcclCommunicator(self.size, host.from_first(nccl.get_unique_id), self.rank)

    def sum_on_stream(self, a: Any) -> None:
        """Begin to add up an array over the ranks, in place, on the stream of sums."""
        kind = {"f": self.nccl.NCCL_FLOAT32, "d": self.nccl.NCCL_FLOAT64}[a.dtype.char]
        self.stream.wait_event(self.xp.cuda.get_current_stream().record())
        self.comm.allReduce(a.data.ptr, a.data.ptr, a.size, kind, self.nccl.NCCL_SUM, self.stream.ptr)

    def wait_for_sums(self) -> None:
        """Let the computing stream wait for the sums that were begun."""
        self.xp.cuda.get_current_stream().wait_event(self.stream.record())

    def totals(self, *parts: Any) -> tuple[Any, ...]:
        if not any(isinstance(part, self.xp.ndarray) for part in parts):
            return self.host.totals(*parts)
        arrays = [self.xp.asarray(part, np.float64) for part in parts]
        flat = self.xp.concatenate([a.ravel() for a in arrays])
        self.sum_on_stream(flat)
        self.wait_for_sums()
        ends = np.cumsum([a.size for a in arrays]).tolist()
        return tuple(flat[end - a.size : end].reshape(a.shape) for a, end in zip(arrays, ends))

    def gradient_sums(self, model: Module) -> GradientSums:
        return NcclSums(model, self)

    def add(self, a: np.ndarray) -> None:
        self.host.add(a)

    def gather(self, value: T) -> list[T]:
        return self.host.gather(value)

    def wait(self) -> None:
        self.host.wait()


class NcclSums(GradientSums):
    """Gradients on GPUs: buckets are filled and sent by the thread that computes, which does not wait."""

    def __init__(self, model: Module, world: NcclRanks) -> None:
        super().__init__(model, world.sum_on_stream, xp=world.xp)
        self.world = world

    def send(self, bucket: Bucket, grads: dict[str, Array]) -> None:
        bucket.fill(grads)
        self.add(bucket.flat)

    def join(self) -> None:
        self.world.wait_for_sums()
