"""Known mistakes after which shapes do not fit: windows that end at the wrong place, maps without their padding, stride and
dilation swapped, matrices that should be transposed.

What these give is an error, and `hints` compares which sizes did not fit. Those depend on where the code fails first, so that
a mistake stands here once for each usual way to write the code: by taps, by patches, by pixels. Of two mistakes with the same
outcome the more likely one comes first.
"""

from __future__ import annotations

from .conv import TAP, conv_forward, im2col
from .gradients import DW, DX, SEEN, conv_backward, conv_transpose
from .maps import max_pool

Change = tuple[str, str]

# ---- where a window ends ---------------------------------------------------------------------------------------------

TOO_LATE = (
    "a window ends too late, so that it has rows and columns too many: n of them that are s apart, from i on, end before "
    "i + (n - 1)*s + 1 (x[i::s] goes on to the last row)"
)
ENDS = {  # name: hint, and where a window ends that begins at i and has n rows (or columns)
    "end_without_stride": (
        "a window ends too early, as its end does not know the stride: n rows that are s apart reach over (n - 1)*s + 1 rows",
        "{i} + {n}",
    ),
    "end_one_short": (
        "a window ends one row and column too early: a slice's end is not part of it, so it is i + (n - 1)*s + 1",
        "{i} + ({n} - 1) * stride",
    ),
    "end_without_start": (
        "a window's end does not move with its beginning: from i on, n rows that are s apart end before i + (n - 1)*s + 1",
        "{n} * stride",
    ),
    "end_one_long": (TOO_LATE, "{i} + {n} * stride + 1"),
    "end_missing": (TOO_LATE, ""),
}


def moved_ends(end: str) -> list[Change]:
    """Changes that let windows end elsewhere, wherever the text spells them out."""
    right = "{i} + ({n} - 1) * stride + 1"
    return [(right.format(i=i, n=n), end.format(i=i, n=n)) for i, n in (("i", "OH"), ("j", "OW"))]


def with_slices(line: str, array: str, end: str, start: str = "{i}") -> Change:
    """The change of a line that calls `window` to one that has slices of the array instead, with that end."""
    before, rest = line.split(f"window({array}, i, j, OH, OW, stride", 1)
    begins = [start.format(i=i) for i in "ij"]
    rows, columns = (f"{i} : {end.format(i=i, n=n)} : stride" for i, n in zip(begins, ("OH", "OW")))
    return line, f"{before}{array}[:, {rows}, {columns}]{rest.split(')', 1)[1]}"


# ---- forward ---------------------------------------------------------------------------------------------------------

BY_TAP = "    for i, j, cs, ks in taps(w.shape, groups):\n        " + TAP
BY_PIXEL = """    for r, c, i, j in np.ndindex(OH, OW, KH, KW):
        y[:, r, c] += padded[:, r * stride + i * dilation, c * stride + j * dilation] @ w[i, j]"""
BY_PATCH = [
    f"""    for r, c in np.ndindex(OH, OW):
        top, left = r * stride, c * stride
        patch = padded[:, top : top + (KH - 1) * dilation + 1 : dilation, left : left + (KW - 1) * dilation + 1 : dilation]
        y[:, r, c] = {product}"""
    for product in ("(patch[..., None] * w).sum((1, 2, 3))", "np.tensordot(patch, w, 3)")
]

for name, (hint, end) in ENDS.items():
    conv_forward.wrong(name, hint, *moved_ends(end))
for number, way in enumerate((BY_TAP, BY_PIXEL, *BY_PATCH)):
    conv_forward.wrong(
        f"unpadded_{number}",
        "x is read without its padding, so that there are too few pixels at the border: read the padded x",
        ("padded = pad_spatial(x, pads)", "padded = x"),
        (BY_TAP, way),
    )
ENDS_EARLY = (
    "a patch ends too early, as its end does not know the dilation: KH taps that are d apart reach over (KH - 1)*d + 1"
)
OR_SIZE = " (or `output_size` was not told of it)"  # the same error, as tensordot's says no sizes
for number, (way, more) in enumerate(zip(BY_PATCH, ("", OR_SIZE))):
    conv_forward.wrong(
        f"patch_end_without_dilation_{number}",
        ENDS_EARLY + more,
        (BY_TAP, way.replace("(KH - 1) * dilation + 1", "KH").replace("(KW - 1) * dilation + 1", "KW")),
    )
