"""Exercises on what moves values about: max-pool, bilinear upsampling, crop and concat."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...gradcheck import draw
from .. import cut
from ..exercise import Exercise
from ..sheet import Raised, Sheet
from .filter import images

POOL, RESAMPLE, SHAPE = "ops/pool.py", "ops/resample.py", "ops/shape.py"


# ---- max-pool --------------------------------------------------------------------------------------------------------

max_pool = Exercise(
    "max_pool",
    "Max-pooling, both ways",
    lesson=3,
    minutes=45,
    task="""Write `max_pool2d` and its backward. y is the largest value of every size x size window, windows `stride`
pixels apart; what
does not fill a window at the bottom and the right is dropped. Backwards only the winner gets the gradient; in a tie the
first of the window, in reading order, wins alone. Windows may overlap. You choose what the cache holds (x is more
than you
need).""",
    write=((POOL, "max_pool2d"), (POOL, "max_pool2d_backward")),
    given=(("ops/conv.py", "output_size"),),
    hidden=(("ops/conv.py", "window"),),
    docstrings={
        "max_pool2d": "Largest value of every window: x (N, H, W, C) to (y, cache), y (N, OH, OW, C).",
        "max_pool2d_backward": "Gradient of `max_pool2d`: dy (N, OH, OW, C) to dx (N, H, W, C).",
    },
)


@max_pool.check("y", "dx")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = draw(images(rng, kind=sheet.time).shape, rng)
    _pool(sheet, rng, ("y", "dx"), (x, {}), (-1000 - np.abs(x), {"size": 2}), (x, {"size": 3}))


@max_pool.check("y, overlapping", "dx, overlapping")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = draw(images(rng, kind=sheet.time).shape, rng)
    cases = ((x, {"size": n, "stride": s}) for n, s in ((3, 2), (2, 1), (2, 3), (4, 1)))
    _pool(sheet, rng, ("y, overlapping", "dx, overlapping"), *cases)


@max_pool.check("dx, ties")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = rng.integers(-2, 1, images(rng, kind=sheet.time).shape).astype(np.float64)
    x[..., :4, :4, 0] = 1  # some windows are all the same
    _pool(sheet, rng, ("y", "dx, ties"), (x, {"size": 2}), (x, {"size": 3, "stride": 2}))


def _pool(
    sheet: Sheet, rng: np.random.Generator, parts: tuple[str, str], *cases: tuple[np.ndarray, dict[str, int]]
) -> None:
    wanted = [ops.max_pool2d(x, **options) for x, options in cases]
    asked = [((x,), options, rng.standard_normal(y.shape)) for (x, options), (y, _) in zip(cases, wanted)]
    found = sheet.pairs(("max_pool2d", "max_pool2d_backward"), asked)
    for (y, dx), (_, options, dy), (right, cache) in zip(found, asked, wanted):
        sheet.same(parts[0], f"{options or 'size 2'}", y, right)
        sheet.same(parts[1], f"{options or 'size 2'}", dx, ops.max_pool2d_backward(dy, cache))


_WIN = "window(dx, i, j, OH, OW, stride)[...] += dy * (winner == n)"
max_pool.wrong(
    "the_last_wins",
    "in a tie the last of the window wins, where the first should: > and not >=",
    ("winner[seen > y] = n", "winner[seen >= y] = n"),
)
max_pool.wrong(
    "all_tied_win",
    "in a tie every one of the tied gets the whole gradient: it is counted several times",
    ("return y, (winner, x.shape, size, stride)", "return y, ((x, y), x.shape, size, stride)"),
    ("(winner == n)", "(window(winner[0], i, j, OH, OW, stride) == winner[1])"),
)
max_pool.wrong(
    "overwrites",
    "where windows overlap, the last one overwrites what the others gave: += instead of =",
    (_WIN, "window(dx, i, j, OH, OW, stride)[...] = np.where(winner == n, dy, window(dx, i, j, OH, OW, stride))"),
)
max_pool.wrong(
    "spread_over_the_window",
    "every pixel of the window gets a share, as in mean-pooling: only the winner should",
    ("dy * (winner == n)", "dy / size**2"),
)
max_pool.wrong(
    "starts_at_zero",
    "the maximum starts from 0, so that a window of negative numbers gives 0",
    ("y = window(x, 0, 0, OH, OW, stride).copy()", "y = np.maximum(window(x, 0, 0, OH, OW, stride), 0)"),
)
max_pool.wrong(
    "stride_ignored",
    "it is right but for the stride: windows are `stride` pixels apart, not `size`",
    ("window(x, 0, 0, OH, OW, stride)", "window(np.pad(x, ((0, 0), (0, 99), (0, 99), (0, 0))), 0, 0, OH, OW, size)"),
    ("window(x, i, j, OH, OW, stride)", "window(np.pad(x, ((0, 0), (0, 99), (0, 99), (0, 0))), i, j, OH, OW, size)"),
)

# ---- bilinear upsampling ---------------------------------------------------------------------------------------------

bilinear = Exercise(
    "bilinear",
    "Bilinear upsampling and its adjoint",
    lesson=3,
    minutes=60,
    task=f"""Write `upsample_bilinear` and its backward. Interpolation is linear along rows and columns separately,
