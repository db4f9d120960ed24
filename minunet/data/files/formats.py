"""The decoders under `images.py`: pixels as they are stored, with the palette that they index if there is one.

tifffile keeps every type of a TIFF exactly; for compressions that it cannot undo by itself (LZW, without the package
imagecodecs), and for all other formats, Pillow reads. Both are kept from allocating what a damaged header claims.
What they raise on broken files is turned into UserErrors by the callers.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

PathLike = str | Path
Pixels = tuple[np.ndarray, np.ndarray | None]  # (H, W) or (H, W, C), and the palette (n, 3) uint8 or None

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
CONVERTED_MODES = ("PA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa", "RGBX")  # by Pillow, to RGB
MAX_PIXELS = 178_956_970  # where Pillow refuses, too: about 13,000 x 13,000
LZW = 5  # a TIFF's compression
NUMBERS = (
    *("imagelength", "imagewidth", "imagedepth", "samplesperpixel", "bitspersample", "rowsperstrip"),
    *("tilelength", "tilewidth", "planarconfig", "sampleformat", "compression", "photometric"),
)  # of a page
MAX_PACKING = 10_000  # bytes of pixels per byte of file: no sound file packs more (deflate reaches 8,256 for one bit)


def is_tiff(path: PathLike) -> bool:
    """Whether the file begins as TIFFs do; an empty file is an error."""
    with open(path, "rb") as file:
        start = file.read(4)
    if not start:
        raise UserError(f"{path}: the file is empty; copy or export it again")
    return start in TIFF_SIGNATURES


def check_size(height: int, width: int, path: PathLike, pixel_bytes: int = 1) -> None:
    """Refuse sizes that the file cannot hold, before anything is allocated."""
    if height < 1 or width < 1:
        raise UserError(f"{path}: claims a size of {width}x{height} pixels; it is damaged, export it again")
    if height * width > MAX_PIXELS:
        raise UserError(f"{path}: claims {width}x{height} pixels, more than {MAX_PIXELS:,}; cut it into smaller images")
    if height * width * pixel_bytes > MAX_PACKING * (Path(path).stat().st_size + 100):
        raise UserError(f"{path}: claims {width}x{height} pixels but is far too short for them; export it again")


class _Clamped(io.BufferedReader):
    """A file of which nobody reads more than it holds: otherwise memory is taken for whatever a damaged header claims."""

    def __init__(self, path: PathLike) -> None:
        super().__init__(io.FileIO(path))
        self.length = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > 0:
            size = min(size, max(0, self.length - self.tell()))
        return super().read(size)


@contextmanager
def open_pillow(path: PathLike) -> Iterator[Image]:
    """An open PIL.Image.Image."""
    import PIL.Image

    with _Clamped(path) as file, PIL.Image.open(file) as image:
        yield image


def read_pillow(path: PathLike) -> Pixels:
    """Pixels and palette by Pillow."""
    with open_pillow(path) as image:
        check_size(image.height, image.width, path)
        if png_bits(path) == 16 and len(image.getbands()) > 1:  # Pillow would keep the upper 8 bits without a word
            raise UserError(f"{path}: 16-bit colour PNG is not supported; save it as 16-bit TIFF or as 8-bit PNG")
        image.load()
        return _pillow_pixels(image)


def _pillow_pixels(image: Image) -> Pixels:
    """Pixels and palette of a loaded image, in the machine's byte order."""
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3) if image.mode == "P" else None
    pixels = np.array(image.convert("RGB") if image.mode in CONVERTED_MODES else image)
    if pixels.dtype == np.int32 and pixels.min() >= 0 and pixels.max() < 1 << 16:  # older versions: 16-bit PNGs
        pixels = pixels.astype(np.uint16)
    return pixels.astype(pixels.dtype.newbyteorder("=")), palette


def png_bits(path: PathLike) -> int:
    """Bits per sample in a PNG's header; 0 if it is no PNG."""
    with open(path, "rb") as file:
        head = file.read(25)
    return head[24] if head.startswith(PNG_SIGNATURE) and len(head) == 25 else 0