for number, way in enumerate((BY_TAP, BY_PIXEL, BY_PATCH[0])):
    conv_forward.wrong(
        f"size_without_dilation_{number}",
        "the output's size does not know the dilation: hand it on to output_size as well",
        ("pads, stride, dilation)\n", "pads, stride)\n"),
        (BY_TAP, way),
    )
conv_forward.wrong(
    "stride_and_dilation_swapped",
    "stride and dilation are swapped: tap (i, j) begins at row i*d, and from there rows are s apart",
    (TAP, TAP.replace("stride, dilation", "dilation, stride")),
)
conv_forward.wrong(
    "w_transposed",
    "w[i, j] is transposed, but it is a matrix of C rows and K columns as it stands: pixels @ w[i, j]",
    (TAP, TAP.replace("ks])", "ks].T)")),
)

# ---- im2col ----------------------------------------------------------------------------------------------------------

SIZE = "OH, OW = (H - KH) // stride + 1, (W - KW) // stride + 1\n"
for name, (hint, end) in ENDS.items():
    im2col.wrong(name, hint, *moved_ends(end))
im2col.wrong(
    "size_one_short",
    "OH and OW are one too small: the first patch counts, too, so OH = (H - KH) // s + 1",
    (SIZE, SIZE.replace(" + 1", "")),
)
im2col.wrong(
    "stride_not_handed_on",
    "conv2d_im2col does not hand the stride on to im2col, which then makes too many rows",
    ("im2col(x, KH, KW, stride) @", "im2col(x, KH, KW) @"),
)
im2col.wrong(
    "size_without_stride",
    "conv2d_im2col gives the product a size that does not know the stride: OH = (H - KH) // s + 1",
    (SIZE + "    return (im2col", "OH, OW = H - KH + 1, W - KW + 1\n    return (im2col"),
)
im2col.wrong(
    "filters_as_rows",
    "w is reshaped to (K, KH*KW*C), but a filter should be a column of its matrix: (KH*KW*C, K)",
    ("w.reshape(KH * KW * C, K)", "w.reshape(K, KH * KW * C)"),
)

# ---- backward --------------------------------------------------------------------------------------------------------

SAW = "seen = " + SEEN
SWAPPED = "stride and dilation are swapped: a tap's window begins at row i*d, and from there rows are s apart"
DX_NOT_TRANSPOSED = "dx: w[i, j] must be transposed: dy has K channels, and dy @ w[i, j].T has C"
for number, way in enumerate((DW, 'np.einsum("nhwc,nhwk->ck", seen, dy[..., ks])')):
    conv_backward.wrong(
        f"dw_unpadded_{number}",
        "dw: x is read without its padding: a tap saw a window of the padded x, as in the forward",
        (SAW, SAW.replace("window(padded", "window(x")),
        (DW, way),
    )
    conv_backward.wrong(
        f"dw_stride_and_dilation_swapped_{number}",
        SWAPPED,
        (SAW, SAW.replace("stride, dilation", "dilation, stride")),
        (DW, way),
    )
    for name, (hint, end) in ENDS.items():
        if name != "end_without_start":  # which looks as if there were no padding
            conv_backward.wrong(
                f"dw_{name}_{number}", hint, with_slices(SAW, "padded", end, "{i} * dilation"), (DW, way)
            )
conv_backward.wrong("dx_stride_and_dilation_swapped", SWAPPED, (DX, DX.replace("stride, dilation", "dilation, stride")))
conv_backward.wrong(
    "dx_unpadded",
    "dx is collected in an array of x's size, but taps give to padded pixels, too: make it as large as the padded x, and cut "
    "the padding off at the end",
    ("xp.zeros_like(padded)", "xp.zeros_like(x)"),
)
conv_backward.wrong(
    "dx_written_to_a_copy",
    "dx stays 0: d = d + ... makes a new array, where the view of the padded gradient should be added to: d += ...",
    (DX, DX.replace("+=", "+")),
)
conv_backward.wrong(
    "dx_cut_to_minus_zero",
    "dx is empty where there is no padding: -0 is 0, so x[0:-0] takes nothing; cut from top to top + H",
    (
        "dpadded[:, top : top + H, left : left + W]",
        "dpadded[:, top : top + H - padded.shape[1], left : left + W - padded.shape[2]]",
    ),
)
conv_backward.wrong(
    "dw_all_axes_transposed",
    ".T turns round all axes of an array (N, OH, OW, C): make matrices of a row a pixel first, as_rows(seen).T @ as_rows(dy)",
    (DW, "seen.T @ dy[..., ks]"),
)
conv_backward.wrong(
    "dx_not_cut",
    "dx still has the padding: cut it off, from (top, left) on as many rows and columns as x has",
    ("dpadded[:, top : top + H, left : left + W]", "dpadded"),
)
for name, (hint, end) in ENDS.items():
    if name != "end_without_start":
        conv_backward.wrong(f"dx_{name}", hint, with_slices(DX, "dpadded", end, "{i} * dilation"))