so it can be written
with one matrix for each. Where output row r lies among the input rows, two conventions say differently:

{cut.quoted(RESAMPLE, "align_corners=True ", "clamped to the image")}

and the value is mixed from the two rows beside that place, in proportion to nearness. The backward is the adjoint of
the
forward, for which <y, dy> = <x, dx> whatever x and dy: the grader tries it. You choose what the cache holds.""",
    write=((RESAMPLE, "upsample_bilinear"), (RESAMPLE, "upsample_bilinear_backward")),
    hidden=tuple((RESAMPLE, n) for n in ("interpolation_matrix", "places", "_apply")),
    docstrings={
        "upsample_bilinear_backward": "The adjoint: dy (N, scale*H, scale*W, C) to dx (N, H, W, C).",
    },
)


@bilinear.check("y, corners aligned", "dx, corners aligned", "adjoint")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _upsample(sheet, rng, "corners aligned", {}, {"scale": 3, "align_corners": True})


@bilinear.check("y, pixels as areas", "dx, pixels as areas", "adjoint")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _upsample(sheet, rng, "pixels as areas", *({"scale": n, "align_corners": False} for n in (2, 3)))


def _upsample(sheet: Sheet, rng: np.random.Generator, name: str, *options: dict[str, Any]) -> None:
    maps = [images(rng, 2, sheet.time) for _ in options]
    maps, options = [*maps, maps[0][:, :1]], (*options, options[0])  # a map may have a single row
    wanted = [ops.upsample_bilinear(x, **how) for x, how in zip(maps, options)]
    cases = [((x,), how, rng.standard_normal(y.shape)) for x, how, (y, _) in zip(maps, options, wanted)]
    found = sheet.pairs(("upsample_bilinear", "upsample_bilinear_backward"), cases)
    for (y, dx), ((x,), how, dy), (right, cache) in zip(found, cases, wanted):
        asked = f"from {x.shape[1]} x {x.shape[2]} pixels, {how or 'scale 2'}"
        sheet.same(f"y, {name}", asked, y, right)
        sheet.same(f"dx, {name}", asked, dx, ops.upsample_bilinear_backward(dy, cache))
        sheet.adjoint("adjoint", x, y, dy, dx, right)


_BACK = "return _apply(dy, interpolation_matrix(H, OH, align_corners).T, interpolation_matrix(W, OW, align_corners).T)"
bilinear.wrong(
    "other_corners_backwards",
    "the backward uses the other convention for the corners than the forward",
    (_BACK, _BACK.replace("align_corners", "not align_corners")),
)
bilinear.wrong(
    "other_corners",
    "the two conventions for the corners are swapped",
    ("    if align_corners:\n", "    if not align_corners:\n"),
)
bilinear.wrong(
    "half_pixel_forgotten",
    "for pixels as areas the half pixel is missing: row r lies at (r + 1/2) * H / OH - 1/2",
    ("(r + 0.5) * n / m - 0.5", "r * n / m"),
)
bilinear.wrong(
    "interpolates_backwards",
    "the backward interpolates dy down to the input's size: that is no adjoint; every input pixel collects what it gave",
    (
        _BACK,
        "return _apply(dy, interpolation_matrix(OH, H, align_corners), interpolation_matrix(OW, W, align_corners))",
    ),
)
bilinear.wrong(
    "nearness_swapped",
    "the two neighbours' shares are swapped: the nearer row counts more",
    ("matrix[r, below] = 1 - nearness", "matrix[r, below] = nearness"),
    ("+= nearness", "+= 1 - nearness"),
)

# ---- crop and concat -------------------------------------------------------------------------------------------------

crop_concat = Exercise(
    "crop_concat",
    "Crop and concat: the joint of a skip connection",
    lesson=3,
    minutes=20,
    task="""Write `crop` and `concat` and their backwards. They move values and change none, so their gradients move
