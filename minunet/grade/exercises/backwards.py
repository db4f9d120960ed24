"""Functions with right and with wrong backwards, on which the exercise on the gradient checker tries a student's.

Each wrong one passes a checker that measures in a certain wrong way: too loosely, absolutely, by element, by sums, by norms, or
for a dy that is blind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ... import ops

Backward = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Case(NamedTuple):
    """A function f with a backward: which part of the score it belongs to, x, the shape of f(x), whether it is right.

    `told` says what a checker has not seen, or has refused.
    """

    part: str
    x: np.ndarray
    f: Callable[[np.ndarray], np.ndarray]
    backward: Backward
    shape: tuple[int, ...]
    right: bool
    told: str


def norm(x: np.ndarray) -> np.ndarray:
    """A batch norm: every output depends on all x of its channel, and for dy = 1 the gradient is 0."""
    C = x.shape[-1]
    return ops.batch_norm(x, np.ones(C), np.zeros(C))[0]


def norm_backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Gradient of `norm`."""
    C = x.shape[-1]
    return ops.batch_norm_backward(dy, ops.batch_norm(x, np.ones(C), np.zeros(C))[1])[0]


def norm_without_variance(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Gradient of `norm` without the term of the variance, which is 0 for dy = 1."""
    return (dy - dy.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


class Sine:
    """scale * sin(a x + phase), where asked for with a norm added, and m times it; a and phase are random: f must be asked."""

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, ...] = (2, 3, 3, 2),
        scale: float = 1.0,
        normed: bool = False,
        m: np.ndarray | None = None,
    ) -> None:
        self.x, self.scale, self.normed, self.m = rng.standard_normal(shape), scale, normed, m
        self.a, self.phase = rng.uniform(0.5, 0.9, shape), rng.standard_normal(shape)
        self.place, self.other = (int(n) for n in rng.permutation(max(self.x.size, 2))[:2])

    def f(self, x: np.ndarray) -> np.ndarray:
        """The function."""
        y = self.scale * np.sin(self.a * x + self.phase) + (norm(x) if self.normed else 0)
        return y if self.m is None else y @ self.m

    def right(self, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Its gradient."""
        dy = dy if self.m is None else dy @ self.m.T
        dx = self.scale * dy * self.a * np.cos(self.a * x + self.phase)
        return dx + norm_backward(dy, x) if self.normed else dx

    def times(self, factor: float) -> Backward:
        """All of it is wrong by a factor."""
        return lambda dy, x: factor * self.right(dy, x)

    def dented(self, *dents: float) -> Backward:
        """Wrong in one place, or in two, by a share of the largest element."""

        def backward(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
            dx = self.right(dy, x)
            for place, dent in zip((self.place, self.other), dents):
                dx.flat[place] += dent * np.abs(dx).max()
            return dx

        return backward

    def swapped(self, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The right numbers, two of them in each other's place."""
        dx = self.right(dy, x)
        dx.flat[[self.place, self.other]] = dx.flat[[self.other, self.place]]
        return dx

    def positive(self, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Right where dy is positive, and 0 elsewhere."""
        return self.right(np.maximum(dy, 0), x)

    def blind(self, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Without a term that is 0 for dy = 1; unlike the norm's, the gradient is not."""
        return self.right(dy, x) - norm_backward(dy, x) + norm_without_variance(dy, x)


def cases(rng: np.random.Generator) -> list[Case]:
    """What a checker is tried on, for every part right and wrong ones."""
    found: list[Case] = []

    def add(part: str, s: Sine, of: str, *wrong: tuple[str, Backward]) -> None:
        shape = s.f(s.x).shape
        for told, backward in ((f"a right backward is refused{of and f': one {of}'}", s.right), *wrong):
            right = backward == s.right
            told = told if right else f"a wrong backward passes: {told}{of and f', {of}'}"
            found.append(Case(part, s.x, s.f, backward, shape, right, told))

    s, ones = Sine(rng), "right ones pass"
    add(ones, s, "", ("it is twice the gradient", s.times(2)), ("its sign is wrong", s.times(-1)))
    s = Sine(rng, (2, 3, 4))
    s.a.flat[:4] = 0, 1e-9, -1e-9, 1e-9  # an element's gradient may be 0, or next to nothing beside the others'
    add(
        ones,
        s,
        "where some elements are 0, or nearly 0 beside the others",
        ("it is 1.5 times the gradient", s.times(1.5)),
    )
    s = Sine(rng, (5, 3), m=rng.standard_normal((3, 2)))
    add(ones, s, "where f(x) has another shape than x", ("it is 1.1 times the gradient", s.times(1.1)))
    for sign in (1, -1):  # whatever dy is, one of the two gradients is negative everywhere
        s = Sine(rng, (1,), sign)
        s.phase = 0.3 - s.a * s.x
        add(ones, s, "where x has one element", ("it is 1.1 times the gradient", s.times(1.1)))
    s = Sine(rng)
    add("0.1 %", s, "", ("it is 1.0011 times the gradient", s.times(1.0011)))
    s = Sine(rng, normed=True)
    add(
        "one place",
        s,
        "",
        ("in one place it is off by 0.11 % of the largest element", s.dented(0.0011)),
        ("in one place it is too small by 0.11 % of the largest element", s.dented(-0.0011)),
        ("in two places it is off, up and down by as much, so that sum and mean are right", s.dented(0.01, -0.01)),
        ("two elements are in each other's place, so that sum and length are right", s.swapped),
    )
    s = Sine(rng, (200,))
    s.a[:], s.x, s.phase = s.a[0], 0.01 * s.x, 0.01 * s.phase  # no element is much larger than the others
    told = "a wrong backward passes: in one place of 600 it is off by 0.1 % of the largest element"
    found.append(Case("one place", s.x, s.f, s.dented(0.00101), s.x.shape, False, told))  # drowns in a mean
    for part, scale in (("small gradients", 1e-8), ("large gradients", 1e6)):
        s = Sine(rng, scale=scale)
        add(part, s, f"where all elements are about {scale:g}", ("it is 1.01 times the gradient", s.times(1.01)))
    s = Sine(rng, normed=True)
    add("dy = 1", s, "", ("it lacks a term that adds up to 0 where dy is 1 everywhere", s.blind))
    s = Sine(rng)
    add(
        "right ones pass",
        s,
        "",
        ("it is right where dy > 0, and 0 where dy < 0", s.positive),
        ("it is nan everywhere", s.times(np.nan)),
        ("it is nan in one place", s.dented(np.nan)),
    )
    return found
