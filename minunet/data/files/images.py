"""Reading images and masks: PNG, TIFF, JPEG, BMP and GIF, 1 to 16 bits or float, grey, palette or colour.

The content of a file, not its ending, decides which format it has; the decoders are in `tiff.py` and `pillow.py`. Any problem
with a file becomes a UserError of one line that names it.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ...errors import UserError
from ..preprocess import is_grey
from .limits import MAX_PIXELS, PathLike
from .npy import is_npy, npy_plan
from .pillow import ALPHA_MODES, check_frame_size, find_frame, frames, open_pillow, orientation, png_bits, read_pillow
from .pixel_size import PixelSize
from .tiff import check_page, checked_page, is_tiff, open_tiff, tiff_bits
from .tiff_planes import TiffPlan, TiffPlane, plan
from .turn import turned_size

SUFFIXES = (
    *(".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".jp2", ".pgm", ".ppm", ".pnm"),
    *(".lsm", ".stk", ".npy"),
)


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
    alpha : bool
        Whether the file says that the last channel is alpha.
    turned : bool
        Whether the pixels are stored in another orientation, and were turned.
    rgb : bool
        Whether three or four channels are red, green and blue, and perhaps alpha, as far as the file says.
    """

    height: int
    width: int
    bands: int
    kind: str
    jpeg: bool = False
    alpha: bool = False
    turned: bool = False
    rgb: bool = True


@dataclass(frozen=True)
class Pages:
    """The images in a file.

    Attributes
    ----------
    count : int
    axes : str
        Of the file's array, by tifffile's letters: "TCYX".
    page_axes, page_shape : str and tuple of int
        The axes that count images, and how many each has; "" and () if they do not lie in one array.
    named : bool
        Whether the file, or the user, says what the axes are.
    notes : list of str
        What is left out, and what was guessed.
    pixel : PixelSize or None
    """

    count: int
    axes: str = "YX"
    page_axes: str = ""
    page_shape: tuple[int, ...] = ()
    named: bool = True
    notes: list[str] = field(default_factory=list)
    pixel: PixelSize | None = None


def read_image(
    path: PathLike, page: int | None = None, axes: str | None = None, alpha: bool = True, nan: bool = False
) -> np.ndarray:
    """Read an image as it is stored, turned upright as its EXIF or TIFF orientation says.

    Parameters
    ----------
    path : path
    page : int or None
        Which image of a stack or an animation, from 0. A file of several images without a page is an error.
    axes : str or None
        The axes of a TIFF's or .npy's array, such as "CYX", instead of those that the file tells; see `axes.py`.
    alpha : bool
        Whether to keep the channel that the file marks as alpha.
    nan : bool
        Whether NaN, which stands for missing data, may be in some of the pixels.

    Returns
    -------
    (H, W, C) array: uint8, uint16 or another integer type, or float32. A palette is looked up (RGB), one-bit images become
        0 and 255.

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
    pixels, palette, marked = _read_stored(path, page, axes, nan=nan)
    if palette is not None:
        pixels = _apply_palette(pixels, palette)
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels[..., :-1] if marked and not alpha else pixels


def read_mask(path: PathLike, page: int | None = None, axes: str | None = None) -> np.ndarray:
    """Read a mask: the numbers or colours that stand for classes or instances.

    What is read is what a viewer shows, in whatever way it was stored: palettes are looked up. Alpha is dropped, and an image
    in which every colour is grey is read as grey values. A one-bit mask gives 0 and 1, one of 2 or 4 bits its numbers.

    Parameters
    ----------
    path, page, axes : as in `read_image`
        A mask has no channels but colours: axis C counts pages.

    Returns
    -------
    (H, W) array of an unsigned or signed integer type, or (H, W, 3) uint8 colours

    Raises
    ------
    UserError
        As `read_image`, and if the file holds fractions or more channels than colours have.
    """
    pixels, palette = read_indexed_mask(path, page, axes)
    return palette[pixels] if palette is not None else pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def read_indexed_mask(
    path: PathLike, page: int | None = None, axes: str | None = None
) -> tuple[np.ndarray, np.ndarray | None]:  # fmt: skip
    """As `read_mask`, but a palette of colours is kept apart, and a one-bit mask stays bool.

    A palette in which two of the numbers in use have the same colour says nothing, so that the numbers are read.

    Returns
    -------
    pixels : (H, W) integer or bool array, or (H, W, 3) uint8 colours
    palette : (n, 3) uint8 array of the colours that `pixels` stand for, or None
    """
    pixels, palette, marked = _read_stored(path, page, axes, mask=True)
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
        pixels = pixels[..., :-1] if marked or pixels.shape[-1] == 4 else pixels
        pixels = pixels[..., 0] if is_grey(pixels) else pixels
    if pixels.ndim == 3 and (pixels.shape[-1] != 3 or pixels.dtype != np.uint8):
        raise UserError(f"{path}: a mask is grey or 8-bit RGB, but this one is {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 2 and pixels.dtype == np.uint8 and png_bits(path) in (2, 4):  # Pillow spreads them over 0..255
        pixels //= 255 // (2 ** png_bits(path) - 1)
    return pixels, None


def read_info(path: PathLike, page: int | None = None, axes: str | None = None) -> ImageInfo:
    """What the header says, without reading the pixels.

    Parameters
    ----------
    path, page, axes : as in `read_image`

    Returns
    -------
    ImageInfo

    Raises
    ------
    UserError
        If the file is missing, not an image, or its header is damaged.
    """
    with one_line_errors(path):
        if is_npy(path):
            found = npy_plan(path, axes)
            h, w = found.division.size
            bits = (
                "float"
                if found.dtype.kind == "f"
                else "1-bit"
                if found.dtype == bool
                else f"{8 * found.dtype.itemsize}-bit"
            )
            return ImageInfo(h, w, found.division.bands, _kind(bits, found.division.bands, False))
        if is_tiff(path):
            with open_tiff(path) as tiff:
                plane = find_plane(plan(tiff, path, axes), path, page)
                check_page(first := checked_page(tiff, plane.pages[0], path), path)
                bands = plane.bands
                rgb = bands == 1 or (len(plane.pages) == 1 and plane.division is None)
                kind = _kind(tiff_bits(first), bands, plane.alpha) if rgb else f"{tiff_bits(first)} {bands} channels"
                return ImageInfo(*plane.size, bands, kind, False, plane.alpha, plane.orientation > 1, rgb)
        with open_pillow(path) as image:
            find_frame(image, path, page)
            turned = orientation(image, unread=path)
            check_frame_size(image, path)
            deep = png_bits(path) == 16 or image.mode.startswith("I;16")
            bits = "float" if image.mode == "F" else "1-bit" if image.mode == "1" else "16-bit" if deep else "8-bit"
            bands, alpha = 3 if image.mode == "P" else len(image.getbands()), image.mode in ALPHA_MODES
            kind = f"{bits} palette" if image.mode == "P" else _kind(bits, bands, alpha)
            size = turned_size((image.height, image.width), turned)
            return ImageInfo(*size, bands, kind, image.format == "JPEG", alpha, turned > 1)


def count_pages(path: PathLike, axes: str | None = None) -> int:
    """Number of images in a file: pages of a TIFF, slices and time points of a stack, frames of an animation.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    return read_pages(path, axes).count


