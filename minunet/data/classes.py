"""From what a mask file holds to class numbers, and back.

Masks come as 0/1, as 0/255, as class numbers with or without gaps, as colours, or as object numbers. `MaskScan` looks
at every mask of a data set and decides which it is; the `ClassMap` it gives is stored in the checkpoint, so that
prediction writes what training read. The rules, in the order in which they are tried:

1. Any colour: every colour is a class, sorted by (red, green, blue), so black comes first. Grey g counts as (g, g, g).
2. JPEG with more than two values of which at most 5 % of the pixels lie between 64 and 191: compression noise around
   0 and 255. Two classes, thresholded at 128, with a notice.
3. More than 64 values, or more than 8 stored in over 8 bits: object numbers (one label image for all cells, as StarDist
   and Cellpose write it), provided that neighbouring pixels mostly agree. Two classes, foreground is > 0, and the
   numbers are kept as instances. Where neighbours do not agree it is a photograph or a soft mask: an error. With fewer
   values, but more than 8 (2 in over 8 bits), the same if nearly every number is one connected piece in its mask and
   masks differ in which numbers they hold: classes come in several pieces, and in every mask.
4. Otherwise every value is a class, in ascending order: {0, 255} gives 2 classes, {0, 1, 3} gives 3.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy

from ..errors import UserError

MAX_CLASSES = 64
MAX_WIDE_CLASSES = 8  # of masks stored in more than 8 bits: those usually hold object numbers
PIECES = 1.05  # connected pieces a number, up to which numbers may be those of objects
RARE = 1e-4  # share of all pixels below which a class is suspect
RULES = ("exact", "threshold", "instances")


@dataclass(frozen=True)
class ClassMap:
    """Which value of a mask is which class.

    Attributes
    ----------
    values : list of int, or list of [red, green, blue]
        The value that stands for class 0, 1, ..., as a mask shows it.
    names : list of str
    rule : "exact", "threshold" or "instances"
        How `encode` reads a mask: every value must be a known one; from 128 on it is class 1; above 0 it is class 1.
    """

    values: list
    names: list[str]
    rule: str = "exact"

    def __post_init__(self) -> None:
        if self.rule not in RULES or len(self.names) != len(self.values) or not 2 <= len(self.values) <= MAX_CLASSES:
            raise ValueError(f"a class map of {len(self.values)} values, {len(self.names)} names, rule {self.rule!r}")

    @property
    def num_classes(self) -> int:
        return len(self.values)

    @property
    def is_colour(self) -> bool:
        """Whether the classes are told by colour rather than by number."""
        return not isinstance(self.values[0], int)

    @classmethod
    def binary(cls, background: str = "background", foreground: str = "foreground", rule: str = "exact") -> ClassMap:
        """Two classes shown as 0 and 255."""
        return cls([0, 255], [background, foreground], rule)

    def encode(self, mask: np.ndarray, path: object = "mask") -> np.ndarray:
        """Class numbers of a mask.

        Parameters
        ----------
        mask : (H, W) integer array or (H, W, 3) uint8 array, as `read_mask` gives it
        path : what an error calls the mask

        Returns
        -------
        (H, W) uint8 array

        Raises
        ------
        UserError
            If the mask holds a value that is no class; it names up to three and where the first one lies.
        """
        if mask.ndim == 3 and not self.is_colour:
            raise UserError(f"{path}: a colour mask where grey ones were expected; save it as grey")
        if self.rule != "exact":
            return (mask >= 128 if self.rule == "threshold" else mask > 0).astype(np.uint8)
        keys = _pack(mask) if self.is_colour else mask
        known = _pack(np.array(self.values)[None])[0] if self.is_colour else np.array(self.values)
        order = np.argsort(known)
        labels = order.astype(np.uint8)[np.searchsorted(known[order[:-1]], keys)]
        wrong = known[labels] != keys
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = [str(_unpack(k) if self.is_colour else k) for k in np.unique(keys[wrong])[:3].tolist()]
            raise UserError(
                f"{path}: mask value {', '.join(found)} (first at row {row}, column {column}) is none of the classes: "
                f"{self.describe()}"
            )
        return labels

    def decode(self, labels: np.ndarray) -> np.ndarray:
        """A mask that can be looked at: (H, W) class numbers to 0/255 for two classes, else to colours (H, W, 3)."""
        if self.num_classes == 2:
            return np.array([0, 255], np.uint8)[labels]
        colours = np.array(self.values, np.uint8) if self.is_colour else palette(self.num_classes)
        return colours[labels]

    def describe(self) -> str:
        """ "0 -> background, 255 -> foreground": every value with its class."""
        if self.rule == "instances":
            return f"0 -> {self.names[0]}, object numbers above 0 -> {self.names[1]}"
        if self.rule == "threshold":
            return f"below 128 -> {self.names[0]}, from 128 -> {self.names[1]}"
        shown = (tuple(v) if self.is_colour else v for v in self.values)
        return ", ".join(f"{v} -> {n}" for v, n in zip(shown, self.names))

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {"values": self.values, "names": self.names, "rule": self.rule}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> ClassMap:
        """The class map of which `to_json` gave the dictionary."""
        return cls(list(stored["values"]), list(stored["names"]), stored.get("rule", "exact"))


@dataclass
class MaskScan:
    """What the masks of a data set hold, gathered mask by mask with `add`; `classes` then decides."""

    greys: Counter = field(default_factory=Counter)  # value: pixels
    colours: Counter = field(default_factory=Counter)  # packed colour: pixels
    wide: bool = False  # some mask is stored in more than 8 bits
    jpeg: bool = False
    between: int = 0  # pixels that are neither 0 nor their mask's maximum,
    agreeing: int = 0  # and those of them whose right neighbour has the same value
    seen: dict = field(default_factory=dict)  # what 0/1 and 0/255 masks there were, and one file of each
    numbers: int = 0  # values above 0, counted in every mask that holds them
    pieces: int = 0  # connected pieces of them
    held: Counter = field(default_factory=Counter)  # sets of values above 0: masks

    def add(self, mask: np.ndarray, path: object, jpeg: bool = False) -> None:
        """Count the values of a mask, (H, W) integers or (H, W, 3) uint8."""
        self.jpeg |= jpeg
        if mask.ndim == 3:
            values, counts = np.unique(_pack(mask), return_counts=True)
            if len(values) > MAX_CLASSES:
                raise UserError(
                    f"{path}: {len(values)} different colours; this looks like a photograph or JPEG noise, not like a "
                    f"class mask; save masks as PNG with one colour for each class"
                )
            self.colours.update(dict(zip(values.tolist(), counts.tolist())))
            return
        if mask.dtype in (np.uint8, np.uint16):  # counting is quicker than sorting
            pixels = np.bincount(mask.ravel())
            values = np.flatnonzero(pixels)
            counts = pixels[values]
        else:
            values, counts = np.unique(mask, return_counts=True)
        self.greys.update(dict(zip(values.tolist(), counts.tolist())))
        self.wide |= mask.dtype.itemsize > 1
        self.seen.setdefault(frozenset(values.tolist()) & {1, 255}, path)
        self._count_pieces(mask, values)
        if len(values) > 2:
            left, right = mask[:, :-1], mask[:, 1:]
            between = (left > 0) & (left < values[-1])
            self.between += int(between.sum())
            self.agreeing += int((between & (left == right)).sum())

    def classes(self) -> tuple[ClassMap, list[str]]:
        """The class map by the rules at the head of this file, and notices for the report."""
        if self.colours:
            return self._colour_classes(), []
        total = sum(self.greys.values())
        middle = sum(n for v, n in self.greys.items() if 64 <= v < 192)
        if self.jpeg and len(self.greys) > 2 and max(self.greys) >= 192 and middle <= 0.05 * total:
            notice = "the masks are JPEG, which blurs values: thresholded at 128; save masks as PNG"
            return ClassMap.binary(rule="threshold"), [notice]
        values = sorted(self.greys)
        most, few = (MAX_WIDE_CLASSES, 2) if self.wide else (MAX_CLASSES, MAX_WIDE_CLASSES)
        if len(values) > most or (len(values) > few and self._numbers_objects()):
            return self._instances(len(values)), []
        return self._numbered_classes(values)

    def _count_pieces(self, mask: np.ndarray, values: np.ndarray) -> None:
        """Into how many connected pieces each value above 0 falls; not of masks with more values than classes can have."""
        values = values[values > 0]
        if len(values) > MAX_CLASSES:
            return
        numbered = np.where(mask > 0, np.searchsorted(values, mask) + 1, 0)
        boxes = [(i, box) for i, box in enumerate(scipy.ndimage.find_objects(numbered), start=1) if box]
        self.numbers += len(values)
        self.pieces += sum(scipy.ndimage.label(numbered[box] == i, np.ones((3, 3)))[1] for i, box in boxes)
        self.held[frozenset(values.tolist())] += 1

    def _numbers_objects(self) -> bool:
        """Whether values are numbers of objects by the second half of rule 3."""
        differ = len(self.held) > 1 or self.held.total() == 1
        return differ and max(map(len, self.held)) > 2 and self.pieces <= PIECES * self.numbers

    def foreground(self, classes: ClassMap) -> int:
        """Number of pixels that are not of class 0."""
        total = sum(self.greys.values()) + sum(self.colours.values())
        if classes.rule != "exact":
            return sum(n for v, n in self.greys.items() if v >= (128 if classes.rule == "threshold" else 1))
        if not classes.is_colour:
            return total - self.greys[classes.values[0]]
        red, green, blue = classes.values[0]
        grey = self.greys[red] if red == green == blue else 0
        return total - grey - self.colours[red << 16 | green << 8 | blue]

    def _colour_classes(self) -> ClassMap:
        keys = sorted({*self.colours, *(v * 0x010101 for v in self.greys)})
        if len(keys) > MAX_CLASSES or any(v > 255 for v in self.greys):
            raise UserError(f"the masks hold {len(keys)} different colours; at most {MAX_CLASSES} classes are possible")
        if len(keys) == 1:  # one colour everywhere: a class map needs two
            keys = [0, *keys]
        names = ["background", "foreground"] if len(keys) == 2 else [f"class {i}" for i in range(len(keys))]
        return ClassMap([list(_unpack(k)) for k in keys], names)

    def _instances(self, found: int) -> ClassMap:
        if min(self.greys) < 0 or self.agreeing < 0.7 * self.between:
            raise UserError(
                f"the masks hold {found} different values from {min(self.greys)} to {max(self.greys)}; this looks like "
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
        total = sum(self.greys.values())
        notices += [
            f"value {v} covers only {self.greys[v]} of {total} pixels: is it a class, or did a stray pixel slip in?"
            for v in values
            if len(values) > 2 and 0 < self.greys[v] < RARE * total
        ]
        names = ["background", "foreground"] if len(values) == 2 else [f"class {i}" for i in range(len(values))]
        return ClassMap(values, names), notices


def palette(n: int) -> np.ndarray:
    """n colours that differ clearly, (n, 3) uint8, black first: steps of the golden ratio around the colour circle."""
    colours = [(0.0, 0.0, 0.0)]
    colours += [colorsys.hsv_to_rgb(0.618034 * i % 1, 1 - 0.35 * (i % 2), 1 - 0.3 * (i % 3 == 2)) for i in range(n - 1)]
    return np.rint(255 * np.array(colours[:n])).astype(np.uint8)


def _pack(mask: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) as single integers red * 65536 + green * 256 + blue; grey g (H, W) counts as (g, g, g)."""
    if mask.ndim == 2:
        return mask.astype(np.int64) * 0x010101
    return mask.astype(np.int64) @ np.array([65536, 256, 1])


def _unpack(key: int) -> tuple[int, int, int]:
    """The colour that `_pack` packed."""
    return key >> 16, key >> 8 & 255, key & 255
