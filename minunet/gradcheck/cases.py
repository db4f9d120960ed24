"""The cases to check: every op and model, each on a small, awkward example.

The examples are small enough for the full check, and awkward on purpose: odd sizes, strides that do not divide them, several
images, one channel. ``python -m minunet.gradcheck`` runs these cases, and the bugs are planted in them; the tests draw many
more shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from .. import ops
from ..array import get_array_module
from ..models import UNet
from ..models.gates import BothExcitations
from ..models.recurrent import Recurrent
from ..models.residual_unet import ResidualUnit
from ..nn import BatchNorm2d, Conv2d, Module, ReLU, Sequential
from .check import check, draw
from .report import GradientReport


@dataclass
class Case:
    """One thing to check.

    `target` is the first argument of `check`, `inputs(rng)` makes the others; in the arguments named in `linear` it is linear.
    """

    name: str
    target: Any
    inputs: Callable[[np.random.Generator], tuple]
    options: dict[str, Any] = field(default_factory=dict)
    linear: tuple[str, ...] = ()

    def run(self, target: Any = None, seed: int = 0, xp: ModuleType = np, **how: Any) -> GradientReport:
        """Check the case, or another `target` in its place (a student's pair, a planted bug), on arrays of xp."""
        target = self.target if target is None else target
        target = target() if _is_factory(target) else target
        if isinstance(target, Module):
            target.convert(xp.asarray)
        inputs, options = _moved((self.inputs(np.random.default_rng(seed)), self.options), xp)
        return check(target, *inputs, name=self.name, seed=seed, **options, **how)


def _moved(a: Any, xp: ModuleType) -> Any:
    """Arguments with their arrays as arrays of xp."""
    if isinstance(a, np.ndarray):
        return xp.asarray(a)
    if isinstance(a, dict):
        return {name: _moved(v, xp) for name, v in a.items()}
    return type(a)(_moved(v, xp) for v in a) if isinstance(a, (tuple, list)) else a


def _is_factory(target: Any) -> bool:
    return callable(target) and not isinstance(target, Module)


def _images(*shape: int) -> Callable[[np.random.Generator], tuple]:
    return lambda rng: (draw(shape, rng),)


def _conv(x: tuple, w: tuple, bias: bool = False) -> Callable[[np.random.Generator], tuple]:
    return lambda rng: (draw(x, rng), draw(w, rng), draw(w[-1], rng) if bias else None)


def _norm(*shape: int) -> Callable[[np.random.Generator], tuple]:
    return lambda rng: (draw(shape, rng), draw(shape[-1], rng), draw(shape[-1], rng))


def _labelled(K: int) -> Callable[[np.random.Generator], tuple]:
    """Logits, labels with some ignored, a weight map and class weights."""

    def inputs(rng: np.random.Generator) -> tuple:
        labels = rng.integers(-1, max(K, 2), (2, 3, 4))
        weight = rng.uniform(0.5, 2, labels.shape).astype(np.float32)
        return draw((2, 3, 4, K), rng), labels, weight, list(range(1, max(K, 2) + 1))

    return inputs


def _gate(*a: int) -> Callable[[np.random.Generator], tuple]:
    """A map and a gate."""
    return lambda rng: (draw((2, 3, 4, 2), rng), draw(a, rng))


def _unpool(*x: int) -> Callable[[np.random.Generator], tuple]:
    """Values, and the numbers of winners of 2 x 2 windows."""
    return lambda rng: (draw(x, rng), rng.integers(0, 4, x).astype(np.uint8))


def _boxes(rng: np.random.Generator) -> tuple:
    """Boxes, others that meet some of them, and weights."""
    corners = [rng.uniform(0, 5, (8, 2)) for _ in range(2)]
    return (*(np.concatenate([c, c + rng.uniform(1, 5, c.shape)], -1) for c in corners), rng.uniform(0.5, 2, 8))


def _stars(rng: np.random.Generator) -> tuple:
    """Outputs for polygons of four rays, their target with some pixels that do not count, and a weight map."""
    target = np.abs(draw((2, 3, 4, 5), rng))
    target[..., 0] = rng.choice([-1.0, 0.0, 0.3, 1.0], (2, 3, 4))
    return draw((2, 3, 4, 5), rng), target, rng.uniform(0.5, 2, (2, 3, 4)).astype(np.float32)


def three_masks(prototypes: Any, coefficients: Any) -> tuple[Any, tuple]:
    """`ops.prototype_masks` of four rows of coefficients, two of them of one object, in boxes that overlap."""
    xp = get_array_module(prototypes)
    truths = [[[1, 0, 1], [1, 1, -1]], [[0, 1], [1, 1], [1, 0]], [[1]]]
    crops = [ops.Crop(*at, xp.asarray(t)) for at, t in zip(((0, 0, 1), (0, 1, 2), (1, 3, 0)), truths)]
    return ops.prototype_masks(prototypes, coefficients, [0, 1, 0, 2], crops)


def concat2(a: Any, b: Any) -> tuple[Any, tuple]:
    """`ops.concat` of two arguments, for the checker."""
    return ops.concat([a, b])


def concat3(a: Any, b: Any, c: Any) -> tuple[Any, tuple]:
    """`ops.concat` of three arguments."""
    return ops.concat([a, b, c])


def add2(a: Any, b: Any) -> tuple[Any, tuple]:
    """`ops.add` of two arguments."""
    return ops.add([a, b])


def conv_norm_relu() -> Module:
    """A small net whose bias the norm cancels: its gradient is exactly 0."""
    rng = np.random.default_rng(1)
    return Sequential(conv1=Conv2d(2, 3, rng=rng), norm1=BatchNorm2d(3), relu1=ReLU(), conv2=Conv2d(3, 2, rng=rng))


def unet(**options: Any) -> Callable[[], Module]:
    return lambda: UNet(2, 3, **{"base_width": 2, "depth": 2, "seed": 1, **options})


LINEAR_CONV = ("x", "w")
MARGINS = ((1, 0), (0, 2))

CASES = [
    Case("conv2d", (ops.conv2d, ops.conv2d_backward), _conv((2, 5, 7, 3), (3, 3, 3, 2), True)),
    Case("conv2d stride", (ops.conv2d, ops.conv2d_backward), _conv((2, 7, 6, 2), (3, 3, 2, 3)), {"stride": 2}, LINEAR_CONV),
    Case("conv2d dilation", (ops.conv2d, ops.conv2d_backward), _conv((1, 6, 7, 2), (3, 2, 2, 2)), {"dilation": 2}, LINEAR_CONV),
    Case("conv2d groups", (ops.conv2d, ops.conv2d_backward), _conv((2, 4, 3, 4), (3, 3, 2, 6)), {"groups": 2}, LINEAR_CONV),
    Case("conv2d valid", (ops.conv2d, ops.conv2d_backward), _conv((1, 5, 4, 1), (4, 2, 1, 2)), {"padding": "valid"},
         LINEAR_CONV),
    Case("conv2d 1x1", (ops.conv2d, ops.conv2d_backward), _conv((2, 3, 3, 3), (1, 1, 3, 2)), {}, LINEAR_CONV),
    Case("depthwise_conv2d", (ops.depthwise_conv2d, ops.depthwise_conv2d_backward), _conv((2, 5, 6, 3), (3, 2, 3), True)),
    Case("depthwise_conv2d stride, dilation", (ops.depthwise_conv2d, ops.depthwise_conv2d_backward),
         _conv((1, 8, 7, 2), (3, 3, 2)), {"stride": 2, "dilation": 2, "padding": ((2, 1), (1, 0))}, LINEAR_CONV),
    Case("conv_transpose2d", (ops.conv_transpose2d, ops.conv_transpose2d_backward), _conv((2, 3, 4, 3), (2, 2, 3, 3), True)),
    Case("conv_transpose2d overlapping", (ops.conv_transpose2d, ops.conv_transpose2d_backward),
         _conv((1, 3, 4, 2), (3, 3, 2, 2)), {"stride": 2, "padding": 1}, LINEAR_CONV),
    Case("conv_transpose2d output padding", (ops.conv_transpose2d, ops.conv_transpose2d_backward),
         _conv((1, 3, 4, 2), (3, 3, 2, 2)), {"stride": 2, "padding": ((1, 0), (1, 0))}, LINEAR_CONV),
    Case("max_pool2d", (ops.max_pool2d, ops.max_pool2d_backward), _images(2, 5, 7, 2)),
    Case("max_pool2d overlapping", (ops.max_pool2d, ops.max_pool2d_backward), _images(1, 7, 6, 2), {"size": 3, "stride": 2}),
    Case("max_pool2d ties", (ops.max_pool2d, ops.max_pool2d_backward), lambda rng: (np.ones((1, 4, 6, 2)),),
         {"mode": "projected", "directions": [np.ones((1, 4, 6, 2))]}),  # along (1, ..., 1) it is smooth in a tie too
    Case("max_pool2d padded", (ops.max_pool2d_padded, ops.max_pool2d_padded_backward), _images(2, 5, 6, 2)),
    Case("max_pool2d padded ceil", (ops.max_pool2d_padded, ops.max_pool2d_padded_backward), _images(1, 7, 10, 2),
         {"size": 4, "stride": 3, "ceil_mode": True}),
    Case("max_pool2d padded ties", (ops.max_pool2d_padded, ops.max_pool2d_padded_backward),
         lambda rng: (np.zeros((1, 5, 6, 2)),), {"mode": "projected", "directions": [np.ones((1, 5, 6, 2))]}),
    Case("max_unpool2d", (ops.max_unpool2d, ops.max_unpool2d_backward), _unpool(2, 2, 3, 2), {"output_size": (5, 6)}, ("x",)),
    Case("avg_pool2d", (ops.avg_pool2d, ops.avg_pool2d_backward), _images(2, 5, 7, 2), {}, ("x",)),
    Case("upsample_nearest", (ops.upsample_nearest, ops.upsample_nearest_backward), _images(2, 3, 4, 2), {}, ("x",)),
    Case("upsample_bilinear", (ops.upsample_bilinear, ops.upsample_bilinear_backward), _images(2, 3, 4, 2), {}, ("x",)),
    Case("upsample_bilinear half-pixel", (ops.upsample_bilinear, ops.upsample_bilinear_backward), _images(1, 1, 5, 2),
         {"scale": 3, "align_corners": False}, ("x",)),
    Case("resize_nearest", (ops.resize_nearest, ops.resize_nearest_backward), _images(2, 5, 3, 2), {"size": (3, 7)}, ("x",)),
    Case("resize_bilinear", (ops.resize_bilinear, ops.resize_bilinear_backward), _images(2, 5, 3, 2), {"size": (3, 7)}, ("x",)),
    Case("resize_bilinear corners", (ops.resize_bilinear, ops.resize_bilinear_backward), _images(1, 4, 7, 2),
         {"size": (9, 3), "align_corners": True}, ("x",)),
    Case("pad", (ops.pad, ops.pad_backward), _images(2, 3, 4, 2), {"margins": MARGINS}, ("x",)),
    Case("crop", (ops.crop, ops.crop_backward), _images(2, 4, 6, 2), {"margins": MARGINS}, ("x",)),
    Case("concat", (concat2, ops.concat_backward), lambda rng: (draw((2, 3, 2, 2), rng), draw((2, 3, 2, 2), rng))),
    Case("concat of three", (concat3, ops.concat_backward),
         lambda rng: (draw((2, 3, 2, 2), rng), draw((2, 3, 2, 1), rng), draw((2, 3, 2, 3), rng))),
    Case("add", (add2, ops.add_backward), lambda rng: (draw((2, 3, 2, 2), rng), draw((2, 3, 2, 2), rng))),
    Case("gate of channels", (ops.gate, ops.gate_backward), _gate(2, 1, 1, 2), {}, ("x", "a")),
    Case("gate of pixels", (ops.gate, ops.gate_backward), _gate(2, 3, 4, 1), {}, ("x", "a")),
    Case("gate of values", (ops.gate, ops.gate_backward), _gate(2, 3, 4, 2), {}, ("x", "a")),
    Case("global_avg_pool2d", (ops.global_avg_pool2d, ops.global_avg_pool2d_backward), _images(2, 3, 5, 2), {}, ("x",)),
    Case("batch_norm", (ops.batch_norm, ops.batch_norm_backward), _norm(2, 3, 4, 3)),
    Case("batch_norm given statistics", (ops.batch_norm, ops.batch_norm_backward), _norm(2, 3, 4, 2),
         {"mean": np.array([0.3, -0.1]), "var": np.array([0.7, 2.0])}),
    Case("group_norm", (ops.group_norm, ops.group_norm_backward), _norm(2, 3, 3, 4), {"groups": 2}),
    Case("group_norm of each channel", (ops.group_norm, ops.group_norm_backward), _norm(2, 3, 3, 3), {"groups": 3}),
    Case("relu", (ops.relu, ops.relu_backward), _images(2, 3, 4, 2)),
    Case("leaky_relu", (ops.leaky_relu, ops.leaky_relu_backward), _images(2, 3, 4, 2), {"slope": 0.1}),
    Case("relu6", (ops.relu6, ops.relu6_backward), lambda rng: (6 * draw((2, 3, 4, 2), rng),)),
    Case("tanh", (ops.tanh, ops.tanh_backward), _images(2, 3, 4, 2)),
    Case("scaled_exp", (ops.scaled_exp, ops.scaled_exp_backward),
         lambda rng: (np.append(draw(11, rng), 9.0).reshape(2, 3, 1, 2), np.array([1.3]))),
    Case("sigmoid", (ops.sigmoid, ops.sigmoid_backward), _images(2, 3, 4, 2)),
    Case("softmax", (ops.softmax, ops.softmax_backward), _images(2, 3, 4, 3)),
    Case("dropout", (ops.dropout, ops.dropout_backward), _images(2, 3, 4, 3),
         {"rate": 0.4, "rng": np.random.default_rng(5)}, ("x",)),
    Case("softmax_cross_entropy", (ops.softmax_cross_entropy, ops.softmax_cross_entropy_backward), _labelled(3),
         {"wrt": ["logits"]}),
    Case("bce_with_logits", (ops.bce_with_logits, ops.bce_with_logits_backward), _labelled(1), {"wrt": ["logits"]}),
    Case("soft_dice", (ops.soft_dice, ops.soft_dice_backward), _labelled(3), {"wrt": ["logits"]}),
    Case("soft_dice one channel", (ops.soft_dice, ops.soft_dice_backward), _labelled(1), {"wrt": ["logits"]}),
    Case("focal", (ops.focal, ops.focal_backward), _labelled(3), {"wrt": ["logits"]}),
    Case("focal one channel", (ops.focal, ops.focal_backward), _labelled(1), {"gamma": 1.5, "wrt": ["logits"]}),
    Case("sigmoid_focal", (ops.sigmoid_focal, ops.sigmoid_focal_backward),
         lambda rng: (4 * draw((2, 3, 4), rng), rng.integers(-1, 2, (2, 3, 4))), {"wrt": ["logits"]}),
    Case("sigmoid_bce", (ops.sigmoid_bce, ops.sigmoid_bce_backward),
         lambda rng: (3 * draw((2, 3), rng), rng.random((2, 3)), rng.uniform(0, 2, (2, 3))), {"wrt": ["logits"]}),
    Case("prototype_masks", (three_masks, ops.prototype_masks_backward),
         lambda rng: (draw((2, 4, 5, 3), rng), draw((4, 3), rng))),
    Case("giou", (ops.giou, ops.giou_backward), _boxes, {"wrt": ["boxes"]}),
    Case("star_loss", (ops.star_loss, ops.star_loss_backward), _stars, {"outside": 0.1, "wrt": ["logits"]}),
    Case("conv norm relu conv", conv_norm_relu, _images(2, 4, 5, 2)),
    Case("UNet", unet(), _images(2, 9, 10, 2)),
    Case("UNet at inference", unet(depth=1), _images(1, 4, 6, 2), {"train": False}),
    Case("UNet paper", unet(norm=None, padding="valid", dropout=0.5, depth=1), _images(1, 20, 22, 2)),
    Case("UNet bilinear, group norm", unet(up="bilinear", norm="group", depth=1), _images(1, 6, 7, 2)),
    Case("UNet nearest", unet(up="nearest", conv_bias=True, depth=1), _images(2, 4, 5, 2)),
    Case("residual unit", lambda: ResidualUnit(2, 3, stride=2, rng=np.random.default_rng(1)), _images(2, 5, 4, 2)),
    Case("scSE", lambda: BothExcitations(4, 2, np.random.default_rng(1)), _images(2, 3, 4, 4)),
    Case("recurrent layer", lambda: Recurrent(2, 2, rng=np.random.default_rng(1)), _images(2, 3, 4, 2)),
]  # fmt: skip


def case(name: str) -> Case:
    """The case of this name."""
    return next(c for c in CASES if c.name == name)
