"""Exercises on the gradient checker, the U-Net's wiring, and momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import optim
from ...models import UNet
from ..answers import unet_backward
from ..exercise import Exercise
from ..process.callbacks import Callback, Refused, floats
from ..sheet import Raised, Sheet
from .backwards import cases

PLAIN = "grade/answers.py"

# ---- the checker -----------------------------------------------------------------------------------------------------

gradient_check = Exercise(
    "gradient_check",
    "The gradient checker itself",
    lesson=2,
    minutes=45,
    task="""Write `numerical_gradient`, which needs nothing but f, and with it `is_gradient`, which tells right
backwards from wrong ones.
The grader hands your checker functions of its own, f and backward, right ones and wrong ones; they run in another
process,
and all you can do is call them.""",
    write=((PLAIN, "numerical_gradient"), (PLAIN, "is_gradient")),
)


@gradient_check.check("differences", "upstream", "x unchanged")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = rng.standard_normal(((2, 3, 2), (5,), (2, 1, 3, 2))[sheet.time])
    a, m = rng.standard_normal(x.shape), rng.standard_normal((x.shape[-1], 4))
    for part, asked, dy in (
        ("differences", "f(x) = exp(a x), dy = 1", np.ones(x.shape)),
        ("upstream", "f(x) = exp(a x)", rng.standard_normal(x.shape)),
        ("upstream", "f(x) = exp(a x) @ m, of another shape than x", rng.standard_normal((*x.shape[:-1], 4))),
    ):
        mixes = dy.shape != x.shape
        f = Callback((lambda x: np.exp(a * x) @ m) if mixes else (lambda x: np.exp(a * x)), x.shape)
        how: dict[str, Any] = {"spread": False, "changes": (1,)}
        got, after = sheet.call("numerical_gradient", f, x, dy, **how)
        sheet.same(part, asked, got, (dy @ m.T if mixes else dy) * a * np.exp(a * x), 1e-7)
        sheet.same("x unchanged", "", after[1], x, 1e-12)
    dy, h = rng.standard_normal(x.shape), 0.5
    f = Callback(lambda x: a * h * np.floor(x / h), x.shape)  # flat, but for who looks as far as h
    got, _ = sheet.call("numerical_gradient", f, x, dy, h, spread=False, changes=(1,))
    sheet.same("differences", f"f(x) = a stair(x), of steps as long as h = {h}", got, dy * a, 1e-7)


NO_VERDICT = "it should return True or False, as the comparison of two numbers does"
CHECKED = ("right ones pass", "0.1 %", "one place", "small gradients", "large gradients", "dy = 1")


@gradient_check.check(*CHECKED, times=1)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    tried = cases(rng)
    for number in rng.permutation(len(tried)):  # in an order that nobody knows
        case = tried[number]
        f, backward = Callback(case.f, case.x.shape), Callback(case.backward, case.shape, case.x.shape)
        got = sheet.call("is_gradient", f, backward, case.x)
        known = isinstance(got, bool) or (np.shape(got) == () and np.asarray(got).dtype == bool)
        sheet.holds(case.part, "", known and bool(got) == case.right, got, case.told if known else NO_VERDICT)
    # who says the same to all has checked nothing
    answers = {bool(m.output) for m in sheet.marks if np.shape(m.output) == () and not isinstance(m.output, str)}
    for m in sheet.marks:
        if len(answers) < 2 and not isinstance(m.output, Raised):
            m.ok, m.message = False, "it says the same of right and of wrong backwards"


_CHECK = "dx[index] = (above - below) / (2 * h)"
_RANDOM = "dy = np.random.default_rng(0).standard_normal(f(x).shape)"
_VERDICT = "return bool(np.abs(dx - wanted).max() <= 1e-5 * scale)"
gradient_check.wrong("divided_by_h", "the points are 2h apart: divide by 2h", (_CHECK, _CHECK.replace("(2 * h)", "h")))
gradient_check.wrong(
    "one_sided",
    "the difference is one-sided, with an error of the order of h: take f(x + h) - f(x - h)",
    ("probe[index] = x[index] - h", "probe[index] = x[index]"),
    ("(2 * h)", "h"),
)
gradient_check.wrong(
    "dy_ignored", "dy is ignored: the gradient is that of sum(f(x) * dy)", ("(f(probe) * dy).sum()", "f(probe).sum()")
)
gradient_check.wrong(
    "x_not_restored",
    "x is left changed: put each element back before the next, or work on a copy",
    ("probe = x.copy()", "probe = x"),
    ("probe[index] = x[index] - h", "probe[index] = x[index] - 2 * h"),
)
# what a checker takes for right or wrong is told by the check: a few times True or False are no evidence of how it was found
gradient_check.wrong(
    "ones_upstream",
    "",
    (_RANDOM, "dy = np.ones(f(x).shape)"),
)
gradient_check.wrong(
    "absolute_tolerance",
    "",
    (_VERDICT, "return bool(np.abs(dx - wanted).max() <= 1e-5)"),
)
gradient_check.wrong(
    "loose_tolerance",
    "",
    (_VERDICT, _VERDICT.replace("1e-5", "5e-3")),
)
gradient_check.wrong(
    "mean_error",
    "",
    (_VERDICT, "return bool(np.abs(dx - wanted).mean() <= 1e-5 * scale)"),
)
gradient_check.wrong("always_true", "", (_VERDICT, "return True"))

# ---- the U-Net -------------------------------------------------------------------------------------------------------

unet = Exercise(
    "unet_backward",
    "The U-Net's backward: wiring",
    lesson=5,
    minutes=45,
    needs=("crop_concat",),
    task="""Write `unet_backward`: call the parts' backwards in the right order, each with the right gradient. What
