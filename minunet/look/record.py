"""Watching a network run: every layer's output, gradient and time, taken from the model's own forward and backward.

The layers' `forward` and `backward` are replaced by functions that call them, measure the time and keep input and output. So
the wiring is the model's own. Which layer follows which is found from the arrays: the array that one layer returned is the
one that another takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ..models.trace import described, layers
from ..nn import Description, Module
from ..ops.dispatch import use


@dataclass(eq=False)
class Call:
    """One layer as it ran.

    Attributes
    ----------
    path : str
        Of the layer, such as "encoder.0.conv1"; one layer may be called more than once.
    module : Module
    inputs : list of arrays (1, H, W, C)
        Of most layers one, of the joint of a skip two.
    output : (1, H, W, C) array
        The map that it returned.
    gradient : (1, H, W, C) array
        The gradient of the output, which the backward was given.
    handed : list of arrays
        The gradients of the inputs, as this layer returned them; the gradient of a map that two layers take is a sum of theirs.
    seconds, backward_seconds : float
    numbers : array, optional
        What it returned beside the map: a pool's winners.
    """

    path: str
    module: Module
    inputs: list[np.ndarray]
    output: np.ndarray
    seconds: float
    gradient: Any = None
    handed: Any = None
    backward_seconds: float = 0.0
    numbers: Any = None

    @property
    def description(self) -> Description:
        """What the layer says of itself."""
        return described(self.path, self.module, *(a.shape for a in self.inputs))


@contextmanager
def watched(model: Module) -> Iterator[list[Call]]:
    """Inside the context, every call of a layer is appended to the list that it yields, in the order of the forward."""
    calls: list[Call] = []
    waiting: list[Call] = []  # for their backward, which goes the other way round
    watching = list({id(m): (path, m) for path, m in layers(model)}.values())
    for path, m in watching:
        m.forward = _watched_forward(path, m, calls, waiting)  # type: ignore[method-assign]
        m.backward = _watched_backward(m, waiting)  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        for _, m in watching:
            del m.forward, m.backward


def _watched_forward(path: str, m: Module, calls: list[Call], waiting: list[Call]) -> Any:
    forward = m.forward

    def run(x: Any, *mode: Any, **named: Any) -> Any:
        start = perf_counter()
        y, cache = forward(x, *mode, **named)
        seconds = perf_counter() - start
        output, numbers = y if isinstance(y, tuple) else (y, None)
        calls.append(Call(path, m, list(x) if isinstance(x, tuple) else [x], output, seconds, numbers=numbers))
        waiting.append(calls[-1])
        return y, cache

    return run


def _watched_backward(m: Module, waiting: list[Call]) -> Any:
    backward = m.backward

    def run(dy: Any, cache: Any) -> Any:
        call = waiting.pop()
        start = perf_counter()
        dx = backward(dy, cache)
        call.backward_seconds = perf_counter() - start
        call.gradient = dy
        # copies: the U-Net adds the skip's gradient to the pool's in place
        call.handed = [d.copy() for d in (dx if isinstance(dx, tuple) else (dx,))]
        return dx

    return run


def record(model: Module, x: np.ndarray, loss: Any, runs: int = 3) -> tuple[list[Call], float]:
    """Run forward and backward with the plain ops, in inference mode, and note every call of a layer.

    Only the plain ops make every map there is: the kernels leave out what they can. The parameters' gradients are those of
    one backward and stay in the model.

    Parameters
    ----------
    model : Module
    x : (1, H, W, C) float array
    loss : callable
        Takes the logits (1, OH, OW, K); returns the loss and its gradient, of the logits' shape.
    runs : int
        Times are the minimum of so many runs.

    Returns
    -------
    calls : list of Call
        In the order of the forward.
    value : float
        The loss.
    """
    times = []
    with use("reference"):
        for _ in range(runs):
            model.zero_grad()
            with watched(model) as calls:
                logits, cache = model.forward(x, train=False)
                value, dlogits = loss(logits)
                model.backward(dlogits, cache)
            times.append([(c.seconds, c.backward_seconds) for c in calls])
    for call, least in zip(calls, np.min(times, axis=0)):
        call.seconds, call.backward_seconds = (float(t) for t in least)
    return calls, float(value)