them back. Margins
are ((top, bottom), (left, right)) pixels to cut off; channels are stacked in the order given. You choose the
caches.""",
    write=tuple((SHAPE, n) for n in ("crop", "crop_backward", "concat", "concat_backward")),
    given=((SHAPE, "Margins"),),
    hidden=((SHAPE, "_cut"), ("ops/conv.py", "pad_spatial")),
    docstrings={
        "crop": "Cut the margins off x (N, H, W, C): (y, cache).",
        "crop_backward": "Gradient of `crop`: dy to dx, in the shape of the x that was cropped.",
        "concat": "Stack (N, H, W, C1), (N, H, W, C2), ... along the channels, in this order: (y, cache).",
        "concat_backward": "Gradient of `concat`: a tuple with one gradient for each array.",
    },
)


# a side from which nothing is cut is another case, and there are four
MARGINS = (((0, 2), (1, 3)), ((2, 1), (3, 0)), ((1, 0), (0, 2)), ((0, 0), (2, 1)), ((0, 0), (0, 0)))


@crop_concat.check("crop", "crop, backwards")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    x = images(rng, 7, sheet.time)
    wanted = [ops.crop(x, margins) for margins in MARGINS]
    cases: list[Any] = [((x, margins), {}, rng.standard_normal(y.shape)) for margins, (y, _) in zip(MARGINS, wanted)]
    found = sheet.pairs(("crop", "crop_backward"), cases)
    for (y, dx), ((_, margins), _, dy), (right, cache) in zip(found, cases, wanted):
        sheet.same("crop", f"margins {margins}", y, right)
        sheet.same("crop, backwards", f"margins {margins}", dx, ops.crop_backward(dy, cache))


@crop_concat.check("concat", "concat, backwards")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    pixels = images(rng, kind=sheet.time).shape[:3]
    cases: list[Any] = []
    for channels in ((2, 5, 1), (2, 2), (1, 3), (3,)):
        arrays = [rng.standard_normal((*pixels, C)) for C in channels]
        handed = tuple(arrays) if channels == (2, 2) else arrays  # any sequence will do
        cases.append(((handed,), {}, rng.standard_normal((*pixels, sum(channels)))))
    for (y, got), ((arrays,), _, dy) in zip(sheet.pairs(("concat", "concat_backward"), cases), cases):
        right, cache = ops.concat(arrays)
        how = "a tuple of " * isinstance(arrays, tuple)
        asked = f"{how}arrays of {', '.join(str(a.shape[-1]) for a in arrays)} channels"
        sheet.same("concat", asked, y, right)
        got = (
            got
            if isinstance(got, (tuple, list, Raised))
            else Raised(f"a tuple of gradients should come back ({asked})")
        )
        sheet.gradients(("concat, backwards",) * len(arrays), asked, got, ops.concat_backward(dy, cache))


crop_concat.wrong(
    "margins_swapped_backwards",
    "the gradient is put back at the wrong place: top and bottom (or left and right) margins are swapped",
    ("return pad_spatial(dy, margins)", "return pad_spatial(dy, tuple(m[::-1] for m in margins))"),
)
crop_concat.wrong(
    "rows_and_columns_swapped",
    "the margins of rows and columns are swapped: ((top, bottom), (left, right))",
    ("(top, bottom), (left, right) = margins\n    if", "(left, right), (top, bottom) = margins\n    if"),
)
crop_concat.wrong(
    "stacked_the_other_way_round",
    "the arrays are stacked in the wrong order",
    ("np.concatenate(arrays, axis=-1)", "np.concatenate(arrays[::-1], axis=-1)"),
)
crop_concat.wrong(
    "handed_back_in_reverse",
    "the gradients are handed back in the wrong order",
    ("return tuple(dy[..., end - n : end] for n, end in zip(cache, ends))",
     "return tuple(dy[..., end - n : end] for n, end in zip(cache, ends))[::-1]"),
)  # fmt: skip
crop_concat.wrong(
    "split_from_zero",
    "every gradient is taken from the first channels on: each array's begin where the one before ends",
    ("dy[..., end - n : end]", "dy[..., :n]"),
)