forward hands over
twice must get the sum of both gradients. The parts are those of a real U-Net, which runs in the grader's process.""",
    write=((PLAIN, "unet_backward"),),
)


class Wired:
    """A U-Net whose parts' backwards can be called by name, once each."""

    def __init__(self, rng: np.random.Generator, depth: int) -> None:
        self.net = UNet(2, 3, base_width=2, depth=depth, seed=int(rng.integers(99)))
        self.net.convert(lambda a: a.astype(np.float64))
        self.x = rng.standard_normal((2, 2**depth + 1, 2**depth + 2, 2))  # a norm needs two values at the bottom
        y, self.caches = self.net.forward(self.x)
        self.dy = rng.standard_normal(y.shape)
        down = [f"{part}.{level}" for level in range(depth) for part in ("encoder", "pool")]
        up = [f"{part}.{level}" for level in reversed(range(depth)) for part in ("up", "join", "decoder")]
        self.names, self.called = [*down, "bottom", *up, "head"], list[str]()
        self.takes: dict[str, tuple[int, ...]] = {}  # shapes of the parts' gradients, where they are known

    def back(self, name: str, dy: Any) -> Any:
        """The backward of one part."""
        if not isinstance(name, str) or name not in self.names:
            raise Refused(f"there is no part {name!r}")
        if name in self.called:
            raise Refused(f"the backward of {name!r} was called twice")
        try:
            dy = floats(dy, self.takes.setdefault(name, getattr(dy, "shape", ())))
        except Refused as e:
            raise Refused(f"the backward of {name!r}: {e}") from None
        self.called.append(name)
        part, _, level = name.partition(".")
        module = getattr(self.net, part)
        module = module[int(level)] if isinstance(module, list) else module
        result = module.backward(dy, self.caches[self.names.index(name)])
        return tuple(map(np.array, result)) if isinstance(result, tuple) else np.array(result)

    def grads(self) -> np.ndarray:
        """All parameters' gradients, in one row."""
        return np.concatenate([np.ravel(g) for g in self.net.named_grads().values()])


@unet.check("image, depth 1", "parameters, depth 1")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _wired(sheet, rng, 1, "depth 1")


@unet.check("image, deeper", "parameters, deeper", times=2)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _wired(sheet, rng, (2, 4)[sheet.time], "deeper")


def _wired(sheet: Sheet, rng: np.random.Generator, depth: int, how: str) -> None:
    seed = int(rng.integers(1 << 31))
    theirs, right, ours = (Wired(np.random.default_rng(seed), depth) for _ in range(3))
    unet_backward(ours.dy, ours.back, depth)  # which notes the shapes
    theirs.takes = ours.takes
    dx = sheet.call("unet_backward", theirs.dy, theirs.back, depth)
    wanted = right.net.backward(right.dy, right.caches)
    sheet.same(f"image, {how}", f"depth {depth}", dx, wanted)
    grads = dx if isinstance(dx, Raised) else theirs.grads()
    sheet.same(f"parameters, {how}", f"depth {depth}", grads, right.grads())


