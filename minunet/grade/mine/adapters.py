"""From the signatures of the exercises to those of minunet's functions: what runs in whose place.

An adapter takes a `Hand` and gives functions by the names of minunet's, with their signatures and results. Where an exercise
is a pair, the cache stays in the student's process and a handle goes round; where it is a backward alone, it gets minunet's
cache, as the exercise says. Everything is float64, and what comes back is checked for its shape: it was graded on other shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import UserError
from ...ops.conv import output_size, pad_spatial, resolve_padding
from .hand import Hand

Functions = dict[str, Callable[..., Any]]
ADAPTERS: dict[str, Callable[[Hand], Functions]] = {}


def adapts(exercise: str) -> Callable[[Callable[[Hand], Functions]], Callable[[Hand], Functions]]:
    """Register the adapter of an exercise."""

    def register(adapter: Callable[[Hand], Functions]) -> Callable[[Hand], Functions]:
        ADAPTERS[exercise] = adapter
        return adapter

    return register


# ---- convolutions ----------------------------------------------------------------------------------------------------

Convolve = Callable[[np.ndarray, np.ndarray, Any, int, Any, int, tuple[int, int]], np.ndarray]


def convolution(convolve: Convolve) -> Functions:
    """`ops.conv2d` with the output of a function and minunet's cache; it gets pads in pixels, and the output's size."""

    def conv2d(
        x: np.ndarray, w: np.ndarray, b: Any = None, stride: int = 1, padding: Any = "same", dilation: int = 1, groups: int = 1
    ) -> tuple[np.ndarray, tuple]:  # fmt: skip
        size = (x.shape[1], x.shape[2])
        pads = resolve_padding(padding, size, w.shape[:2], stride, dilation)
        y = convolve(x, w, b, stride, pads, dilation, output_size(size, w.shape[:2], pads, stride, dilation))
        return y, (x, w, b is not None, stride, pads, dilation, groups)

    return {"conv2d": conv2d}


@adapts("conv_forward")
def _(hand: Hand) -> Functions:
    def convolve(x: Any, w: Any, b: Any, stride: int, pads: Any, dilation: int, size: tuple[int, int]) -> np.ndarray:
        y, _ = hand("conv2d", x, w, b, stride=stride, padding=pads, dilation=dilation, keep=2)
        return hand.array("conv2d", "y", y, (len(x), *size, w.shape[-1]))

    return convolution(convolve)


@adapts("im2col")
def _(hand: Hand) -> Functions:
    def convolve(x: Any, w: Any, b: Any, stride: int, pads: Any, dilation: int, size: tuple[int, int]) -> np.ndarray:
        y = hand("conv2d_im2col", pad_spatial(x, pads), w, stride=stride)
        y = hand.array("conv2d_im2col", "y", y, (len(x), *size, w.shape[-1]))
        return y if b is None else y + b

    return convolution(convolve)


@adapts("filter_image")
def _(hand: Hand) -> Functions:
    def convolve(x: Any, w: Any, b: Any, stride: int, pads: Any, dilation: int, size: tuple[int, int]) -> np.ndarray:
        padded, y = pad_spatial(x, pads), np.empty((len(x), *size, w.shape[-1]))
        for n, k in np.ndindex(len(x), w.shape[-1]):
            one = hand("filter_image", padded[n], w[..., k], stride=stride)
            y[n, ..., k] = hand.array("filter_image", "y", one, size)
        return y if b is None else y + b

    return convolution(convolve)


@adapts("winograd")
def _(hand: Hand) -> Functions:
    def convolve(x: Any, w: Any, b: Any, stride: int, pads: Any, dilation: int, size: tuple[int, int]) -> np.ndarray:
        N, C, K = len(x), w.shape[2], w.shape[3]
        rows, columns = (-(-n // 4) for n in size)
        (top, _), (left, _) = pads
        padded = np.zeros((N, 4 * rows + 2, 4 * columns + 2, C))  # to whole tiles
        padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
        u = hand.array("transform_filter", "u", hand("transform_filter", w), (6, 6, C, K))
        y = np.empty((N, 4 * rows, 4 * columns, K))
        for n, r, c in np.ndindex(N, rows, columns):
            tile = padded[n, 4 * r : 4 * r + 6, 4 * c : 4 * c + 6]
            v = hand.array("transform_input", "v", hand("transform_input", tile), tile.shape)
            m = hand.array("multiply_points", "m", hand("multiply_points", v, u), (6, 6, K))
            out = hand.array("transform_output", "y", hand("transform_output", m), (4, 4, K))
            y[n, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] = out
        y = y[:, : size[0], : size[1]]
        return y if b is None else y + b

    return convolution(convolve)


@adapts("conv_backward")
def _(hand: Hand) -> Functions:
    def conv2d_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, Any]:
        x, w, has_bias, *_ = cache
        dx, dw, db = gradients(hand, "conv2d_backward", dy, cache, 3)
        name = "conv2d_backward"
        return (
            hand.array(name, "dx", dx, x.shape),
            hand.array(name, "dw", dw, w.shape),
            hand.array(name, "db", db, w.shape[-1:]) if has_bias else None,
        )

    return {"conv2d_backward": conv2d_backward}


@adapts("conv_transpose")
def _(hand: Hand) -> Functions:
    def conv_transpose2d(
        x: np.ndarray, w: np.ndarray, b: Any = None, stride: int = 2, padding: Any = 0
    ) -> tuple[np.ndarray, tuple]:
        (N, H, W, _), (KH, KW, _, K) = x.shape, w.shape
        y, cache = hand("conv_transpose2d", x, w, b, stride=stride, padding=padding, keep=2)
        rows, columns = resolve_padding(padding, (H, W), (KH, KW), stride, 1)
        shape = N, (H - 1) * stride + KH - sum(rows), (W - 1) * stride + KW - sum(columns), K
        return hand.array("conv_transpose2d", "y", y, shape), (cache, x.shape, w.shape, b is not None)

    def conv_transpose2d_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, np.ndarray, Any]:
        kept, x_shape, w_shape, has_bias = cache
        name = "conv_transpose2d_backward"
        dx, dw, db = gradients(hand, name, dy, kept, 3)
        return (
            hand.array(name, "dx", dx, x_shape),
            hand.array(name, "dw", dw, w_shape),
            hand.array(name, "db", db, w_shape[-1:]) if has_bias else None,
        )

    return {"conv_transpose2d": conv_transpose2d, "conv_transpose2d_backward": conv_transpose2d_backward}


# ---- what moves values -----------------------------------------------------------------------------------------------


@adapts("max_pool")
def _(hand: Hand) -> Functions:
    def max_pool2d(x: np.ndarray, size: int = 2, stride: int | None = None) -> tuple[np.ndarray, tuple]:
        y, cache = hand("max_pool2d", x, size=size, stride=stride, keep=2)
        N, H, W, C = x.shape
        OH, OW = output_size((H, W), (size, size), ((0, 0), (0, 0)), stride or size)
        return hand.array("max_pool2d", "y", y, (N, OH, OW, C)), (cache, x.shape)

    return one_map(hand, "max_pool2d", max_pool2d)


@adapts("bilinear")
def _(hand: Hand) -> Functions:
    def upsample_bilinear(x: np.ndarray, scale: int = 2, align_corners: bool = True) -> tuple[np.ndarray, tuple]:
        y, cache = hand("upsample_bilinear", x, scale=scale, align_corners=align_corners, keep=2)
        N, H, W, C = x.shape
        return hand.array("upsample_bilinear", "y", y, (N, scale * H, scale * W, C)), (cache, x.shape)

    return one_map(hand, "upsample_bilinear", upsample_bilinear)


@adapts("crop_concat")
def _(hand: Hand) -> Functions:
    def crop(x: np.ndarray, margins: Any) -> tuple[np.ndarray, tuple]:
        y, cache = hand("crop", x, margins, keep=2)
        size = (n - sum(m) for n, m in zip(x.shape[1:3], margins))
        return hand.array("crop", "y", y, (len(x), *size, x.shape[-1])), (cache, x.shape)

    def concat(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple]:
        y, cache = hand("concat", list(arrays), keep=2)
        shape = (*arrays[0].shape[:3], sum(a.shape[-1] for a in arrays))
        return hand.array("concat", "y", y, shape), (cache, [a.shape for a in arrays])

    def concat_backward(dy: np.ndarray, cache: tuple) -> tuple[np.ndarray, ...]:
        kept, shapes = cache
        each = gradients(hand, "concat_backward", dy, kept, len(shapes))
        return tuple(
            hand.array("concat_backward", f"gradient {i}", d, shape) for i, (d, shape) in enumerate(zip(each, shapes))
        )

    return {"concat": concat, "concat_backward": concat_backward, **one_map(hand, "crop", crop)}


def one_map(hand: Hand, name: str, forward: Callable[..., Any]) -> Functions:
    """A pair from one map to one, whose forward puts the shape of x beside the handle."""

    def backward(dy: np.ndarray, cache: tuple) -> np.ndarray:
        kept, shape = cache
        return hand.array(f"{name}_backward", "dx", hand(f"{name}_backward", dy, kept), shape)

    return {name: forward, f"{name}_backward": backward}


def gradients(hand: Hand, name: str, dy: Any, cache: Any, count: int) -> tuple:
    """What a backward with several gradients returns."""
    got = hand(name, dy, cache)
    if not isinstance(got, (tuple, list)) or len(got) != count:
        raise hand.failed(name, f"it should return {count} gradients")
    return tuple(got)


# ---- norm, losses, training ------------------------------------------------------------------------------------------


@adapts("batch_norm")
def _(hand: Hand) -> Functions:
    def batch_norm_backward(dy: np.ndarray, cache: tuple) -> tuple:
        x, gamma, *_ = cache
        each = zip(("dx", "dgamma", "dbeta"), gradients(hand, "batch_norm_backward", dy, cache, 3))
        shapes = (x.shape, gamma.shape, gamma.shape)
        return tuple(hand.array("batch_norm_backward", name, d, shape) for (name, d), shape in zip(each, shapes))

    return {"batch_norm_backward": batch_norm_backward}


@adapts("cross_entropy")
def _(hand: Hand) -> Functions:
    name = "softmax_cross_entropy"

    def forward(
        logits: np.ndarray, labels: np.ndarray, weight: Any = None, class_weight: Any = None, ignore: int = -1
    ) -> tuple:
        options = {"weight": weight, "class_weight": class_weight, "ignore": ignore}
        loss, cache = hand(name, logits, labels, keep=2, **options)
        return float(hand.array(name, "the loss", loss, ())), (cache, logits.shape)

    def backward(dloss: float, cache: tuple) -> np.ndarray:
        kept, shape = cache
        return hand.array(f"{name}_backward", "dlogits", hand(f"{name}_backward", dloss, kept), shape)

    return {name: forward, f"{name}_backward": backward}


@adapts("dice")
def _(hand: Hand) -> Functions:
    def soft_dice_backward(dloss: float, cache: tuple) -> np.ndarray:
        return hand.array("soft_dice_backward", "dlogits", hand("soft_dice_backward", dloss, cache), cache[0].shape)

    return {"soft_dice_backward": soft_dice_backward}


@adapts("momentum")
def _(hand: Hand) -> Functions:
    def sgd_step(
        p: np.ndarray, g: np.ndarray, velocity: np.ndarray, lr: float, momentum: float = 0.9, nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        options = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        _, after = hand("sgd_step", p, g, velocity, lr, changes=(0, 2), **options)
        p[...] = hand.array("sgd_step", "p", after[0], p.shape)
        velocity[...] = hand.array("sgd_step", "velocity", after[2], p.shape)

    return {"sgd_step": sgd_step}


@adapts("weight_map")
def _(hand: Hand) -> Functions:
    def class_balance(counts: np.ndarray) -> np.ndarray:
        return hand.array("class_balance", "the weights", hand("class_balance", counts), counts.shape)

    def separation(instances: np.ndarray, sigma: float = 5.0) -> np.ndarray:
        return hand.array("separation", "the map", hand("separation", instances, sigma=sigma), instances.shape)

    return {"class_balance": class_balance, "separation": separation}


@adapts("unet_backward")
def _(hand: Hand) -> Functions:
    def unet_backward(dy: np.ndarray, back: Callable[[str, Any], Any], depth: int) -> Any:
        """Of errors in a part, which another answer may compute, the part's own is shown, not what the wiring makes of it."""
        inner: list[Exception] = []

        def guarded(part: Any, dy: Any) -> Any:
            try:
                return back(part, dy)
            except Exception as e:
                inner.append(e)
                raise

        try:
            return hand("unet_backward", dy, guarded, depth)
        except Exception:
            if inner and isinstance(inner[0], UserError):
                raise inner[0] from None
            raise

    return {"unet_backward": unet_backward}


@adapts("gradient_check")
def _(hand: Hand) -> Functions:
    def is_gradient(f: Callable[..., Any], backward: Callable[..., Any], x: np.ndarray) -> bool:
        return bool(hand("is_gradient", f, backward, x))

    return {"is_gradient": is_gradient}
