"""Images larger than memory, read by windows: TIFF and OME-Zarr.

`open_large` returns an object with a shape (H, W, C), a dtype and ``image[rows, columns]`` with two slices, as an array has.
Only those strips, tiles or chunks are decoded that a window touches.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from .large_tiff import LargeTiff
from .large_zarr import LargeZarr, is_zarr
from .limits import PathLike
from .one_line import one_line_errors
from .tiff import is_tiff


def can_open(path: PathLike) -> bool:
    """Whether `open_large` reads such a file."""
    return is_zarr(path) or (Path(path).is_file() and is_tiff(path))


def open_large(
    path: PathLike, page: int | None = None, axes: str | None = None, alpha: bool = True
) -> LargeTiff | LargeZarr:  # fmt: skip
    """Open an image that is read by windows.

    Parameters
    ----------
    path : path
        A TIFF, or the folder of an OME-Zarr (NGFF 0.4 or 0.5; level 0 is read) or of a zarr array.
    page : int or None
        Image of a stack, from 0.
    axes, alpha : as in `read_image`

    Returns
    -------
    LargeTiff or LargeZarr
        With ``shape`` (H, W, C), ``dtype`` and ``image[rows, columns]``, which takes two slices and gives an array (h, w, C).

    Raises
    ------
    UserError
        If it is something else, damaged, or cut off; or a zarr with Blosc chunks that lie in shards within shards, or in shards
        with an index unlike zarr's default, and so cannot be checked before they are decoded.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import tifffile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "large.tif")
    ...     tifffile.imwrite(path, np.zeros((500, 800), np.uint16), tile=(64, 64))
    ...     image = open_large(path)
    ...     image.shape, image[100:140, 200:260].shape
    ((500, 800, 1), (40, 60, 1))
    """
    if is_zarr(path):
        return LargeZarr(path, page, axes)
    with one_line_errors(path):
        if not is_tiff(path):
            raise UserError(f"{path}: only TIFF and OME-Zarr can be read by tiles; convert it, or use --tile 0")
        return LargeTiff(path, page, axes, alpha)
