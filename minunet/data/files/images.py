"""Reading images and masks: PNG, TIFF, JPEG, BMP and GIF, 1 to 16 bits or float, grey, palette or colour.

The content of a file, not its ending, decides which format it has; the decoders are in `tiff.py` and `pillow.py`. Any problem
with a file becomes a UserError of one line that names it.
"""

from __future__ import annotations

import numpy as np

from ...errors import UserError
from ..preprocess import is_grey
from .limits import PathLike
from .npy import is_npy, npy_plan
from .one_line import one_line_errors
from .pillow import png_bits, read_pillow
from .tiff import is_tiff, open_tiff
from .tiff_planes import find_plane, plan

SUFFIXES = (
    *(".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".jp2", ".pgm", ".ppm", ".pnm"),
    *(".lsm", ".stk", ".npy"),
)


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
    ...     read_image(path).shape, read_image(path).dtype
    ((40, 60, 1), dtype('uint16'))
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
