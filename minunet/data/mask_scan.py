"""Finding the classes that the masks of a data set hold: `MaskScan` counts the values of every mask, and decides.

Masks come as 0/1, as 0/255, as class numbers with or without gaps, as colours, or as instance numbers (a number for every
object). The rules, in the order in which they are tried:

1. Any colour: every colour is a class, sorted by (red, green, blue), so black comes first. Grey g counts as (g, g, g).
2. JPEG with more than two values of which at most 5 % of the pixels lie between 64 and 191: compression noise around
   0 and 255. Two classes, thresholded at 128, with a notice.
3. More than 64 values, or more than 8 stored in over 8 bits: instance numbers (one label image for all cells, as StarDist
   and Cellpose write it), provided that neighbouring pixels mostly agree. Two classes, foreground is > 0, and the
   numbers are kept as instances. If neighbours do not agree, it is a photograph or a soft mask: an error. With fewer values,
   but more than 8 (2 in over 8 bits), they are also instance numbers if nearly every number is one connected piece in its mask
   and the masks hold different numbers. (Classes come in several pieces, and every mask holds the same ones.)
4. Otherwise every value is a class, in ascending order: {0, 255} gives 2 classes, {0, 1, 3} gives 3.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import scipy

from ..errors import UserError
from .classes import MAX_CLASSES, ClassMap, pack_colours, unpack_colour

MAX_WIDE_CLASSES = 8  # of masks stored in more than 8 bits: those usually hold instance numbers
PIECES = 1.05  # numbers with more connected pieces than this, on average, are not those of objects
RARE = 1e-4  # share of all pixels below which a class is suspect


@dataclass
class MaskScan:
    """What the masks of a data set hold, gathered mask by mask with `add`; `classes` then decides.

    Examples
    --------
    >>> scan = MaskScan()
    >>> scan.add(np.array([[0, 0, 1], [0, 3, 3]], np.uint8), "a.png")
    >>> classes, notices = scan.classes()
    >>> classes.values, classes.rule, notices
    ([0, 1, 3], 'exact', [])
    """

    grey: Counter = field(default_factory=Counter)  # value: pixels
    colour: Counter = field(default_factory=Counter)  # packed colour: pixels
    wide: bool = False  # some mask is stored in more than 8 bits
    jpeg: bool = False
    between: int = 0  # pixels that are neither 0 nor their mask's maximum,
    agreeing: int = 0  # and those of them whose right neighbour has the same value
    seen: dict = field(default_factory=dict)  # which of 1 and 255 a mask holds, with one file for each combination
    numbers: int = 0  # values above 0, counted in every mask that holds them
    pieces: int = 0  # connected pieces of them
    held: Counter = field(default_factory=Counter)  # sets of values above 0: masks

    def add(self, mask: np.ndarray, path: object, jpeg: bool = False) -> None:
        """Count the values of a mask.

        Parameters
        ----------
        mask : (H, W) integer array or (H, W, 3) uint8 array, as `read_mask` gives it
        path : what an error calls the mask
        jpeg : bool
            Whether the file is a JPEG; `classes` then allows for noise.

        Raises
        ------
        UserError
            If the mask holds more colours than there can be classes.
        """
        self.jpeg |= jpeg
        if mask.ndim == 3:
            values, counts = np.unique(pack_colours(mask), return_counts=True)
            if len(values) > MAX_CLASSES:
                raise UserError(
                    f"{path}: {len(values)} different colours; this looks like a photograph or JPEG noise, not like a "
                    f"class mask; save masks as PNG with one colour for each class"
                )
            self.colour.update(dict(zip(values.tolist(), counts.tolist())))
            return
        if mask.dtype in (np.uint8, np.uint16):  # counting is quicker than sorting
            pixels = np.bincount(mask.ravel())
            values = np.flatnonzero(pixels)
            counts = pixels[values]
        else:
            values, counts = np.unique(mask, return_counts=True)
        self.grey.update(dict(zip(values.tolist(), counts.tolist())))
        self.wide |= mask.dtype.itemsize > 1
        self.seen.setdefault(frozenset(values.tolist()) & {1, 255}, path)
        self._count_pieces(mask, values)
        if len(values) > 2:
            left, right = mask[:, :-1], mask[:, 1:]
            between = (left > 0) & (left < values[-1])
            self.between += int(between.sum())
            self.agreeing += int((between & (left == right)).sum())

    def classes(self) -> tuple[ClassMap, list[str]]:
        """The class map by the rules at the head of this file, and notices for the report.

        Raises
        ------
        UserError
            If the values fit no rule, or masks contradict each other.
        """
        if self.colour:
            return self._colour_classes(), []
        total = sum(self.grey.values())
        middle = sum(n for v, n in self.grey.items() if 64 <= v < 192)
        if self.jpeg and len(self.grey) > 2 and max(self.grey) >= 192 and middle <= 0.05 * total:
            notice = "the masks are JPEG, which blurs values: thresholded at 128; save masks as PNG"
            return ClassMap.binary(rule="threshold"), [notice]
        values = sorted(self.grey)
        most, few = (MAX_WIDE_CLASSES, 2) if self.wide else (MAX_CLASSES, MAX_WIDE_CLASSES)
        if len(values) > most or (len(values) > few and self._numbers_objects()):
            return self._instances(len(values)), []
        return self._numbered_classes(values)

    def _count_pieces(self, mask: np.ndarray, values: np.ndarray) -> None:
        """Count the connected pieces of each value above 0, unless the mask has more values than there can be classes."""
        values = values[values > 0]
        if len(values) > MAX_CLASSES:
            return
        numbered = np.where(mask > 0, np.searchsorted(values, mask) + 1, 0)
        boxes = [(i, box) for i, box in enumerate(scipy.ndimage.find_objects(numbered), start=1) if box]
        self.numbers += len(values)
        self.pieces += sum(scipy.ndimage.label(numbered[box] == i, np.ones((3, 3)))[1] for i, box in boxes)
        self.held[frozenset(values.tolist())] += 1

    def _numbers_objects(self) -> bool:
        """Whether the values are instance numbers by the second half of rule 3."""
        differ = len(self.held) > 1 or self.held.total() == 1
        return differ and max(map(len, self.held)) > 2 and self.pieces <= PIECES * self.numbers

    def foreground(self, classes: ClassMap) -> int:
        """Number of pixels that are not of class 0."""
        total = sum(self.grey.values()) + sum(self.colour.values())
        if classes.rule != "exact":
            return sum(n for v, n in self.grey.items() if v >= (128 if classes.rule == "threshold" else 1))
        if not classes.is_colour:
            return total - self.grey[classes.values[0]]
        red, green, blue = classes.values[0]
        grey = self.grey[red] if red == green == blue else 0
        return total - grey - self.colour[red << 16 | green << 8 | blue]

    def _colour_classes(self) -> ClassMap:
        keys = sorted({*self.colour, *(v * 0x010101 for v in self.grey)})
        if len(keys) > MAX_CLASSES or any(v > 255 for v in self.grey):
            raise UserError(f"the masks hold {len(keys)} different colours; at most {MAX_CLASSES} classes are possible")
        if len(keys) == 1:  # one colour everywhere: a class map needs two
            keys = [0, *keys]
        names = ["background", "foreground"] if len(keys) == 2 else [f"class {i}" for i in range(len(keys))]
        return ClassMap([list(unpack_colour(k)) for k in keys], names)

    def _instances(self, found: int) -> ClassMap:
        if min(self.grey) < 0 or self.agreeing < 0.7 * self.between:
            raise UserError(
                f"the masks hold {found} different values from {min(self.grey)} to {max(self.grey)}; this looks like "
                f"a photograph or a soft mask, not like classes (at most {MAX_CLASSES}) or object numbers"
            )
        return ClassMap.binary(rule="instances")

    def _numbered_classes(self, values: list[int]) -> tuple[ClassMap, list[str]]:
        one, full = self.seen.get(frozenset({1})), self.seen.get(frozenset({255}))
        if set(values) <= {0, 1, 255} and one and full and frozenset({1, 255}) not in self.seen:
            raise UserError(f"foreground is 1 in {one} but 255 in {full}; save all masks alike")
        notices = []
        if len(values) == 1:  # a class map needs two; the report says so when a class has no pixels
            values = [0, 255] if values == [0] else [0, *values]
        if self.wide and len(values) > 2:
            notices.append(
                f"{len(values)} values in masks of over 8 bits are taken as classes; if they number objects, save the "
                f"masks as 0 and 255 or with more than {MAX_WIDE_CLASSES} numbers"
            )
        total = sum(self.grey.values())
        notices += [
            f"value {v} covers only {self.grey[v]} of {total} pixels: is it a class, or did a stray pixel slip in?"
            for v in values
            if len(values) > 2 and 0 < self.grey[v] < RARE * total
        ]
        names = ["background", "foreground"] if len(values) == 2 else [f"class {i}" for i in range(len(values))]
        return ClassMap(values, names), notices
