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
from .limits import PathLike, Pixels, check_claimed_size

if TYPE_CHECKING:
    from PIL.Image import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
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


def read_pillow(path: PathLike) -> Pixels:
    """Pixels and palette of a file."""
    with open_pillow(path) as image:
        check_claimed_size(image.height, image.width, path)
        if png_bits(path) == 16 and len(image.getbands()) > 1:  # Pillow would silently keep only the upper 8 bits
            raise UserError(f"{path}: 16-bit colour PNG is not supported; save it as 16-bit TIFF or as 8-bit PNG")
        image.load()
        return pillow_pixels(image)


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
