"""Mixed precision: maps, convolutions' weights and gradients in half precision, everything delicate in float32.

A half takes half of the memory, and a GPU multiplies it several times as fast. It has 10 (float16) or 7 (bfloat16) bits of
fraction, and float16 no numbers between 0 and 6e-8 or above 65504. Hence, after Micikevicius et al., arXiv:1710.03740:

* the *master* weights, which the optimiser updates, stay float32: an update is often too small to change a half at all;
* norms and losses compute in float32 (ops/norm.py converts what it reads);
* small float16 gradients would become 0, so the loss is multiplied by a scale before the backward, and gradients are divided by
  it afterwards. The scale is found by trial: a step whose gradients overflow is skipped and the scale halved; after `PATIENCE`
  steps without overflow it is doubled. bfloat16 has the range of float32 and needs no scale.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ..array import Array, get_array_module
from ..errors import UserError
from ..nn import Module
from ..ops.dispatch import accelerated
from .distributed.world import ALONE, World

KINDS = ("fp16", "bf16")
BFLOAT_NUMPY = "2.1.2"
"""Older ones crash with loops for bfloat16, so CuPy has none for them (its `_scalar.pyx`)."""
START = 2.0**16
PATIENCE = 1000


def half_dtype(kind: str) -> np.dtype:
    """The dtype of "fp16" or "bf16"; the latter is from the package ml_dtypes, which the extras for GPUs bring.

    Raises
    ------
    UserError
        For "bf16" without that package, or with a NumPy before `BFLOAT_NUMPY`: CuPy does not know bfloat16 there.
    """
    if kind == "fp16":
        return np.dtype(np.float16)
    if np.lib.NumpyVersion(np.__version__) < BFLOAT_NUMPY:
        raise UserError(
            f"--amp bf16 needs NumPy {BFLOAT_NUMPY} or later, and {np.__version__} is installed: pip install -U numpy, "
            "or take --amp fp16"
        )
    try:
        return np.dtype(import_module("ml_dtypes").bfloat16)
    except ImportError:
        raise UserError("--amp bf16 needs the package ml_dtypes: pip install ml_dtypes, or take --amp fp16") from None


@accelerated
def unscale(grads: Sequence[Array], factor: float | Array, broken: Array) -> None:
    """Multiply gradients in place; set broken[0] to 1 if one is not finite. The factor may be an array of one number."""
    for g in grads:
        g *= np.float32(factor) if isinstance(factor, float) else factor
        broken[...] = get_array_module(g).maximum(broken, ~get_array_module(g).isfinite(g).all())


@accelerated
def cast(arrays: Sequence[Array], halves: Sequence[Array]) -> None:
    """Copy arrays into those of another dtype."""
    for a, half in zip(arrays, halves, strict=True):
        half[...] = a


class MixedPrecision:
    """A model that computes in half precision and leaves float32 gradients; used in its place in a training step.

    Parameters
    ----------
    model : Module
        Holds the master weights; its gradients are what `backward` leaves, and its running statistics are kept.
    kind : "fp16" or "bf16"
    scale : float, optional
        By which the loss is multiplied at first; 1 for bf16.
    world : World
        The ranks that train together: a step is skipped by all or by none.

    Attributes
    ----------
    scale : float
    overflowed : bool
        Whether the last backward's gradients were not finite: then the step is to be skipped.
    held : (2,) float32 array, optional
        The scale and its inverse in memory, for steps that are replayed, see `hold`.
    """

    def __init__(self, model: Module, kind: str = "fp16", scale: float = START, *, world: World = ALONE) -> None:
        self.model, self.dtype, self.world = model, half_dtype(kind), world
        self.scale, self.fixed = (1.0, True) if kind == "bf16" else (scale, False)
        self.overflowed, self.good = False, 0
        self.held: Array | None = None
        self.broken: Any = None  # (1,): 1 where gradients are not finite
        self.half = copy.deepcopy(model)
        self.convolutions = []
        for (_, master), (_, m) in zip(model.modules(), self.half.modules()):
            if hasattr(m, "fan_in"):  # a convolution of whatever kind
                self.convolutions.append((master, m))
                m.params, m.told_of_gradients = {**master.params}, partial(_let_go, master, m)
            else:  # norms: the very arrays of the master
                m.params, m.buffers = master.params, master.buffers

    def hold(self, broken: Array) -> None:
        """Keep the scale in the GPU's memory, for steps that are recorded and replayed; compare `Optimizer.hold`.

        Then `backward` does not synchronise: `advance` comes before a step and `look` after it. `broken`, a (1,) float32 array,
        is the flag that is set where gradients are not finite; the optimiser's kernels read it and skip the update.
        """
        self.held, self.broken = get_array_module(broken).zeros(2, np.float32), broken

    def advance(self) -> None:
        """Write the scale and its inverse to `held`, if there is one."""
        if self.held is not None:
            self.held[0], self.held[1] = self.scale, 1 / self.scale  # as kernels' arguments: without an upload

    def look(self) -> None:
        """Read whether the gradients were finite: halve the scale if not, double it after `PATIENCE` finite steps."""
        self.overflowed = self.world.any(bool(self.broken[0]))  # the host waits for the GPU here, once
        if self.fixed:
            return
        self.good = 0 if self.overflowed else self.good + 1
        if self.overflowed:
            self.scale /= 2
        elif self.good == PATIENCE:
            self.scale, self.good = self.scale * 2, 0

    def zero_grad(self) -> None:
        """Forget the gradients of the model and of its half-precision copy."""
        self.model.zero_grad()
        self.half.zero_grad()

    def forward(self, x: Array, train: bool = True, rng: Any = None, keep: bool = True) -> tuple[Any, Any]:
        """Float32 images to float32 logits (a list of them, if the model has several heads), and the cache."""
        masters, halves = [], []
        for master, m in self.convolutions:
            for name, p in master.params.items():
                if m.params[name].dtype != self.dtype:
                    m.params[name] = get_array_module(p).empty(p.shape, self.dtype)
                masters.append(p)
                halves.append(m.params[name])
        cast(masters, halves)
        y, cache = self.half.forward(x.astype(self.dtype), train=train, rng=rng, keep=keep)
        return [head.astype(np.float32) for head in y] if isinstance(y, list) else y.astype(np.float32), cache

    def backward(self, dy: Any, cache: Any) -> None:
        """Add the gradients, in float32, to the model's, and see whether they are finite; `dy` is a list for several heads."""
        self.half.zero_grad()
        scale: Any = np.float32(self.scale)
        factor: float | Array = 1 / self.scale
        if self.held is None:
            self.broken = get_array_module(*self.model.named_params().values()).zeros(1, np.float32)
        else:
            scale, factor = self.held[:1], self.held[1:]
            self.broken[...] = 0
        scaled = [d if d is None else (d * scale).astype(self.dtype) for d in (dy if isinstance(dy, list) else [dy])]
        self.half.backward(scaled if isinstance(dy, list) else scaled[0], cache)
        pairs = [(master, m) for (_, master), (_, m) in zip(self.model.modules(), self.half.modules())]
        grads = [{name: g.astype(np.float32, copy=False) for name, g in m.grads.items()} for _, m in pairs]
        unscale([g for own in grads for g in own.values()], factor, self.broken)
        for (master, _), own in zip(pairs, grads):
            master.accumulate(**own)
        if self.held is None:
            self.look()


def _let_go(master: Module, m: Module, names: list[str]) -> None:
    """Forget parameters in half precision whose gradients are there, until the next forward: those take their memory."""
    m.params.update({name: master.params[name] for name in names})
