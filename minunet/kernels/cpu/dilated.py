"""Dilated 3x3 convolutions by Winograd's algorithm.

With a dilation d, a pixel meets only pixels whose row and column differ from its own by multiples of d. So the convolution
falls into d * d convolutions without a dilation, each of an image of every d-th row and column:

    x (N, H, W, C) to (N*d*d, H/d, W/d, C)      `apart`: one copy, with zeros where an image is shorter than the others
    convolve, or correlate                      winograd.py, with d * d times as many, smaller images
    y back to (N, OH, OW, K)                    `together`: one copy

This needs a padding at the top and left that is a multiple of d. conv.winograd_pays weighs it against direct_pieces.py, which
goes tap by tap: there, taps that meet padding cost nothing, which is better where d is large beside the map.

Measure: python bench/convs.py --only d2
"""

from __future__ import annotations

from ...array import Array
from ...ops.lazy import MaybeLazy, materialize
from . import winograd
from .direct import ConvGeometry
from .epilogues import Output
from .launch import ceil_div
from .memory import empty


def convolution(x: MaybeLazy, w: Array, b: Array | None, y: Array, s: ConvGeometry, turned: bool = False) -> None:
    """`winograd.convolution` for a dilation."""
    t = undilated(s)
    to = Output(empty((t.N, t.OH, t.OW, t.K), y.dtype))
    winograd.convolution(apart(x, s.dilation), w, b, [to], t.top, t.left, turned=turned)
    together(to.y, y, s.dilation)


def weight_gradient(x: MaybeLazy, dy: MaybeLazy, s: ConvGeometry) -> Array:
    """`winograd.weight_gradient` for a dilation."""
    t = undilated(s)
    return winograd.weight_gradient(apart(x, s.dilation), apart(dy, s.dilation), t.top, t.left)


def undilated(s: ConvGeometry) -> ConvGeometry:
    """The convolution of the images of every d-th row and column."""
    d = s.dilation
    H, W, OH, OW = (ceil_div(n, d) for n in (s.H, s.W, s.OH, s.OW))
    return s._replace(N=s.N * d * d, H=H, W=W, OH=OH, OW=OW, stride=1, dilation=1, top=s.top // d, left=s.left // d)


def apart(x: MaybeLazy, d: int) -> Array:
    """A map (N, H, W, C) as images (N*d*d, H/d, W/d, C) of every d-th row and column."""
    x = materialize(x)
    (N, H, W, C), dtype = x.shape, x.dtype
    images = empty((N, d, d, ceil_div(H, d), ceil_div(W, d), C), dtype)
    for i in range(d):
        for j in range(d):
            part = x[:, i::d, j::d]
            rows, columns = part.shape[1:3]
            images[:, i, j, :rows, :columns] = part
            images[:, i, j, rows:] = images[:, i, j, :, columns:] = 0
    return images.reshape(-1, *images.shape[3:])


def together(images: Array, y: Array, d: int) -> None:
    """The reverse, written to y; what lies beyond its edges is dropped."""
    images = images.reshape(len(y), d, d, *images.shape[1:])
    for i in range(d):
        for j in range(d):
            part = y[:, i::d, j::d]
            part[...] = images[:, i, j, : part.shape[1], : part.shape[2]]
