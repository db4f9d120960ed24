"""The first exercise: one filter, one image; and what the exercises on convolutions draw."""

from __future__ import annotations

import numpy as np

from ... import ops
from ..exercise import Exercise
from ..sheet import Sheet

KERNEL_FLIPPED = (
    "the kernel is flipped: tap (0, 0) belongs to the upper left pixel (what mathematicians call a convolution flips, networks "
    "do not)"
)


def images(rng: np.random.Generator, least: int = 5, kind: int = 0) -> np.ndarray:
    """Images (N, H, W, C) of at least so many rows and columns.

    Kind 0: two or three, wide, one side even and the other odd. Kind 1: two or three, tall, and odd where the others are even.
    Kind 2: a single grey one.
    """
    even = least + least % 2 + 2 * int(rng.integers(2))
    N, C = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    shape = ((N, even, even + 1, C), (N, even + 1, even, C + 1), (1, even, even + 1, 1))[kind]
    return rng.standard_normal(shape)


def filters(rng: np.random.Generator, x: np.ndarray, KH: int = 3, KW: int = 3, kind: int = 0) -> np.ndarray:
    """Filters for x: of kind 0 to more channels, of kind 1 to fewer, of kind 2 to a single one."""
    C = x.shape[-1]
    return rng.standard_normal((KH, KW, C, (C + int(rng.integers(1, 3)), C - 1, 1)[kind]))


filter_image = Exercise(
    "filter_image",
    "One filter, one image",
    lesson=1,
    minutes=15,
    task="""Write `filter_image`. For one image and one filter

    y[row, column] = sum over i, j, c of  x[row*s + i, column*s + j, c] * w[i, j, c]

wherever the filter fits whole: no padding, no bias. s is the stride. Loops over pixels are right; speed comes later.""",
    write=(("grade/answers.py", "filter_image"),),
    docstrings={
        "filter_image": """Filter an image x (H, W, C) with w (KH, KW, C), wherever it fits whole: (OH, OW).

    The lesson says how large OH and OW are, under "Taking fewer"."""
    },
)


@filter_image.check("one channel", "channels", "rectangle", "stride")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, 6, sheet.time)[0]  # of an even and an odd side one shows a division that rounds wrongly
    H, W, C = x.shape
    for part, seen, (KH, KW), s in (
        ("one channel", x[..., :1], (3, 3), 1),
        ("channels", x, (3, 3), None),
        ("channels", x, (1, 1), 1),
        ("rectangle", x, (2, 3), 1),
        ("rectangle", x, (4, 2), 1),
        ("rectangle", x, (H, W), 1),
        ("stride", x, (3, 3), 2),
        ("stride", x, (2, 1), 3),
    ):
        w = rng.standard_normal((KH, KW, seen.shape[-1]))
        wanted = ops.conv2d(seen[None], w[..., None], stride=s or 1, padding="valid")[0][0, ..., 0]
        asked = f"{H} x {W} pixels, {seen.shape[-1]} channels, a {KH}x{KW} filter" + f", stride {s}" * bool(s)
        how = {"stride": s} if s else {}
        sheet.same(part, asked, sheet.call("filter_image", seen, w, **how), wanted)


_PATCH, _SIZE = "x[top : top + KH, left : left + KW] * w", "((H - KH) // stride + 1, (W - KW) // stride + 1)"
filter_image.wrong("kernel_flipped", KERNEL_FLIPPED, (_PATCH, _PATCH + "[::-1, ::-1]"))
_SWAPPED = (
    "rows and columns of the filter are swapped: w[i, j] belongs to the pixel at row row*s + i, column column*s + j"
)
for number, swapped in enumerate(("{x}[i, j] * w[j, i]", "{x}[i, j] * w[j % KH, i % KW]", "{x}[j, i] * w[i, j]")):
    filter_image.wrong(
        f"taps_transposed_{number}",
        _SWAPPED,
        (f"({_PATCH}).sum()", f"sum(({swapped.format(x='x[top:, left:]')}).sum() for i, j in np.ndindex(KH, KW))"),
    )
filter_image.wrong("sides_swapped", _SWAPPED + " (KH, KW, C = w.shape)", ("(KH, KW, _) =", "(KW, KH, _) ="))
filter_image.wrong(
    "output_transposed", "rows and columns of y are swapped: y is (OH, OW)", ("    return y\n", "    return y.T\n")
)
for number, last in enumerate(("[-1, -1].sum()", "[-1, -1, -1]")):
    filter_image.wrong(
        f"only_the_last_product_{number}",
        "every product overwrites what the others gave: += instead of =",
        (".sum()", last),
    )
