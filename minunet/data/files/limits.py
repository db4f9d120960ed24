"""How large an image may claim to be: what a damaged header says is checked before memory is taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import UserError

PathLike = str | Path
Pixels = tuple[np.ndarray, np.ndarray | None]  # (H, W) or (H, W, C), and the palette (n, 3) uint8 or None

MAX_PIXELS = 178_956_970  # where Pillow refuses, too: about 13,000 x 13,000
MAX_PACKING = 10_000  # bytes of pixels per byte of file: no sound file packs more (deflate reaches 8,256 for one bit),
MAX_BLANK = 4_000_000  # but Zstandard, WebP and JPEG XL, which say "all the same" in a few bytes


def check_claimed_size(
    height: int, width: int, path: PathLike, pixel_bytes: float = 1, packing: int = MAX_PACKING
) -> None:  # fmt: skip
    """Raise a UserError if a file is too short for the size that its header claims, before memory is allocated for it.

    `packing` is how many bytes of pixels a byte of the file may hold, `pixel_bytes` how many a pixel has, packed: 1/8 of fax.
    """
    if height < 1 or width < 1:
        raise UserError(f"{path}: claims a size of {width}x{height} pixels; it is damaged, export it again")
    if height * width > MAX_PIXELS:
        raise UserError(f"{path}: claims {width}x{height} pixels, more than {MAX_PIXELS:,}; cut it into smaller images")
    if height * width * pixel_bytes > packing * (Path(path).stat().st_size + 100):
        raise UserError(f"{path}: claims {width}x{height} pixels but is far too short for them; export it again")
