"""`predict` for images that are read, segmented and written by parts: TIFFs of more than LARGE pixels, and OME-Zarr.

For an image X it writes X_mask.tif instead of a PNG (X_mask.zarr for a zarr), and X_overlay.png at a size to look at.
Objects are told apart strip by strip (`strips`).
"""

from __future__ import annotations

import argparse
import csv
import io
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..atomic import beside, write_atomically
from ..data import ClassMap
from ..data.files.large import LargeTiff, LargeZarr, can_open, is_zarr, open_large
from ..data.preprocess import drop_alpha
from ..errors import UserError
from ..nn import Module
from . import overlay
from .inference import class_map, classify, lay_tiles, semantic
from .instance_files import add_roi, outline
from .instance_files import columns as table_columns
from .instances import label_objects, target_of
from .stitching import label_strips
from .tiles import Tiles
from .writers import TiffStore, ZarrStore, new_tiff, new_zarr

LARGE = 1 << 25  # pixels from which on a TIFF is streamed
OVERVIEW = 2048  # most rows and columns of an overlay
STRIP = 1 << 22  # about so many pixels are divided into objects at once
OUTLINED = 1 << 24  # most pixels of an object's bounding box for --rois, which is looked at as a whole
SEAM = 128  # rows that are divided into objects twice, at the least: twice as tall as most objects

Large = LargeTiff | LargeZarr
Store = TiffStore | ZarrStore


def is_streamed(path: Path, tile: int | None) -> bool:
    """Whether a file is segmented here, by its kind and size; ``--tile 0`` keeps TIFFs whole."""
    if is_zarr(path):
        return True
    if tile == 0 or not path.is_file() or path.stat().st_size < 8 or not can_open(path):
        return False
    try:
        shape = open_large(path, 0).shape
    except UserError:  # the usual way may have more luck, and else says what is wrong
        return False
    return shape[0] * shape[1] > LARGE


def segment_streamed(
    model: Module, path: Path, page: int | None, base: Path | None, args: argparse.Namespace
) -> np.ndarray | None:  # fmt: skip
    """Segment one image, or one page of a stack, into files whose names begin with base; None writes nothing.

    Returns the overlay (h, w, 3) uint8, at a size to look at, if it is to be written or shown.
    """
    image, classes = open_large(path, page), class_map(model)
    tiles = lay_tiles(model, image, args.scale, args.tile, args.overlap, args.tta)
    if tiles.note:
        note_blending(path, tiles)
    objects = args.instances or args.rois
    with ExitStack() as files:
        mask = p_store = None
        if base is not None:
            colours = 3 if classes.num_classes > 2 else 1
            mask = files.enter_context(new_store(image, base, "mask", np.uint8, samples=colours))
        if base is not None and (objects or args.probabilities):
            p_store = files.enter_context(
                new_store(image, base, "probabilities", np.float32, planes=tiles.num_classes, keep=args.probabilities)
            )
        small, every = overview_of(tiles.size, np.uint8)
        with tqdm(total=len(tiles), unit="tile", desc=path.name, disable=None, leave=False) as bar:
            for rows, columns, p in tiles.blocks(bar.update):
                labels = classify(semantic(model, p), args.mask_threshold)
                put_overview(small, every, rows, columns, labels)
                if mask is not None:
                    mask[rows, columns] = classes.decode(labels)
                if p_store is not None:
                    p_store[rows, columns] = p
        if base is not None and p_store is not None and objects:
            small = divide(model, image, p_store, base, args)
    if not args.viz and (base is None or not args.overlay):
        return None
    picture = overview(image, small, every, classes if base is None or not objects else None)
    if base is not None and args.overlay:
        overlay.save_png(Path(f"{base}_overlay.png"), picture)
    return picture


def note_blending(path: Path, tiles: Tiles) -> None:
    """Say that the result is not that of the whole image, and why."""
    tqdm.write(f"note: {path}: tiles are blended, and differ a little from the whole image: {tiles.note}")


def new_store(
    image: Large, base: Path, what: str, dtype: Any, planes: int = 1, samples: int = 1, keep: bool = True
) -> AbstractContextManager[Store]:  # fmt: skip
    """A new file of the image's size beside base: of an OME-Zarr one, too, whose colours are planes, else a TIFF."""
    if isinstance(image, LargeZarr):
        return new_zarr(Path(f"{base}_{what}.zarr"), image.shape[:2], dtype, planes * samples, keep)
    return new_tiff(Path(f"{base}_{what}.tif"), image.shape[:2], dtype, planes, samples, keep)


# ---- objects ---------------------------------------------------------------------------------------------------------


