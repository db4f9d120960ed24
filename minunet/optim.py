"""Optimisers, averages of weights, learning-rate schedules, and clipping.

Every optimiser is one update rule: a function that changes an array p, and what it remembers for it, in place, given the
gradient g. The learning rate is `rate`; weight decay adds weight_decay * p to g (L2), but for AdamW, where it shrinks p
directly (arXiv:1711.05101).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .array import Array, get_array_module
from .nn import Module
from .ops.dispatch import accelerated

# ---- the rules -------------------------------------------------------------------------------------------------------


@accelerated
def sgd_step(
    p: Array, g: Array, velocity: Array, rate: float, momentum: float = 0.9, nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """v = momentum v + g;  p -= rate v.  With Nesterov: p -= rate (g + momentum v)."""
    if weight_decay:
        g = g + weight_decay * p
    velocity *= momentum
    velocity += g
    p -= rate * (g + momentum * velocity if nesterov else velocity)


@accelerated
def adam_step(
    p: Array, g: Array, m: Array, s: Array, steps: int, rate: float, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> None:  # fmt: skip
    """m and s are running means of g and g^2, started at 0 and corrected for that;  p -= rate m / sqrt(s).

    This is step number `steps`, counted from 1. With `decoupled` it is AdamW: p -= rate * weight_decay * p.
    """
    if weight_decay and decoupled:
        p *= 1 - rate * weight_decay
    elif weight_decay:
        g = g + weight_decay * p
    m += (1 - beta1) * (g - m)
    s += (1 - beta2) * (g * g - s)
    mean, mean_square = m / (1 - beta1**steps), s / (1 - beta2**steps)
    p -= rate * mean / (mean_square**0.5 + eps)


@accelerated
def rmsprop_step(
    p: Array, g: Array, s: Array, velocity: Array, rate: float, momentum: float = 0.9, decay: float = 0.99,
    eps: float = 1e-8, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """s = decay s + (1 - decay) g^2;  v = momentum v + g / sqrt(s);  p -= rate v."""
    if weight_decay:
        g = g + weight_decay * p
    s += (1 - decay) * (g * g - s)
    velocity *= momentum
    velocity += g / (s**0.5 + eps)
    p -= rate * velocity


# ---- optimisers ------------------------------------------------------------------------------------------------------


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
    leaves_out = True  # whether its kernel leaves out a step by itself, see `hold`

    def __init__(self, model: Module, rate: float, weight_decay: float = 0.0) -> None:
        self.model, self.rate, self.weight_decay = model, rate, weight_decay
        self.steps = 0
        self.memory = {
            path: {slot: get_array_module(p).zeros_like(p) for slot in self.slots}
            for path, p in model.named_params().items()
        }
        self.held: Array | None = None

    def step(self) -> None:
        """Update every parameter by the gradients that the model has gathered."""
        self.advance()
        self.apply()

    def numbers(self) -> tuple[float, ...]:
        """What is another number in each step: the rate, and more in a subclass."""
        return (self.rate,)

    def hold(self) -> Array:
        """Keep `numbers` in an array beside the parameters, `held`, for steps that are recorded and replayed on a GPU.

        One more comes last: where it is not 0, the step is left out (mixed precision writes it).
        """
        xp = get_array_module(*self.model.named_params().values())
        self.held = xp.zeros(len(self.numbers()) + 1, np.float32)
        return self.held

    def advance(self) -> None:
        """Half of a step, the host's: count it, and write `held`."""
        self.steps += 1
        if self.held is not None:
            for i, number in enumerate(self.numbers()):
                self.held[i] = number  # to a GPU as a kernel's argument: without an upload

    def apply(self) -> None:
        """The other half: change parameters and memory, in place."""
        params, grads = self.model.named_params(), self.model.named_grads()
        for path, g in grads.items():
            self.update(params[path], g, **self.memory[path])

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
    """Stochastic gradient descent with momentum, see `sgd_step`."""

    slots = ("velocity",)

    def __init__(
        self, model: Module, rate: float, weight_decay: float = 0.0, momentum: float = 0.9, nesterov: bool = False
    ) -> None:
        super().__init__(model, rate, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, p: Array, g: Array, velocity: Array) -> None:  # type: ignore[override]
        rate: Any = self.rate if self.held is None else self.held
        sgd_step(p, g, velocity, rate, self.momentum, self.nesterov, self.weight_decay)


