"""Exercises on the convolution's three gradients, and on the transposed convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ..difference import KERNEL
from ..exercise import Exercise
from ..sheet import Raised, Sheet
from .conv import CONV
from .filter import filters, images

# ---- backward --------------------------------------------------------------------------------------------------------

conv_backward = Exercise(
    "conv_backward",
    "The three gradients of a convolution",
    lesson=2,
    minutes=90,
    needs=("conv_forward",),
    task="""Write `conv2d_backward`: from dy = dL/dy to dx, dw and db. Each counts by itself: return None for what
you have not
written yet, as in `return None, None, db`.

The forward is a sum of products, one for each tap, y += window(x, i, j) @ w[i, j]; for P = A @ B the chain rule gives
dA = dP @ B^T and dB = A^T @ dP. Lesson 02 derives it with a pencil. What a padded pixel gets is cut off at the end.

The cache holds (x, w, whether there is a bias, stride, pads, dilation, groups), groups = 1, pads = ((top, bottom),
(left, right)).
Do not change dy, x or w.""",
    write=((CONV, "conv2d_backward"),),
    given=tuple((CONV, n) for n in ("window", "as_rows", "matmul", "pad_spatial")),
    hidden=((CONV, "taps"),),
    axes={"dw": KERNEL},
    docstrings={
        "conv2d_backward": "dy (N, OH, OW, K) to dx, dw and db, in the shapes of x, w and b; db is None without b."
    },
)


def _gradients(
    sheet: Sheet,
    rng: np.random.Generator,
    parts: tuple[str, str, str],
    kernel: tuple[int, int] = (3, 3),
    bias: bool = True,
    **options: Any,
) -> None:
    x = images(rng, 5, sheet.time)
    w = filters(rng, x, *kernel, sheet.time)
    inputs = (x, w, rng.standard_normal(w.shape[-1])) if bias else (x, w)
    dy = rng.standard_normal(ops.conv2d(*inputs, **options)[0].shape)
    asked = f"{kernel[0]}x{kernel[1]}" + "".join(f", {name} {value}" for name, value in options.items())
    names, ours = ("conv2d", "conv2d_backward"), (ops.conv2d, ops.conv2d_backward)
    sheet.backward(parts, asked + ", no bias" * (not bias), names, ours, inputs, dy, **options)


@conv_backward.check("dx", "dw", "db")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    parts = ("dx", "dw", "db")
    _gradients(sheet, rng, parts, padding="same")
    _gradients(sheet, rng, parts, (2, 3), bias=False, padding="valid")
    _gradients(sheet, rng, parts, (3, 2), padding=((1, 0), (0, 2)))


@conv_backward.check("dx, stride", "dw, stride")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    parts = ("dx, stride", "dw, stride", "db")
    _gradients(sheet, rng, parts, stride=2, padding=((2, 0), (0, 1)))
    _gradients(sheet, rng, parts, stride=2, padding="same")
    _gradients(sheet, rng, parts, (2, 1), stride=3, padding="valid")


@conv_backward.check("dx, dilation", "dw, dilation")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    parts = ("dx, dilation", "dw, dilation", "db")
    _gradients(sheet, rng, parts, dilation=2, padding="same")
    _gradients(sheet, rng, parts, (2, 3), dilation=2, stride=3, padding=((0, 3), (2, 0)))
    _gradients(sheet, rng, parts, (2, 2), dilation=3, padding="valid")


SEEN, DW = "window(padded, i, j, OH, OW, stride, dilation)[..., cs]\n", "as_rows(seen).T @ as_rows(dy[..., ks])"
DX = "window(dpadded, i, j, OH, OW, stride, dilation)[..., cs] += matmul(dy[..., ks], w[i, j, :, ks].T)"
conv_backward.wrong(
    "dx_kernel_not_flipped",
    "dx is right but for the kernel, seen from the wrong side: the tap (i, j) that took from a pixel gives back to that pixel",
    (DX, DX.replace("w[i, j", "w[w.shape[0] - 1 - i, w.shape[1] - 1 - j")),
)
conv_backward.wrong(
    "dx_overwrites",
    "dx: a pixel lies in several windows and gets a share from each: +=, not =",
    (DX, DX.replace("+=", "=")),
)
conv_backward.wrong(
    "dx_ignores_stride",
    "dx is right but for the stride: dy belongs to windows that are s pixels apart",
    (DX, DX.replace("stride, ", "1, ")),
)
conv_backward.wrong(
    "dx_ignores_dilation",
    "dx is right but for the dilation: neighbouring taps gave to pixels that are d apart",
    (DX, DX.replace(", dilation)", ", 1)")),
)
conv_backward.wrong(
    "dx_off_by_the_padding",
    "dx is cut out of the padded gradient at the wrong place: it begins at (top, left)",
    ("dpadded[:, top : top + H, left : left + W]", "dpadded[:, :H, :W]"),
)
conv_backward.wrong(
    "dw_ignores_stride",
    "dw is right but for the stride: the windows that the taps saw are s pixels apart",
    ("seen = " + SEEN, "seen = " + SEEN.replace("stride", "1")),
)
conv_backward.wrong(
    "dw_ignores_dilation",
    "dw is right but for the dilation: neighbouring taps see pixels that are d apart",
    ("seen = " + SEEN, "seen = " + SEEN.replace("dilation", "1")),
)
conv_backward.wrong(
    "dw_mean_over_images",
    "dw is a mean over the images, where every image adds its share: a sum",
    (DW, DW + " / len(x)"),
)
conv_backward.wrong(
    "dw_of_the_first_image",
    "dw has the share of the first image only: sum over the batch",
    (DW, "as_rows(seen[:1]).T @ as_rows(dy[:1, ..., ks])"),
)
conv_backward.wrong(
    "dw_without_padding_shift",
    "dw pairs dy with windows of x that forgot the padding's shift: pad x first, as the forward did",
    (
        "padded = pad_spatial(x, pads)",
        "padded = np.pad(x, ((0, 0), (0, sum(pads[0])), (0, sum(pads[1])), (0, 0)))",
    ),
)
conv_backward.wrong(
    "db_of_one_image",
    "db is summed over rows and columns but not over the images",
    ("dy.sum((0, 1, 2))", "dy[0].sum((0, 1))"),
)
conv_backward.wrong(
    "db_wrong_axes",
    "db is summed over the wrong axes: there should be one number a channel, so sum over images, rows and columns",
    ("dy.sum((0, 1, 2))", "dy.sum((0, 1))"),
)
conv_backward.wrong(
    "db_mean",
    "db is a mean, where every output pixel adds its share: a sum",
    ("dy.sum((0, 1, 2))", "dy.mean((0, 1, 2))"),
)

# ---- transposed ------------------------------------------------------------------------------------------------------

conv_transpose = Exercise(
    "conv_transpose",
    "The transposed convolution",
    lesson=3,
    minutes=60,
    needs=("conv_backward",),
    task="""Write `conv_transpose2d` and its backward. Every input pixel stamps x[n, h, w] @ w[i, j] onto the output
