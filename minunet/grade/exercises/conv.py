"""Exercises on the convolution, forwards: by its definition, by im2col, and a tile of Winograd's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from .. import answers, cut
from ..exercise import Exercise
from ..sheet import Raised, Sheet
from .filter import KERNEL_FLIPPED, filters, images

CONV = "ops/conv.py"

# ---- forward ---------------------------------------------------------------------------------------------------------

conv_forward = Exercise(
    "conv_forward",
    "The convolution, forwards",
    lesson=1,
    minutes=45,
    needs=("filter_image",),
    task=f"""Write `conv2d`. For one image

{cut.quoted(CONV, "y[h, w, k] = b[k]", "(1)").rstrip("(1)").rstrip()}

where x is padded with zeros, s is the stride and d the dilation. The kernel is not flipped. How many zeros go where,
and how
large y is, the given functions say. Return (y, cache); nobody looks at the cache yet, None will do. `groups` stays 1.
Loops over pixels are right; loops over the taps (i, j) alone are right and a thousand times faster.""",
    write=((CONV, "conv2d"),),
    given=tuple((CONV, n) for n in ("Padding", "pad_spatial", "resolve_padding", "output_size")),
    hidden=tuple((CONV, n) for n in ("taps", "window", "as_rows", "matmul")),
    docstrings={
        "conv2d": """Convolve x (N, H, W, C) with w (KH, KW, C, K), and add b (K,) if there is one: (y, cache).

    y is (N, OH, OW, K). padding is "same", "valid", a number of pixels or pairs, see `resolve_padding`."""
    },
)


def _conv(sheet: Sheet, part: str, asked: str, x: np.ndarray, w: np.ndarray, *b: Any, **options: Any) -> None:
    y, _ = sheet.call("conv2d", x, w, *b, keep=2, **options)
    sheet.same(part, asked, y, ops.conv2d(x, w, *b, **options)[0])


@conv_forward.check("one tap")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, kind=sheet.time)
    _conv(sheet, "one tap", "a 1x1 kernel", x, filters(rng, x, 1, 1, sheet.time))


@conv_forward.check("3x3", "bias", "rectangle")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, kind=sheet.time)
    w = filters(rng, x, kind=sheet.time)
    _conv(sheet, "3x3", "a 3x3 kernel without padding", x, w, padding="valid")
    b = rng.standard_normal(w.shape[3:])
    b[0] *= len(b) == 1  # a bias may have a 0
    _conv(sheet, "bias", "a bias", x, w, b, padding="valid")
    for KH, KW, padding in ((2, 3, "valid"), (3, 2, "valid"), (4, 1, "same")):
        w = filters(rng, x, KH, KW, sheet.time)
        _conv(sheet, "rectangle", f"a {KH}x{KW} kernel, padding {padding}", x, w, padding=padding)
    deep, w = rng.standard_normal((1, 4, 5, 10)), rng.standard_normal((3, 3, 10, 9))
    _conv(sheet, "3x3", "a 3x3 kernel without padding, 10 channels to 9", deep, w, padding="valid")


@conv_forward.check("padding", "stride", "dilation")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, 6, sheet.time)
    w = filters(rng, x, kind=sheet.time)
    _conv(sheet, "padding", "the padding is not given, which means 'same'", x, w)
    for padding in ("same", 1, (0, 2), ((2, 0), (1, 3)), ((0, 1), (2, 0))):
        _conv(sheet, "padding", f"padding {padding}", x, w, padding=padding)
    even = rng.standard_normal((2, 6, 8, x.shape[-1]))  # where "same" pads otherwise for a stride of 2 than for 1
    large = rng.standard_normal((2, 12, 13, x.shape[-1]))
    for padding in ("valid", "same"):
        _conv(sheet, "stride", f"stride 2, padding {padding}", even, w, stride=2, padding=padding)
        _conv(sheet, "stride", f"stride 3, padding {padding}", large, w, stride=3, padding=padding)
        _conv(sheet, "dilation", f"dilation 2, padding {padding}", x, w, dilation=2, padding=padding)
    _conv(sheet, "dilation", "dilation 2, stride 3, padding 2", large, w, dilation=2, stride=3, padding=2)
    _conv(sheet, "dilation", "dilation 3, padding 1", large, w, dilation=3, padding=1)


TAP = "y[..., ks] += matmul(window(padded, i, j, OH, OW, stride, dilation)[..., cs], w[i, j, :, ks])"
conv_forward.wrong(
    "kernel_flipped",
    KERNEL_FLIPPED,
    (TAP, TAP.replace("w[i, j", "w[KH - 1 - i, KW - 1 - j")),
)
for number, swapped in enumerate(("w[j % KH, i % KW", "w[j, i")):  # w as it is raises where it is not square
    conv_forward.wrong(
        f"taps_transposed_{number}",
        "rows and columns of the kernel are swapped: w[j, i] where w[i, j] should stand",
        (TAP, TAP.replace("w[i, j", swapped)),
    )
conv_forward.wrong(
    "only_the_last_tap",
    "every tap overwrites what the others gave: = instead of +=",
    (TAP, TAP.replace("+=", "=")),
)
conv_forward.wrong(
    "stride_ignored",
    "y is right but for the stride: the windows of neighbouring outputs are s pixels apart, not one",
    (TAP, TAP.replace("stride, ", "1, ")),
)
conv_forward.wrong(
    "dilation_ignored",
    "y is right but for the dilation: neighbouring taps read pixels that are d apart",
    (TAP, TAP.replace(", dilation)", ", 1)")),
)
_PADS = "pads = resolve_padding(padding, (H, W), (KH, KW), stride, dilation)"
conv_forward.wrong(
    "padding_without_stride",
    'the padding "same" does not know the stride: on an even side a stride of 2 needs one zero less',
    (_PADS, _PADS.replace("stride, ", "1, ")),
)
conv_forward.wrong(
    "padding_without_dilation",
    'the padding "same" does not know the dilation: taps that are d apart reach further, and need more zeros',
    (_PADS, _PADS.replace("dilation)", "1)")),
)
conv_forward.wrong(
    "padding_mirrored",
    "the zeros are on the wrong sides: top and bottom, or left and right, are swapped",
    ("padded = pad_spatial(x, pads)", "padded = pad_spatial(x, tuple(p[::-1] for p in pads))"),
)
conv_forward.wrong(
    "bias_asked_whether_it_is_true",
    "`if b` asks every number of an array whether it is true: write `if b is not None`",
    ("    if b is not None:\n", "    if b:\n"),
)
conv_forward.wrong("bias_forgotten", "the bias is not added", ("        y += b\n", "        y += 0 * b\n"))
for number, times in enumerate(("KH * KW", "KH * KW * C")):  # added beside the sum over channels, or in it
    conv_forward.wrong(
        f"bias_for_every_tap_{number}",
        "the bias is added once for every tap instead of once for every output",
        ("        y += b\n", f"        y += {times} * b\n"),
    )
for number, used in enumerate(("y += b", "y += b.reshape(1, 1, 1, -1)", "y += b[0]")):
    conv_forward.wrong(
        f"bias_that_is_none_{number}",
        "b is None where there is no bias: add it only `if b is not None`",
        ("    if b is not None:\n        y += b\n", f"    {used}\n"),
    )

# ---- im2col ----------------------------------------------------------------------------------------------------------

im2col = Exercise(
    "im2col",
    "Image to columns: a convolution as one matrix product",
    lesson=1,
    minutes=30,
    needs=("conv_forward",),
    task="""Write `im2col`, which lays every output pixel's patch down as a row of a matrix, and with it
