"""The network that becomes the student's own, and who computes what of it.

A U-Net of two levels, with plain ops and in float64. It has a place for every exercise of lessons 01 to 08: its lower up-step
is a transposed convolution, its upper one is bilinear, and what it says of the image's margin is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ... import ops, optim
from ...data import weightmap
from ...models import UNet
from ...models.trace import layers
from ...nn import Cache, UpsampleBilinear
from ...ops.dispatch import replaced, use
from ..answers import is_gradient
from ..process.callbacks import Refused
from .adapters import Functions
from .parts import OPS, owner

SIZE, MARGIN = 40, 4  # pixels: of the images, and of their margin, where the network sees too little
MARGINS = ((MARGIN, MARGIN), (MARGIN, MARGIN))
OURS: Functions = {
    **{name: getattr(optim if name == "sgd_step" else ops, name).plain for name in OPS},
    "crop": ops.crop, "crop_backward": ops.crop_backward, "is_gradient": is_gradient,
    "class_balance": weightmap.class_balance, "separation": weightmap.separation,
}  # fmt: skip


class OwnUNet(UNet):
    """The network, in float64.

    Attributes
    ----------
    wiring : callable or None
        A student's `unet_backward`, in place of our backward.
    """

    wiring: Callable[..., Any] | None = None

    def __init__(self, width: int = 4, seed: int = 0) -> None:
        w = width
        super().__init__(1, 2, widths=([w, 2 * w, 4 * w], [w, w], [w, 2 * w]), seed=seed)
        self.up = [UpsampleBilinear(), self.up[1]]
        self.convert(lambda a: a.astype(np.float64))

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        if self.wiring is None:
            return super().backward(dy, cache)
        dx: np.ndarray = self.wiring(dy, partial(self.back, Backwards(self.depth, cache)), self.depth)
        return dx

    def back(self, backwards: Backwards, part: Any, dy: Any) -> Any:
        """The backward of one part, as the exercise on the wiring has it: each may be called once."""
        name, _, level = backwards.take(part).partition(".")
        module = getattr(self, name)
        module = module[int(level)] if isinstance(module, list) else module
        try:
            return module.backward(np.asarray(dy, np.float64), backwards.caches[backwards.names.index(part)])
        except (ValueError, TypeError, IndexError):
            raise Refused(f"the backward of {part!r} cannot be called with this gradient") from None


class Backwards:
    """The caches of a forward by the names of the parts, and which backwards have been called."""

    def __init__(self, depth: int, caches: list) -> None:
        down = [f"{part}.{level}" for level in range(depth) for part in ("encoder", "pool")]
        up = [f"{part}.{level}" for level in reversed(range(depth)) for part in ("up", "join", "decoder")]
        self.names, self.caches, self.called = [*down, "bottom", *up, "head"], caches, set[str]()

    def take(self, part: Any) -> str:
        """The part's name; Refused if there is none, or if its backward was called before."""
        if not isinstance(part, str) or part not in self.names:
            raise Refused(f"there is no part {part!r}")
        if part in self.called:
            raise Refused(f"the backward of {part!r} was called twice")
        self.called.add(part)
        return part


@dataclass(eq=False)
class Call:
    """One call of a function of `parts.OPS`, or of one that the training calls, with copies of what it got and gave."""

    name: str
    path: str
    args: tuple
    options: dict[str, Any]
    result: Any

    @property
    def work(self) -> int:
        """Multiplications, additions and comparisons, about."""
        first = self.args[0]
        if self.name in ("conv2d", "conv2d_backward"):
            y, w = (self.result[0], self.args[1]) if self.name == "conv2d" else (first, self.args[1][1])
            return int((2 if self.name == "conv2d" else 4) * y.size * w[..., 0].size)
        if self.name in ("conv_transpose2d", "conv_transpose2d_backward"):
            forward = self.name == "conv_transpose2d"
            x, w = self.args[:2] if forward else self.args[1][:2]
            return int((2 if forward else 4) * x.size * w[:, :, 0].size)
        counted = first if isinstance(first, np.ndarray) else self.result  # the backward of a loss gets a number
        return PER_VALUE[self.name] * int(np.size(counted)) if self.name in PER_VALUE else 0


PER_VALUE = {  # of the map that comes in; what moves values, such as a joint, computes nothing
    "max_pool2d": 1, "max_pool2d_backward": 4, "upsample_bilinear": 24, "upsample_bilinear_backward": 6,
    "batch_norm_backward": 11, "softmax_cross_entropy": 8, "softmax_cross_entropy_backward": 3, "soft_dice_backward": 9,
    "sgd_step": 4,
}  # fmt: skip


