"""Writers, into which results are written part by part: arrays in memory, and files that may be larger than memory.

    with new_tiff(path, (H, W), np.uint8) as writer:
        writer[rows, columns] = values

A file is made at its full size under another name, and moved to `path` when the block ends without an error. `ArrayOutputs`
makes writers in memory, `FileOutputs` makes writers into files: one for each result of an image, by its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import beside
from ..data.files.large_zarr import LargeZarr, import_zarr
from ..data.files.pixel_size import PixelSize
from .instance_files import resolution

CHUNK = 1024  # rows and columns of a zarr chunk
BIG = 2**32 - 2**25  # a TIFF of more bytes gets 64-bit offsets


class TiffWriter:
    """The pixels of an uncompressed TIFF: one or more planes, each stored row by row, with one or more samples a pixel."""

    def __init__(self, path: Path, offset: int, shape: tuple[int, int, int, int], dtype: np.dtype) -> None:
        self.path, self.offset, self.shape, self.dtype = path, offset, shape, dtype
        self.file = open(path, "r+b", buffering=0)  # noqa: SIM115

    def __setitem__(self, part: tuple[slice, slice], values: np.ndarray) -> None:
        """Write values (h, w) or (h, w, C) at two slices; C counts planes or samples."""
        rows, columns = part
        planes, H, W, samples = self.shape
        values = values.reshape(*values.shape[:2], planes, samples).astype(self.dtype, copy=False)
        for plane in range(planes):
            lines = np.ascontiguousarray(values[:, :, plane])
            if columns == slice(0, W):
                self._write((plane * H + rows.start) * W, lines)
            else:
                for r, line in enumerate(lines, rows.start):
                    self._write((plane * H + r) * W + columns.start, line)

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        """Read the values at two slices, (h, w, planes * samples)."""
        rows, columns = part
        whole = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        found = np.moveaxis(np.array(whole[:, rows, columns]), 0, -2)
        return found.reshape(*found.shape[:2], self.shape[0] * self.shape[3])

    def _write(self, pixel: int, values: np.ndarray) -> None:
        self.file.seek(self.offset + pixel * self.shape[3] * self.dtype.itemsize)
        left = memoryview(values.tobytes())
        while len(left):
            left = left[self.file.write(left) :]


@contextmanager
def new_tiff(
    path: Path, size: tuple[int, int], dtype: Any, planes: int = 1, samples: int = 1, keep: bool = True,
    pixel: PixelSize | None = None,
) -> Iterator[TiffWriter]:  # fmt: skip
    """A new TIFF of H x W pixels; parts that are never written are 0. Without `keep` it is deleted at the end."""
    import tifffile

    shape, dtype = (planes, *size, samples), np.dtype(dtype)
    visible = tuple(n for n, axis in zip(shape, "PYXS") if axis in "YX" or n > 1)
    with beside(path, keep) as part:
        place: Any = tifffile.imwrite(
            part, None, shape=visible, dtype=dtype, returnoffset=True, metadata=None,
            photometric="rgb" if samples > 1 else "minisblack", bigtiff=int(np.prod(shape)) * dtype.itemsize > BIG,
            **resolution(pixel),
        )  # fmt: skip
        writer = TiffWriter(part, place[0], shape, dtype)
        try:
            yield writer
            os.fsync(writer.file.fileno())
        finally:
            writer.file.close()


class ZarrWriter:
    """Level 0 of an OME-Zarr, with its planes first."""

    def __init__(self, array: Any, planes: int) -> None:
        self.array, self.planes = array, planes

    def __setitem__(self, part: tuple[slice, slice], values: np.ndarray) -> None:
        """As in `TiffWriter`."""
        if self.planes == 1:
            self.array[part] = values.reshape(values.shape[:2])
        else:
            self.array[(slice(None), *part)] = np.moveaxis(values, -1, 0)

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        """As in `TiffWriter`."""
        found = np.asarray(self.array[(..., *part)])
        return found[..., None] if self.planes == 1 else np.moveaxis(found, 0, -1)


@contextmanager
def new_zarr(
    path: Path, size: tuple[int, int], dtype: Any, planes: int = 1, keep: bool = True, pixel: PixelSize | None = None
) -> Iterator[ZarrWriter]:  # fmt: skip
    """A new OME-Zarr (NGFF 0.5) of one level."""
    with beside(path, keep) as part:
        yield make_zarr(part, path.stem, size, dtype, planes, pixel)


def make_zarr(
    path: Path, name: str, size: tuple[int, int], dtype: Any, planes: int = 1, pixel: PixelSize | None = None,
    chunk: tuple[int, int] = (CHUNK, CHUNK), shard: tuple[int, int] | None = None,
) -> ZarrWriter:  # fmt: skip
    """Make an OME-Zarr of one level, of that name, all 0; with `shard` a file holds the chunks of so many pixels."""
    zarr = import_zarr(path)
    axes = [{"name": "c", "type": "channel"}] * (planes > 1) + [
        {"name": a, "type": "space"} | ({"unit": "micrometer"} if pixel else {}) for a in "yx"
    ]  # fmt: skip
    shape = (planes, *size)[-len(axes) :]
    scale = {
        "type": "scale",
        "scale": [1.0] * (len(axes) - 2) + (list(pixel.in_microns()[::-1]) if pixel else [1.0, 1.0]),
    }
    image = {
        "name": name,
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    group = zarr.create_group(str(path), zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    chunks, shards = (1, *chunk)[-len(axes) :], (1, *shard)[-len(axes) :] if shard else None
    array = group.create_array("0", shape=shape, dtype=np.dtype(dtype), chunks=chunks, shards=shards, fill_value=0)
    return ZarrWriter(array, planes)


class ArrayWriter:
    """Pixels in memory, (H, W, C); an array that covers all of them is kept as it is, without a copy."""

    def __init__(self, shape: tuple[int, int, int], dtype: Any) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.array: np.ndarray | None = None

    def __setitem__(self, part: tuple[slice, slice], values: np.ndarray) -> None:
        """As in `TiffWriter`."""
        values = values.reshape(*values.shape[:2], self.shape[2]).astype(self.dtype, copy=False)
        if values.shape == self.shape:
            self.array = values
            return
        if self.array is None:
            self.array = np.zeros(self.shape, self.dtype)
        self.array[part] = values

    def __getitem__(self, part: tuple[slice, slice]) -> np.ndarray:
        """As in `TiffWriter`."""
        return np.zeros(self.shape, self.dtype)[part] if self.array is None else self.array[part]


Writer = TiffWriter | ZarrWriter | ArrayWriter


class ArrayOutputs:
    """Results that stay in memory, of one image or of the pages of a stack.

    Attributes
    ----------
    pages : by result, arrays (H, W, C), one a page
    """

    def __init__(self) -> None:
        self.pages: dict[str, list[np.ndarray]] = {}

    @contextmanager
    def new(
        self, image: Any, what: str, dtype: Any, planes: int = 1, samples: int = 1, keep: bool = True
    ) -> Iterator[ArrayWriter]:  # fmt: skip
        """A writer of the image's size for a result, such as "mask"; without `keep` the result is dropped at the end."""
        writer = ArrayWriter((*image.shape[:2], planes * samples), dtype)
        yield writer
        if keep:
            self.pages.setdefault(what, []).append(writer[slice(None), slice(None)])