filter_image.wrong(
    "one_short",
    "OH and OW are one too small: the filter's first place counts, too, so OH = (H - KH) // s + 1",
    (_SIZE, _SIZE.replace(" + 1", "")),
)
filter_image.wrong(
    "size_rounded_wrongly",
    "OH and OW are one too small on some sides: divide first, then add the first place, OH = (H - KH) // s + 1",
    (_SIZE, "((H - KH + 1) // stride, (W - KW + 1) // stride)"),
)
filter_image.wrong(
    "stride_forgotten",
    "the stride is not used at all: places are s pixels apart, so there are OH = (H - KH) // s + 1 of them",
    (_SIZE, "(H - KH + 1, W - KW + 1)"),
    ("top, left = row * stride, column * stride", "top, left = row, column"),
)
filter_image.wrong(
    "y_where_x_is",
    "y has no gaps: the patch that begins at row row*s of x gives row `row` of y",
    ("y[row, column] =", "y[top, left] ="),
)
filter_image.wrong(
    "size_without_stride",
    "OH and OW do not know the stride: every s-th place only, so OH = (H - KH) // s + 1",
    (_SIZE, "(H - KH + 1, W - KW + 1)"),
    ("top, left = row", "if row * stride + KH > H or column * stride + KW > W: continue\n        top, left = row"),
    ("np.empty", "np.zeros"),
)
filter_image.wrong(
    "size_without_stride_raises",
    "OH and OW do not know the stride: every s-th place only, so OH = (H - KH) // s + 1",
    (_SIZE, "(H - KH + 1, W - KW + 1)"),
)
filter_image.wrong(
    "stride_ignored",
    "it is right but for the stride: neighbouring outputs see patches that are s pixels apart",
    ("top, left = row * stride, column * stride", "top, left = row, column"),
)
for number, half in enumerate(("row * stride, column", "row, column * stride")):
    filter_image.wrong(
        f"stride_one_way_{number}",
        "the stride holds for rows and for columns",
        ("top, left = row * stride, column * stride", f"top, left = {half}"),
    )
_WITHOUT = "y is too large: there is no padding, so only where the filter fits whole, OH = (H - KH) // s + 1"
for number, (enlarged, size) in enumerate((
    ("x = np.pad(x, ((KH // 2, KH // 2), (KW // 2, KW // 2), (0, 0)))", _SIZE.replace("(H -", "(len(x) -").replace(
        "(W -", "(x.shape[1] -")),
    ("x = np.pad(x, ((KH // 2, KH), (KW // 2, KW), (0, 0)))", "(-(-H // stride), -(-W // stride))"),
    ("x = np.pad(x, ((KH // 2, KH), (KW // 2, KW), (0, 0)))", "(H // stride, W // stride)"),
)):  # fmt: skip
    filter_image.wrong(
        f"padded_{number}", _WITHOUT, ("    y = np.empty(", f"    {enlarged}\n    y = np.empty("), (_SIZE, size)
    )
filter_image.wrong(
    "as_large_as_the_image",
    _WITHOUT,
    (f"np.empty({_SIZE}, x.dtype)", "np.zeros((H, W))"),
    ("np.ndindex(*y.shape)", f"np.ndindex(*{_SIZE})"),
)
filter_image.wrong("mean", "it is a mean over the patch where it should be the sum", (".sum()", ".mean()"))
filter_image.wrong(
    "mean_over_channels",
    "it is a mean over the channels where it should be their sum",
    (".sum()", ".sum() / x.shape[2]"),
)
filter_image.wrong(
    "one_channel_only",
    "only the first channel counts: the sum goes over the channels, too",
    (".sum()", "[..., 0].sum()"),
)
filter_image.wrong(
    "channels_kept",
    "the sum over the channels is missing: y has one number a place, (OH, OW)",
    (_SIZE, f"(*{_SIZE}, x.shape[2])"),
    ("np.ndindex(*y.shape)", "np.ndindex(*y.shape[:2])"),
    (".sum()", ".sum((0, 1))"),
)
for number, (unpacked, two) in enumerate(
    (("(H, W, _), (KH, KW, _)", "(H, W), (KH, KW)"), ("(KH, KW, _) =", "(KH, KW) ="))
):
    filter_image.wrong(
        f"two_axes_{number}",
        "x and w have a third axis, the channels: H, W, C = x.shape, and the sum goes over the channels, too",
        (unpacked, two),
    )
