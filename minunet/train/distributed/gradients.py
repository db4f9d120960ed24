"""The gradients of all ranks, added up while the backward goes on.

The backward gives gradients one after the other, the last layers' first. Parameters are put into buckets in about this order,
the reverse of the forward's. A bucket whose gradients are all there is sent off to be added up over the ranks, by another
thread, while this one computes the next. The first bucket is small, so that the sending begins early; a large bucket costs
fewer messages. Buckets leave in their order, which is the same on all ranks.

A layer that is used several times adds to its gradient several times. How often, and which parameters get no gradient at all,
is known from the step before; in the first step everything is sent after the backward.

Source: Li et al. 2020, PyTorch Distributed, arXiv:2006.15704, whose sizes of buckets these are.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from ...array import Array
from ...nn import Module

FIRST, BUCKET = 1 << 20, 25 << 20  # bytes


class Bucket:
    """Parameters whose gradients are sent together.

    Attributes
    ----------
    paths : list of str
    flat : (n,) array
        Their gradients, one after the other, and then the sums; 0 where there is none.
    """

    def __init__(self, params: dict[str, Array], xp: Any = np) -> None:
        self.paths = list(params)
        self.shapes = [p.shape for p in params.values()]
        self.ends = np.cumsum([p.size for p in params.values()]).tolist()
        self.flat = xp.zeros(self.ends[-1], next(iter(params.values())).dtype)

    def parts(self) -> Iterator[tuple[str, Array]]:
        """The part of each parameter, of its shape."""
        for path, shape, begin, end in zip(self.paths, self.shapes, [0, *self.ends], self.ends):
            yield path, self.flat[begin:end].reshape(shape)

    def fill(self, grads: dict[str, Array]) -> None:
        """Write the gradients."""
        for path, part in self.parts():
            part[...] = grads.get(path, 0)


def buckets_of(model: Module, first: int = FIRST, size: int = BUCKET, xp: Any = np) -> list[Bucket]:
    """A model's parameters in buckets of about so many bytes, the last layer's first; a bucket has one dtype."""
    groups: list[dict[str, Array]] = []
    held = 0
    for path, p in reversed(model.named_params().items()):
        limit = first if len(groups) == 1 else size
        if not groups or held + p.nbytes > limit or p.dtype != next(iter(groups[-1].values())).dtype:
            groups, held = [*groups, {}], 0
        groups[-1][path] = p
        held += p.nbytes
    return [Bucket(group, xp) for group in groups]


class GradientSums:
    """Adds up a model's gradients over the ranks; see above.

    Parameters
    ----------
    model : Module
        It tells of its gradients, see `Module.told_of_gradients`.
    add : function
        Adds up a flat array over all ranks in place; called by a thread of its own.
    first, size : int
        Bytes of the first bucket, and of the others.
    xp : module
        numpy or cupy.
    """

    def __init__(
        self, model: Module, add: Callable[[Any], None], first: int = FIRST, size: int = BUCKET, xp: Any = np
    ) -> None:
        self.model, self.add = model, add
        self.buckets = buckets_of(model, first, size, xp)
        self.number = {path: i for i, bucket in enumerate(self.buckets) for path in bucket.paths}
        self.expected: Counter[str] = Counter()  # how often each parameter gets a gradient
        self.error: BaseException | None = None
        self._begin()

    def _begin(self) -> None:
        self.seen: Counter[str] = Counter()
        self.sent = 0
        self.missing = [sum(path in self.expected for path in bucket.paths) for bucket in self.buckets]
        if not self.expected:
            self.missing = [len(bucket.paths) + 1 for bucket in self.buckets]  # nothing is sent before the end

    # ---- while the backward goes on ----------------------------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A block in which gradients are noticed, and sent."""
        self.waiting: queue.Queue = queue.Queue()
        thread = threading.Thread(target=self._work, name="minunet-gradients", daemon=True)
        thread.start()
        modules = dict(self.model.modules())
        for path, module in modules.items():
            module.told_of_gradients = partial(self.note, path)
        try:
            yield
        finally:
            for module in modules.values():
                module.told_of_gradients = None
            self.waiting.put(None)
            thread.join(timeout=1)  # if another rank has failed, it may wait for ever

    def note(self, module: str, names: list[str]) -> None:
        """Parameters of a module got gradients: send what is complete."""
        for name in names:
            self._note(f"{module}.{name}" if module else name)

    def _note(self, path: str) -> None:
        self.seen[path] += 1
        if not self.expected or self.seen[path] < self.expected[path]:
            return
        number = self.number[path]
        if self.seen[path] > self.expected[path] and (number < self.sent or self.missing[number] == 0):
            raise RuntimeError(f"the gradient of {path} changed after it was sent to the other ranks")
        self.missing[number] -= self.seen[path] == self.expected[path]
        while self.sent < len(self.buckets) and self.missing[self.sent] == 0:
            self._send()

    def _send(self) -> None:
        """Send the next bucket."""
        bucket = self.buckets[self.sent]
        self.sent += 1
        own = self.model.named_grads()
        self.send(bucket, {path: own[path] for path in bucket.paths if path in own})

    def send(self, bucket: Bucket, grads: dict[str, Array]) -> None:
        """Have a bucket filled and added up."""
        self.waiting.put((bucket, grads))

    def _work(self) -> None:
        """The thread: add up one bucket after the other."""
        while (item := self.waiting.get()) is not None:
            bucket, grads = item
            try:
                bucket.fill(grads)
                self.add(bucket.flat)
            except BaseException as error:
                self.error = error
            self.waiting.task_done()

    # ---- after it ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Send what is left, wait, and put the sums in the place of the model's gradients."""
        while self.sent < len(self.buckets):
            self._send()
        self.join()
        owners = dict(self.model.modules())
        for bucket in self.buckets:
            for path, part in bucket.parts():
                owner, _, name = path.rpartition(".")
                if name in owners[owner].grads:
                    owners[owner].grads[name] = part
        self.expected = self.seen
        self._begin()

    def join(self) -> None:
        """Wait until all buckets are added up."""
        self.waiting.join()
        if self.error:
            raise self.error
