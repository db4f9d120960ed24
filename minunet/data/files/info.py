"""What the header of an image file says, without reading the pixels: size, channels, kind, and which images it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .axes import Division
from .large_zarr import LargeZarr, is_zarr
from .limits import PathLike
from .npy import is_npy, npy_plan
from .one_line import one_line_errors
from .pillow import ALPHA_MODES, check_frame_size, find_frame, frames, open_pillow, orientation, png_bits
from .pixel_size import PixelSize
from .tiff import check_page, checked_page, is_tiff, open_tiff, tiff_bits
from .tiff_planes import find_plane, plan
from .turn import turned_size


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
        if is_zarr(path):
            zarr = LargeZarr(path, page, axes)
            return _array_info(zarr.division, zarr.array.dtype)
        if is_npy(path):
            found = npy_plan(path, axes)
            return _array_info(found.division, found.dtype)
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
        if is_zarr(path):
            zarr = LargeZarr(path, 0, axes)
            d = zarr.division
            return Pages(d.count, d.axes, d.page_axes, d.page_shape, zarr.named, [], zarr.pixel)
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


def _array_info(d: Division, dtype: np.dtype) -> ImageInfo:
    """What is known of an image in an array."""
    bits = {"f": "float", "b": "1-bit"}.get(dtype.kind, f"{8 * dtype.itemsize}-bit")
    rgb = d.bands == 1 or "C" not in d.axes
    return ImageInfo(*d.size, d.bands, _kind(bits, d.bands, False) if rgb else f"{bits} {d.bands} channels", rgb=rgb)


def _kind(bits: str, bands: int, alpha: bool) -> str:
    """How the report calls an image: "16-bit grey", "8-bit RGBA"."""
    marked, plain = {2: "grey + alpha", 4: "RGBA"}, {1: "grey", 3: "RGB"}
    return f"{bits} {(marked if alpha else plain).get(bands, f'{bands} channels')}"