`conv2d_im2col`: then the
whole convolution is a single product, rows @ (w as a matrix).""",
    write=(("grade/answers.py", "im2col"), ("grade/answers.py", "conv2d_im2col")),
    axes=dict.fromkeys(("patches", "stride"), ("patch", "column")),
)


@im2col.check("patches", "stride")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, kind=sheet.time)  # of an even and an odd side one shows a division that rounds wrongly
    for part, KH, KW, s in (
        ("patches", 2, 3, None),
        ("patches", 3, 2, 1),
        ("stride", 2, 3, 2),
        ("stride", 3, 3, 2),
        ("stride", 1, 2, 3),
    ):
        step = s or 1
        views = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (1, 2))[
            :, ::step, ::step
        ]  # (N, OH, OW, C, KH, KW)
        wanted = np.moveaxis(views, 3, -1).reshape(-1, KH * KW * x.shape[-1])
        got = sheet.call("im2col", x, KH, KW, **({"stride": s} if s else {}))
        sheet.same(part, f"patches of {KH}x{KW} pixels" + f", stride {s}" * bool(s), got, wanted)


@im2col.check("product")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, kind=sheet.time)
    large = x.shape[1] - 1, x.shape[2] - 1, None  # a side of y that comes out as 0 or less shows
    for KH, KW, s in ((3, 3, 2), (2, 3, None), (3, 1, 3), large):
        w = filters(rng, x, KH, KW, sheet.time)
        got = sheet.call("conv2d_im2col", x, w, **({"stride": s} if s else {}))
        asked = f"a {KH}x{KW} kernel" + f", stride {s}" * bool(s)
        sheet.same("product", asked, got, ops.conv2d(x, w, stride=s or 1, padding="valid")[0])


_ROWS = "rows[:, :, :, i, j] = x[:, i : i + (OH - 1) * stride + 1 : stride, j : j + (OW - 1) * stride + 1 : stride]"
im2col.wrong(
    "channels_first",
    "the numbers of a row are in the order (c, i, j): the channel should run fastest, as in w",
    ("return rows.reshape(", "return np.moveaxis(rows, 5, 3).reshape("),
)
im2col.wrong(
    "images_fastest",
    "the rows are right but in another order: the image n should vary slowest, then the output's row, then its column",
    ("return rows.reshape(", "return rows.transpose(1, 2, 0, 3, 4, 5).reshape("),
)
im2col.wrong(
    "taps_transposed",
    "the numbers of a row are in the order (j, i, c): rows and columns of the patch are swapped",
    ("return rows.reshape(", "return rows.swapaxes(3, 4).reshape("),
)
im2col.wrong(
    "stride_ignored",
    "it is right but for the stride: patches of neighbouring outputs begin s pixels apart",
    (_ROWS, "rows[:, :, :, i, j] = x[:, i : i + OH, j : j + OW]"),
)
im2col.wrong(
    "product_not_reshaped",
    "rows @ w is a matrix with a row an output pixel: give it back its shape, (N, OH, OW, K)",
    (
        "(im2col(x, KH, KW, stride) @ w.reshape(KH * KW * C, K)).reshape(N, OH, OW, K)",
        "im2col(x, KH, KW, stride) @ w.reshape(KH * KW * C, K)",
    ),
)
im2col.wrong(
    "columns_instead_of_rows",
    "the matrix is transposed: a patch should be a row",
    ("return rows.reshape(N * OH * OW, KH * KW * C)", "return rows.reshape(N * OH * OW, KH * KW * C).T"),
)

# ---- Winograd --------------------------------------------------------------------------------------------------------

PLAIN, MATRICES = "grade/answers.py", "kernels/cpu/winograd_matrices.py"
winograd = Exercise(
    "winograd",
    "One tile of Winograd's convolution",
    lesson=8,
    minutes=45,
    needs=("conv_forward",),
    task="""A tile of 4x4 outputs of a 3x3 convolution reads 6x6 inputs and takes 144 multiplications a channel. With
