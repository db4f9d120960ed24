"""Level 0 of an OME-Zarr, or a zarr array, read by windows.

Which axes are rows, columns and channels is what the file says: OME's axes, or the names of the dimensions of an array. All
others, such as T and Z, count images. An array without names of (H, W) or of (H, W, 3 or 4) is an image, else its first axis
counts images. ``--axes`` says otherwise.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError, extra
from .axes import LETTERS, UNNAMED, divide, guess_axes
from .limits import PathLike
from .one_line import one_line_errors
from .pixel_size import PixelSize, tidy_unit

MAX_CHUNK = 1 << 28  # bytes of a chunk or shard, that may be tiny on disk
MAX_PAGES = 1_000_000
MAX_CHANNELS = 64
MARKS = (".zgroup", ".zattrs", ".zarray", "zarr.json")
LONG_NAMES = {
    "time": "T",
    "channel": "C",
    "channels": "C",
    "band": "C",
    "row": "Y",
    "column": "X",
}  # else the first letter


def is_zarr(path: PathLike) -> bool:
    """Whether a folder is a zarr group or array."""
    return any((Path(path) / mark).is_file() for mark in MARKS)


def import_zarr(path: PathLike) -> Any:
    """The package zarr; UserError if it is not there."""
    try:
        import zarr
    except ImportError as e:
        raise UserError(f"{path}: for zarr images: {extra('zarr')}") from e
    return zarr


def zarr_pixel_size(image: Any) -> PixelSize | None:
    """The size of a pixel of level 0, of an entry of OME's multiscales; None if it has no unit."""
    try:
        axes = {a["name"]: (i, tidy_unit(str(a.get("unit", "")))) for i, a in enumerate(image["axes"])}
        scales = [t["scale"] for t in image["datasets"][0]["coordinateTransformations"] if t.get("type") == "scale"]
        (x, unit), (y, other) = axes["x"], axes["y"]
        if unit is None or unit != other:
            return None
        found = PixelSize(float(scales[0][x]), float(scales[0][y]), unit)
        return found if found.x > 0 and found.y > 0 else None
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def axis_letters(names: Any, kinds: Any = ()) -> str:
    """The letters of axes, such as "TCYX", from their names and OME's types; Q for an axis of which neither is known.

    Examples
    --------
    >>> axis_letters(["time", "c", "y", "x"]), axis_letters(["stain", "y", "x"], ["channel", "space", "space"])
    ('TCYX', 'CYX')
    """
    letters = ""
    for i, name in enumerate(str(name or "").lower() for name in names):
        kind = str(kinds[i] if i < len(kinds) else "").lower()
        letter = LONG_NAMES.get(name) or (name[:1].upper() if len(name) == 1 else "Q")
        letter = {"time": "T", "channel": "C"}.get(kind, letter)
        letters += letter if letter in LETTERS and letter not in letters else "Q"
    return letters


