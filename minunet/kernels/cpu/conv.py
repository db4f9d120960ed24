"""Convolutions on the CPU: which algorithm for which shape, and which lazy maps they return.

There are two algorithms, direct (direct.py, direct_pieces.py) and Winograd's (winograd.py, dilated.py). `winograd_pays`
chooses, for each of a convolution's three passes (forward, data gradient, weight gradient) by itself. Both read and write lazy
feature maps (lazy_maps.py), so that norms, ReLUs and concatenations between convolutions need no passes over memory of their
own.

Measure: python bench/layers.py
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...array import Array
from ...ops.conv import Padding, output_size, resolve_padding
from ...ops.lazy import IMAGE_CHANNELS, LazyConcat, LazyMap, MaybeLazy, fusing, materialize, training
from . import dilated, direct, direct_pieces, direct_weights, winograd
from .direct import ConvGeometry, by_group
from .epilogues import MASK, MOMENTS, STORE, Output
from .launch import ceil_div
from .lazy_maps import Gradient, LazyAffine
from .memory import empty
from .norm import channel_sums
from .pointwise import mask
from .simd import lanes


def conv2d(
    x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 1, padding: Padding = "same", dilation: int = 1,
    groups: int = 1,
) -> tuple[MaybeLazy, tuple]:  # fmt: skip
    """The kernel of `ops.conv2d`."""
    pads = resolve_padding(padding, x.shape[1:3], w.shape[:2], stride, dilation)
    s, _ = geometry(x.shape, w.shape, pads, stride, dilation, groups)
    y = Output(empty((s.N, s.OH, s.OW, s.K), x.dtype), MOMENTS if fusing() and training() else STORE)
    if not winograd_pays(s, x.dtype):
        direct_pieces.convolution(x, w, lambda w: by_group(w, groups), b, y.y, s)
    elif dilation == 1:
        winograd.convolution(x, w, b, [y], s.top, s.left)
    else:
        dilated.convolution(x, w, b, y.y, s)
    if isinstance(x, LazyConcat):
        x.release()
    result = LazyAffine(y.y, moments=y.found) if fusing() else y.y
    return result, (x, w, b is not None, stride, pads, dilation, groups)


def conv2d_backward(dy: MaybeLazy, cache: tuple) -> tuple[MaybeLazy, Array, Array | None]:
    """The kernel of `ops.conv2d_backward`."""
    x, w, has_bias, stride, pads, dilation, groups = cache
    s, back = geometry(x.shape, w.shape, pads, stride, dilation, groups)
    db = bias_gradient(dy) if has_bias else None
    if stride > 1:
        dy = materialize(dy)  # it is read for each phase
    of_image = fusing() and type(x) is np.ndarray and s.C <= IMAGE_CHANNELS
    to = [] if of_image else gradient_outputs(x, s, back)  # before dw, which would take a part of a gap that fits a map
    if not winograd_pays(s, x.dtype, weights=True):
        dw = direct_pieces.weight_gradient(x, dy, s)
    elif dilation == 1:
        dw = winograd.weight_gradient(x, dy, s.top, s.left)
    else:
        dw = dilated.weight_gradient(x, dy, s)
    if of_image:
        return OfImage(dy, w, x, s, back), dw, db
    dx = data_gradient(dy, w, x, s, back, to)
    if isinstance(dy, Gradient):
        dy.release()
    return dx, dw, db


@functools.lru_cache(4096)
def geometry(
    x: tuple[int, ...], w: tuple[int, ...], pads: tuple[tuple[int, int], tuple[int, int]], stride: int, dilation: int,
    groups: int,
) -> tuple[ConvGeometry, ConvGeometry]:  # fmt: skip
    """The convolution of arrays of these shapes, and that of dy which, for stride 1, gives the gradient of x."""
    (N, H, W, C), (KH, KW, _, K), ((top, _), (left, _)) = x, w, pads
    OH, OW = output_size((H, W), (KH, KW), pads, stride, dilation)
    s = ConvGeometry(N, H, W, C, OH, OW, K, KH, KW, stride, dilation, top, left, groups)
    above, before = dilation * (KH - 1) - top, dilation * (KW - 1) - left
    return s, ConvGeometry(N, OH, OW, K, H, W, C, KH, KW, stride, dilation, above, before, groups)


def data_gradient(
    dy: MaybeLazy, w: Array, x: MaybeLazy, s: ConvGeometry, back: ConvGeometry, to: list[Output]
) -> MaybeLazy:
    """The gradient of the input x of the convolution s, in `gradient_outputs`; `back` takes dy to it, for stride 1."""
    pays = winograd_pays(back, x.dtype)
    if pays and s.dilation == 1:
        winograd.convolution(dy, w, None, to, back.top, back.left, turned=True)
        return gradient(x, to)
    if pays:
        dilated.convolution(dy, w, None, to[0].y, back, turned=True)
    else:
        direct_pieces.data_gradient(dy, w, to[0].y, s)
    return masked(to[0].y, x)


class OfImage(LazyMap):
    """The gradient of an image, which is computed when something reads it: a training step does not."""

    def __init__(self, dy: MaybeLazy, w: Array, x: Array, s: ConvGeometry, back: ConvGeometry) -> None:
        self.parts, self.shape, self.dtype = (dy, w, x, s, back), x.shape, x.dtype

    def array(self) -> np.ndarray:
        _, _, x, s, back = self.parts
        return materialize(data_gradient(*self.parts, gradient_outputs(x, s, back)))


def conv_transpose2d(
    x: MaybeLazy, w: Array, b: Array | None = None, stride: int = 2, padding: Padding = 0
) -> tuple[Array, tuple]:
    """The kernel of `ops.conv_transpose2d`, for stride = KH = KW and no padding."""
    (N, H, W, C), (KH, KW, _, K) = x.shape, w.shape
    s = ConvGeometry(N, H, W, C, H, W, K, 1, 1, 1, 1, 0, 0, 1)
    y = empty((N, H * KH, W * KW, K), x.dtype)
    direct.convolution(x, w, lambda w: w.reshape(KH * KW, 1, 1, C, K), b, y, s, stamp=stride)
    return y, (x, w, b is not None, stride, resolve_padding(padding, (H, W), (KH, KW), stride, 1))


def conv_transpose2d_backward(dy: MaybeLazy, cache: tuple) -> tuple[MaybeLazy, Array, Array | None]:
    """The kernel of `ops.conv_transpose2d_backward`: the convolution whose transpose this is takes dy to dx."""
    x, w, has_bias, stride, pads = cache
    (N, H, W, C), (KH, KW, _, K), (OH, OW) = x.shape, w.shape, dy.shape[1:3]
    s = ConvGeometry(N, OH, OW, K, H, W, C, KH, KW, stride, 1, pads[0][0], pads[1][0], 1)
    dw = direct_weights.weight_gradient(dy, x, s, swap=True)
    dx = empty(x.shape, x.dtype)
    direct.convolution(dy, w, lambda w: w.swapaxes(2, 3)[None], None, dx, s)
    return masked(dx, x), dw, bias_gradient(dy) if has_bias else None


@functools.lru_cache(4096)
def winograd_pays(s: ConvGeometry, dtype: Any, weights: bool = False) -> bool:
    """Whether Winograd's algorithm (winograd.py) is the faster one for a pass of a convolution: forward, data gradient, or
    with `weights` the weight gradient.

    It needs a quarter of the multiplications, but also a transform of every tile of 4x4 pixels; with few input channels that
    costs more than it saves, and with too few to fill a vector as much as with a vector. Its matrix products have one row for
    each tile, and with fewer than about eight tiles most time goes into the filters, unless there are many channels and four
    tiles, none of them partly outside. (With 512 channels on a map of 8x8, filters read from memory: forward 2.6 ms in place
    of 3.1, the data gradient alike, the weight gradient 5.2 in place of 3.1.) Work on tiles that lie mostly outside of the
    image is wasted; it is enough if a quarter of the tiles' pixels lie inside, since direct convolution wastes work on
    padding, too. All limits were measured on two AVX-512 cores; `bench/choices.py` checks them.

    A dilation makes many small maps (dilated.py), whose tiles reach far over their edges, while direct convolution leaves out
    the taps that meet padding. So there the multiplications are counted, with a quarter more for Winograd's transforms.

    float64 is always direct: whoever asks for it wants the last digits, and Winograd's sums lose one of them.
    """
    d = s.dilation
    if (s.KH, s.KW, s.stride, s.groups) != (3, 3, 1, 1) or dtype != np.float32 or s.top % d or s.left % d:
        return False
    if s.C < 8 or (not weights and lanes(dtype) > s.C):
        return False
    t = dilated.undilated(s) if d > 1 else s
    tiles = t.N * ceil_div(t.OH, 4) * ceil_div(t.OW, 4)
    if d > 1:
        return tiles >= 8 and 36 * tiles * 5 / 4 <= s.N * direct_pieces.taps_met(s)
    pixels = s.N * s.OH * s.OW
    few_pay = not weights and tiles >= 4 and s.C >= 256 and 16 * tiles == pixels
    return 16 * tiles <= 4 * pixels if tiles >= 8 else few_pay


# ---- gradients of lazy maps ------------------------------------------------------------------------------------------


def gradient_outputs(x: MaybeLazy, s: ConvGeometry, back: ConvGeometry) -> list[Output]:
    """Where to write the gradient of a convolution's input: two maps for a LazyConcat; already masked if a ReLU gave x.

    Only Winograd's convolution writes so; for others it is one plain map.
    """
    if not winograd_pays(back, x.dtype) or s.dilation > 1:
        return [Output(empty(x.shape, x.dtype))]
    if isinstance(x, LazyConcat) and fusing():
        return [Output(empty(part.shape, x.dtype), STORE if is_clipped(part) else MOMENTS) for part in (x.a, x.b)]
    if isinstance(x, LazyAffine) and x.may_be_masked():
        return [Output(empty(x.shape, x.dtype), MASK, x)]
    return [Output(empty(x.shape, x.dtype))]


def gradient(x: MaybeLazy, to: list[Output]) -> MaybeLazy:
    """The gradient of x from the outputs that it was written to."""
    if len(to) == 2:
        return LazyConcat(*(with_sums(t) for t in to))
    return Gradient(to[0].y, to[0].found, to[0].masked_by) if to[0].mode == MASK else to[0].y


def is_clipped(x: MaybeLazy) -> bool:
    """Whether x is the result of a ReLU, whose backward makes the sums that the layer before it needs."""
    return isinstance(x, LazyAffine) and x.relu


def with_sums(t: Output) -> MaybeLazy:
    """The gradient of one half of a LazyConcat, with its sums, which a transposed convolution needs for its bias."""
    if t.mode == STORE:
        return t.y
    mean, _ = t.found
    return Gradient(t.y, (mean * (t.y.size // t.y.shape[3]), None))


def masked(dx: Array, x: MaybeLazy) -> MaybeLazy:
    """`gradient` for kernels that write dx without masking it: the mask is a pass of its own."""
    if not fusing():
        return dx
    if isinstance(x, LazyAffine) and x.may_be_masked():
        return mask(dx, x, out=dx)
    if isinstance(x, LazyConcat):
        C = x.a.shape[3]
        return LazyConcat(dx[..., :C], dx[..., C:])
    return dx


def bias_gradient(dy: MaybeLazy) -> Array:
    """Sum of dy (N, H, W, K) over all pixels, (K,)."""
    if isinstance(dy, Gradient):
        return dy.sums[0].astype(dy.dtype)
    return channel_sums(materialize(dy))