the matrices given it takes 36: Y = A^T [ (B^T X B) * (G g G^T) ] A. Write the three transforms and the product between
them. The grader puts your parts together, with its own product too, and compares with a convolution.""",
    write=tuple((PLAIN, n) for n in ("transform_input", "transform_filter", "multiply_points", "transform_output")),
    given=tuple((MATRICES, n) for n in ("BT", "G", "AT")),
    axes={"filter": ("row", "column", "input channel", "output channel")},
    hidden=((PLAIN, "both_axes"),),
)


def _tile(rng: np.random.Generator, kind: int) -> tuple[np.ndarray, np.ndarray]:
    C = (2, 3, 1)[kind]
    return rng.standard_normal((6, 6, C)), rng.standard_normal((3, 3, C, (4, 2, 1)[kind]))


@winograd.check("input")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x, _ = _tile(rng, sheet.time)
    sheet.same("input", "B^T d B", sheet.call("transform_input", x), answers.transform_input(x))


@winograd.check("filter")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _, w = _tile(rng, sheet.time)
    sheet.same("filter", "G g G^T", sheet.call("transform_filter", w), answers.transform_filter(w))


@winograd.check("product")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    v, u = (answers.both_axes(m, a) for m, a in zip((answers.BT, answers.G), _tile(rng, sheet.time)))
    sheet.same("product", "sum over the channels", sheet.call("multiply_points", v, u), (v[..., None] * u).sum(2))


@winograd.check("output")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    m, _ = _tile(rng, sheet.time)
    sheet.same("output", "A^T m A", sheet.call("transform_output", m), answers.transform_output(m))


@winograd.check("tile")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x, w = _tile(rng, sheet.time)
    v, u = sheet.call("transform_input", x), sheet.call("transform_filter", w)
    lost = next((a for a in (v, u) if isinstance(a, Raised)), None)
    shapes = (6, 6, x.shape[-1]), (6, 6, *w.shape[2:])
    if lost is None and (np.shape(v), np.shape(u)) != shapes:  # odd ones make huge products
        told = f"input and filter are transformed to {np.shape(v)} and {np.shape(u)}, not {shapes[0]} and {shapes[1]}"
        return sheet.holds("tile", "", False, None, told)
    m = (v[..., None] * u).sum(2) if lost is None else lost
    wanted = ops.conv2d(x[None], w, padding="valid")[0][0]
    sheet.same("tile", "against a convolution", sheet.call("transform_output", m), wanted, 1e-8)


winograd.wrong(
    "rows_only",
    "the transform goes over the rows only: the columns need it too, from the right",
    ("return both_axes(G, g)", 'return np.einsum("pi,ij...->pj...", np.array(G), g)'),
)
winograd.wrong(
    "b_transposed",
    "B stands where B^T should: BT is B^T already, so the tile is BT @ d @ BT.T",
    ("return both_axes(BT, d)", "return both_axes(np.array(BT).T, d)"),
)
winograd.wrong(
    "rows_and_columns_swapped",
    "the result is transposed: rows and columns are swapped",
    ("return both_axes(AT, m)", "return both_axes(AT, m).swapaxes(0, 1)"),
)
winograd.wrong(
    "mean_over_channels",
    "the product is a mean over the channels, where it should be their sum",
    ('return np.einsum("pqc,pqck->pqk", v, u)', 'return np.einsum("pqc,pqck->pqk", v, u) / v.shape[-1]'),
)
