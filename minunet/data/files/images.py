"""Reading images and masks: PNG, TIFF, JPEG, BMP and GIF, 1 to 16 bits or float, grey, palette or colour.

The content of a file, not its ending, decides which format it has; the decoders are in `tiff.py` and `pillow.py`. Any problem
with a file becomes a UserError of one line that names it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ..preprocess import drop_alpha, is_grey
from .limits import MAX_PIXELS, PathLike, Pixels, check_claimed_size
from .pillow import open_pillow, png_bits, read_pillow
from .tiff import find_page, is_tiff, open_tiff, read_tiff, tiff_bits, tiff_shape

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif")


@dataclass(frozen=True)
class ImageInfo:
    """What a file's header says.

    Attributes
    ----------
    height, width : int, in pixels
    bands : int
        Channels, with alpha.
    kind : str
        As a report calls it: "8-bit RGBA".
    jpeg : bool
        Whether it is a JPEG.
    """

    height: int
    width: int
    bands: int
    kind: str
    jpeg: bool = False


def read_image(path: PathLike, page: int | None = None) -> np.ndarray:
    """Read an image as it is stored.

    Parameters
    ----------
    path : path
    page : int or None
        Page of a TIFF stack, from 0. A file of several pages without a page is an error.

    Returns
    -------
    (H, W, C) array: uint8, uint16 or another integer type, or float32; C counts an alpha channel if there is one.
        A palette is looked up (RGB), one-bit images become 0 and 255.

    Raises
    ------
    UserError
        If the file is missing, damaged, not an image, absurdly large, or holds NaN or infinity.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cells.png")
    ...     Image.fromarray(np.full((40, 60), 1000, np.uint16)).save(path)
    ...     read_image(path).shape, read_image(path).dtype, read_info(path).kind
    ((40, 60, 1), dtype('uint16'), '16-bit grey')
    """
    pixels, palette = _read_stored(path, page)
    if palette is not None:
        pixels = _apply_palette(pixels, palette)
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def read_mask(path: PathLike, page: int | None = None) -> np.ndarray:
    """Read a mask: the numbers or colours that stand for classes or instances.

    What is read is what a viewer shows, in whatever way it was stored: palettes are looked up. Alpha is dropped, and an image
    in which every colour is grey is read as grey values. A one-bit mask gives 0 and 1, one of 2 or 4 bits its numbers.

    Parameters
    ----------
    path, page : as in `read_image`

    Returns
    -------
    (H, W) array of an unsigned or signed integer type, or (H, W, 3) uint8 colours

    Raises
    ------
    UserError
        As `read_image`, and if the file holds fractions or more channels than colours have.
    """
    pixels, palette = read_indexed_mask(path, page)
    return palette[pixels] if palette is not None else pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def read_indexed_mask(path: PathLike, page: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """As `read_mask`, but a palette of colours is kept apart, and a one-bit mask stays bool.

    A palette in which two of the numbers in use have the same colour says nothing, so that the numbers are read.

    Returns
    -------
    pixels : (H, W) integer or bool array, or (H, W, 3) uint8 colours
    palette : (n, 3) uint8 array of the colours that `pixels` stand for, or None
    """
    pixels, palette = _read_stored(path, page)
    if palette is not None:
        used = np.unique(pixels)
        shown = _apply_palette(used, palette)
        if is_grey(shown[None]) and len(np.unique(shown[:, 0])) == len(used):
            pixels = _apply_palette(pixels, palette[:, 0])
        elif len(np.unique(shown, axis=0)) == len(used):
            colours = np.zeros((int(used[-1]) + 1, 3), np.uint8)
            colours[used] = shown
            return pixels, colours
        return pixels, None
    if pixels.dtype.kind == "f":
        if not np.array_equal(pixels, np.rint(pixels)):
            raise UserError(f"{path}: a mask holds whole numbers, one for each class, but this one has fractions")
        pixels = pixels.astype(np.int32)
    if pixels.ndim == 3:
        pixels = drop_alpha(pixels)
        pixels = pixels[..., 0] if is_grey(pixels) else pixels
    if pixels.ndim == 3 and (pixels.shape[-1] != 3 or pixels.dtype != np.uint8):
        raise UserError(f"{path}: a mask is grey or 8-bit RGB, but this one is {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 2 and pixels.dtype == np.uint8 and png_bits(path) in (2, 4):  # Pillow spreads them over 0..255
        pixels //= 255 // (2 ** png_bits(path) - 1)
    return pixels, None


def read_info(path: PathLike, page: int | None = None) -> ImageInfo:
    """What the header says, without reading the pixels.

    Parameters
    ----------
    path, page : as in `read_image`

    Returns
    -------
    ImageInfo

    Raises
    ------
    UserError
        If the file is missing, not an image, or its header is damaged.
    """
    with one_line_errors(path):
        if is_tiff(path):
            with open_tiff(path) as tiff:
                found = find_page(tiff, path, page)
                h, w, bands = tiff_shape(found, path)
                return ImageInfo(h, w, bands, _kind(tiff_bits(found), bands), False)
        with open_pillow(path) as image:
            check_claimed_size(image.height, image.width, path)
            deep = png_bits(path) == 16 or image.mode.startswith("I;16")
            bits = "float" if image.mode == "F" else "1-bit" if image.mode == "1" else "16-bit" if deep else "8-bit"
            bands = 3 if image.mode == "P" else len(image.getbands())
            kind = f"{bits} palette" if image.mode == "P" else _kind(bits, bands)
            return ImageInfo(image.height, image.width, bands, kind, image.format == "JPEG")


def count_pages(path: PathLike) -> int:
    """Number of pages of a TIFF stack; 1 for any other image.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    with one_line_errors(path):
        if not is_tiff(path):
            return 1
        with open_tiff(path) as tiff:
            return len(tiff.pages)


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _read_stored(path: PathLike, page: int | None) -> Pixels:
    """Pixels (H, W) or (H, W, C) as stored, and the palette (n, 3) that they index, or None."""
    with one_line_errors(path):
        pixels, palette = read_tiff(path, page) if is_tiff(path) else read_pillow(path)
    if palette is not None and (palette.ndim != 2 or not len(palette) or pixels.dtype.kind not in "bu"):
        raise UserError(f"{path}: its pixels are no indices of a palette, or its palette is empty; export it again")
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32, copy=False)
        if not np.isfinite(pixels).all():
            raise UserError(f"{path}: holds NaN or infinity; replace them by numbers")
    elif pixels.dtype.kind not in "biu":
        raise UserError(f"{path}: pixels of type {pixels.dtype} are not supported; save it as 8- or 16-bit")
    return pixels, palette


def _apply_palette(pixels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The palette's colours at unsigned indices; the last colour where an index is beyond the palette."""
    return palette[np.minimum(pixels.astype(np.uint16), min(len(palette) - 1, 65535))]


@contextmanager
def one_line_errors(path: PathLike) -> Iterator[None]:
    """Turn whatever a reader raises into a UserError that names the file, and silence its warnings."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, an image was expected") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read (permission denied)") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: not an image that can be read (PNG, TIFF, JPEG, BMP); convert or remove it") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: claims more than {MAX_PIXELS:,} pixels; cut it into smaller images") from None
    except Exception as e:  # on mangled files readers raise nearly anything: SyntaxError, struct.error, KeyError ...
        reason = " ".join(str(e).split())[:120] or type(e).__name__
        raise UserError(f"{path}: damaged or cut off ({reason}); copy or export it again") from None


def _kind(bits: str, bands: int) -> str:
    """How the report calls an image: "16-bit grey", "8-bit RGBA"."""
    names = {1: "grey", 2: "grey + alpha", 3: "RGB", 4: "RGBA"}
    return f"{bits} {names.get(bands, f'{bands} channels')}"