class FileOutputs:
    """Results that are written into files as they are made: BASE_mask.tif (or `mask`), or, for an OME-Zarr, BASE_mask.zarr.

    Attributes
    ----------
    files : paths of what was written
    """

    def __init__(self, base: Path, pixel: PixelSize | None = None, mask: Path | None = None) -> None:
        self.base, self.pixel, self.mask = base, pixel, mask
        self.files: list[Path] = []

    @contextmanager
    def new(
        self, image: Any, what: str, dtype: Any, planes: int = 1, samples: int = 1, keep: bool = True
    ) -> Iterator[TiffWriter | ZarrWriter]:  # fmt: skip
        """As in `ArrayOutputs`; the colours of a zarr are planes."""
        size, made = image.shape[:2], self.base.with_name(f"{self.base.name}_{what}")
        file: AbstractContextManager[TiffWriter | ZarrWriter]
        if isinstance(image, LargeZarr):
            path = made.with_name(f"{made.name}.zarr")
            file = new_zarr(path, size, dtype, planes * samples, keep, self.pixel)
        else:
            path = self.mask if what == "mask" and self.mask else made.with_name(f"{made.name}.tif")
            file = new_tiff(path, size, dtype, planes, samples, keep, self.pixel)
        with file as writer:
            yield writer
        if keep:
            self.files.append(path)


Outputs = ArrayOutputs | FileOutputs