@dataclass
class Plug:
    """A student's functions in the place of ours, wherever there are some; all others are ours.

    Attributes
    ----------
    functions : dict
        By exercise what its adapter gives.
    path : str
        The layer that runs now: "encoder.0.conv1", "pool.1"; or "crop", "loss", "step".
    trail : list of Call or None
        If it is a list, every call is appended to it.
    """

    functions: dict[str, Functions] = field(default_factory=dict)
    path: str = ""
    trail: list[Call] | None = None

    def run(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a function: the student's or ours."""
        exercise = owner(name, self.path, self.functions)
        given = copied(args) if self.trail is not None else ()
        result = (self.functions[exercise] if exercise else OURS)[name](*args, **options)
        if self.trail is not None:
            after = args if name == "sgd_step" else result
            self.trail.append(Call(name, self.path, given, options, copied(after)))
        return result

    @contextmanager
    def at(self, path: str) -> Iterator[None]:
        """A block that belongs to a place."""
        before, self.path = self.path, path
        try:
            yield
        finally:
            self.path = before

    @contextmanager
    def into(self, net: OwnUNet) -> Iterator[None]:
        """A block in which they run in a network, and in whatever else calls ops; kernels do not run."""
        leaves = list({id(m): (path, m) for path, m in layers(net)}.values())
        for path, m in leaves:
            m.forward = self._placed(path, m.forward, False)  # type: ignore[method-assign]
            m.backward = self._placed(path, m.backward, True)  # type: ignore[method-assign]
        net.wiring = self.functions.get("unet_backward", {}).get("unet_backward")
        try:
            with use("reference"), replaced({name: partial(self.run, name) for name in OPS}):
                yield
        finally:
            net.wiring = None
            for _, m in leaves:
                del m.forward, m.backward

    def _placed(self, path: str, f: Callable[..., Any], backward: bool) -> Callable[..., Any]:
        def run(x: Any, *args: Any, **options: Any) -> Any:
            place = path
            if path in ("pool", "join"):  # one module at all levels
                H = (x[0] if isinstance(x, tuple) else x).shape[1]
                place = f"{path}.{(SIZE // H).bit_length() - 1 - (backward and path == 'pool')}"
            with self.at(place):
                return f(x, *args, **options)

        return run


def copied(value: Any) -> Any:
    """The same with copies of all arrays; functions and handles stay."""
    if isinstance(value, np.ndarray):
        return value.copy()
    return type(value)(map(copied, value)) if type(value) in (tuple, list) else value


# ---- one step --------------------------------------------------------------------------------------------------------


def loss_and_gradients(
    net: OwnUNet, plug: Plug, images: np.ndarray, labels: np.ndarray, weight: np.ndarray
) -> tuple[float, np.ndarray]:
    """One forward and backward, within `plug.into(net)`: the loss, and the gradient of the images.

    Parameters
    ----------
    images : (N, SIZE, SIZE, 1) float64 array
    labels, weight : (N, SIZE - 2 MARGIN, SIZE - 2 MARGIN) arrays
    """
    net.zero_grad()
    logits, cache = net.forward(images)
    with plug.at("crop"):
        middle, cut = plug.run("crop", logits, MARGINS)
    with plug.at("loss"):
        entropy, entropy_cache = ops.softmax_cross_entropy(middle, labels, weight=weight)
        dice, dice_cache = ops.soft_dice(middle, labels)
        dmiddle = ops.softmax_cross_entropy_backward(1.0, entropy_cache) + ops.soft_dice_backward(1.0, dice_cache)
    with plug.at("crop"):
        dlogits = plug.run("crop_backward", dmiddle, cut)
    return float(entropy + dice), net.backward(dlogits, cache)


def probabilities(net: OwnUNet, plug: Plug, images: np.ndarray) -> np.ndarray:
    """What the network says of images, within `plug.into(net)`: for each pixel but those of the margin that it is a cell's."""
    logits, _ = net.forward(images, train=False)
    with plug.at("crop"):
        middle, _ = plug.run("crop", logits, MARGINS)
    return np.asarray(ops.softmax(middle)[0][..., 1])


# ---- how much of it ------------------------------------------------------------------------------------------------


def shares(trail: list[Call], answered: Any) -> dict[str | None, float]:
    """Which exercise computes which share of a step's arithmetic, in descending order; None is what is ours."""
    found: dict[str | None, float] = {}
    total = sum(call.work for call in trail)
    for call in trail:
        exercise = owner(call.name, call.path, answered)
        found[exercise] = found.get(exercise, 0.0) + call.work / total
    return dict(sorted(found.items(), key=lambda item: -item[1]))
