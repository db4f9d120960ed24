"""What a gradient check runs: a pair of functions or a module, each as forward and backward on arrays that have names.

`arrays` holds what can be checked; `run` gives (y, cache) for the values that stand there now, `gradients` theirs by name.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np

from ..nn import Module


class PairSubject:
    """A pair of functions (forward, backward) with their arguments."""

    def __init__(self, target: Any, inputs: tuple, options: dict, seed: int, mode: str) -> None:
        self.forward, self.backward = target
        self.name = getattr(self.forward, "__name__", "forward")
        self.inputs, self.options = [_copy(a, mode) for a in inputs], options
        names = list(inspect.signature(self.forward).parameters)
        self.names = [names[i] if i < len(names) else f"argument {i}" for i in range(len(inputs))]
        self.arrays = {n: a for n, a in zip(self.names, self.inputs) if _is_float(a)}

    def run(self) -> tuple[Any, Any]:
        options = {
            k: np.random.default_rng(v.bit_generator.seed_seq) if _is_rng(v) else v for k, v in self.options.items()
        }
        result = self.forward(*self.inputs, **options)
        if not isinstance(result, tuple) or len(result) < 2:
            raise ValueError(f"{self.name} must return (y, cache)")
        return result[0], result[1]

    def gradients(self, dy: Any, cache: Any) -> dict[str, Any]:
        grads = self.backward(dy, cache)
        return dict(zip(self.names, grads if isinstance(grads, (tuple, list)) else (grads,)))


class ModuleSubject:
    """A float64 copy of a module, its input "x" and its parameters by their dotted paths."""

    def __init__(self, module: Module, inputs: tuple, options: dict, seed: int, mode: str) -> None:
        self.name, self.seed, self.options = type(module).__name__, seed, options
        self.module = copy.deepcopy(module)
        if mode != "adjoint":
            self.module.convert(lambda a: a.astype(np.float64))
        (x,) = inputs
        self.arrays = {"x": _copy(x, mode)} | self.module.named_params()
        self.buffers = {path: a.copy() for path, a in self.module.named_buffers().items()}

    def run(self) -> tuple[Any, Any]:
        y, cache = self.module.forward(self.arrays["x"], rng=np.random.default_rng(self.seed), **self.options)
        for path, a in self.module.named_buffers().items():
            a[...] = self.buffers[path]
        return y, cache

    def gradients(self, dy: Any, cache: Any) -> dict[str, Any]:
        self.module.zero_grad()
        dx = self.module.backward(dy, cache)
        return {"x": dx} | self.module.named_grads()


def _is_float(a: Any) -> bool:
    return hasattr(a, "dtype") and a.dtype.kind == "f"


def _is_rng(a: Any) -> bool:
    return isinstance(a, np.random.Generator)


def _copy(a: Any, mode: str) -> Any:
    if not _is_float(a):
        return a
    return a.copy() if mode == "adjoint" else a.astype(np.float64)
