"""Gradients that are let go during the backward, so that they are never all in memory at once.

A gradient takes as much memory as its parameter, and is used once: by the optimiser. When a layer's backward is done, nothing
reads the layer's parameters any more before the next forward, so they may be updated at once. `Portions` does so whenever the
gradients that are complete take `PORTION` bytes: a start of the optimiser for each layer would cost small images more time than
their gradients cost memory. In a U-Net of 31 million parameters this makes four or five starts of one, and of the 118 MiB of
gradients at most some 60 are alive.

It goes with neither a limit of the gradients' norm, nor mixed precision, nor several processes: all gradients must be known
before the first parameter changes, be it for their norm, or to leave the step out if one is not finite, or for a mean over all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ..nn import Module
from ..ops.lazy import IMAGE_CHANNELS
from ..optim import Optimizer

PORTION = 32 << 20


class Portions:
    """Updates parameters during the backward.

    How often a module adds to its gradients (a recurrent one several times) shows in the first backward, which is left as it
    is; from the second on a module's gradients are complete when it has done so as often as it ever did.

    Parameters
    ----------
    model : Module
    optimizer : Optimizer
        Its own half of the step, `Optimizer.advance`, comes before the backward.
    """

    def __init__(self, model: Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self._expected: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._complete: dict[str, Module] = {}

    @contextmanager
    def used(self) -> Iterator[None]:
        """A ``with`` block for a backward. What is not used up in it is left for `Optimizer.apply`."""
        modules = [(path, m) for path, m in self.model.modules() if m.params]
        self._seen, self._complete = Counter(), {}
        for path, m in modules:
            m.told_of_gradients = partial(self._take, path, m)
        try:
            yield
        finally:
            for _, m in modules:
                m.told_of_gradients = None
        self._expected |= self._seen  # the most so far: a step may leave a module out

    def _take(self, path: str, m: Module, names: list[str]) -> None:
        self._seen[path] += 1
        if self._expected and self._seen[path] > self._expected[path]:
            raise RuntimeError(f"{path} adds to its gradients more often than in the last step: it is changed already")
        if self._seen[path] == self._expected[path] and not _read_later(m):
            self._complete[path] = m
            if sum(g.nbytes for m in self._complete.values() for g in m.grads.values()) >= PORTION:
                self._use_up()

    def _use_up(self) -> None:
        self.optimizer.apply(
            {f"{path}.{name}" if path else name for path, m in self._complete.items() for name in m.grads}
        )
        for m in self._complete.values():
            m.grads.clear()
        self._complete = {}


def _read_later(m: Module) -> bool:
    """Whether filters may be read after their module's backward, on a GPU: by the gradient of an image, which waits until it is
    asked for. They are few."""
    return any(p.ndim == 4 and p.shape[2] <= IMAGE_CHANNELS for p in m.params.values())
