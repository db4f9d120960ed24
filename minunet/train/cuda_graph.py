"""A training step as a CUDA graph: recorded once, then started by one call in place of several hundred.

    the first calls     run the step as it is: kernels are loaded, and the arena gets all the memory that a step needs
    the next call       records which kernels run with which arguments, memory addresses included; recording runs nothing
    it and all later    copy the batch to where the recorded kernels read it, and start them all at once

The recorded kernels always read and write the same addresses. So arrays must stay where they are, and every value that changes
from step to step must lie in memory:

* the batch is copied into arrays that stay;
* maps and gradients lie in the arena, a pool of memory that only the step uses;
* parameters, running statistics and the optimiser's state are changed in place, as always;
* the learning rate and Adam's corrections lie in `Optimizer.held`, where `Optimizer.advance` writes them before each step;
* in mixed precision the loss's scale lies in `MixedPrecision.held`, and the optimiser's kernels see by themselves whether
  gradients have overflowed; the host reads that together with the loss.

`reason_against` says why a training cannot be recorded. A batch of another shape than the first one's runs without the graph.
If CuPy still refuses to record something (a wait of the host, cuBLAS), a note says so, and all steps run without the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from .. import nn
from ..array import Array
from ..kernels import cuda
from ..models.trace import follow, input_channels
from ..ops import dispatch

WARM_UP = 2
"""Steps that run before one is recorded: from the second on, the arena has all the memory that it needs."""


def reason_against(model: nn.Module, xp: ModuleType) -> str | None:
    """Why the training steps of a model cannot be recorded, in a few words, or None if they can.

    Parameters
    ----------
    model : Module
    xp : module
        numpy or cupy: where it is trained.
    """
    if xp is np:
        return "the CPU has no CUDA graphs"
    if not dispatch.are_chosen():
        return 'minunet.use("reference") is for the plain ops'
    if not cuda.compiles():
        return "the CUDA kernels need NVRTC and a GPU from sm_80 on"
    if getattr(model, "finds_objects", False):
        return "the host decides which location answers for which object"
    side = model.fit_size(64)
    try:
        steps = follow(model, (1, side, side, input_channels(model))).steps
    except nn.NotDescribed as e:
        return str(e)
    troubles = (f"{step.name} {step.description.unrecordable}" for step in steps if step.description.unrecordable)
    return next(troubles, None)


class RecordedStep:
    """A function on the GPU that is recorded after a few calls, and then replayed.

    Parameters
    ----------
    step : function
        Takes arrays and returns an array, and may change others in place. It must do the same on the host in every step.
    xp : module
        cupy.
    tell : function
        Called with a line of text if the step cannot be recorded.

    Attributes
    ----------
    graph : cupy.cuda.Graph or None
    refused : bool
        Whether it could not be recorded.
    """

    def __init__(self, step: Callable[..., Array], xp: Any, tell: Callable[[str], Any] = print) -> None:
        self.step, self.xp, self.tell = step, xp, tell
        self.stream, self.arena = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
        self.inputs: list[Array] = []
        self.graph: Any = None
        self.result: Any = None
        self.calls, self.refused = 0, False

    def __call__(self, *arrays: Array) -> Array:
        """The step's result, valid until the next call. The host does not wait for it here."""
        if not self.inputs:
            self.inputs = [self.xp.empty(a.shape, a.dtype) for a in arrays]
        if self.refused or [(a.shape, a.dtype) for a in arrays] != [(a.shape, a.dtype) for a in self.inputs]:
            return self.step(*arrays)
        with self._beside():
            for kept, a in zip(self.inputs, arrays):
                kept[...] = a
            self.calls += 1
            if self.calls > WARM_UP and self.graph is None:
                self._record()
            if self.graph is None:
                return self._in_arena()
            self.graph.launch()
        return self.result

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """A block on a stream of its own (the default stream cannot be recorded), in order with the work before and after."""
        caller = self.xp.cuda.get_current_stream()
        self.stream.wait_event(caller.record())
        try:
            with self.stream:
                yield
        finally:
            caller.wait_event(self.stream.record())

    def _in_arena(self) -> Array:
        with self.xp.cuda.using_allocator(self.arena.malloc):
            return self.step(*self.inputs)

    def _record(self) -> None:
        try:
            self.stream.begin_capture()
            try:
                self.result = self._in_arena()
            finally:
                graph = self.stream.end_capture()  # also after an error: else the stream would go on recording
            self.graph = graph
        except RuntimeError as e:  # what CuPy raises where it refuses
            self.refused = True
            reason = " ".join(str(e.__context__ or e).split())  # end_capture raises as well, after the real error
            self.tell(f"note: it goes on without a CUDA graph, which cannot be recorded: {reason}")
