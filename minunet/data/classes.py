"""From the values of a mask to class numbers, and back to a mask that people can look at.

The checkpoint stores the `ClassMap`, so that prediction writes the values that training read. If the user gives none,
`find_classes` (mask_kinds.py) finds it in the masks.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import UserError, shown

MAX_CLASSES = 256
READINGS = ("exact", "threshold", "instances")


@dataclass(frozen=True)
class ClassMap:
    """Which value of a mask is which class.

    Attributes
    ----------
    values : list of int, or list of [red, green, blue]
        The value that stands for class 0, 1, ..., as a mask shows it.
    names : list of str
    rule : "exact", "threshold" or "instances"
        How `encode` reads a mask. "exact": every value must be one of `values`. "threshold": what is at least half of the
        second value is class 1 (128 of 255, 1 of 1), all else class 0. "instances": the mask holds instance numbers, and what
        is above 0 is class 1.
    ignore : list of int, or list of [red, green, blue]
        Values whose pixels do not count, neither in the loss nor in scores.

    Examples
    --------
    >>> classes = ClassMap([0, 100, 200], ["background", "nucleus", "membrane"])
    >>> classes.encode(np.array([[0, 100], [200, 0]]))
    array([[0, 1],
           [2, 0]], dtype=uint8)
    >>> print(classes.describe())
    0 -> background, 100 -> nucleus, 200 -> membrane
    """

    values: list
    names: list[str]
    rule: str = "exact"
    ignore: list = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.rule not in READINGS or len(self.names) != len(self.values) or not 2 <= len(self.values) <= MAX_CLASSES:
            raise ValueError(f"a class map of {len(self.values)} values, {len(self.names)} names, rule {self.rule!r}")

    @property
    def num_classes(self) -> int:
        return len(self.values)

    @property
    def is_colour(self) -> bool:
        """Whether a mask shows classes as colours rather than as grey values."""
        return not isinstance(self.values[0], int)

    @classmethod
    def binary(cls, background: str = "background", foreground: str = "foreground", rule: str = "exact") -> ClassMap:
        """Two classes shown as 0 and 255."""
        return cls([0, 255], [background, foreground], rule)

    @property
    def threshold(self) -> int:
        """From which value on a pixel is foreground, unless the rule is "exact"."""
        return (self.values[1] + 1) // 2 if self.rule == "threshold" else 1

    def ignoring(self, values: Sequence[int | tuple[int, int, int]]) -> ClassMap:
        """The same classes with other values that do not count; itself if none are given."""
        return replace(self, ignore=[v if isinstance(v, int) else list(v) for v in values]) if values else self

    def counting(self, mask: np.ndarray, palette: np.ndarray | None = None) -> np.ndarray | None:
        """Where a mask holds no value of `ignore`: (H, W) bool; None if that is everywhere. Parameters as in `encode`."""
        if not self.ignore:
            return None
        ignored, keys = np.array(self.ignore), mask
        if ignored.ndim == 2:
            ignored = pack_colours(ignored[None])[0]
            keys = pack_colours(mask if palette is None else palette[mask])
        elif mask.ndim == 3:
            ignored, keys = ignored * 0x010101, pack_colours(mask)
        counts = ~np.isin(keys, ignored)
        return None if counts.all() else counts

    def encode(self, mask: np.ndarray, path: object = "mask", palette: np.ndarray | None = None) -> np.ndarray:
        """Class numbers of a mask.

        Parameters
        ----------
        mask : (H, W) integer or bool array or (H, W, 3) uint8 array, as `read_mask` gives it
            A bool array (a one-bit mask) is 0 and 1, or 0 and 255, whichever the classes are.
        path : what an error calls the mask
        palette : (n, 3) uint8 array or None
            The colours that the mask's numbers stand for. Where classes are numbers, the mask's numbers are taken; else what it
            shows.

        Returns
        -------
        (H, W) uint8 array
            0 where a value is ignored.

        Raises
        ------
        UserError
            If the mask holds a value that is no class; up to three such values are named, with the place of the first.
        """
        if mask.ndim == 3 and not self.is_colour and self.rule == "exact":
            raise UserError(f"{path}: a colour mask where grey ones were expected; save it as grey")
        keys = self._keys(mask, palette)
        counts = self.counting(mask, palette)
        if self.rule != "exact":
            return (keys >= self.threshold if counts is None else (keys >= self.threshold) & counts).astype(np.uint8)
        known = pack_colours(np.array(self.values)[None])[0] if self.is_colour else np.array(self.values)
        order = np.argsort(known)
        labels = order.astype(np.uint8)[np.searchsorted(known[order[:-1]], keys)]
        wrong = known[labels] != keys
        if counts is not None:
            wrong, labels = wrong & counts, np.where(counts, labels, np.uint8(0))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = [str(unpack_colour(k) if self.is_colour else k) for k in np.unique(keys[wrong])[:3].tolist()]
            raise UserError(
                f"{path}: mask value {', '.join(found)} (first at row {row}, column {column}) is none of the classes: "
                f"{self.describe()}"
            )
        return labels

    def _keys(self, mask: np.ndarray, palette: np.ndarray | None) -> np.ndarray:
        """The numbers (H, W) that are compared with values, packed if those are colours."""
        if palette is not None and (self.is_colour or self.rule != "exact"):
            mask = palette[mask]
        if self.rule != "exact" and mask.ndim == 3:  # objects by their colours; brightness against a threshold
            return pack_colours(mask) if self.rule == "instances" else mask.max(-1)
        if mask.dtype == bool:
            on = self.values[1] if not self.is_colour and self.values[0] == 0 and self.num_classes == 2 else 1
            mask = mask * np.array(255 if self.is_colour else on)
        return pack_colours(mask) if self.is_colour else mask

    def decode(self, labels: np.ndarray) -> np.ndarray:
        """A mask to look at, from class numbers.

        Parameters
        ----------
        labels : (H, W) integer array of class numbers

        Returns
        -------
        (H, W) or (H, W, 3) uint8 array
            0 and 255 for two classes, else colours: those of the masks, or of `palette` where masks are grey.
        """
        if self.num_classes == 2:
            return np.array([0, 255], np.uint8)[labels]
        colours = np.array(self.values, np.uint8) if self.is_colour else palette(self.num_classes)
        return colours[labels]

    def describe(self) -> str:
        """ "0 -> background, 255 -> foreground": every value with its class, and what does not count."""
        ignored = f"; {', '.join(str(_plain(v)) for v in self.ignore)} -> ignored" if self.ignore else ""
        if self.rule == "instances":
            return f"0 -> {self.names[0]}, object numbers above 0 -> {self.names[1]}{ignored}"
        if self.rule == "threshold":
            return f"below {self.threshold} -> {self.names[0]}, from {self.threshold} -> {self.names[1]}{ignored}"
        return ", ".join(f"{_plain(v)} -> {n}" for v, n in zip(self.values, self.names)) + ignored

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes."""
        return {"values": self.values, "names": self.names, "rule": self.rule, "ignore": self.ignore}

    @classmethod
    def from_json(cls, stored: Any, source: str) -> ClassMap:
        """The class map from a dictionary that `to_json` made; UserError, naming `source`, the file, if it is none."""
        if not isinstance(stored, dict) or not {"values", "names"} <= stored.keys() <= {
            "values",
            "names",
            "rule",
            "ignore",
        }:
            raise UserError(f"{source}: {shown(stored)} does not say which value of a mask is which class")
        values, names, rule = stored["values"], stored["names"], stored.get("rule", "exact")
        ignore = stored.get("ignore", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{source}.names: {shown(names)} is no list of names")
        if not isinstance(values, list) or not (all(map(_is_grey, values)) or all(map(_is_colour, values))):
            raise UserError(f"{source}.values: {shown(values)} is no list of whole numbers or of [red, green, blue]")
        if not isinstance(ignore, list) or not (all(map(_is_grey, ignore)) or all(map(_is_colour, ignore))):
            raise UserError(f"{source}.ignore: {shown(ignore)} is no list of whole numbers or of [red, green, blue]")
        half = rule == "threshold" and len(values) == 2 and values[0] == 0 and type(values[1]) is int and values[1] > 0
        if rule not in READINGS or (rule != "exact" and values != [0, 255] and not half):
            raise UserError(f"{source}.rule: {shown(rule)} does not go with the values {shown(values)}")
        try:
            return cls(values, names, rule, ignore)
        except ValueError as e:
            raise UserError(f"{source}: {e}") from None


def palette(n: int) -> np.ndarray:
    """Clearly different colours for n classes, black first: steps of the golden ratio around the colour circle.

    Returns
    -------
    (n, 3) uint8 array of red, green, blue

    Examples
    --------
    >>> palette(3).tolist()
    [[0, 0, 0], [255, 0, 0], [89, 138, 255]]
    """
    colours = [(0.0, 0.0, 0.0)]
    colours += [colorsys.hsv_to_rgb(0.618034 * i % 1, 1 - 0.35 * (i % 2), 1 - 0.3 * (i % 3 == 2)) for i in range(n - 1)]
    return np.rint(255 * np.array(colours[:n])).astype(np.uint8)


def _plain(value: int | list[int]) -> int | tuple[int, ...]:
    return value if isinstance(value, int) else tuple(value)


def _is_grey(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v < 256 for v in value)


def pack_colours(mask: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) as integers red * 65536 + green * 256 + blue, (H, W) int64; a grey value g (H, W) as (g, g, g)."""
    if mask.ndim == 2:
        return mask.astype(np.int64) * 0x010101
    return mask.astype(np.int64) @ np.array([65536, 256, 1])


def as_numbers(mask: np.ndarray, palette: np.ndarray | None = None) -> np.ndarray:
    """Object numbers (H, W) int32 of a mask: its values, or its packed colours."""
    shown = mask if palette is None else palette[mask]
    return (pack_colours(shown) if shown.ndim == 3 else shown).astype(np.int32)


def unpack_colour(key: int) -> tuple[int, int, int]:
    """The colour that `pack_colours` packed."""
    return key >> 16, key >> 8 & 255, key & 255
