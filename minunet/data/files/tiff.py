"""Decoding TIFF with tifffile: pixels as they are stored, of any type, and their palette if there is one.

Compressions that tifffile cannot undo by itself (LZW, without the package imagecodecs) are left to Pillow where that keeps the
type. What either raises on broken files is turned into UserErrors by `images.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, extra
from .limits import MAX_BLANK, MAX_PACKING, PathLike, Pixels, check_claimed_size
from .pillow import ORIENTATION, open_pillow, pillow_pixels
from .turn import upright

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LZW = 5  # a TIFF's compression
BLANK = (34926, 50000, 50001, 50002, 52546)  # Zstandard, WebP and JPEG XL
NUMBERS = (
    *("imagelength", "imagewidth", "imagedepth", "samplesperpixel", "bitspersample", "rowsperstrip"),
    *("tilelength", "tilewidth", "planarconfig", "sampleformat", "compression", "photometric"),
)  # of a page


def is_tiff(path: PathLike) -> bool:
    """Whether the file begins as TIFFs do; an empty file is an error."""
    with open(path, "rb") as file:
        start = file.read(4)
    if not start:
        raise UserError(f"{path}: the file is empty; copy or export it again")
    return start in TIFF_SIGNATURES


@contextmanager
def open_tiff(path: PathLike) -> Iterator[Any]:
    """An open tifffile.TiffFile, whose log messages on odd tags are silenced; pages in other files are not looked for."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path, _multifile=False) as tiff:
        yield tiff


def checked_page(tiff: Any, number: int, path: PathLike) -> Any:
    """A page (an IFD) of a file."""
    found = tiff.pages[number]
    found = found.aspage() if hasattr(found, "aspage") else found
    for field in NUMBERS:  # a damaged file may hold tuples here, and a product with a tuple is a gigantic tuple
        if not isinstance(getattr(found, field), int):
            raise UserError(f"{path}: its {field} is {getattr(found, field)}, one number was expected; export it again")
    return found


def check_page(page: Any, path: PathLike) -> None:
    """UserError if the file is too short for a page."""
    h, w, bands = page.imagelength, page.imagewidth, page.samplesperpixel
    packing = MAX_BLANK if int(page.compression) in BLANK else MAX_PACKING
    check_claimed_size(h * max(1, page.imagedepth), w, path, bands * page.bitspersample / 8, packing)
    if not 1 <= bands <= 64:
        raise UserError(f"{path}: has {bands} channels; save it as grey or RGB")
    stored, held = page.databytecounts, Path(path).stat().st_size
    if max(stored, default=0) > held or (page.compression == 1 and sum(stored) > held):
        raise UserError(f"{path}: cut off, some of {sum(stored):,} bytes of pixels are missing; copy it again")


def read_page(tiff: Any, number: int, path: PathLike) -> Pixels:
    """Pixels, of the page's own axes, and palette of one page, by tifffile, or by Pillow where that lacks the decompressor."""
    found = checked_page(tiff, number, path)
    check_page(found, path)
    if _is_plain_lzw(found):  # libtiff withstands damaged data
        return _read_tiff_by_pillow(path, number, found)
    if found.compression == LZW:
        for offset, count in zip(found.dataoffsets, found.databytecounts):
            tiff.filehandle.seek(offset)
            check_lzw(tiff.filehandle.read(count), path)
    try:
        pixels = _read_packed(tiff, found, path) if _is_packed(found) else found.asarray()
    except (ValueError, KeyError, ImportError) as e:
        if "imagecodecs" not in str(e) and not isinstance(e, ImportError):
            raise
        return _read_tiff_by_pillow(path, number, found)
    palette = found.colormap
    return pixels, None if palette is None else (palette >> 8).astype(np.uint8).T