def divide(model: Module, image: Large, p_store: Store, base: Path, args: argparse.Namespace) -> np.ndarray:
    """Divide the foreground into objects strip by strip: labels and their table; returns the labels' overview."""
    from ..kernels.cpu.memory import release_memory  # loads numba, which --help need not wait for

    release_memory()  # the network's
    H, W, _ = image.shape
    height = max(2 * SEAM, STRIP // W)
    small, every = overview_of((H, W), np.int64)
    table = Table()

    def label(p: np.ndarray) -> np.ndarray:
        return label_objects(p, target_of(model), args.mask_threshold, args.min_size, args.split)

    strips = [slice(r, min(H, r + height)) for r in range(0, H, height)]
    with new_store(image, base, "numbers", np.uint32, keep=False) as numbers:
        row = 0
        with tqdm(total=H, unit="row", desc="objects", disable=None, leave=False) as bar:
            for labels in label_strips((p_store[rows, slice(0, W)] for rows in strips), label, SEAM):
                rows = slice(row, row + len(labels))
                numbers[rows, slice(0, W)] = labels
                put_overview(small, every, rows, slice(0, W), labels)
                table.add(labels, drop_alpha(image[rows, slice(0, W)]), row)
                row = rows.stop
                bar.update(len(labels))
        with new_store(image, base, "labels", np.uint16 if len(table.sums) < 1 << 16 else np.uint32) as store:
            for rows in strips:
                store[rows, slice(0, W)] = numbers[rows, slice(0, W)]
        if args.rois:
            save_rois(Path(f"{base}_rois.zip"), numbers, table.boxes, strips)
    table.save(Path(f"{base}_objects.csv"))
    return small


def save_rois(path: Path, numbers: Store, boxes: np.ndarray, strips: list[slice]) -> None:
    """Write the outlines of objects as `object_files.save_rois` does; a note says if some are too large for that."""
    small = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) <= OUTLINED
    found = stored_outlines(numbers, boxes, small, strips)
    shown = tqdm(found, total=int(small.sum()), unit="outline", desc="outlines", disable=None, leave=False)
    with beside(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, polygon in shown:
            add_roi(archive, f"{number:05}", polygon)
    if not small.all():
        tqdm.write(f"note: {path}: without the outlines of {(~small).sum()} objects that span over {OUTLINED:,} pixels")


def stored_outlines(
    numbers: Store, boxes: np.ndarray, wanted: np.ndarray, strips: list[slice]
) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted objects' numbers and outlines; strip by strip, with the strip below, in which most objects end."""
    for rows in strips:
        below = rows.stop + (rows.stop - rows.start)
        here = np.flatnonzero(wanted & (rows.start <= boxes[:, 1]) & (boxes[:, 1] < rows.stop))
        ends = boxes[here, 3]
        end = ends[ends <= below].max(initial=rows.start)
        seen = numbers[slice(rows.start, end), slice(0, boxes[here, 2].max(initial=0))][..., 0]
        for i in here:
            left, top, right, bottom = map(int, boxes[i])
            if bottom <= end:
                labels = seen[top - rows.start : bottom - rows.start, left:right]
            else:
                labels = numbers[slice(top, bottom), slice(left, right)][..., 0]
            yield int(i) + 1, outline(labels == i + 1, top, left)


class Table:
    """The table of `object_files.measure`, of objects that come in strips."""

    def __init__(self) -> None:
        self.sums = np.zeros((0, 3))  # area, x, y
        self.greys = np.zeros((0, 0))
        self.boxes = np.zeros((0, 4), np.int64)  # left, top, right, bottom

    def add(self, labels: np.ndarray, image: np.ndarray, row: int) -> None:
        """Labels (h, W) and image (h, W, C) from a row on."""
        y, x = np.nonzero(labels)
        here, values = labels[y, x] - 1, image[y, x].astype(float)
        self._grow(int(labels.max(initial=0)), image.shape[-1])
        n = len(self.sums)
        for k, weights in enumerate((None, x, y + row)):
            self.sums[:, k] += np.bincount(here, weights, n)
        for c in range(values.shape[1]):
            self.greys[:, c] += np.bincount(here, values[:, c], n)
        place = np.stack([x, y + row], axis=1)
        np.minimum.at(self.boxes[:, :2], here, place)
        np.maximum.at(self.boxes[:, 2:], here, place + 1)

    def _grow(self, n: int, channels: int) -> None:
        more = max(0, n - len(self.sums))
        self.sums = np.pad(self.sums, ((0, more), (0, 0)))
        self.greys = np.pad(self.greys, ((0, more), (0, channels - self.greys.shape[1])))
        far = np.iinfo(np.int64).max
        self.boxes = np.concatenate([self.boxes, np.tile([far, far, 0, 0], (more, 1))])

    def save(self, path: Path) -> None:
        """Write it as `object_files.save_table` does."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(table_columns(self.greys.shape[1], paged=False))
        for i, ((area, x, y), (left, top, right, bottom)) in enumerate(zip(self.sums, self.boxes)):
            numbers = [x / area, y / area, left, top, right - left, bottom - top, *(self.greys[i] / area)]
            writer.writerow([i + 1, int(area), *(f"{v:.6g}" if isinstance(v, float) else v for v in numbers)])
        write_atomically(path, buffer.getvalue().encode())


# ---- something to look at --------------------------------------------------------------------------------------------


def overview_of(size: tuple[int, int], dtype: Any) -> tuple[np.ndarray, int]:
    """Zeros for every so many rows and columns of an image, and how many."""
    every = -(-max(size) // OVERVIEW)
    return np.zeros((-(-size[0] // every), -(-size[1] // every)), dtype), every


def put_overview(small: np.ndarray, every: int, rows: slice, columns: slice, values: np.ndarray) -> None:
    """Copy every so many rows and columns of a part of the image."""
    r, c = -(-rows.start // every), -(-columns.start // every)
    taken = values[r * every - rows.start :: every, c * every - columns.start :: every]
    small[r : r + taken.shape[0], c : c + taken.shape[1]] = taken


def overview(image: Large, labels: np.ndarray, every: int, classes: ClassMap | None) -> np.ndarray:
    """The overlay at the size of the overview; objects' outlines if there are no classes."""
    rows = every * max(1, STRIP // (every * image.shape[1]))
    H, W, _ = image.shape
    bands = [slice(r, min(H, r + rows)) for r in range(0, H, rows)]
    seen = np.concatenate([image[band, slice(0, W)][::every, ::every].copy() for band in bands])
    return overlay.object_outlines(seen, labels) if classes is None else overlay.overlay(seen, labels, classes)
