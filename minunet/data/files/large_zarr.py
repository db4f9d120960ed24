"""Level 0 of an OME-Zarr, or a zarr array, read by windows."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .limits import PathLike
from .one_line import one_line_errors
from .pixel_size import PixelSize, tidy_unit

MAX_CHUNK = 1 << 28  # bytes of a chunk or shard, that may be tiny on disk


def import_zarr(path: PathLike) -> Any:
    """The package zarr; UserError if it is not there."""
    try:
        import zarr
    except ImportError as e:
        raise UserError(f"{path}: for zarr images: pip install 'minunet[zarr]'") from e
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


class LargeZarr:
    """Level 0 of an OME-Zarr, or a zarr array (H, W) or (H, W, C)."""

    ndim = 3
    pixel: PixelSize | None = None

    def __init__(self, path: PathLike) -> None:
        zarr = import_zarr(path)
        from .zarr_store import CheckedStore

        self.path = path
        with one_line_errors(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store = CheckedStore(zarr.storage.LocalStore(Path(path), read_only=True))
            try:
                with store.settled():
                    found, axes = zarr.open(store, mode="r"), ""
                    if not hasattr(found, "shape"):
                        found, axes = self._level0(found)
            except FileNotFoundError:
                raise UserError(f"{path}: lacks the array that holds the image; copy or export it again") from None
        self.array, self.axes = found, axes or "yxc"[: len(found.shape)]
        self.pixel = self.pixel if axes else None
        sizes = dict(zip(self.axes, found.shape))
        others = {axis: n for axis, n in sizes.items() if axis not in "cyx" and n > 1}
        if not len(sizes) == len(self.axes) == len(found.shape) or not {"x", "y"} <= sizes.keys() or others:
            raise UserError(
                f"{path}: an array of axes {self.axes} and shape {found.shape}; one flat image was expected"
            )
        if 0 in found.shape or sizes.get("c", 1) > 64 or found.dtype.kind not in "biuf":
            raise UserError(f"{path}: an array of shape {found.shape} and type {found.dtype} is no image")
        self.shape = (sizes["y"], sizes["x"], sizes.get("c", 1))
        self.dtype = np.dtype({"b": np.uint8, "f": np.float32}.get(found.dtype.kind, found.dtype)).newbyteorder("=")
        if math.prod(found.shards or found.chunks) * found.dtype.itemsize > MAX_CHUNK:
            raise UserError(
                f"{path}: has chunks of {found.chunks} pixels, of which one would fill the memory; rechunk it"
            )
        store.expect(found)
        self.store = store

    def _level0(self, group: Any) -> tuple[Any, str]:
        attributes = dict(group.attrs)
        attributes = attributes.get("ome", attributes)  # NGFF 0.5 has it one level down
        if not attributes.get("multiscales"):
            raise UserError(f"{self.path}: a zarr group without OME's multiscales; give the path of an array in it")
        image = attributes["multiscales"][0]
        axes = [a["name"] if isinstance(a, dict) else a for a in image["axes"]]
        self.pixel = zarr_pixel_size(image)
        found = group[image["datasets"][0]["path"]]
        if not hasattr(found, "shape"):
            raise UserError(f"{self.path}: where level 0 should be there is a group; copy or export it again")
        return found, "".join(axes)

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        rows, columns = part
        at = {"y": rows, "x": columns, "c": slice(None)}
        with one_line_errors(self.path), self.store.settled():
            block = np.asarray(self.array[tuple(at.get(axis, 0) for axis in self.axes)])
        left = [axis for axis in self.axes if axis in at]
        block = block.transpose([left.index(axis) for axis in "yxc" if axis in left])
        block = block if block.ndim == 3 else block[..., None]
        if block.dtype == bool:
            return block * np.uint8(255)
        block = block.astype(self.dtype, copy=False)
        if block.dtype.kind == "f" and np.isinf(block).any():
            raise UserError(f"{self.path}: holds infinity; replace it by numbers")
        return block
