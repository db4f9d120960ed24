"""Optimisers, learning-rate schedules, and clipping.

Every optimiser is one update rule on one array p with gradient g. The learning rate is `rate`; weight decay adds
weight_decay * p to g (L2), but for AdamW, where it shrinks p directly (arXiv:1711.05101).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .array import Array, get_array_module
from .nn import Module


class Optimizer:
    """Base: goes through the parameters; a subclass says what one update does and what it remembers.

    Parameters
    ----------
    model : Module
        Whose parameters to learn. They are changed in place.
    rate : float
        Learning rate; set ``optimizer.rate`` before a step to change it.
    weight_decay : float
        Strength of the pull towards 0.
    """

    slots: tuple[str, ...] = ()  # names of the arrays remembered for every parameter, zeros at first

    def __init__(self, model: Module, rate: float, weight_decay: float = 0.0) -> None:
        self.model, self.rate, self.weight_decay = model, rate, weight_decay
        self.steps = 0
        self.memory = {
            path: {slot: get_array_module(p).zeros_like(p) for slot in self.slots}
            for path, p in model.named_params().items()
        }

    def step(self) -> None:
        """Update every parameter by the gradients that the model has gathered."""
        self.steps += 1
        params, grads = self.model.named_params(), self.model.named_grads()
        for path, g in grads.items():
            p = params[path]
            if self.weight_decay and not isinstance(self, AdamW):
                g = g + self.weight_decay * p
            self.update(p, g, **self.memory[path])

    def update(self, p: Array, g: Array, **memory: Array) -> None:
        """Change p, and the remembered arrays, in place."""
        raise NotImplementedError

    def state(self) -> dict[str, Array]:
        """What it remembers, as "slot.path" -> array; the arrays themselves."""
        return {f"{slot}.{path}": a for path, slots in self.memory.items() for slot, a in slots.items()}

    def load_state(self, state: dict[str, Array], steps: int) -> None:
        """Copy remembered arrays in, and the number of steps taken; ValueError if they are another optimiser's."""
        own = self.state()
        if {k: a.shape for k, a in own.items()} != {k: a.shape for k, a in state.items()}:
            raise ValueError("the optimiser's arrays are those of another model or optimiser")
        for name, a in own.items():
            a[...] = get_array_module(a).asarray(state[name])
        self.steps = steps


class SGD(Optimizer):
    """v = momentum v + g;  p -= rate v.  With Nesterov: p -= rate (g + momentum v)."""

    slots = ("velocity",)

    def __init__(
        self, model: Module, rate: float, weight_decay: float = 0.0, momentum: float = 0.9, nesterov: bool = False
    ) -> None:
        super().__init__(model, rate, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, p: Array, g: Array, velocity: Array) -> None:  # type: ignore[override]
        velocity *= self.momentum
        velocity += g
        p -= self.rate * (g + self.momentum * velocity if self.nesterov else velocity)


class Adam(Optimizer):
    """Kingma and Ba, arXiv:1412.6980: steps of about `rate`, whatever the gradient's scale.

    m and s are running means of g and g^2; dividing by 1 - beta^t corrects for their start at 0.
    """

    slots = ("m", "s")

    def __init__(
        self, model: Module, rate: float, weight_decay: float = 0.0, beta1: float = 0.9, beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(model, rate, weight_decay)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def update(self, p: Array, g: Array, m: Array, s: Array) -> None:  # type: ignore[override]
        m += (1 - self.beta1) * (g - m)
        s += (1 - self.beta2) * (g * g - s)
        mean, mean_square = m / (1 - self.beta1**self.steps), s / (1 - self.beta2**self.steps)
        p -= self.rate * mean / (mean_square**0.5 + self.eps)


class AdamW(Adam):
    """Adam with decoupled weight decay, arXiv:1711.05101: p -= rate * weight_decay * p."""

    def update(self, p: Array, g: Array, m: Array, s: Array) -> None:  # type: ignore[override]
        p *= 1 - self.rate * self.weight_decay
        super().update(p, g, m, s)


class RMSprop(Optimizer):
    """Tieleman and Hinton (2012): s = decay s + (1 - decay) g^2;  v = momentum v + g / sqrt(s);  p -= rate v."""

    slots = ("s", "velocity")

    def __init__(
        self, model: Module, rate: float, weight_decay: float = 0.0, momentum: float = 0.9, decay: float = 0.99,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(model, rate, weight_decay)
        self.momentum, self.decay, self.eps = momentum, decay, eps

    def update(self, p: Array, g: Array, s: Array, velocity: Array) -> None:  # type: ignore[override]
        s += (1 - self.decay) * (g * g - s)
        velocity *= self.momentum
        velocity += g / (s**0.5 + self.eps)
        p -= self.rate * velocity


def clip_by_norm(grads: dict[str, Array], max_norm: float) -> float:
    """Scale all gradients in place so that their joint 2-norm is at most max_norm; return the norm before.

    Source: Pascanu et al., arXiv:1211.5063.
    """
    norm = math.sqrt(sum(float(np.vdot(g, g) if isinstance(g, np.ndarray) else (g * g).sum()) for g in grads.values()))
    if norm > max_norm:
        for g in grads.values():
            g *= max_norm / norm
    return norm


class Schedule:
    """The learning rate over the course of training.

    Parameters
    ----------
    name : {"constant", "step", "cosine", "poly", "plateau"}
        constant; divided by 10 after 1/2 and 3/4 of the steps; half a cosine to 0; (1 - t)^0.9, t the share done; or
        halved whenever the validation score has not improved for `patience` epochs.
    rate : float
        Where it starts.
    total : int
        Number of steps in all.
    patience : int
        For "plateau", in epochs.
    """

    names = ("constant", "step", "cosine", "poly", "plateau")

    def __init__(self, name: str, rate: float, total: int, patience: int = 5) -> None:
        if name not in self.names:
            raise ValueError(f"schedule must be one of {self.names}, not {name!r}")
        self.name, self.rate, self.total, self.patience = name, rate, max(total, 1), patience
        self.state: dict[str, Any] = {"best": -math.inf, "waited": 0, "factor": 1.0}

    def __call__(self, step: int) -> float:
        """The rate of step number `step`, counted from 0."""
        t = min(step / self.total, 1.0)
        factor = {
            "constant": 1.0,
            "step": 0.1 ** ((t >= 0.5) + (t >= 0.75)),
            "cosine": 0.5 * (1 + math.cos(math.pi * t)),
            "poly": (1 - t) ** 0.9,
            "plateau": self.state["factor"],
        }[self.name]
        return self.rate * factor

    def report(self, score: float) -> None:
        """Tell "plateau" an epoch's validation score (larger is better); the others do not care."""
        if score > self.state["best"]:
            self.state.update(best=score, waited=0)
            return
        self.state["waited"] += 1
        if self.state["waited"] > self.patience:
            self.state.update(waited=0, factor=self.state["factor"] * 0.5)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}
