"""The exercise on unpooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ..exercise import Exercise
from ..sheet import Sheet
from .filter import images

PLAIN = "grade/answers.py"

unpool = Exercise(
    "unpool",
    "Unpooling, both ways",
    lesson=14,
    minutes=30,
    needs=("max_pool",),
    task="""Write `unpool` and its backward, SegNet's way up: every value goes back to the pixel that was the largest of its
window, all other pixels get 0. Windows are size x size and do not overlap. The map that was pooled may have had rows or columns
that filled no window: they get 0, too. The backward is the adjoint of the forward, <y, dy> = <x, dx>. You choose what the cache
holds.""",
    write=((PLAIN, "unpool"), (PLAIN, "unpool_backward")),
    docstrings={"unpool_backward": "Gradient of `unpool`: dy (N, H, W, C) to dx (N, OH, OW, C)."},
)


# what a uint8 can count is less than a map's side may be
LONG: tuple[Any, ...] = ({}, (1, 0), (1, 130, 2, 1))


@unpool.check("y", "dx", "adjoint")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _unpool(sheet, rng, ("y", "dx"), ({}, (0, 0)), ({"size": 2}, (0, 0)))


@unpool.check("y, odd sizes", "dx, odd sizes", "adjoint")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    _unpool(sheet, rng, ("y, odd sizes", "dx, odd sizes"), ({}, (1, 1)), ({}, (0, 1)), ({}, (1, 0)), LONG)


@unpool.check("y, larger windows", "dx, larger windows", "adjoint")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    cases = (({"size": 3}, (0, 2)), ({"size": 3}, (1, 0)), ({"size": 4}, (3, 1)))
    _unpool(sheet, rng, ("y, larger windows", "dx, larger windows"), *cases)


def _unpool(sheet: Sheet, rng: np.random.Generator, parts: tuple[str, str], *cases: tuple[Any, ...]) -> None:
    asked = []
    for how, rest, *shape in cases:
        x, size = rng.standard_normal(*shape) if shape else images(rng, 3, sheet.time), how.get("size", 2)
        winner = rng.integers(size * size, size=x.shape).astype(np.uint8)
        out = (x.shape[1] * size + rest[0], x.shape[2] * size + rest[1])
        asked.append(((x, winner, out), how, rng.standard_normal((len(x), *out, x.shape[3]))))
    for (y, dx), (inputs, how, dy) in zip(sheet.pairs(("unpool", "unpool_backward"), asked), asked):
        x, _, out = inputs
        wanted, cache = ops.max_unpool2d(*inputs, how.get("size", 2))
        told = f"from {x.shape[1]} x {x.shape[2]} to {out[0]} x {out[1]} pixels, size {how.get('size', 2)}"
        sheet.same(parts[0], told, y, wanted)
        sheet.same(parts[1], told, dx, ops.max_unpool2d_backward(dy, cache))
        sheet.adjoint("adjoint", x, y, dy, dx, wanted)


_PUT = "y[:, i : OH * size : size, j : OW * size : size] = x * (winner == n)"
_GET = "dx += dy[:, i : OH * size : size, j : OW * size : size] * (winner == n)"
unpool.wrong(
    "repeated",
    "every pixel of the window gets the value, as in nearest up-sampling: only the winner's should",
    (_PUT, _PUT.replace("x * (winner == n)", "x")),
)
unpool.wrong(
    "always_the_first",
    "every value is put into its window's first pixel: the winner's number says which one it belongs to",
    (_PUT, _PUT.replace("x * (winner == n)", "x * (n == 0)")),
)
unpool.wrong(
    "rows_and_columns_swapped",
    "the winner's number is read as j*size + i: it is i*size + j, so its row is number // size",
    ("i, j = divmod(n, size)", "j, i = divmod(n, size)"),
)
unpool.wrong(
    "rows_and_columns_swapped_forwards",
    "the winner's number is read as j*size + i: it is i*size + j, so its row is number // size",
    (_PUT, _PUT.replace("winner == n", "winner == j * size + i")),
)
unpool.wrong(
    "window_summed",
    "dx sums the whole window: only the pixel to which the value went gives back",
    (_GET, _GET.replace(" * (winner == n)", "")),
)
unpool.wrong(
    "window_averaged",
    "dx is the window's mean: the gradient is what lies at the winner's pixel, whole",
    (_GET, _GET.replace("(winner == n)", "1 / size**2")),
)
unpool.wrong(
    "pooled_again",
    "dx is the largest gradient of the window: the values of dy do not choose, the winners of the forward do",
    ("dx = np.zeros(winner.shape, dy.dtype)", "dx = np.full(winner.shape, -np.inf)"),
    (_GET, "dx = np.maximum(dx, dy[:, i : OH * size : size, j : OW * size : size])"),
)
unpool.wrong(
    "size_of_whole_windows",
    "y is as large as whole windows are: make it as large as output_size, the rest stays 0",
    ("y = np.zeros((N, H, W, C), x.dtype)", "y = np.zeros((N, OH * size, OW * size, C), x.dtype)"),
)
unpool.wrong(
    "size_two_always",
    "windows are taken for 2 x 2 whatever `size` says",
    ("y = np.zeros((N, H, W, C), x.dtype)", "y, size = np.zeros((N, H, W, C), x.dtype), 2"),
)
unpool.wrong(
    "slices_to_the_end",
    "with rows that fill no window a slice to the map's end takes one window too many: OH windows end at row OH * size",
    (_PUT, _PUT.replace("OH * size", "").replace("OW * size", "")),
    (_GET, _GET.replace("OH * size", "").replace("OW * size", "")),
)
unpool.wrong(
    "slices_to_the_end_backwards",
    "with rows that fill no window a slice to the map's end takes one window too many: OH windows end at row OH * size",
    (_GET, _GET.replace("OH * size", "").replace("OW * size", "")),
)
unpool.wrong(
    "rest_at_the_beginning",
    "the rows and columns that filled no window are the last ones: windows begin at row 0",
    (_PUT, _PUT.replace("i : OH * size", "H - OH * size + i : H").replace("j : OW * size", "W - OW * size + j : W")),
)
unpool.wrong(
    "only_the_last_of_the_window",
    "dx is overwritten by every pixel of the window in turn: += instead of =",
    (_GET, _GET.replace("+=", "=")),
)
