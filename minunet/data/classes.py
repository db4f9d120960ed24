"""From the values of a mask to class numbers, and back to a mask that people can look at.

The checkpoint stores the `ClassMap`, so that prediction writes the values that training read. If the user gives none,
`MaskScan` (mask_scan.py) finds it in the masks.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError, shown

MAX_CLASSES = 64
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
        How `encode` reads a mask. "exact": every value must be one of `values`. "threshold": 128 and above is class 1, all else
        class 0. "instances": the mask holds instance numbers, and what is above 0 is class 1.

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
            If the mask holds a value that is no class; up to three such values are named, with the place of the first.
        """
        if mask.ndim == 3 and not self.is_colour:
            raise UserError(f"{path}: a colour mask where grey ones were expected; save it as grey")
        if self.rule != "exact":
            return (mask >= 128 if self.rule == "threshold" else mask > 0).astype(np.uint8)
        keys = pack_colours(mask) if self.is_colour else mask
        known = pack_colours(np.array(self.values)[None])[0] if self.is_colour else np.array(self.values)
        order = np.argsort(known)
        labels = order.astype(np.uint8)[np.searchsorted(known[order[:-1]], keys)]
        wrong = known[labels] != keys
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = [str(unpack_colour(k) if self.is_colour else k) for k in np.unique(keys[wrong])[:3].tolist()]
            raise UserError(
                f"{path}: mask value {', '.join(found)} (first at row {row}, column {column}) is none of the classes: "
                f"{self.describe()}"
            )
        return labels

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
    def from_json(cls, stored: Any, source: str) -> ClassMap:
        """The class map from a dictionary that `to_json` made; UserError, naming `source`, the file, if it is none."""
        if not isinstance(stored, dict) or not {"values", "names"} <= stored.keys() <= {"values", "names", "rule"}:
            raise UserError(f"{source}: {shown(stored)} does not say which value of a mask is which class")
        values, names, rule = stored["values"], stored["names"], stored.get("rule", "exact")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{source}.names: {shown(names)} is no list of names")
        if not isinstance(values, list) or not (all(map(_is_grey, values)) or all(map(_is_colour, values))):
            raise UserError(f"{source}.values: {shown(values)} is no list of whole numbers or of [red, green, blue]")
        if rule not in READINGS or (rule != "exact" and values != [0, 255]):
            raise UserError(f"{source}.rule: {shown(rule)} does not go with the values {shown(values)}")
        try:
            return cls(values, names, rule)
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


def _is_grey(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v < 256 for v in value)


def pack_colours(mask: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) as integers red * 65536 + green * 256 + blue, (H, W) int64; a grey value g (H, W) as (g, g, g)."""
    if mask.ndim == 2:
        return mask.astype(np.int64) * 0x010101
    return mask.astype(np.int64) @ np.array([65536, 256, 1])


def unpack_colour(key: int) -> tuple[int, int, int]:
    """The colour that `pack_colours` packed."""
    return key >> 16, key >> 8 & 255, key & 255
