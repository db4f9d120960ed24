"""A page of a TIFF, read by windows: only the strips or tiles that a window touches are decoded.

What a header claims is checked against the file's real size.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .images import one_line_errors
from .limits import MAX_PACKING, PathLike
from .tiff import LZW, check_lzw, find_page, open_tiff

CACHE = 128 << 20  # bytes of decoded strips that are kept: neighbouring windows need them again
MAX_SEGMENT = 1 << 30  # bytes of one strip or tile: it has to be decoded as a whole


class LargeTiff:
    """A page of a TIFF. As in `read_image` a palette is looked up, and one bit becomes 0 and 255."""

    ndim = 3

    def __init__(self, path: PathLike, page: int | None = None) -> None:
        self.path, self.page = path, page
        self.kept: OrderedDict[int, np.ndarray] = OrderedDict()
        with open_tiff(path) as tiff:
            found = find_page(tiff, path, page)
            check_claims(found, path)
            self.palette = None if found.colormap is None else (found.colormap >> 8).astype(np.uint8).T
            self.stored = np.dtype(found.dtype)
            if self.stored.kind not in "biuf":
                raise UserError(f"{path}: pixels of type {self.stored} are not supported; save it as 8- or 16-bit")
            self.planes = found.samplesperpixel if found.planarconfig == 2 else 1
            bands = 3 if self.palette is not None else found.samplesperpixel
            self.shape = (found.imagelength, found.imagewidth, bands)
            size = (found.tilelength, found.tilewidth) if found.is_tiled else (found.rowsperstrip, self.shape[1])
            self.segment = tuple(min(n, s) for n, s in zip(self.shape, size)) if not found.is_tiled else size
            self.offset = found.dataoffsets[0] if found.is_memmappable and self.planes == 1 else None
            self.order = tiff.byteorder
            if self.offset is None:
                self._try()
        self.dtype = np.dtype({"b": np.uint8, "f": np.float32}.get(self.stored.kind, self.stored))
        if self.palette is not None:
            self.dtype = np.dtype(np.uint8)

    def _try(self) -> None:
        """Fail now, not after hours, where a decompressor is missing."""
        try:
            self._stored(slice(0, 1), slice(0, 1))
        except (ValueError, KeyError, ImportError, NotImplementedError) as e:
            if "imagecodecs" not in str(e):
                raise
            raise UserError(
                f"{self.path}: is packed or compressed so that it needs: pip install 'minunet[tiff]'"
            ) from e

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (slice(*s.indices(n)[:2]) for s, n in zip(part, self.shape))
        with one_line_errors(self.path):
            pixels = self._stored(rows, columns)
        if self.palette is not None:
            return self.palette[np.minimum(pixels[..., 0], len(self.palette) - 1)]
        if pixels.dtype == bool:
            return pixels * np.uint8(255)
        if pixels.dtype.kind == "f":
            with np.errstate(over="ignore"):
                pixels = pixels.astype(np.float32, copy=False)
            if not np.isfinite(pixels).all():
                raise UserError(f"{self.path}: holds NaN or infinity; replace them by numbers")
        return pixels

    def _stored(self, rows: slice, columns: slice) -> np.ndarray:
        """A window (h, w, samples) as it is stored."""
        if self.offset is not None:  # mapped anew for each window, so that the pages do not stay with the process
            shape, dtype = (*self.shape[:2], -1), self.stored.newbyteorder(self.order)
            samples = 1 if self.palette is not None else self.shape[2]
            whole = np.memmap(self.path, dtype, "r", self.offset, (*shape[:2], samples))
            return np.array(whole[rows, columns], self.stored)
        height, width = self.segment
        samples = 1 if self.palette is not None else self.shape[2]
        window = np.zeros((rows.stop - rows.start, columns.stop - columns.start, samples), self.stored)
        across, down = -(-self.shape[1] // width), -(-self.shape[0] // height)
        touched = product(
            range(self.planes),
            range(rows.start // height, -(-rows.stop // height)),
            range(columns.start // width, -(-columns.stop // width)),
        )
        with open_tiff(self.path) as tiff:
            page = find_page(tiff, self.path, self.page)
            for plane, i, j in touched:
                block = self._segment(tiff, page, (plane * down + i) * across + j)
                top, left = i * height, j * width
                r = slice(max(rows.start, top), min(rows.stop, top + block.shape[0]))
                c = slice(max(columns.start, left), min(columns.stop, left + block.shape[1]))
                to = window[
                    r.start - rows.start : r.stop - rows.start, c.start - columns.start : c.stop - columns.start
                ]
                to = to[..., plane : plane + 1] if self.planes > 1 else to
                to[...] = block[r.start - top : r.stop - top, c.start - left : c.stop - left]
        return window

    def _segment(self, tiff: Any, page: Any, index: int) -> np.ndarray:
        """A decoded strip or tile (h, w, samples)."""
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        tiff.filehandle.seek(page.dataoffsets[index])
        data = tiff.filehandle.read(page.databytecounts[index])
        if page.compression == LZW:
            check_lzw(data, self.path)
        more = {"jpegtables": page.jpegtables} if page.jpegtables is not None else {}
        block, _, shape = page.decode(data or None, index, **more)
        block = np.zeros(shape[1:], self.stored) if block is None else block[0]
        if self.stored.kind == "b":
            block = block.astype(bool)
        self.kept[index] = block
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
    whole = page.is_memmappable or len(page.dataoffsets) == len(page.databytecounts) == segments
    if not whole or max(ends, default=0) > held or pixels > (1 if page.compression == 1 else MAX_PACKING) * held:
        raise UserError(f"{path}: claims {w}x{h} pixels but is too short for them, damaged or cut off; copy it again")
    if not page.is_memmappable and height * width * bands * max(1, page.bitspersample // 8) > MAX_SEGMENT:
        raise UserError(f"{path}: is compressed in one piece of {width}x{height} pixels; save it as a tiled TIFF")