unet.wrong(
    "forgotten_skip",
    "the skip's gradient is forgotten: what forward used twice must get the sum of both gradients",
    ("dx = dx + dskips.pop()", "dx = dx"),
)
unet.wrong(
    "swapped_skip",
    "the joint's two gradients are swapped: the skip gets the first, the way up the second",
    ("dskip, dx = back(", "dx, dskip = back("),
)
unet.wrong(
    "skip_replaces",
    "the skip's gradient replaces the one from the pool: they add up",
    ("dx = dx + dskips.pop()", "dx = dskips.pop()"),
)
unet.wrong(
    "skip_added_before_the_pool",
    "the skip's gradient is added at the wrong place: encoder.l feeds the pool and the skip, so the sum stands between the "
    "backwards of pool.l and encoder.l",
    ('        dx = dx + dskips.pop()\n        dx = back(f"encoder.{level}", dx)',
     '        dx = back(f"encoder.{level}", dx)\n        skip = dskips.pop()\n        '
     "dx = dx + skip.sum(-1, keepdims=True)"),
)  # fmt: skip
unet.wrong(
    "skip_halved",
    "the two gradients are averaged: they add up",
    ("dx = dx + dskips.pop()", "dx = (dx + dskips.pop()) / 2"),
)

# ---- momentum --------------------------------------------------------------------------------------------------------

momentum = Exercise(
    "momentum",
    "Gradient descent with momentum",
    lesson=6,
    minutes=20,
    task="""Write `sgd_step`: change the parameters p, and the velocity, in place, given the gradient g (which stays
as it is). The
velocity keeps a share `momentum` of itself and adds the gradient; p moves against it by `lr`. Nesterov's variant
moves by
the gradient plus `momentum` times the new velocity. Weight decay adds weight_decay * p to the gradient first.""",
    write=(("optim.py", "sgd_step"),),
    docstrings={
        "sgd_step": "One step of gradient descent with momentum: p and velocity are changed in place; returns None."
    },
)


@momentum.check("p", "velocity", "g unchanged")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    for options in ({}, {"momentum": 0.5}):
        _steps(sheet, rng, "p", "velocity", **options)


@momentum.check("nesterov", "weight decay")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _steps(sheet, rng, "nesterov", "nesterov", nesterov=True, momentum=0.8)
    for options in ({}, {"nesterov": True, "momentum": 0.7}):
        _steps(sheet, rng, "weight decay", "weight decay", weight_decay=0.1, **options)


def _steps(sheet: Sheet, rng: np.random.Generator, part: str, velocity_part: str, **options: Any) -> None:
    """Three steps, one on the other."""
    shape = ((3, 4), (3, 3, 2, 4), (5,))[sheet.time]
    p, v = rng.standard_normal(shape), rng.standard_normal(shape)
    q, u = p.copy(), v.copy()
    for step in range(3):
        g, rate = rng.standard_normal(p.shape), float(rng.uniform(0.05, 0.2))
        _, after = sheet.call("sgd_step", p, g, v, rate, changes=(0, 1, 2), **options)
        optim.sgd_step(q, g, u, rate, **options)
        asked = f"step {step + 1}" + "".join(f", {name} {value}" for name, value in options.items())
        sheet.same(part, asked, after[0], q)
        sheet.same(velocity_part, asked if part == velocity_part else f"step {step + 1}", after[2], u)
        sheet.same("g unchanged", asked, after[1], g, 1e-12)
        p, v = q.copy(), u.copy()


momentum.wrong("uphill", "p moves along the gradient, uphill: subtract", ("p -= lr", "p += lr"))
momentum.wrong(
    "velocity_not_in_place",
    "the velocity is computed but not kept: change the array itself (velocity *= ..., velocity += ...)",
    ("    velocity *= momentum\n    velocity += g\n", "    velocity = momentum * velocity + g\n"),
)
momentum.wrong(
    "p_not_in_place",
    "p is not changed in place: p = p - ... makes a new array",
    ("    p -= lr * (", "    p = p - lr * ("),
)
momentum.wrong(
    "running_mean",
    "the velocity is a running mean, with the gradient scaled by 1 - momentum: here the gradient counts whole",
    ("velocity += g\n", "velocity += (1 - momentum) * g\n"),
)
momentum.wrong(
    "nesterov_ignored", "nesterov is ignored", ("g + momentum * velocity if nesterov else velocity", "velocity")
)
momentum.wrong(
    "decay_has_the_wrong_sign",
    "the weight decay has the wrong sign: it pulls towards 0",
    ("g = g + weight_decay", "g = g - weight_decay"),
)
momentum.wrong(
    "g_modified",
    "g is modified in place: whoever holds it finds it changed",
    ("velocity += g\n", "velocity += g\n    g *= momentum\n"),
)