at row h*s + i and
column w*s + j; where stamps overlap they add up. `padding` pixels are then cut off the border, and b is added if
there is one.
It is the map dy -> dx of a convolution, used forwards: which of a convolution's three maps are its own gradients?""",
    write=((CONV, "conv_transpose2d"), (CONV, "conv_transpose2d_backward")),
    given=tuple((CONV, n) for n in ("Padding", "window", "as_rows", "matmul", "pad_spatial", "resolve_padding")),
    hidden=((CONV, "taps"),),
    axes={"dw": KERNEL},
)


PAIR = ("conv_transpose2d", "conv_transpose2d_backward")


def _transposed(
    rng: np.random.Generator, kind: int, kernel: tuple[int, int], bias: bool, options: dict[str, Any]
) -> tuple[tuple, dict[str, Any], np.ndarray]:
    """Inputs of a transposed convolution, its options, and a gradient for its output."""
    x = images(rng, 3, kind)
    w = filters(rng, x, *kernel, kind)
    inputs = (x, w, rng.standard_normal(w.shape[-1])) if bias else (x, w)
    return inputs, options, rng.standard_normal(ops.conv_transpose2d(*inputs, **options)[0].shape)


@conv_transpose.check("y", "overlap", "padding and bias")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    for part, kernel, bias, options in (
        ("y", (2, 2), False, {}),
        ("y", (2, 1), False, {"stride": 3}),
        ("overlap", (3, 3), False, {"stride": 2}),
        ("overlap", (2, 3), False, {"stride": 1}),
        ("padding and bias", (3, 3), True, {"stride": 2, "padding": ((1, 0), (0, 1))}),
        ("padding and bias", (3, 2), True, {"stride": 2, "padding": ((0, 1), (0, 0))}),
        ("padding and bias", (3, 3), True, {"padding": 1}),
    ):
        inputs, options, _ = _transposed(rng, sheet.time, kernel, bias, options)
        y, _ = sheet.call(PAIR[0], *inputs, keep=2, **options)
        asked = f"{kernel[0]}x{kernel[1]} stamps" + "".join(f", {name} {value}" for name, value in options.items())
        sheet.same(part, asked, y, ops.conv_transpose2d(*inputs, **options)[0])


