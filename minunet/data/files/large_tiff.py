"""An image in a TIFF, read by windows: only the strips or tiles that a window touches are decoded.

What a header claims is checked against the file's real size.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, extra
from .limits import MAX_BLANK, MAX_PACKING, PathLike
from .one_line import one_line_errors
from .tiff import BLANK, LZW, check_lzw, checked_page, open_tiff
from .tiff_planes import find_plane, plan
from .turn import stored_window, upright

CACHE = 128 << 20  # bytes of decoded strips that are kept: neighbouring windows need them again
MAX_SEGMENT = 1 << 30  # bytes of one strip or tile: it has to be decoded as a whole


class LargeTiff:
    """An image in a TIFF. As in `read_image` a palette is looked up, one bit becomes 0 and 255, and it is turned upright."""

    ndim = 3

    def __init__(self, path: PathLike, page: int | None = None, axes: str | None = None, alpha: bool = True) -> None:
        self.path = path
        self.kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        with open_tiff(path) as tiff:
            found = plan(tiff, path, axes)
            self.plane, self.pixel = find_plane(found, path, page), found.pixel
            first = checked_page(tiff, self.plane.pages[0], path)
            if self.plane.division is None:
                for number in self.plane.pages:
                    check_claims(checked_page(tiff, number, path), path)
            elif self.plane.offset is None:
                raise UserError(f"{path}: a compressed volume in one page cannot be read by tiles; use --tile 0")
            self.palette = None if first.colormap is None else (first.colormap >> 8).astype(np.uint8).T
            self.stored = np.dtype(self.plane.dtype or first.dtype)
            if self.stored.kind not in "biuf":
                raise UserError(f"{path}: pixels of type {self.stored} are not supported; save it as 8- or 16-bit")
            self.planes = first.samplesperpixel if first.planarconfig == 2 else 1
            self.samples = first.samplesperpixel  # of a page
            self.size = (
                (first.imagelength, first.imagewidth) if self.plane.division is None else self.plane.division.size
            )
            self.bands = 3 if self.palette is not None else self.plane.bands - (self.plane.alpha and not alpha)
            self.shape = (*self.plane.size, self.bands)
            size = (first.tilelength, first.tilewidth) if first.is_tiled else (first.rowsperstrip, self.size[1])
            self.segment = tuple(min(n, s) for n, s in zip(self.size, size)) if not first.is_tiled else size
            alone = len(self.plane.pages) == 1 and self.planes == 1 and first.is_memmappable
            self.offset = first.dataoffsets[0] if alone and self.plane.division is None else None
            self.order = tiff.byteorder
            if self.offset is None and self.plane.division is None:
                self._try()
        self.dtype = np.dtype({"b": np.uint8, "f": np.float32}.get(self.stored.kind, self.stored))
        if self.palette is not None:
            self.dtype = np.dtype(np.uint8)

    def _try(self) -> None:
        """Fail now, not after hours, where a decompressor is missing."""
        try:
            self._stored(slice(0, 1), slice(0, 1))
        except (ValueError, KeyError, ImportError, NotImplementedError) as e:
            if "imagecodecs" not in str(e) and not isinstance(e, ImportError):
                raise
            raise UserError(f"{self.path}: is packed or compressed so that it needs: {extra('tiff')}") from e

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (slice(*s.indices(n)[:2]) for s, n in zip(part, self.shape))
        there = stored_window(rows, columns, self.plane.size, self.plane.orientation)
        with one_line_errors(self.path):
            pixels = upright(self._stored(*there), self.plane.orientation)[..., : self.bands]
        if self.palette is not None:
            return self.palette[np.minimum(pixels[..., 0], len(self.palette) - 1)]
        if pixels.dtype == bool:
            return pixels * np.uint8(255)
        if pixels.dtype.kind == "f":
            with np.errstate(over="ignore"):
                pixels = pixels.astype(np.float32, copy=False)
            if np.isinf(pixels).any():
                raise UserError(f"{self.path}: holds infinity; replace it by numbers")
        return pixels

    def _stored(self, rows: slice, columns: slice) -> np.ndarray:
        """A window (h, w, samples) as it is stored."""
        dtype = self.stored.newbyteorder(self.order)
        if self.plane.division is not None:
            whole = np.memmap(self.path, dtype, "r", self.plane.offset or 0, self.plane.division.shape)
            window = self.plane.division.take(whole, self.plane.number)[rows, columns]
            return np.array(window if window.ndim == 3 else window[..., None], self.stored)
        samples = 1 if self.palette is not None else self.samples
        if self.offset is not None:  # mapped anew for each window, so that the pages do not stay with the process
            whole = np.memmap(self.path, dtype, "r", self.offset, (*self.size, samples))
            return np.array(whole[rows, columns], self.stored)
        with open_tiff(self.path) as tiff:
            parts = [self._decoded(tiff, number, rows, columns, samples) for number in self.plane.pages]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def _decoded(self, tiff: Any, number: int, rows: slice, columns: slice, samples: int) -> np.ndarray:
        """A window (h, w, samples) of a page whose strips or tiles have to be decoded."""
        height, width = self.segment
        window = np.zeros((rows.stop - rows.start, columns.stop - columns.start, samples), self.stored)
        across, down = -(-self.size[1] // width), -(-self.size[0] // height)
        touched = product(
            range(self.planes),
            range(rows.start // height, -(-rows.stop // height)),
            range(columns.start // width, -(-columns.stop // width)),
        )
        page = checked_page(tiff, number, self.path)
        for plane, i, j in touched:
            block = self._segment(tiff, page, (plane * down + i) * across + j)
            top, left = i * height, j * width
            r = slice(max(rows.start, top), min(rows.stop, top + block.shape[0]))
            c = slice(max(columns.start, left), min(columns.stop, left + block.shape[1]))
            to = window[r.start - rows.start : r.stop - rows.start, c.start - columns.start : c.stop - columns.start]
            to = to[..., plane : plane + 1] if self.planes > 1 else to
            to[...] = block[r.start - top : r.stop - top, c.start - left : c.stop - left]
        return window

    def _segment(self, tiff: Any, page: Any, index: int) -> np.ndarray:
        """A decoded strip or tile (h, w, samples)."""
        key = page.index, index
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        tiff.filehandle.seek(page.dataoffsets[index])
        data = tiff.filehandle.read(page.databytecounts[index])
        if page.compression == LZW:
            check_lzw(data, self.path)
        more = {"jpegtables": page.jpegtables} if page.jpegtables is not None else {}
        block, _, shape = page.decode(data or None, index, **more)
        block = np.zeros(shape[1:], self.stored) if block is None else block[0]
        if self.stored.kind == "b":
            block = block.astype(bool)
        self.kept[key] = block
        while len(self.kept) > 1 and sum(b.nbytes for b in self.kept.values()) > CACHE:
            self.kept.popitem(last=False)
        return block


def check_claims(page: Any, path: PathLike) -> None:
    """UserError if a TIFF's page cannot be what its header claims: against the file's size, not against a limit."""
    h, w, bands = page.imagelength, page.imagewidth, page.samplesperpixel
    held = Path(path).stat().st_size
    if page.imagedepth != 1:
        raise UserError(f"{path}: a volume in one page, a flat image was expected; save its slices as pages or files")
    if h < 1 or w < 1 or not 1 <= bands <= 64:
        raise UserError(f"{path}: claims {w}x{h} pixels of {bands} channels; it is damaged, export it again")
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (min(h, page.rowsperstrip), w)
    if height < 1 or width < 1:
        raise UserError(f"{path}: claims tiles of {width}x{height} pixels; it is damaged, export it again")
    segments = -(-h // height) * -(-w // width) * (bands if page.planarconfig == 2 else 1)
    pixels = h * w * bands * page.bitspersample // 8
    ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts)]
    packing = 1 if page.compression == 1 else MAX_BLANK if int(page.compression) in BLANK else MAX_PACKING
    whole = page.is_memmappable or len(page.dataoffsets) == len(page.databytecounts) == segments
    if not whole or max(ends, default=0) > held or pixels > packing * held:
        raise UserError(f"{path}: claims {w}x{h} pixels but is too short for them, damaged or cut off; copy it again")
    if not page.is_memmappable and height * width * bands * max(1, page.bitspersample // 8) > MAX_SEGMENT:
        raise UserError(f"{path}: is compressed in one piece of {width}x{height} pixels; save it as a tiled TIFF")
