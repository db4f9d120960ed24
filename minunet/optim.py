"""Optimisers, averages of weights, learning-rate schedules, and clipping.

Every optimiser is one update rule: a function that changes a parameter p and its state (velocity, running means) in place,
given the gradient g. `lr` is the learning rate. Weight decay adds weight_decay * p to g (L2), except in AdamW, which shrinks p
directly (Loshchilov and Hutter, arXiv:1711.05101).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .array import Array, get_array_module
from .nn import Module
from .ops.dispatch import accelerated

# ---- the rules -------------------------------------------------------------------------------------------------------


@accelerated
def sgd_step(
    p: Array, g: Array, velocity: Array, lr: float, momentum: float = 0.9, nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """v = momentum v + g;  p -= lr v.  With Nesterov: p -= lr (g + momentum v).

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013.

    Parameters
    ----------
    p, g, velocity : float arrays of one shape
        A parameter, its gradient, and v; p and velocity are changed in place.
    lr : float
    momentum : float in [0, 1)
    nesterov : bool
    weight_decay : float
    """
    if weight_decay:
        g = g + weight_decay * p
    velocity *= momentum
    velocity += g
    p -= lr * (g + momentum * velocity if nesterov else velocity)


@accelerated
def adam_step(
    p: Array, g: Array, m: Array, s: Array, steps: int, lr: float, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 0.0, decoupled: bool = False,
) -> None:  # fmt: skip
    """m and s are running means of g and g^2, started at 0 and corrected for that;  p -= lr m / sqrt(s).

    Source: Kingma and Ba, arXiv:1412.6980, algorithm 1; with `decoupled`, Loshchilov and Hutter, arXiv:1711.05101.

    Parameters
    ----------
    p, g, m, s : float arrays of one shape
        A parameter, its gradient, and the two running means; p, m and s are changed in place.
    steps : int
        The number of this step, counted from 1.
    lr, beta1, beta2, eps, weight_decay : float
    decoupled : bool
        Weight decay as in AdamW: p -= lr * weight_decay * p.
    """
    if weight_decay and decoupled:
        p *= 1 - lr * weight_decay
    elif weight_decay:
        g = g + weight_decay * p
    m += (1 - beta1) * (g - m)
    s += (1 - beta2) * (g * g - s)
    mean, mean_square = m / (1 - beta1**steps), s / (1 - beta2**steps)
    p -= lr * mean / (mean_square**0.5 + eps)


@accelerated
def rmsprop_step(
    p: Array, g: Array, s: Array, velocity: Array, lr: float, momentum: float = 0.9, decay: float = 0.99,
    eps: float = 1e-8, weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """s = decay s + (1 - decay) g^2;  v = momentum v + g / sqrt(s);  p -= lr v.

    Source: Tieleman and Hinton, "Neural Networks for Machine Learning", lecture 6.5, 2012.

    Parameters
    ----------
    p, g, s, velocity : float arrays of one shape
        A parameter, its gradient, the running mean of g^2, and v; p, s and velocity are changed in place.
    lr, momentum, decay, eps, weight_decay : float
    """
    if weight_decay:
        g = g + weight_decay * p
    s += (1 - decay) * (g * g - s)
    velocity *= momentum
    velocity += g / (s**0.5 + eps)
    p -= lr * velocity


# ---- the rules for all parameters at once: lists in place of arrays; on a GPU they take one start of a kernel ---------------

Arrays = Sequence[Array]


@accelerated
def sgd_steps(p: Arrays, g: Arrays, velocity: Arrays, *numbers: Any) -> None:
    """`sgd_step` of many parameters, with the same numbers."""
    for arrays in zip(p, g, velocity, strict=True):
        sgd_step(*arrays, *numbers)


@accelerated
def adam_steps(p: Arrays, g: Arrays, m: Arrays, s: Arrays, *numbers: Any) -> None:
    """`adam_step` of many parameters, with the same numbers."""
    for arrays in zip(p, g, m, s, strict=True):
        adam_step(*arrays, *numbers)


@accelerated
def rmsprop_steps(p: Arrays, g: Arrays, s: Arrays, velocity: Arrays, *numbers: Any) -> None:
    """`rmsprop_step` of many parameters, with the same numbers."""
    for arrays in zip(p, g, s, velocity, strict=True):
        rmsprop_step(*arrays, *numbers)


# ---- optimisers ------------------------------------------------------------------------------------------------------


class Optimizer:
    """Base of the optimisers: a step updates every parameter; a subclass defines how, and with what state.

    Parameters
    ----------
    model : Module
        Its parameters are changed in place.
    lr : float
        Learning rate; set ``optimizer.lr`` before a step to change it.
    weight_decay : float
        This times the parameter is added to its gradient (L2); in AdamW the parameter itself is shrunk by it.

    Attributes
    ----------
    steps : int
        How many steps have been taken.
    memory : dict of dict of arrays
        The state: for every parameter's path an array for each of `slots`, of the parameter's shape.
    held : (n + 1,) float32 array or None
        See `hold`.
    rates : dict of float
        By parameters' paths: its learning rate is `lr` times this; 1 for those that are left out.
    frozen : set of str
        Paths of parameters that no step changes.
    began : dict of int
        By parameters' paths: how many steps had been taken when it came to be updated, 0 for those that are left out. Adam's
        corrections count from there.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import nn, optim
    >>> layer = nn.Conv2d(1, 2)
    >>> optimizer = optim.SGD(layer, lr=0.1)
    >>> layer.accumulate(b=np.array([1, -2], np.float32))
    >>> optimizer.step()
    >>> layer.params["b"]
    array([-0.1,  0.2], dtype=float32)
    """

    slots: tuple[str, ...] = ()  # names of the state's arrays, zeros at first

    def __init__(self, model: Module, lr: float, weight_decay: float = 0.0) -> None:
        self.model, self.lr, self.weight_decay = model, lr, weight_decay
        self.steps = 0
        self.memory = {
            path: {slot: get_array_module(p).zeros_like(p) for slot in self.slots}
            for path, p in model.named_params().items()
        }
        self.held: Array | None = None
        self.rates: dict[str, float] = {}
        self.frozen: set[str] = set()
        self.began: dict[str, int] = {}

    def gradients(self) -> dict[str, Array]:
        """The model's gradients so far, of the parameters that are not frozen, by path."""
        return {path: g for path, g in self.model.named_grads().items() if path not in self.frozen}

    def step(self) -> None:
        """Update every parameter by the model's gradients."""
        self.advance()
        self.apply()

    def scalars(self) -> tuple[float, ...]:
        """The numbers that may change from step to step: the learning rate, and in Adam the bias corrections."""
        return (self.lr,)

    def hold(self) -> Array:
        """Keep `scalars` in an array beside the parameters, `held`, for steps that are recorded and replayed on a GPU.

        Its last element is a flag: if it is not 0, the kernels skip the update. Mixed precision sets it on the GPU, so that
        the host need not wait to decide.
        """
        xp = get_array_module(*self.model.named_params().values())
        self.held = xp.zeros(len(self.scalars()) + 1, np.float32)
        return self.held

    def advance(self) -> None:
        """The host's half of a step: count the step, and write `held` if there is one."""
        self.steps += 1
        if self.held is not None:
            for i, number in enumerate(self.scalars()):
                self.held[i] = number  # on a GPU passed as a kernel's argument, without a copy from the host's memory

    def apply(self, paths: Collection[str] | None = None) -> None:
        """The device's half of a step: change parameters and their state in place; only those of these paths, if given."""
        params, grads = self.model.named_params(), self.gradients()
        if paths is not None:
            grads = {path: g for path, g in grads.items() if path in paths}
        alike: dict[tuple[float, int], list[str]] = {}
        for path in grads:
            alike.setdefault((self.rates.get(path, 1.0), self.began.get(path, 0)), []).append(path)
        for (rate, began), group in alike.items():
            memory = {slot: [self.memory[path][slot] for path in group] for slot in self.slots}
            lr: Any = self.lr * rate if self.held is None else self.held
            p, g = ([arrays[path] for path in group] for arrays in (params, grads))
            self.update(p, g, lr, self.steps - began, **memory)

    def update(self, p: Arrays, g: Arrays, lr: Any, steps: int, **memory: Arrays) -> None:
        """Change parameters and their state in place, at a learning rate (or `held`), in their step of this number."""
        raise NotImplementedError

    def state(self) -> dict[str, Array]:
        """The state as "slot.path" -> array; the arrays themselves, not copies."""
        return {f"{slot}.{path}": a for path, slots in self.memory.items() for slot, a in slots.items()}

    def load_state(self, state: dict[str, Array], steps: int) -> None:
        """Copy a state and the number of steps taken; ValueError if it belongs to another model or optimiser."""
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
        self, model: Module, lr: float, weight_decay: float = 0.0, momentum: float = 0.9, nesterov: bool = False
    ) -> None:
        super().__init__(model, lr, weight_decay)
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, p: Arrays, g: Arrays, lr: Any, steps: int, velocity: Arrays) -> None:  # type: ignore[override]
        sgd_steps(p, g, velocity, lr, self.momentum, self.nesterov, self.weight_decay)


