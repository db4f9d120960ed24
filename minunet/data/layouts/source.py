"""What every layout on disk is read into: a list of entries, each an image and a way to read its mask."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...cli import printable
from ...errors import UserError
from ..classes import ClassMap
from ..files.images import SUFFIXES, read_image, read_indexed_mask
from ..files.info import ImageInfo, read_info


class Mask(NamedTuple):
    """A mask as it is stored, with what the layout knows of it.

    Attributes
    ----------
    values : (H, W) integer or bool array, or (H, W, 3) uint8 array of colours
    instances : (H, W) int32 array of instance numbers, 0 for background; None if the layout does not know them
    valid : (H, W) bool array, False where the mask does not count; None if it counts everywhere
    palette : (n, 3) uint8 array of the colours that `values` stand for, or None
    """

    values: np.ndarray
    instances: np.ndarray | None = None
    valid: np.ndarray | None = None
    palette: np.ndarray | None = None


AS_STORED = (
    "if masks are drawn on the pixels as stored, take the orientation off the images: exiftool -n -Orientation=1 FILES"
)


@dataclass(frozen=True)
class Entry:
    """One image with its mask.

    `mask` is the file or folder that errors name; `page` counts the pages of image and mask stacks from 0. `axes` are those of
    the flag --axes. `more` are files that hold further channels of the image. `stacked` tells whether several pages are
    several images; otherwise such a file is an error.
    """

    name: str
    image: Path
    mask: Path
    page: int | None = None
    read: Callable[[Entry], Mask] | None = None
    axes: str | None = None
    more: tuple[Path, ...] = ()
    stacked: bool = False

    @cached_property
    def info(self) -> ImageInfo:
        """The image's header, read once."""
        found = read_info(self.image, self.page, self.axes)
        if not self.more:
            return found
        bands = found.bands + sum(read_info(path, self.page, self.axes).bands for path in self.more)
        return replace(found, bands=bands, kind=f"{found.kind.split()[0]} {bands} channels", rgb=False, alpha=False)

    def read_image(self, channels: int | None = None) -> np.ndarray:
        """The image (H, W, C) as it is stored; without alpha, unless so many channels are wanted that it must be one."""
        alpha = self.info.bands == channels
        image = read_image(self.image, self.page, self.axes, alpha, nan=True)
        parts = [image, *(read_image(path, self.page, self.axes, alpha, nan=True) for path in self.more)]
        if len({part.shape[:2] for part in parts}) > 1:
            raise UserError(f"{self.image} and {self.more[0]} are channels of one image but have different sizes")
        return image if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def read_mask(self) -> Mask:
        """The mask as it is stored, of the image's size."""
        if self.read:
            mask = self.read(self)
        else:
            values, palette = read_indexed_mask(self.mask, self.page, self.axes)
            mask = Mask(values, palette=palette)
        check_same_size(mask.values, self.mask, self)
        return mask


@dataclass(frozen=True)
class Source:
    """A data set found on disk.

    Attributes
    ----------
    layout : str
    entries : list of Entry, in natural order (2 before 10)
    classes : ClassMap, or None if they are to be found in the masks
    ordered : bool
        Whether neighbours are alike (sections of one volume): then a validation set must be a block of them, not drawn at
        random.
    notes : list of str
        Further lines of the report.
    left_out : list of str
        What lies in the folder but is not used, and why: a phrase for each kind.
    validation : list of str or None
        Names of the images, or folders, that the data set itself holds out for validation.
    """

    layout: str
    entries: list[Entry]
    classes: ClassMap | None = None
    ordered: bool = False
    notes: Sequence[str] = ()
    left_out: Sequence[str] = ()
    validation: list[str] | None = None


def counting(mask: Mask, classes: ClassMap) -> np.ndarray | None:
    """Where a mask counts, by its layout and the values that are ignored: (H, W) bool; None if everywhere."""
    maps = [m for m in (mask.valid, classes.counting(mask.values, mask.palette)) if m is not None]
    return np.logical_and.reduce(maps) if maps else None


def upright_by_hand(entry: Entry) -> bool:
    """Whether an image is turned upright and its mask, a file without an orientation of its own, has to be upright already."""
    return entry.info.turned and entry.read is None and not read_info(entry.mask, entry.page).turned


def check_same_size(mask: np.ndarray, path: Path, entry: Entry) -> None:
    """Raise a UserError if a mask is not of its image's size."""
    height, width = entry.info.height, entry.info.width
    if mask.shape[:2] != (height, width):
        turned = f"; the image is turned by its EXIF orientation, the mask is not; {AS_STORED}" * (
            entry.info.turned and mask.shape[:2] == (width, height)
        )
        raise UserError(
            f"{path} is {mask.shape[1]}x{mask.shape[0]} pixels but its image {entry.image} is {width}x{height}; "
            f"a mask must have its image's size{turned}"
        )


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder in natural order; dot files and files of other types are left out."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(
        (p for p in files if p.is_file() and not p.name.lower().endswith("_seg.npy")), key=lambda p: natural_key(p.name)
    )


def natural_key(name: str) -> list[tuple[int, str]]:
    """A key by which names with numbers are sorted by value: a2 before a10.

    Examples
    --------
    >>> sorted(["a10", "a2"], key=natural_key)
    ['a2', 'a10']
    """
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def some(names: Iterable[object], most: int = 3) -> str:
    """The first names, and how many more there are, for messages.

    Examples
    --------
    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = [printable(str(n)) for n in names]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