class Adam(Optimizer):
    """Kingma and Ba, arXiv:1412.6980: steps of about `rate`, whatever the gradient's scale, see `adam_step`."""

    slots = ("m", "s")
    decoupled = False

    def __init__(
        self, model: Module, rate: float, weight_decay: float = 0.0, beta1: float = 0.9, beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(model, rate, weight_decay)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def numbers(self) -> tuple[float, ...]:
        """The rate, and by what the two means are divided."""
        return self.rate, 1 - self.beta1**self.steps, 1 - self.beta2**self.steps

    def update(self, p: Array, g: Array, m: Array, s: Array) -> None:  # type: ignore[override]
        now: tuple[Any, Any] = (self.steps, self.rate) if self.held is None else (None, self.held)
        adam_step(p, g, m, s, *now, self.beta1, self.beta2, self.eps, self.weight_decay, self.decoupled)


class AdamW(Adam):
    """Adam with decoupled weight decay, arXiv:1711.05101."""

    decoupled = True


class RMSprop(Optimizer):
    """Tieleman and Hinton (2012), see `rmsprop_step`."""

    slots = ("s", "velocity")
    leaves_out = False  # it has no kernel on a GPU

    def __init__(
        self, model: Module, rate: float, weight_decay: float = 0.0, momentum: float = 0.9, decay: float = 0.99,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(model, rate, weight_decay)
        self.momentum, self.decay, self.eps = momentum, decay, eps

    def update(self, p: Array, g: Array, s: Array, velocity: Array) -> None:  # type: ignore[override]
        rate: Any = self.rate if self.held is None else self.held[:1]
        rmsprop_step(p, g, s, velocity, rate, self.momentum, self.decay, self.eps, self.weight_decay)


def clip_by_norm(grads: dict[str, Array], max_norm: float) -> float:
    """Scale all gradients in place so that their joint 2-norm is at most max_norm; return the norm before.

    Source: Pascanu et al., arXiv:1211.5063.
    """
    squares = [
        np.float64(np.vdot(g, g)) if isinstance(g, np.ndarray) else (g * g).sum(dtype=np.float64)
        for g in grads.values()
    ]
    norm = math.sqrt(float(sum(squares)))  # on a GPU the host waits here, once
    if norm > max_norm:
        for g in grads.values():
            g *= max_norm / norm
    return norm


class WeightAverage:
    """An exponential moving average of all that a model knows: its parameters and its running statistics.

        average = d * average + (1 - d) * weights,    d = min(decay, (1 + n) / (10 + n)) after n steps

    Steps of one and the same length jump about a minimum, and their average lies nearer to it than they do. So the learning
    rate need not fall for it (``--schedule constant``).

    Sources: Polyak and Juditsky 1992, doi:10.1137/0330046; Tarvainen and Valpola, arXiv:1703.01780.

    Parameters
    ----------
    model : Module
    decay : float in (0, 1)
        The average reaches back over some 1 / (1 - decay) steps.
    """

    def __init__(self, model: Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.values = {name: a.copy() for name, a in model.state().items()}

    def update(self, steps: int) -> None:
        """Take in the weights after so many steps."""
        d = min(self.decay, (1 + steps) / (10 + steps))
        for name, a in self.model.state().items():
            self.values[name] *= d
            self.values[name] += (1 - d) * a

    @contextmanager
    def applied(self) -> Iterator[dict[str, Array]]:
        """A block in which the model has the averages; yields what it has outside of it, by name."""
        self._swap()
        try:
            yield self.values
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, a in self.model.state().items():
            held = a.copy()
            a[...] = self.values[name]
            self.values[name][...] = held


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

    def step(self, score: float) -> None:
        """Tell "plateau" an epoch's validation score (larger is better); the others do not care."""
        if score > self.state["best"]:
            self.state.update(best=score, waited=0)
            return
        self.state["waited"] += 1
        if self.state["waited"] > self.patience:
            self.state.update(waited=0, factor=self.state["factor"] * 0.5)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}
