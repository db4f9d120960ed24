"""One image from its pixels to its results. The image is an array, or a file that is read by windows.

Both take the same way: a small image is treated as a large one with a single tile and a single block.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data.files.large_tiff import LargeTiff
from ..data.files.large_zarr import LargeZarr
from ..data.objects import Separation
from ..errors import UserError
from ..nn import Module
from . import instance_files
from .detections import Detections
from .inference import class_map, classify, found_objects, make_tiles, semantic
from .instances import output_names, resampled, separate, target_of
from .measure import Measurements
from .options import AUTO, PredictionOptions
from .overlay import Overview
from .progress import Progress
from .separation import reach_of, separation_of
from .stars import Objects
from .stitching import BLOCK, Block, Index, Part, Stitching, label_block, lay_blocks
from .tiles import best_tile
from .writers import Outputs, Writer

OVERVIEW = 2048  # most rows and columns of the overlay of an image that is read by windows
HALO = (
    64  # pixels that are at least seen around a block: objects that reach no farther into the next block come out whole
)
STRIP = 1 << 22  # pixels that are read at once for outlines, about


class OneProcess:
    """Who segments the pages of images: this process. `minunet.predict.distributed` has many processes do it."""

    def check(self, path: Path) -> None:
        """UserError if such a file cannot be segmented so."""

    def tile(self, model: Module) -> int:
        """The side of a tile, in pixels, if none is asked for."""
        return best_tile(model)

    def page(self, model: Module, image: Any, outputs: Outputs, options: PredictionOptions, progress: Progress) -> Page:
        """A page to be segmented, see `Page`."""
        return Page(model, image, outputs, options, progress)


class PageResult(NamedTuple):
    """The results for one image, except those that its writers hold."""

    overlay: np.ndarray | None
    objects: Measurements | None
    notes: list[str]
    diameter: float | None = None


class Page:
    """One image, on the way from its pixels to the writers of its results.

    Parameters
    ----------
    model : Module
    image : (H, W, C) array, or what `open_large` gives
    outputs : Outputs
        Makes the writers: for "mask", and, if the options ask for them, "probabilities" and "labels".
    options : PredictionOptions
    progress : Progress
    """

    def __init__(
        self, model: Module, image: Any, outputs: Outputs, options: PredictionOptions, progress: Progress
    ) -> None:  # fmt: skip
        self.model, self.image, self.outputs, self.progress = model, image, outputs, progress
        self.options, self.diameter = resampled(model, image, options)
        self.size: tuple[int, int] = (image.shape[0], image.shape[1])
        self.windowed = isinstance(image, LargeTiff | LargeZarr)
        self.notes: list[str] = []
        if options.diameter == AUTO:
            self.notes.append(
                f"objects are about {self.diameter:.0f} pixels wide, and are seen at {self.options.scale:.2g} of the size"
                if self.diameter else "no objects were found to be measured: it is seen at the scale of the training"
            )  # fmt: skip

    def segment(self, rois: zipfile.ZipFile | None = None, number: int | None = None) -> PageResult:
        """Make all results. Outlines of objects go into `rois`; `number`, from 1, is that of the page in a stack."""
        options, classes, objects = self.options, class_map(self.model), None
        with ExitStack() as files:
            p, one_by_one = None, self.model.preprocessing.one_by_one
            if options.probabilities and target_of(self.model) == "instances":
                raise UserError(
                    "--probabilities: this network finds objects one by one and has no such map: leave it out"
                )
            if options.probabilities or (options.needs_instances and not one_by_one):
                planes, keep = len(output_names(self.model)), options.probabilities
                p = files.enter_context(self.outputs.new(self.image, "probabilities", np.float32, planes, keep=keep))
            if one_by_one:
                objects, picture = self._found(files, p, rois, number)
            else:
                picture = self._classes(files, p)
                if p is not None and options.needs_instances:
                    objects, picture = self._objects(p, rois, number)
        shown = None
        if options.overlays or self.progress.shows_overlays:
            shown = picture.picture(self.image, classes if objects is None else None)
        return PageResult(shown, objects, self.notes, self.diameter)

    def _classes(self, files: ExitStack, p: Writer | None) -> Overview:
        """Write the mask tile by tile, and the probabilities if p is given."""
        mask, picture = self._mask(files), self._overview(np.uint8)
        for rows, columns, block in self._tiles():
            labels = classify(semantic(self.model, block), self.options.mask_threshold)
            picture.put(rows, columns, labels)
            mask(rows, columns, labels)
            if p is not None:
                p[rows, columns] = block
        return picture

    def _tiles(self) -> Iterator[Any]:
        """The image's tiles: rows, columns, maps."""
        tiles = make_tiles(self.model, self.image, self.options)
        self._note_blending(tiles.note)
        return tiles.blocks(self.progress.counter("tile", len(tiles)))

    def _note_blending(self, why: str) -> None:
        if why:
            blended = "" if target_of(self.model) == "instances" else "are blended, and "
            self.notes.append(f"tiles {blended}differ a little from the whole image: {why}")

    def _note_dropped(self, objects: Objects | Detections) -> None:
        if objects.dropped:
            self.notes.append(
                f"{objects.dropped:,} proposals were not looked at: there were too many; raise --mask-threshold"
            )

    def _mask(self, files: ExitStack) -> Callable[[slice, slice, np.ndarray], None]:
        """A function that writes a part of the mask: its rows, its columns, and its class numbers (h, w)."""
        samples = mask_samples(self.model, self.options)
        mask = files.enter_context(self.outputs.new(self.image, "mask", np.uint8, samples=samples))

        def write(rows: slice, columns: slice, labels: np.ndarray) -> None:
            mask[rows, columns] = mask_pixels(self.model, self.options, labels)

        return write

    def _found(
        self, files: ExitStack, p: Writer | None, rois: zipfile.ZipFile | None, number: int | None
    ) -> tuple[Measurements | None, Overview]:
        """From a network that finds objects one by one: in all tiles together, then write mask and labels block by block."""

        def seen() -> Iterator[Any]:
            for rows, columns, block in self._tiles():
                if p is not None:
                    p[rows, columns] = block[..., :1]
                yield rows, columns, block

        objects, table, count, blocks = found_objects(self.model, seen(), self.options, self.size)
        self._note_dropped(objects)

        def numbered(rows: slice, columns: slice) -> np.ndarray:
            return table[objects.draw(rows, columns)]

        mask, picture = self._mask(files), self._overview(np.uint8)
        for rows, columns in blocks:
            labels = (numbered(rows, columns) > 0).astype(np.uint8)
            picture.put(rows, columns, labels)
            mask(rows, columns, labels)
        if not self.options.needs_instances:
            return None, picture
        return self._write_objects(blocks, numbered, count, rois, number)

    def _objects(
        self, p: Writer, rois: zipfile.ZipFile | None, number: int | None
    ) -> tuple[Measurements, Overview]:  # fmt: skip
        """Separate objects block by block: write labels and outlines, and measure."""
        if self.windowed:
            from ..kernels.cpu.memory import release_memory

            release_memory()  # that of the network's maps
        how, blocks = separation_of(self.model, self.options), self._blocks()
        with self.outputs.new(self.image, "numbers", np.uint32, keep=False) as numbers:
            tables, count = self._label(blocks, p, numbers, how)
            place = {(rows.start, columns.start): index for index, (_, (rows, columns), *_) in blocks.items()}

            def numbered(rows: slice, columns: slice) -> np.ndarray:
                return tables[place[rows.start, columns.start]][numbers[rows, columns][..., 0]]

            return self._write_objects([block.core for block in blocks.values()], numbered, count, rois, number)

    def _write_objects(
        self, blocks: list[Part], numbered: Callable[[slice, slice], np.ndarray], count: int,
        rois: zipfile.ZipFile | None, number: int | None,
    ) -> tuple[Measurements, Overview]:  # fmt: skip
        """Write the objects' numbers, which `numbered` gives for a block's rows and columns, and outlines, and measure."""
        dtype = np.uint16 if count < 1 << 16 else np.uint32
        found, picture = Measurements(count, self.image.shape[2]), self._overview(dtype)
        with self.outputs.new(self.image, "labels", dtype) as labels:
            for rows, columns in blocks:
                core = numbered(rows, columns)
                labels[rows, columns] = core
                picture.put(rows, columns, core)
                found.add(core, self.image[rows, columns], rows.start, columns.start)
            if rois is not None:
                self._outline(rois, labels, found, number)
        return found, picture

    def _blocks(self) -> dict[Index, Block]:
        """The blocks in which objects are separated."""
        return lay_blocks(self.size, *self._side_and_halo())

    def _side_and_halo(self) -> tuple[int, int]:
        """Of the blocks, in pixels."""
        side, options = BLOCK if self.windowed else max(self.size), self.options
        reach = reach_of(self.model, separation_of(self.model, options), options)
        halo = max(HALO, reach) if options.split and self.windowed else 0
        return side, min(halo, side)

    def _label(
        self, blocks: dict[Index, Block], p: Writer, numbers: Writer, how: Separation
    ) -> tuple[dict[Index, np.ndarray], int]:
        """Label every block by itself into `numbers`, and join the blocks; returns what `Stitching.merge` returns."""
        stitching, count = Stitching(), self.progress.counter("block", len(blocks))

        def label(seen: np.ndarray) -> np.ndarray:
            return separate(seen, target_of(self.model), how, self.options.split)

        for index, block in blocks.items():
            numbers[block.core], found = label_block(block, p[block.seen], label)
            stitching.add(index, found)
            count()
        return stitching.merge(how.min_size)

    def _overview(self, dtype: Any) -> Overview:
        return Overview(self.size, dtype, OVERVIEW if self.windowed else None)

    def _outline(self, rois: zipfile.ZipFile, labels: Writer, found: Measurements, number: int | None) -> None:
        """Add the objects' outlines to ImageJ's file."""
        polygons = instance_files.object_polygons(labels, found.boxes, max(1, STRIP // self.size[1]))
        instance_files.add_rois(rois, polygons, number)
        left_out = int(instance_files.too_large(found.boxes).sum())
        if left_out:
            span = f"{instance_files.OUTLINED:,} pixels"
            self.notes.append(f"without the outlines of {left_out} objects that span over {span}")


def mask_samples(model: Module, options: PredictionOptions) -> int:
    """How many numbers a pixel of the mask has: 3 for a colour, else 1."""
    return 3 if class_map(model).num_classes > 2 and options.masks_as != "numbers" else 1


def mask_pixels(model: Module, options: PredictionOptions, labels: np.ndarray) -> np.ndarray:
    """The pixels of the mask, (h, w) or (h, w, 3) uint8, from class numbers (h, w)."""
    return labels if options.masks_as == "numbers" else class_map(model).decode(labels)
