"""Decoding PNG, JPEG, BMP, GIF and the like with Pillow: pixels as they are stored, and their palette if there is one.

What Pillow raises on broken files is turned into UserErrors by `images.py`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ...errors import UserError
from .limits import MAX_BLANK, MAX_PACKING, PathLike, Pixels, check_claimed_size
from .turn import upright

if TYPE_CHECKING:
    from PIL.Image import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF's tag
ALPHA_MODES = ("LA", "RGBA")
CONVERTED_MODES = ("PA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa", "RGBX")  # by Pillow, to RGB


class _Clamped(io.BufferedReader):
    """A file whose `read` asks for no more than is left: Pillow would take memory for whatever a damaged header claims."""

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


def read_pillow(path: PathLike, page: int | None = None) -> Pixels:
    """Pixels, upright as EXIF says, and palette of a file or of one frame of it."""
    with open_pillow(path) as image:
        find_frame(image, path, page)
        check_frame_size(image, path)
        if png_bits(path) == 16 and len(image.getbands()) > 1:  # Pillow would silently keep only the upper 8 bits
            raise UserError(f"{path}: 16-bit colour PNG is not supported; save it as 16-bit TIFF or as 8-bit PNG")
        image.load()
        turned = orientation(image)
        pixels, palette = pillow_pixels(image)
        return upright(pixels, turned), palette


def check_frame_size(image: Image, path: PathLike) -> None:
    """UserError if the file is too short for its size; one bit a pixel is packed, and WebP has few bytes for blank pictures."""
    packing = MAX_BLANK if image.format == "WEBP" else MAX_PACKING
    check_claimed_size(image.height, image.width, path, 1 / 8 if image.mode == "1" else 1, packing)


def frames(image: Image) -> int:
    """Number of images in a file: frames of an animation. Of a camera's MPO only the first counts, the rest are previews."""
    return 1 if image.format in ("MPO", "ICO", "ICNS") else int(getattr(image, "n_frames", 1))


def find_frame(image: Image, path: PathLike, page: int | None) -> None:
    """Go to the frame asked for; to the only one if none was."""
    count = frames(image)
    if page is None and count > 1:
        raise UserError(
            f"{path}: an animation of {count} frames, one image was expected; save its frames as single files"
        )
    if not 0 <= (page or 0) < count:
        raise UserError(f"{path}: has no page {page}, its pages are 0 to {count - 1}")
    if page:
        image.seek(page)


def orientation(image: Image, unread: PathLike | None = None) -> int:
    """EXIF's orientation, 1 to 8; 1 if there is none, or it is damaged. `unread` is the path if pixels are not read yet."""
    if unread is not None and image.format == "PNG" and "exif" not in image.info and not has_png_chunk(unread, b"eXIf"):
        return 1  # Pillow would read the pixels to look behind them
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged metadata beside sound pixels
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def has_png_chunk(path: PathLike, name: bytes) -> bool:
    """Whether a PNG has a chunk of that name."""
    with open(path, "rb") as file:
        file.seek(len(PNG_SIGNATURE))
        while len(head := file.read(8)) == 8:
            if head[4:] == name:
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


def pillow_pixels(image: Image) -> Pixels:
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
