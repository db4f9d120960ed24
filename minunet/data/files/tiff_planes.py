"""Which pages of a TIFF are which image: `plan` divides a file by tifffile's series, which read its own description.

A series is an array over one or more pages, with its axes: an ImageJ stack (of which only the first slice may have a page), an
OME image, a pyramid (only its largest level is read), or pages of one size. Reduced copies (thumbnails, levels of a pyramid)
are no images of their own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ...errors import UserError
from .axes import UNNAMED, Division, divide
from .limits import PathLike, Pixels, check_claimed_size
from .pixel_size import PixelSize, tiff_pixel_size
from .tiff import check_page, checked_page, read_page
from .turn import turned_size, upright

SLIDES = (
    "svs",
    "ndpi",
    "scn",
    "bif",
    "philips",
    "qpi",
    "avs",
    "indica",
    "ndtiff",
)  # have labels and maps beside the image
MAX_PLANES = 1_000_000
ALPHA = (1, 2)  # values of ExtraSamples


@dataclass(frozen=True)
class TiffPlane:
    """One image in a TIFF.

    Attributes
    ----------
    pages : tuple of int
        The IFDs that hold it: one, or one for each channel.
    division : Division or None
        If these IFDs together hold an array of several images: how it is divided; `number` is then that of this image.
    offset : int or None
        Where the numbers of that whole array begin, if they lie in one piece.
    size : (H, W) upright
    orientation : int
        TIFF's number for how the stored image must be turned, 1 if not at all.
    """

    pages: tuple[int, ...]
    size: tuple[int, int]
    bands: int
    alpha: bool = False
    orientation: int = 1
    division: Division | None = None
    number: int = 0
    offset: int | None = None
    dtype: Any = None

    def read(self, tiff: Any, path: PathLike) -> Pixels:
        """Pixels (H, W) or (H, W, C), upright, and the palette."""
        palette = None
        if self.division is None:
            parts = []
            for number in self.pages:
                pixels, palette = read_page(tiff, number, path)
                if checked_page(tiff, number, path).axes.startswith("S"):  # channels stored one after the other
                    pixels = np.moveaxis(pixels, 0, -1)
                parts.append(pixels)
            pixels = (
                parts[0] if len(parts) == 1 else np.concatenate([p if p.ndim > 2 else p[..., None] for p in parts], -1)
            )
        else:
            pixels = self.division.take(self._array(tiff, path), self.number)
        if pixels.ndim not in (2, 3):
            raise UserError(f"{path}: an array of shape {pixels.shape} is no image; give its axes, such as --axes ZYX")
        return upright(pixels, self.orientation), palette if len(self.pages) == 1 or self.division else None

    def _array(self, tiff: Any, path: PathLike) -> np.ndarray:
        """The whole array of which this image is a part."""
        assert self.division is not None
        if self.offset is not None:
            return np.memmap(
                path, np.dtype(self.dtype).newbyteorder(tiff.byteorder), "r", self.offset, self.division.shape
            )
        parts = [read_page(tiff, number, path)[0] for number in self.pages]
        return np.stack(parts).reshape(self.division.shape)


@dataclass(frozen=True)
class TiffPlan:
    """The images of a TIFF.

    Attributes
    ----------
    planes : list of TiffPlane
    axes : str
        Of the file: "TCYX".
    page_axes, page_shape : str and tuple of int
        Of the axes that count images, if all lie in one array; else "" and ().
    named : bool
        Whether the file, or the user, says what the axes are.
    notes : list of str
        What is left out, and what was guessed.
    pixel : PixelSize or None
    """

    planes: list[TiffPlane]
    axes: str
    page_axes: str
    page_shape: tuple[int, ...]
    named: bool
    notes: list[str]
    pixel: PixelSize | None


def plan(tiff: Any, path: PathLike, axes: str | None = None, mask: bool = False) -> TiffPlan:
    """Divide a file into images.

    Raises
    ------
    UserError
        If there are none, the axes do not fit, or the file's description is impossible.
    """
    if not len(tiff.pages):
        raise UserError(f"{path}: a TIFF without an image in it; export it again")
    checked_page(tiff, 0, path)
    check_described(tiff, path)
    found = list(tiff.series) if len(tiff.pages) > 1 or has_description(tiff) else []
    if not found:  # a single page needs no series
        return _single(tiff, path, axes, mask)
    chosen, notes = main_series(found, len(tiff.pages))
    planes: list[TiffPlane] = []
    divisions = [divide(s.axes, s.shape, path, axes, mask) for s in chosen]
    for series, division in zip(chosen, divisions):
        if division.count > MAX_PLANES:
            raise UserError(f"{path}: claims {division.count:,} images; it is damaged, export it again")
        planes += series_planes(tiff, series, division, path)
    if not planes:
        raise UserError(f"{path}: its pixels lie in other files; give those")
    told = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    if isinstance(told, int) and told > sum(math.prod(d.shape) // math.prod(d.size) for d in divisions):
        raise UserError(f"{path}: claims {told:,} images but is too short for them, cut off or damaged; copy it again")
    missing = sum(d.count for d in divisions) - len(planes)
    if missing:
        notes.append(f"{missing} of its images lie in other files and are left out")
    if len(chosen) > 1 and chosen[0].kind in ("generic", "uniform"):
        planes.sort(key=lambda plane: plane.pages[0])
    first = divisions[0]
    named = bool(axes) or not set(first.page_axes) & set(UNNAMED)
    alone = len(chosen) == 1 and not missing
    return TiffPlan(
        planes, first.axes, first.page_axes if alone else "", first.page_shape if alone else (), named, notes,
        tiff_pixel_size(tiff),
    )  # fmt: skip


def has_description(tiff: Any) -> bool:
    """Whether a file of one page may hold more than one image, or an image whose axes are told."""
    page = tiff.pages[0]
    return bool(page.imagedepth > 1 or tiff.is_imagej or tiff.is_ome or tiff.is_shaped or tiff.is_lsm or tiff.is_stk)


def check_described(tiff: Any, path: PathLike) -> None:
    """UserError if a description claims more images than there can be: tifffile makes a list of them."""
    text = tiff.ome_metadata if tiff.is_ome else tiff.pages[0].description if tiff.is_imagej or tiff.is_shaped else None
    for number in (
        re.findall(r"\d{7,}", text or "") if not tiff.is_ome else re.findall(r'Size[ZCT]="(\d+)"', text or "")
    ):
        if int(number) > MAX_PLANES and (
            tiff.is_ome or re.search(rf"(images|slices|frames|channels)={number}", text or "")
        ):
            raise UserError(f"{path}: claims {int(number):,} images; it is damaged, export it again")


def main_series(found: list[Any], pages: int) -> tuple[list[Any], list[str]]:
    """The series of a file of so many pages that hold images, and what is to be said of the others."""
    if found[0].kind in SLIDES:
        others = [str(s.name or s.kind) for s in found[1:]]
        return found[:1], [f"beside the image it holds {', '.join(others)}, left out"] * bool(others)
    full = [s for s in found if not s.keyframe.is_reduced] or found[:1]
    used = {page.index for s in full for page in s.pages if page is not None}
    reduced = max(0, pages - len(used))
    notes = [f"{reduced} reduced cop{'ies are' if reduced > 1 else 'y is'} left out"] * bool(reduced)
    sizes = list(dict.fromkeys(f"{s.keyframe.imagewidth}x{s.keyframe.imagelength}" for s in full))
    if len(sizes) > 1:
        notes.append(f"its pages have different sizes ({', '.join(sizes[:4])}); each is an image of its own")
    return full, notes


def series_planes(tiff: Any, series: Any, division: Division, path: PathLike) -> list[TiffPlane]:
    """The images of a series that lie in this file."""
    key = series.keyframe
    inner = tuple(n for n in key.shape)
    numbers = [None if page is None else page.index for page in series.pages]
    outer = division.shape[: len(division.shape) - len(inner)]
    letters = division.axes[len(outer) :]
    whole_pages = (
        division.shape[len(outer) :] == inner and math.prod(outer) == len(numbers) and set(letters) <= {"Y", "X", "S", "C"}
        and letters.replace("C", "S") in ("YX", "YXS", "SYX")
    )  # fmt: skip
    orientation = page_orientation(key)
    size = turned_size(division.size, orientation)
    alpha = has_alpha(key) and division.axes[-1] in "SC"
    make = partial(TiffPlane, size=size, bands=division.bands, alpha=alpha, orientation=orientation)
    if not whole_pages:
        return _planes_of_block(series, numbers, division, path, make)
    grid = np.arange(len(numbers)).reshape(outer) if outer else np.zeros((1,), int)
    order = Division(division.axes[: len(outer)] + "YX", (*outer, 1, 1), division.channels)
    planes = []
    for n in range(division.count):
        flat = order.take(grid.reshape(*outer, 1, 1), n).ravel() if outer else grid
        pages = [numbers[i] for i in flat]
        if None not in pages:
            planes.append(make(tuple(pages)))
    return planes


def _planes_of_block(series: Any, numbers: list, division: Division, path: PathLike, make: Any) -> list[TiffPlane]:
    """Images that share pages: a volume in one page, or slices of which only the first has a page."""
    if None in numbers:
        raise UserError(f"{path}: parts of it lie in other files; save it as one file")
    offset = series.dataoffset if series.keyframe.bitspersample % 8 == 0 else None
    held = series.keyframe.parent.filehandle.size
    if offset is not None and offset + series.nbytes > held:
        raise UserError(f"{path}: claims {division.count:,} images but is too short for them; copy it again")
    if offset is None:
        check_page(series.keyframe, path)
        stored = len(numbers) * math.prod(series.keyframe.shape)
        if stored != math.prod(division.shape):
            raise UserError(
                f"{path}: describes {math.prod(division.shape):,} pixels and holds {stored:,}; export it again"
            )
    else:
        check_claimed_size(*division.size, path)
    return [
        make(tuple(numbers), division=division, number=n, offset=offset, dtype=series.dtype)
        for n in range(division.count)
    ]


def _single(tiff: Any, path: PathLike, axes: str | None, mask: bool) -> TiffPlan:
    """The plan of a file of one page that describes nothing."""
    page = checked_page(tiff, 0, path)
    letters = page.axes
    if letters.replace("C", "S") not in ("YX", "YXS", "SYX") or (axes and letters != "YX"):
        division = divide(letters, tuple(page.shape), path, axes, mask)
    else:
        division = Division(letters, tuple(page.shape))
    orientation = page_orientation(page)
    size = turned_size(division.size, orientation)
    if division.count > 1 or division.axes.replace("C", "S") not in ("YX", "YXS", "SYX"):
        numbers = range(division.count)
        planes = [
            TiffPlane((0,), size, division.bands, False, orientation, division, n, None, page.dtype) for n in numbers
        ]
    else:
        planes = [TiffPlane((0,), size, page.samplesperpixel, has_alpha(page), orientation)]
    return TiffPlan(planes, division.axes, division.page_axes, division.page_shape, True, [], tiff_pixel_size(tiff))


def has_alpha(page: Any) -> bool:
    """Whether the file says that the last sample is alpha."""
    return bool(page.extrasamples) and int(page.extrasamples[-1]) in ALPHA and page.samplesperpixel in (2, 4)


def page_orientation(page: Any) -> int:
    """TIFF's orientation of a page, 1 to 8."""
    tag = page.tags.get(274)
    value = getattr(tag, "value", 1)
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def find_plane(found: TiffPlan, path: PathLike, page: int | None) -> TiffPlane:
    """The image of a TIFF that was asked for; the only one if none was."""
    count = len(found.planes)
    if page is None and count > 1:
        raise UserError(f"{path}: a stack of {count} pages, one image was expected; save its pages as single files")
    if not 0 <= (page or 0) < count:
        raise UserError(f"{path}: has no page {page}, its pages are 0 to {count - 1}")
    return found.planes[page or 0]