def _is_plain_lzw(page: Any) -> bool:
    """Whether a page is LZW-compressed and of a kind that Pillow keeps exactly: 8-bit grey or colour, 16-bit grey."""
    bits, bands = page.bitspersample, page.samplesperpixel
    plain = page.sampleformat == 1 and page.planarconfig == 1 and (bits == 8 or (bits == 16 and bands == 1))
    return page.compression == LZW and plain


def _is_packed(page: Any) -> bool:
    """Whether a page's numbers are packed, of 2 to 7 or 9 to 15 bits; cameras write 12."""
    return page.sampleformat == 1 and 1 < page.bitspersample < 16 and page.bitspersample != 8


def _read_packed(tiff: Any, page: Any, path: PathLike) -> np.ndarray:
    """The pixels of a packed page, (H, W) or (H, W, C): every row begins with a byte, the upper bits come first."""
    bits, h, w, bands = page.bitspersample, page.imagelength, page.imagewidth, page.samplesperpixel
    if page.compression != 1 or page.planarconfig != 1 or page.fillorder != 1 or page.is_tiled:
        try:
            return page.asarray()  # type: ignore[no-any-return]
        except NotImplementedError:
            text = f"{path}: packed pixels of {bits} bits; save it as 8- or 16-bit, or {extra('tiff')}"
            raise UserError(text) from None
    strips = []
    for offset, count in zip(page.dataoffsets, page.databytecounts):
        tiff.filehandle.seek(offset)
        strips.append(tiff.filehandle.read(count))
    rows = np.frombuffer(b"".join(strips), np.uint8).reshape(h, -(-w * bands * bits // 8))
    single = np.unpackbits(rows, axis=1, count=w * bands * bits).reshape(h, w, bands, bits)
    pixels = np.zeros((h, w, bands), np.uint8 if bits < 8 else np.uint16)
    for i in range(bits):
        pixels = pixels << 1 | single[..., i]
    return pixels if bands > 1 else pixels[..., 0]


def check_lzw(data: bytes, path: PathLike) -> None:
    """UserError for damaged data, which can make imagecodecs end the whole process."""
    from .lzw import is_sound  # loads numba

    if data and not is_sound(np.frombuffer(data, np.uint8)):
        raise UserError(f"{path}: damaged or cut off (LZW-compressed data); copy or export it again")


def _read_tiff_by_pillow(path: PathLike, number: int, page: Any) -> Pixels:
    """One page by Pillow, which keeps more than 8 bits in grey images only."""
    if page.bitspersample > 8 and page.samplesperpixel > 1:
        name = getattr(page.compression, "name", page.compression)
        raise UserError(f"{path}: {name}-compressed 16-bit colour; save it uncompressed or `pip install imagecodecs`")
    if int(page.compression) not in pillow_compressions():
        name = getattr(page.compression, "name", page.compression)
        raise UserError(f"{path}: is compressed by {name}, which needs: {extra('tiff')}")
    with open_pillow(path) as image:
        image.seek(number)
        turned = image.tag_v2.get(ORIENTATION, 1)  # type: ignore[attr-defined]
        image.load()
        pixels, palette = pillow_pixels(image)
        if ORIENTATION not in image.tag_v2:  # type: ignore[attr-defined]  # Pillow has turned it upright
            pixels = upright(pixels, {6: 8, 8: 6}.get(turned, turned))
        inverted = page.photometric == 0 and image.mode in ("1", "L")  # "white is zero", which Pillow turns around
    pixels = ~pixels if inverted else pixels
    return np.moveaxis(pixels, -1, 0) if page.axes.startswith("S") and pixels.ndim == 3 else pixels, palette


def pillow_compressions() -> set[int]:
    """The numbers of TIFF's compressions that Pillow undoes."""
    from PIL.TiffImagePlugin import COMPRESSION_INFO

    return set(COMPRESSION_INFO)


def tiff_bits(page: Any) -> str:
    """ "8-bit", "16-bit", "float" and so on for a TIFF page."""
    return "float" if page.sampleformat == 3 else f"{page.bitspersample}-bit"