class Adam(Optimizer):
    """Kingma and Ba, arXiv:1412.6980: steps of about `lr` whatever the gradient's scale, see `adam_step`."""

    slots = ("m", "s")
    decoupled = False

    def __init__(
        self, model: Module, lr: float, weight_decay: float = 0.0, beta1: float = 0.9, beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(model, lr, weight_decay)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps

    def scalars(self) -> tuple[float, ...]:
        """The learning rate, and the two bias corrections, by which the running means are divided."""
        return self.lr, 1 - self.beta1**self.steps, 1 - self.beta2**self.steps

    def update(self, p: Arrays, g: Arrays, lr: Any, steps: Any, m: Arrays, s: Arrays) -> None:  # type: ignore[override]
        steps = steps if self.held is None else None
        adam_steps(p, g, m, s, steps, lr, self.beta1, self.beta2, self.eps, self.weight_decay, self.decoupled)


class AdamW(Adam):
    """Adam with decoupled weight decay, arXiv:1711.05101."""

    decoupled = True


class RMSprop(Optimizer):
    """Tieleman and Hinton (2012), see `rmsprop_step`."""

    slots = ("s", "velocity")

    def __init__(
        self, model: Module, lr: float, weight_decay: float = 0.0, momentum: float = 0.9, decay: float = 0.99,
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(model, lr, weight_decay)
        self.momentum, self.decay, self.eps = momentum, decay, eps

    def update(self, p: Arrays, g: Arrays, lr: Any, steps: int, s: Arrays, velocity: Arrays) -> None:  # type: ignore[override]
        rmsprop_steps(p, g, s, velocity, lr, self.momentum, self.decay, self.eps, self.weight_decay)


def clip_by_norm(grads: dict[str, Array], max_norm: float) -> Any:
    """Scale all gradients in place so that their joint 2-norm is at most max_norm; return the norm before.

    On a GPU the norm is an array without axes, so that the host need not wait for it.

    Source: Pascanu et al., arXiv:1211.5063.

    Examples
    --------
    >>> import numpy as np
    >>> from minunet import optim
    >>> grads = {"w": np.array([3.0, 0.0]), "b": np.array([4.0])}
    >>> optim.clip_by_norm(grads, max_norm=1.0)
    5.0
    >>> grads
    {'w': array([0.6, 0. ]), 'b': array([0.8])}
    """
    return clip(list(grads.values()), max_norm)


@accelerated
def clip(grads: Arrays, max_norm: float) -> Any:
    """`clip_by_norm` of a list."""
    squares = [np.float64(np.vdot(g, g)) if isinstance(g, np.ndarray) else (g * g).sum(dtype=np.float64) for g in grads]
    norm = math.sqrt(float(sum(squares)))  # on a GPU without our kernels the host waits here, once
    if norm > max_norm:
        for g in grads:
            g *= max_norm / norm
    return norm


@accelerated
def move_averages(averages: Arrays, arrays: Arrays, decay: float) -> None:
    """average = decay * average + (1 - decay) * array, in place, for all arrays of a list."""
    for average, a in zip(averages, arrays, strict=True):
        average *= decay
        average += (1 - decay) * a


class WeightAverage:
    """An exponential moving average of a model's parameters and running statistics.

        average = d * average + (1 - d) * weights,    d = min(decay, (1 + n) / (10 + n)) after n steps

    With a constant learning rate the weights end up jumping around a minimum, and their average lies nearer to it than they do.
    So with an average the learning rate need not fall (``--schedule constant``).

    Sources: Polyak and Juditsky 1992, doi:10.1137/0330046; Tarvainen and Valpola, arXiv:1703.01780.

    Parameters
    ----------
    model : Module
    decay : float in (0, 1)
        The average reaches back over about 1 / (1 - decay) steps.
    """

    def __init__(self, model: Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.values = {name: a.copy() for name, a in model.state().items()}

    def update(self, steps: int) -> None:
        """Take in the weights after the `steps`-th step."""
        state = self.model.state()
        decay = min(self.decay, (1 + steps) / (10 + steps))
        move_averages([self.values[name] for name in state], list(state.values()), decay)

    @contextmanager
    def applied(self) -> Iterator[dict[str, Array]]:
        """A ``with`` block in which the model holds the averages; yields its own arrays, by path."""
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
        "constant" never changes it; "step" divides it by 10 after 1/2 and again after 3/4 of the steps; "cosine" lets it fall
        to 0 along half a cosine; "poly" multiplies it by (1 - t)^0.9, where t is the share of steps done; "plateau" halves it
        whenever the validation score has not improved for `patience` epochs.
    lr : float
        Learning rate at the start.
    total : int
        Number of steps in all.
    patience : int
        For "plateau", in epochs.

    Raises
    ------
    ValueError
        If there is no schedule of this name.

    Examples
    --------
    >>> from minunet import optim
    >>> schedule = optim.Schedule("cosine", lr=0.1, total=100)
    >>> [round(schedule(step), 3) for step in (0, 50, 100)]
    [0.1, 0.05, 0.0]
    """

    names = ("constant", "step", "cosine", "poly", "plateau")

    def __init__(self, name: str, lr: float, total: int, patience: int = 5) -> None:
        if name not in self.names:
            raise ValueError(f"schedule must be one of {self.names}, not {name!r}")
        self.name, self.lr, self.total, self.patience = name, lr, max(total, 1), patience
        self.state: dict[str, Any] = {"best": -math.inf, "waited": 0, "factor": 1.0}

    def __call__(self, step: int) -> float:
        """The learning rate of step number `step`, counted from 0."""
        t = min(step / self.total, 1.0)
        factor = {
            "constant": 1.0,
            "step": 0.1 ** ((t >= 0.5) + (t >= 0.75)),
            "cosine": 0.5 * (1 + math.cos(math.pi * t)),
            "poly": (1 - t) ** 0.9,
            "plateau": self.state["factor"],
        }[self.name]
        return self.lr * factor

    def step(self, metric: float) -> None:
        """Give "plateau" the validation score of an epoch (larger is better); the other schedules ignore it."""
        if metric > self.state["best"]:
            self.state.update(best=metric, waited=0)
            return
        self.state["waited"] += 1
        if self.state["waited"] > self.patience:
            self.state.update(waited=0, factor=self.state["factor"] * 0.5)


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}