conv_backward.wrong("dx_w_not_transposed", DX_NOT_TRANSPOSED, (DX, DX.replace("ks].T)", "ks])")))
conv_backward.wrong(
    "dw_transposed",
    "dw[i, j] is transposed: it is a matrix of C rows and K columns, window.T @ dy",
    (DW, "as_rows(dy[..., ks]).T @ as_rows(seen)"),
)

# ---- transposed ------------------------------------------------------------------------------------------------------

BY_STAMP_OF_TAPS = (
    "    for i, j, _, _ in taps(w.shape):\n        window(full, i, j, H, W, stride)[...] += matmul(x, w[i, j])"
)
BY_STAMP_OF_PIXELS = """    for r, c in np.ndindex(H, W):
        stamp = np.einsum("nc,ijck->nijk", x[:, r, c], w)
        full[:, r * stride : r * stride + KH, c * stride : c * stride + KW] += stamp"""
FULL = "(N, (H - 1) * stride + KH, (W - 1) * stride + KW, K)"
TAKES, GIVES = "dx += matmul(stamped, w[i, j].T)", "dw[i, j] = as_rows(x).T @ as_rows(stamped)"

for number, way in enumerate((BY_STAMP_OF_TAPS, BY_STAMP_OF_PIXELS)):
    conv_transpose.wrong(
        f"no_room_for_the_last_stamp_{number}",
        "the output is too small where stamps overlap: the last one begins at row (H - 1)*s and is KH rows high",
        (FULL, "(N, H * stride, W * stride, K)"),
        (BY_STAMP_OF_TAPS, way),
    )
    conv_transpose.wrong(
        f"cut_before_stamping_{number}",
        "the padding is cut off before stamping, so that stamps do not fit: stamp onto the whole map and cut that",
        (FULL, "(N, (H - 1) * stride + KH - top - bottom, (W - 1) * stride + KW - left - right, K)"),
        (BY_STAMP_OF_TAPS, way),
    )
for name, (hint, end) in ENDS.items():
    conv_transpose.wrong(name, hint, *moved_ends(end))
for number, first in enumerate(("", f"{GIVES}; ", 'dw[i, j] = np.einsum("nhwc,nhwk->ck", x, stamped); ')):
    conv_transpose.wrong(
        f"dy_unpadded_{number}",
        "dy is read without its padding: put back what the forward cut off, as zeros, before you take windows",
        ("padded = pad_spatial(dy, pads)", "padded = dy"),
        (TAKES, first + TAKES),
    )
conv_transpose.wrong("dx_w_not_transposed", DX_NOT_TRANSPOSED, (TAKES, TAKES.replace(".T", "")))
conv_transpose.wrong(
    "dw_transposed",
    "dw[i, j] is transposed: it is a matrix of C rows and K columns, x.T @ window",
    (GIVES, "dw[i, j] = as_rows(stamped).T @ as_rows(x)"),
)

# ---- max-pool --------------------------------------------------------------------------------------------------------

FROM_BELOW = (
    ("y = window(x, 0, 0, OH, OW, stride).copy()", "y = np.full((len(x), OH, OW, x.shape[3]), -np.inf)"),
    ("for n in range(1, size * size)", "for n in range(size * size)"),
)
READS, PUTS = "seen = window(x, i, j, OH, OW, stride)", "window(dx, i, j, OH, OW, stride)[...] +="
ZEROS = "dx = np.zeros(x_shape, dy.dtype)"
for name, (hint, end) in ENDS.items():
    max_pool.wrong(name, hint, *FROM_BELOW, with_slices(READS, "x", end))
    max_pool.wrong(f"dx_{name}", hint, with_slices(PUTS, "dx", end))
max_pool.wrong(
    "reshaped_with_the_rest",
    "x cannot be reshaped to whole windows if a side is no multiple of their size: cut off first what fills none",
    ("    y = window(x, 0", "    x.reshape(len(x), OH, size, OW, size, x.shape[3])\n    y = window(x, 0"),
)
max_pool.wrong(
    "repeated_without_the_rest",
    "y (or dy), repeated size times, is smaller than x if a side is no multiple of size: the pixels in no window are missing",
    (ZEROS, f"{ZEROS} + 0 * dy.repeat(size, 1).repeat(size, 2)"),
)