class LargeZarr:
    """An image (H, W, C) in level 0 of an OME-Zarr, or in a zarr array.

    Parameters
    ----------
    path : path
    page : int or None
        Which image, if T, Z or other axes count several.
    axes : str or None
        The axes of the array, instead of those that the file tells.

    Attributes
    ----------
    division : Division
        How the array is divided into images.
    named : bool
        Whether the file, or the user, says what the axes are.
    pixel : PixelSize or None
    """

    ndim = 3

    def __init__(self, path: PathLike, page: int | None = None, axes: str | None = None) -> None:
        zarr = import_zarr(path)
        from .zarr_store import CheckedStore

        self.path = path
        self.pixel: PixelSize | None = None
        with one_line_errors(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = CheckedStore(zarr.storage.LocalStore(Path(path), read_only=True))
            try:
                with store.settled():
                    found = zarr.open(store, mode="r")
                    array, told = (found, names_of(found)) if hasattr(found, "shape") else self._level0(found)
            except FileNotFoundError:
                raise UserError(f"{path}: lacks the array that holds the image; copy or export it again") from None
            shape = tuple(array.shape)
            self.division = divide(axes if axes and len(axes) == len(shape) else told, shape, path, axes)
        self.array, self.page = array, page or 0
        self.named = bool(axes) or not set(self.division.page_axes) & set(UNNAMED)
        self.shape = (*self.division.size, self.division.bands)
        if 0 in shape or self.shape[2] > MAX_CHANNELS or array.dtype.kind not in "biuf":
            raise UserError(f"{path}: an array of shape {shape} and type {array.dtype} is no image")
        count = self.division.count
        if count > MAX_PAGES or not 0 <= self.page < count:
            raise UserError(f"{path}: has no page {self.page}, its pages are 0 to {count - 1:,}")
        if page is None and count > 1:
            raise UserError(f"{path}: {count} images (axes {self.division.axes}), one was expected; choose a page")
        self.dtype = np.dtype({"b": np.uint8, "f": np.float32}.get(array.dtype.kind, array.dtype)).newbyteorder("=")
        if math.prod(array.shards or array.chunks) * array.dtype.itemsize > MAX_CHUNK:
            raise UserError(
                f"{path}: has chunks of {array.chunks} pixels, of which one would fill the memory; rechunk it"
            )
        store.expect(array)
        self.store = store

    def _level0(self, group: Any) -> tuple[Any, str]:
        """The array of the largest level, and the letters of its axes."""
        attributes = dict(group.attrs)
        attributes = attributes.get("ome", attributes)  # NGFF 0.5 has it one level down
        if not attributes.get("multiscales"):
            raise UserError(f"{self.path}: {what_is_inside(attributes, self.path)}")
        image = attributes["multiscales"][0]
        self.pixel = zarr_pixel_size(image)
        found = group[image["datasets"][0]["path"]]
        if not hasattr(found, "shape"):
            raise UserError(f"{self.path}: where level 0 should be there is a group; copy or export it again")
        axes = image.get("axes") or ("tczyx" if len(found.shape) == 5 else [])  # NGFF 0.1 has 5, and does not name them
        letters = axis_letters(
            [a["name"] if isinstance(a, dict) else a for a in axes],
            [a.get("type") if isinstance(a, dict) else None for a in axes],
        )
        return found, letters or names_of(found)

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        """The pixels (h, w, C) at two slices."""
        at = dict(zip("YX", part))
        where = tuple(at.get(a, i) for a, i in zip(self.division.axes, self.division.index(self.page)))
        with one_line_errors(self.path), self.store.settled():
            block = self.division.arranged(np.asarray(self.array[where]))
        block = block if block.ndim == 3 else block[..., None]
        if block.dtype == bool:
            return block * np.uint8(255)
        block = block.astype(self.dtype, copy=False)
        if block.dtype.kind == "f" and np.isinf(block).any():
            raise UserError(f"{self.path}: holds infinity; replace it by numbers")
        return block


def names_of(array: Any) -> str:
    """The letters of an array's axes: by the names of its dimensions (Zarr 3; xarray's in Zarr 2), or as for any array."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    letters = axis_letters(names)
    return letters if len(letters) == len(array.shape) and {"Y", "X"} <= set(letters) else guess_axes(array.shape)


def what_is_inside(attributes: Any, path: PathLike) -> str:
    """What to say of a group that is no image by itself: a plate, or a file of several images."""
    if "plate" in attributes:
        wells = [str(well["path"]) for well in attributes["plate"]["wells"]]
        return (
            f"a plate of {len(wells)} wells; give the path of one image, such as {path}/{wells[0] if wells else ''}/0"
        )
    if "well" in attributes:
        fields = [str(image["path"]) for image in attributes["well"]["images"]]
        return f"a well of {len(fields)} images; give the path of one, such as {path}/{fields[0] if fields else ''}"
    if "bioformats2raw.layout" in attributes:
        return f"holds images that are numbered; give the path of one, {path}/0"
    return "a zarr group without OME's multiscales; give the path of an image or of an array in it"