@conv_transpose.check("dx", "dw", "db")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    square = ((1, 1), (1, 0)) if sheet.time == 1 else ((0, 1), (1, 1))  # cut to a square, whose sides tell nothing
    cases = [
        _transposed(rng, sheet.time, (3, 3), True, {"stride": 2, "padding": 1}),
        _transposed(rng, sheet.time, (2, 3), False, {"stride": 3}),
        _transposed(rng, sheet.time, (3, 2), True, {"stride": 1, "padding": ((1, 0), (0, 0))}),
        _transposed(rng, sheet.time, (2, 2), False, {"padding": ((0, 1), (1, 0))}),
        _transposed(rng, sheet.time, (3, 3), True, {"stride": 1, "padding": square}),
    ]
    for (inputs, options, dy), (_, got) in zip(cases, sheet.pairs(PAIR, cases)):
        wanted = ops.conv_transpose2d_backward(dy, ops.conv_transpose2d(*inputs, **options)[1])
        asked = "{}x{} stamps".format(*inputs[1].shape) + "".join(f", {n} {v}" for n, v in options.items())
        sheet.gradients(("dx", "dw", "db"), asked, got, wanted)


@conv_transpose.check("adjoint")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    case = _transposed(rng, sheet.time, (3, 3), False, {"stride": 2})
    [(y, got)], (x, w) = sheet.pairs(PAIR, [case]), case[0]
    dx = got[0] if isinstance(got, (tuple, list, Raised)) else got
    sheet.adjoint("adjoint", x, y, case[2], dx, ops.conv_transpose2d(x, w, stride=2)[0])


conv_transpose.wrong(
    "stamps_overwrite",
    "where stamps overlap the last one overwrites the others: +=, not =",
    ("[...] += matmul(x, w[i, j])", "[...] = matmul(x, w[i, j])"),
)
conv_transpose.wrong(
    "stamps_flipped",
    "the stamps are flipped: w[i, j] goes to row h*s + i, column w*s + j",
    ("matmul(x, w[i, j])", "matmul(x, w[KH - 1 - i, KW - 1 - j])"),
)
conv_transpose.wrong(
    "wrong_border_cut",
    "padding is cut off the wrong sides: `top` rows go from the top, `bottom` from the bottom",
    ("full[:, top : full.shape[1] - bottom, left : full.shape[2] - right]",
     "full[:, bottom : full.shape[1] - top, right : full.shape[2] - left]"),
)  # fmt: skip
conv_transpose.wrong(
    "dx_flipped",
    "dx reads the kernel from the other side: the tap that stamped onto a place takes its gradient from there",
    ("dx += matmul(stamped, w[i, j].T)", "dx += matmul(stamped, w[-1 - i, -1 - j].T)"),
)
conv_transpose.wrong(
    "dw_mean",
    "dw is a mean over the images, where every image adds its share: a sum",
    ("as_rows(x).T @ as_rows(stamped)", "as_rows(x).T @ as_rows(stamped) / len(x)"),
)
