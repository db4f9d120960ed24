"""The exercise on the rays of star-convex polygons."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import answers
from ..exercise import Exercise
from ..sheet import Sheet

PLAIN = "grade/answers.py"

star_distances = Exercise(
    "star_distances",
    "Star distances of labelled objects",
    lesson=14,
    minutes=40,
    task="""Write `star_distances`, what a network of star-convex polygons is to learn. Ray k of R leaves a pixel at the angle
2 pi k / R: from row r and column c it is after n steps at

    (r + n sin, c + n cos),    in the pixel  (floor(r + n sin + 1/2), floor(c + n cos + 1/2))

It goes on, n = 1, 2, ..., to the first pixel that is not of the same object: background, another object, or outside the image.
If that is the n-th, the distance is n - 1 + 0.5 / max(|sin|, |cos|): the outline lies half a pixel beyond the last one inside.
Loops over pixels are right.""",
    write=((PLAIN, "star_distances"),),
    axes=dict.fromkeys(("one", "background", "touching", "image's"), ("pixel", "ray")),
)


def _ellipse(rng: np.random.Generator, numbers: np.ndarray, number: int, left: float) -> None:
    """Draw a leaning object that is longer on one side."""
    H, W = numbers.shape
    rows, columns = np.mgrid[:H, :W]
    r, c = rows - H * rng.uniform(0.4, 0.55), columns - left
    reach = np.where(c > 0, rng.uniform(4.2, 5.4), rng.uniform(2.4, 3.2))
    numbers[(r / rng.uniform(2.8, 3.8) + 0.15 * c) ** 2 + (c / reach) ** 2 < 1] = number


def _rays(sheet: Sheet, parts: tuple[str, ...], asked: str, numbers: np.ndarray, count: int) -> None:
    wanted = answers.star_distances(numbers, count).astype(np.float32)  # which leaves the answer's precision free
    got: Any = sheet.call("star_distances", numbers, count)
    fits, inside = np.shape(got) == wanted.shape, numbers > 0
    sheet.same(parts[0], asked, got[inside] if fits else got, wanted[inside], 1e-6)
    for part in parts[1:]:
        sheet.same(part, asked, got[~inside] if fits else got, wanted[~inside], 1e-6)


@star_distances.check("one object", "background")
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    numbers = np.zeros((9, 12), np.int64)
    _ellipse(rng, numbers, int(rng.integers(1, 9)), 5.0)
    count = (8, 5, 16)[sheet.time]  # no angle of 30 degrees, whose sine is a half but for rounding
    _rays(sheet, ("one object", "background"), f"{count} rays", _turned(numbers, sheet.time), count)


def _turned(numbers: np.ndarray, time: int) -> np.ndarray:
    """The second time rows for columns: an image may be tall."""
    return numbers.T.copy() if time == 1 else numbers


@star_distances.check("touching objects", times=2)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    numbers = np.zeros((9, 14), np.int64)
    _ellipse(rng, numbers, 7, 4.0)
    _ellipse(rng, numbers, 3, 9.0)
    _rays(sheet, ("touching objects",), "two objects that touch, 8 rays", _turned(numbers, sheet.time), 8)


@star_distances.check("image's edge", times=2)
def _(sheet: Sheet, rng: np.random.Generator) -> None:
    numbers = np.zeros((6, 9), np.int64)
    numbers[:, : int(rng.integers(2, 4))] = 2  # from edge to edge: who walks off one must not come back at the other
    numbers[int(rng.integers(1, 3)) : 5, 5:] = 4
    _rays(sheet, ("image's edge",), "objects at the image's edges, 8 rays", _turned(numbers, sheet.time), 8)


_SINES = "down, right = float(np.sin(2 * np.pi * k / count)), float(np.cos(2 * np.pi * k / count))"
_WALK = "while 0 <= r < H and 0 <= c < W and numbers[r, c] == numbers[row, column]:"
_STEP = "r, c = int((row + n * down + 0.5) // 1), int((column + n * right + 0.5) // 1)"
_LENGTH = "n - 1 + 0.5 / max(abs(down), abs(right))"
star_distances.wrong(
    "upwards",
    "rays turn the other way round: rows grow downwards, and ray k goes down by its sine",
    (_SINES, _SINES.replace("float(np.sin(", "-float(np.sin(")),
)
star_distances.wrong(
    "rows_and_columns_swapped",
    "sine and cosine are swapped: rows go with the sine, columns with the cosine",
    (_SINES, _SINES.replace("down, right", "right, down")),
)
star_distances.wrong(
    "half_a_turn",
    "rays cover half a turn only: the angle is 2 pi k / R",
    (_SINES, _SINES.replace("2 * np.pi", "np.pi")),
)
star_distances.wrong(
    "both_ends", "ray 0 is there twice: the angle is 2 pi k / R, so that the last one stops before a whole turn",
    (_SINES, _SINES.replace("/ count", "/ (count - 1)")),
)  # fmt: skip
star_distances.wrong(
    "through_other_objects",
    "rays go on through a touching object: they end at any pixel that is not of the same one",
    (_WALK, _WALK.replace("numbers[r, c] == numbers[row, column]", "numbers[r, c] > 0")),
)
star_distances.wrong(
    "round_the_world",
    "a negative row counts from the end in NumPy: a ray that leaves the image at the top ends there",
    (_WALK, _WALK.replace("0 <= r < H and 0 <= c < W", "r < H and c < W")),
)
star_distances.wrong(
    "beyond_the_image",
    "a ray that leaves the image ends there: ask for rows and columns before you look",
    (_WALK, _WALK.replace("0 <= r < H and 0 <= c < W and ", "")),
)
star_distances.wrong(
    "last_pixel_counts",
    "distances are one step too long: n is the first pixel outside, so n - 1 steps lie inside",
    (_LENGTH, _LENGTH.replace("n - 1", "n")),
)
star_distances.wrong(
    "steps_outside",
    "it is the number of the first pixel outside: the distance is n - 1 + 0.5 / max(|sin|, |cos|)",
    (_LENGTH, "n"),
)
star_distances.wrong("steps_inside", "the last half pixel is missing: + 0.5 / max(|sin|, |cos|)", (_LENGTH, "n - 1"))
star_distances.wrong(
    "half_a_step",
    "half a pixel is longer than half a step where the ray is not straight: 0.5 / max(|sin|, |cos|)",
    (_LENGTH, "n - 0.5"),
)
star_distances.wrong(
    "not_rounded",
    "rays are in the pixel whose corner is nearest, not its middle: floor(... + 1/2)",
    (_STEP, _STEP.replace(" + 0.5", "")),
)
star_distances.wrong(
    "rounding_carried_on",
    "the rounded place is stepped on from, so that roundings add up: keep the place as it is, and round to look only",
    (_STEP, _STEP.replace("row + n * down", "r + down").replace("column + n * right", "c + right")),
)
star_distances.wrong(
    "background_as_an_object",
    "the background is no object: its distances are 0",
    ("np.argwhere(numbers)", "np.ndindex(H, W)"),
)
