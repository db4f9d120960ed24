"""Turning images upright, as the orientation of EXIF and TIFF says (tag 274, TIFF revision 6.0, page 36).

Images and masks alike are what a viewer shows. A mask without an orientation beside an image that has one is taken to be drawn
on what the viewer showed, and `train` and `doctor` say so. If it was drawn on the pixels as they are stored, take the tag off
the images: ``exiftool -n -Orientation=1 FILES``.
"""

from __future__ import annotations

import numpy as np


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A stored image (H, W) or (H, W, C) as a viewer shows it; a view.

    Examples
    --------
    >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()
    [[3, 1], [4, 2]]
    """
    if orientation >= 5:  # rows and columns change places
        pixels = pixels.swapaxes(0, 1)
    down, across = flips(orientation)
    return pixels[:: -1 if down else 1, :: -1 if across else 1]


def flips(orientation: int) -> tuple[bool, bool]:
    """Whether rows and columns run backwards, after rows and columns changed places for 5 to 8."""
    return orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(H, W) of the upright image."""
    return (size[1], size[0]) if orientation >= 5 else size


def stored_window(
    rows: slice, columns: slice, size: tuple[int, int], orientation: int
) -> tuple[slice, slice]:  # fmt: skip
    """Where a window of the upright image, of `size` (H, W), lies in the stored one; `upright` of it is the window."""
    down, across = flips(orientation)
    if down:
        rows = slice(size[0] - rows.stop, size[0] - rows.start)
    if across:
        columns = slice(size[1] - columns.stop, size[1] - columns.start)
    return (columns, rows) if orientation >= 5 else (rows, columns)