def read_pages(path: PathLike, axes: str | None = None, mask: bool = False) -> Pages:
    """Which images a file holds; parameters as in `read_image`, `mask` as in `divide`."""
    with one_line_errors(path):
        if is_npy(path):
            of = npy_plan(path, axes, mask)
            d = of.division
            return Pages(d.count, d.axes, d.page_axes, d.page_shape, of.named)
        if is_tiff(path):
            with open_tiff(path) as tiff:
                found = plan(tiff, path, axes, mask)
            return Pages(
                len(found.planes), found.axes, found.page_axes, found.page_shape, found.named, found.notes, found.pixel
            )
        with open_pillow(path) as image:
            n, held = frames(image), getattr(image, "n_frames", 1)
            notes = [f"{held - n} other views in it are left out"] * (image.format == "MPO" and held > n)
            return Pages(n, "TYX" if n > 1 else "YX", "T" * (n > 1), (n,) * (n > 1), True, notes)


def find_plane(found: TiffPlan, path: PathLike, page: int | None) -> TiffPlane:
    """The image of a TIFF that was asked for; the only one if none was."""
    count = len(found.planes)
    if page is None and count > 1:
        raise UserError(f"{path}: a stack of {count} pages, one image was expected; save its pages as single files")
    if not 0 <= (page or 0) < count:
        raise UserError(f"{path}: has no page {page}, its pages are 0 to {count - 1}")
    return found.planes[page or 0]


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _read_stored(
    path: PathLike, page: int | None, axes: str | None, mask: bool = False, nan: bool = False
) -> tuple[np.ndarray, np.ndarray | None, bool]:  # fmt: skip
    """Pixels (H, W) or (H, W, C) as stored, the palette (n, 3) that they index or None, and whether the last one is alpha."""
    alpha, palette = False, None
    with one_line_errors(path):
        if is_npy(path):
            pixels = npy_plan(path, axes, mask).read(path, page)
        elif is_tiff(path):
            with open_tiff(path) as tiff:
                plane = find_plane(plan(tiff, path, axes, mask), path, page)
                (pixels, palette), alpha = plane.read(tiff, path), plane.alpha
        else:
            pixels, palette = read_pillow(path, page)
            alpha = pixels.ndim == 3 and pixels.shape[-1] in (2, 4)
    if palette is not None and (palette.ndim != 2 or not len(palette) or pixels.dtype.kind not in "bu"):
        raise UserError(f"{path}: its pixels are no indices of a palette, or its palette is empty; export it again")
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            pixels = pixels.astype(np.float32, copy=False)
        if np.isinf(pixels).any() or (np.isnan(pixels).all() if nan else np.isnan(pixels).any()):
            raise UserError(f"{path}: holds NaN or infinity; replace them by numbers")
    elif pixels.dtype.kind not in "biu":
        raise UserError(f"{path}: pixels of type {pixels.dtype} are not supported; save it as 8- or 16-bit")
    return pixels, palette, alpha


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
            mode = os.stat(path).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of which reading may never end
                raise UserError(f"{path}: is a pipe or a device, an image was expected")
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


def _kind(bits: str, bands: int, alpha: bool) -> str:
    """How the report calls an image: "16-bit grey", "8-bit RGBA"."""
    marked, plain = {2: "grey + alpha", 4: "RGBA"}, {1: "grey", 3: "RGB"}
    return f"{bits} {(marked if alpha else plain).get(bands, f'{bands} channels')}"
