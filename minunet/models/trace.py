"""Which layers run, on which maps: a model's own forward, followed without computing anything.

`follow` sends a `Map` through the model in place of an image: it has a shape but no values. Each layer's forward is replaced by
its description, which says the shape of the output. So the order of the layers is always that of the model's own forward, and
stands in one place only. Two things are refused by name: a layer that does not describe itself, and a composite that computes
with the maps itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from threading import RLock, get_ident
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..nn import Description, Module, NotDescribed
from ..nn.description import Shape

_one_at_a_time = RLock()  # else a second thread would take the first one's replacements for the model's own forward


class Map(NDArrayOperatorsMixin):
    """A map on its way through the network: a shape and a dtype. Asking for its values raises NotDescribed.

    Parameters
    ----------
    shape : (N, H, W, C)
    dtype : dtype
    running : list of str
        The composites whose forward is running, the innermost last.
    """

    def __init__(self, shape: Shape, dtype: Any, running: list[str]) -> None:
        self.shape, self.dtype, self.running = shape, np.dtype(dtype), running

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    def _refuse(self, *arguments: Any, **named: Any) -> Any:
        raise NotDescribed(
            f"{self.running[-1]} computes with its maps itself, and what it does cannot be followed: let a layer do it that "
            "describes itself (see CONTRIBUTING.md)"
        )

    __array__ = __array_ufunc__ = __array_function__ = __getitem__ = __len__ = __iter__ = __bool__ = _refuse

    __eq__, __hash__ = object.__eq__, object.__hash__  # maps are told apart, not compared

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()


@dataclass(eq=False)
class Step:
    """One call of a layer."""

    path: str
    layer: Module
    description: Description
    inputs: list[Map]
    outputs: list[Map]

    @property
    def name(self) -> str:
        """The layer's class and path, for a sentence."""
        return full_name(self.path, self.layer)


@dataclass(eq=False)
class Trace:
    """The calls of all layers in the order in which they run, the map that goes into the model, and those that come out."""

    image: Map
    steps: list[Step]
    outputs: list[Map]

    @property
    def output(self) -> Map:
        """The map that comes out; the last one, if there are several."""
        return self.outputs[-1]


def follow(model: Module, shape: Shape, dtype: Any = np.float32) -> Trace:
    """The layers of a model as they run in inference on images of a shape (N, H, W, C).

    Raises
    ------
    NotDescribed
        If a layer does not describe itself, or a composite computes with maps itself.
    ValueError
        If the model does not take images of that size.
    """
    running: list[str] = []
    image, steps = Map(shape, dtype, running), []

    def describe(path: str, m: Module) -> Callable[..., Any]:
        def forward(x: Any, *mode: Any, **named: Any) -> tuple[Any, None]:
            inputs = list(x) if isinstance(x, tuple) else [x]
            description = described(path, m, *(a.shape for a in inputs))
            outputs = [Map(s, dtype, running) for s in description.outputs]
            steps.append(Step(path, m, description, inputs, outputs))
            return (tuple(outputs) if isinstance(description.output, list) else outputs[0]), None

        return forward

    def pass_on(path: str, m: Module) -> Callable[..., Any]:
        own = m.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            running.append(full_name(path, m))
            result = own(*arguments, **named)
            running.pop()
            return result

        return forward

    leaves = {id(m) for _, m in layers(model)}
    with stand_ins(model, lambda path, m: (describe if id(m) in leaves else pass_on)(path, m)):
        output = model.forward(image, train=False, keep=False)[0]
    return Trace(image, steps, output if isinstance(output, list) else [output])


def layers(model: Module, path: str = "") -> Iterator[tuple[str, Module]]:
    """The modules that count as layers in a trace, with their paths: those that describe themselves or have no children."""
    if model.describes_itself() or not model.children:
        yield path, model
        return
    for name, child in model.children.items():
        yield from layers(child, f"{path}.{name}" if path else name)


def described(path: str, m: Module, *shapes: Shape) -> Description:
    """A layer's description for inputs of these shapes; NotDescribed, with its name, if it has none."""
    if not m.describes_itself():
        raise NotDescribed(
            f"{full_name(path, m)} does not describe itself, and nobody guesses what it gives, costs, or looks at: write it a "
            "method `describe` (see CONTRIBUTING.md)"
        )
    return m.describe(*shapes)


def full_name(path: str, m: Module) -> str:
    """A module's class and where in the network it is: "ReLU (encoder.0.relu1)"."""
    return f"{type(m).__name__} ({path})" if path else type(m).__name__


def input_channels(model: Module) -> int:
    """Channels of the images that a model takes: those of its first filters; 1 if it has none."""
    for _, m in model.modules():
        for p in m.params.values():
            if p.ndim == 4:
                return int(p.shape[2]) * getattr(m, "options", {}).get("groups", 1)
    return 1


@contextmanager
def stand_ins(model: Module, make: Callable[[str, Module], Callable[..., Any]]) -> Iterator[None]:
    """A block in which, in this thread only, every module has the forward that `make(path, module)` returns."""
    # a module that is used at several places counts at its first path
    replaced = {id(m): (path, m) for path, m in reversed(list(model.modules()))}
    with _one_at_a_time:
        forwards = [(m, here(make(path, m), m.forward)) for path, m in replaced.values()]
        try:
            for m, forward in forwards:
                m.forward = forward  # type: ignore[method-assign]
            yield
        finally:
            for m, _ in forwards:
                vars(m).pop("forward", None)


def here(function: Callable[..., Any], elsewhere: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls `function` in the current thread, and `elsewhere` in all other threads."""
    thread = get_ident()
    return lambda *args, **named: (function if get_ident() == thread else elsewhere)(*args, **named)