@contextmanager
def open_tiff(path: PathLike) -> Iterator[Any]:
    """An open tifffile.TiffFile, whose remarks on odd tags go nowhere."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as tiff:
        yield tiff


def find_page(tiff: Any, path: PathLike, page: int | None) -> Any:
    """The page asked for; the only one if none was."""
    pages = len(tiff.pages)
    if pages == 0:
        raise UserError(f"{path}: a TIFF without an image in it; export it again")
    if page is None and pages > 1:
        raise UserError(f"{path}: a stack of {pages} pages, one image was expected; save its pages as single files")
    if not 0 <= (page or 0) < pages:
        raise UserError(f"{path}: has no page {page}, its pages are 0 to {pages - 1}")
    found = tiff.pages[page or 0]
    for field in NUMBERS:  # tifffile gives whatever the file holds: of a tuple, products would be gigantic tuples
        if not isinstance(getattr(found, field), int):
            raise UserError(f"{path}: its {field} is {getattr(found, field)}, one number was expected; export it again")
    return found


def tiff_shape(page: Any, path: PathLike) -> tuple[int, int, int]:
    """(H, W, bands) of a page, after checking that they are possible."""
    if page.imagedepth != 1:
        raise UserError(f"{path}: a volume in one page, a flat image was expected; save its slices as pages or files")
    h, w, bands = page.imagelength, page.imagewidth, page.samplesperpixel
    check_size(h, w, path, bands * max(1, page.bitspersample // 8))
    if not 1 <= bands <= 64:
        raise UserError(f"{path}: has {bands} channels; save it as grey or RGB")
    stored, held = page.databytecounts, Path(path).stat().st_size
    if max(stored, default=0) > held or (page.compression == 1 and sum(stored) > held):
        raise UserError(f"{path}: cut off, some of {sum(stored):,} bytes of pixels are missing; copy it again")
    return h, w, bands


def read_tiff(path: PathLike, page: int | None) -> Pixels:
    """Pixels and palette of one page by tifffile, or by Pillow where that lacks the decompressor."""
    with open_tiff(path) as tiff:
        found = find_page(tiff, path, page)
        tiff_shape(found, path)
        if _is_plain_lzw(found):  # libtiff withstands damaged data
            return _read_tiff_by_pillow(path, page or 0, found)
        if found.compression == LZW:
            for offset, count in zip(found.dataoffsets, found.databytecounts):
                tiff.filehandle.seek(offset)
                check_lzw(tiff.filehandle.read(count), path)
        try:
            pixels = _unpack(tiff, found, path) if _is_packed(found) else found.asarray()
        except (ValueError, KeyError, ImportError) as e:
            if "imagecodecs" not in str(e):
                raise
            return _read_tiff_by_pillow(path, page or 0, found)
        if found.axes.startswith("S"):  # channels stored one after the other
            pixels = np.moveaxis(pixels, 0, -1)
        palette = found.colormap
    if pixels.ndim not in (2, 3):
        raise UserError(f"{path}: an array of shape {pixels.shape} is no image; save it as grey or RGB")
    return pixels, None if palette is None else (palette >> 8).astype(np.uint8).T


def _is_plain_lzw(page: Any) -> bool:
    """Whether a page is LZW-compressed and of a kind that Pillow keeps exactly: 8-bit grey or colour, 16-bit grey."""
    bits, bands = page.bitspersample, page.samplesperpixel
    plain = page.sampleformat == 1 and page.planarconfig == 1 and (bits == 8 or (bits == 16 and bands == 1))
    return page.compression == LZW and plain


def _is_packed(page: Any) -> bool:
    """Whether a page's numbers are packed, of 2 to 7 or 9 to 15 bits; cameras write 12."""
    return page.sampleformat == 1 and 1 < page.bitspersample < 16 and page.bitspersample != 8


def _unpack(tiff: Any, page: Any, path: PathLike) -> np.ndarray:
    """The pixels of a packed page, (H, W) or (H, W, C): every row begins with a byte, the upper bits come first."""
    bits, h, w, bands = page.bitspersample, page.imagelength, page.imagewidth, page.samplesperpixel
    if page.compression != 1 or page.planarconfig != 1 or page.fillorder != 1 or page.is_tiled:
        try:
            return page.asarray()  # type: ignore[no-any-return]
        except NotImplementedError:
            text = f"{path}: packed pixels of {bits} bits; save it as 8- or 16-bit, or pip install 'minunet[tiff]'"
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
    with open_pillow(path) as image:
        image.seek(number)
        image.load()
        pixels, palette = _pillow_pixels(image)
        inverted = page.photometric == 0 and image.mode in ("1", "L")  # "white is zero", which Pillow turns around
    return (~pixels if inverted else pixels), palette


def tiff_bits(page: Any) -> str:
    """ "8-bit", "16-bit", "float" and so on for a TIFF page."""
    return "float" if page.sampleformat == 3 else f"{page.bitspersample}-bit"
