"""Counting what the masks of a data set hold: `MaskScan`. What it means is decided in mask_kinds.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import UserError, shown
from .classes import MAX_CLASSES, ClassMap, pack_colours

MASK_KINDS = ("auto", "classes", "objects", "binary")
SAMPLED = 1 << 21  # of larger masks every second, third, ... row and column is enough to tell pieces apart
ENOUGH = 400  # masks in which pieces are counted
CRUMB = 8  # a piece of less than 1/8 of the value's largest piece does not count as one

Value = int | tuple[int, int, int]


class Regions(NamedTuple):
    """Where the values above 0 of a mask lie; one entry for each value."""

    values: np.ndarray
    pieces: np.ndarray  # connected pieces, crumbs left out
    area: np.ndarray  # share of the mask
    row: np.ndarray  # mean position, as a share of height and width
    column: np.ndarray


@dataclass
class MaskScan:
    """What the masks of a data set hold, gathered mask by mask with `add`.

    Attributes
    ----------
    ignore : sequence of int or of (red, green, blue)
        Values that do not count. Of a mask with a palette, a number stands for the colour of that number.

    Examples
    --------
    >>> scan = MaskScan()
    >>> scan.add(np.array([[0, 0, 1], [0, 3, 3]], np.uint8), "a.png")
    >>> sorted(scan.grey.items())
    [(0, 3), (1, 1), (3, 2)]
    """

    ignore: Sequence[Value] = ()
    grey: Counter = field(default_factory=Counter)  # value: pixels
    colour: Counter = field(default_factory=Counter)  # packed colour: pixels
    on: int = 0  # pixels of one-bit masks that are set,
    off: int = 0  # and that are not
    flat: Counter = field(default_factory=Counter)  # value or packed colour: pixels that begin a 2x2 square of it
    wide: bool = False  # some mask is stored in more than 8 bits
    jpeg: bool = False
    seen: dict = field(default_factory=dict)  # which of 1 and 255 a mask holds, with one file for each combination
    regions: list[Regions] = field(default_factory=list)  # of masks without more values than there can be classes
    indices: dict[int, set[int]] = field(default_factory=dict)  # colours by the number that palettes give them
    unindexed: bool = False  # some colour mask has no palette
    ignored: set[int] = field(default_factory=set)  # packed colours that do not count

    def __post_init__(self) -> None:
        self.ignored |= {_packed(value) for value in self.ignore if not isinstance(value, int)}

    def add(self, mask: np.ndarray, path: object, jpeg: bool = False, palette: np.ndarray | None = None) -> None:
        """Count the values of a mask.

        Parameters
        ----------
        mask : (H, W) integer or bool array or (H, W, 3) uint8 array, as `read_indexed_mask` gives it
        path : what an error calls the mask
        jpeg : bool
            Whether the file is a JPEG.
        palette : (n, 3) uint8 array or None
            The colours that the mask's numbers stand for.
        """
        self.jpeg |= jpeg
        self.unindexed |= palette is None and mask.ndim == 3
        self.ignored |= set(map(_packed, self.ignore)) if self.unindexed else set()
        numbers, counts = mask, self._counting(mask, palette)
        if palette is not None:
            self._add_palette(mask, palette)
            numbers = pack_colours(palette[mask])
        elif mask.ndim == 3:
            numbers = pack_colours(mask)
        kept = numbers if counts is None else numbers[counts]
        if numbers.dtype == bool:
            on = int(np.count_nonzero(kept))
            self.on, self.off = self.on + on, self.off + kept.size - on
            return
        pixels = _tally(kept)
        coloured = numbers is not mask
        if coloured and len(pixels) > 4 * MAX_CLASSES:
            raise UserError(
                f"{path}: {len(pixels)} different colours; this looks like a photograph or JPEG noise, not like a "
                f"class mask; save masks as PNG with one colour for each class"
            )
        (self.colour if coloured else self.grey).update(pixels)
        square = numbers[:-1, :-1]
        same = (square == numbers[:-1, 1:]) & (square == numbers[1:, :-1]) & (square == numbers[1:, 1:])
        self.flat.update(_tally(square[same if counts is None else same & counts[:-1, :-1]]))
        if not coloured:
            self.wide |= mask.dtype.itemsize > 1
            self.seen.setdefault(frozenset(pixels) & {1, 255}, path)
        if len(pixels) <= MAX_CLASSES and not set(pixels) <= {0, 255} and len(self.regions) < ENOUGH:
            self.regions.append(find_regions(numbers if counts is None else np.where(counts, numbers, 0)))

    def pixels(self) -> Counter:
        """Pixels by value; where some mask is in colour, by packed colour."""
        if self.colour:
            grey = {v * 0x010101: n for v, n in self.grey.items()} | ({0xFFFFFF: self.on} if self.on else {})
            return self.colour + Counter(grey) + Counter({0: self.off})
        full = 255 if set(self.grey) <= {0, 255} and 255 in self.grey else 1  # one-bit masks beside others
        return self.grey + Counter({full: self.on, 0: self.off})

    def foreground(self, classes: ClassMap) -> int:
        """Number of pixels that are not of class 0."""
        pixels = self.pixels()
        if classes.rule != "exact":
            bright = {k: max(k >> 16, k >> 8 & 255, k & 255) if self.colour else k for k in pixels}
            return sum(n for k, n in pixels.items() if bright[k] >= classes.threshold)
        first = classes.values[0]
        return pixels.total() - pixels[first if isinstance(first, int) else _packed(first)]

    def counted(self) -> int:
        """Number of pixels whose value is not ignored."""
        return self.pixels().total()

    def _counting(self, mask: np.ndarray, palette: np.ndarray | None) -> np.ndarray | None:
        """Where the mask holds no value that is ignored; None if everywhere."""
        if not self.ignore:
            return None
        grey = mask.ndim == 2 and palette is None
        if grey:
            left_out = np.isin(mask, [value for value in self.ignore if isinstance(value, int)])
        else:
            if palette is not None:
                numbers = [value for value in self.ignore if isinstance(value, int) and 0 <= value < len(palette)]
                self.ignored |= {_packed(palette[value].tolist()) for value in numbers if (mask == value).any()}
            left_out = np.isin(pack_colours(mask if palette is None else palette[mask]), list(self.ignored))
        return ~left_out if left_out.any() else None

    def _add_palette(self, mask: np.ndarray, palette: np.ndarray) -> None:
        for index in np.unique(mask).tolist():
            self.indices.setdefault(index, set()).add(_packed(palette[index].tolist()))


def find_regions(numbers: np.ndarray) -> Regions:
    """Where the values above 0 of a mask (H, W) lie, and in how many 4-connected pieces."""
    import scipy

    step = int(np.ceil(np.sqrt(numbers.size / SAMPLED)))
    numbers = numbers[::step, ::step]
    H, W = numbers.shape
    # pixels of the mask lie two apart, and the ones between neighbours of one value join them
    grid = np.zeros((2 * H - 1, 2 * W - 1), bool)
    grid[::2, ::2] = numbers > 0
    grid[::2, 1::2] = (numbers[:, 1:] == numbers[:, :-1]) & (numbers[:, 1:] > 0)
    grid[1::2, ::2] = (numbers[1:] == numbers[:-1]) & (numbers[1:] > 0)
    piece = scipy.ndimage.label(grid)[0][::2, ::2][numbers > 0]
    values, which = np.unique(numbers[numbers > 0], return_inverse=True)
    size = np.bincount(piece)
    owner = np.zeros(len(size), np.intp)
    owner[piece] = which
    largest = np.zeros(len(values), np.intp)
    np.maximum.at(largest, owner[1:], size[1:])
    whole = size[1:] * CRUMB >= largest[owner[1:]]
    area = np.bincount(which, minlength=len(values))
    rows, columns = np.nonzero(numbers > 0)
    row, column = (np.bincount(which, at, len(values)) / np.maximum(area, 1) for at in (rows / H, columns / W))
    pieces = np.bincount(owner[1:][whole], minlength=len(values))
    return Regions(values, pieces, area / numbers.size, row, column)


def ignored_values(texts: Iterable[object]) -> tuple[Value, ...]:
    """The values of --ignore: whole numbers, or colours such as "224,224,192"; UserError if one is neither."""
    found: list[Value] = []
    for text in texts:
        parts = list(text) if isinstance(text, list | tuple) else str(text).split(",")
        try:
            numbers = [int(part) for part in parts]
        except ValueError:
            numbers = []
        if (
            isinstance(text, bool)
            or len(numbers) not in (1, 3)
            or (len(numbers) == 3 and not all(0 <= n < 256 for n in numbers))
        ):
            raise UserError(f"ignore: {shown(text)} is no value of a mask; give a whole number, or red,green,blue")
        found.append(numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2]))
    return tuple(found)


def _packed(value: int | Sequence[int]) -> int:
    """A colour as one number; a grey value g as the colour (g, g, g)."""
    red, green, blue = (value,) * 3 if isinstance(value, int) else value
    return red << 16 | green << 8 | blue


def _tally(values: np.ndarray) -> dict[int, int]:
    """How often each value is there."""
    if values.dtype in (np.uint8, np.uint16):  # counting is quicker than sorting
        pixels = np.bincount(values.ravel())
        found = np.flatnonzero(pixels)
        return dict(zip(found.tolist(), pixels[found].tolist()))
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist()))
