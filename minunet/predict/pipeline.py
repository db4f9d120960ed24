"""One image from its pixels to its results. The image is an array, or a file that is read by windows.

Both take the same way: a small image is treated as a large one with a single tile and a single block.
"""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from ..data.files.large_tiff import LargeTiff
from ..data.files.large_zarr import LargeZarr
from ..data.objects import Separation
from ..nn import Module
from . import instance_files
from .inference import class_map, classify, make_tiles, semantic
from .instances import output_names, reach_of, separate, separation_of, target_of
from .measure import Measurements
from .options import PredictionOptions
from .overlay import Overview
from .progress import Progress
from .stitching import Block, Index, Stitching, label_block, lay_blocks
from .writers import Outputs, Writer

OVERVIEW = 2048  # most rows and columns of the overlay of an image that is read by windows
BLOCK = 2048  # rows and columns of a block of such an image, in which objects are separated at once
HALO = (
    64  # pixels that are at least seen around a block: objects that reach no farther into the next block come out whole
)
STRIP = 1 << 22  # pixels that are read at once for outlines, about


class PageResult(NamedTuple):
    """The results for one image, except those that its writers hold."""

    overlay: np.ndarray | None
    objects: Measurements | None
    notes: list[str]


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
        self.model, self.image, self.outputs, self.options, self.progress = model, image, outputs, options, progress
        self.size: tuple[int, int] = (image.shape[0], image.shape[1])
        self.windowed = isinstance(image, LargeTiff | LargeZarr)
        self.notes: list[str] = []

    def segment(self, rois: zipfile.ZipFile | None = None, number: int | None = None) -> PageResult:
        """Make all results. Outlines of objects go into `rois`; `number`, from 1, is that of the page in a stack."""
        options, classes, objects = self.options, class_map(self.model), None
        with ExitStack() as files:
            p = None
            if options.probabilities or options.needs_instances:
                planes, keep = len(output_names(self.model)), options.probabilities
                p = files.enter_context(self.outputs.new(self.image, "probabilities", np.float32, planes, keep=keep))
            picture = self._classes(files, p)
            if p is not None and options.needs_instances:
                objects, picture = self._objects(p, rois, number)
        shown = None
        if options.overlays or self.progress.shows_overlays:
            shown = picture.picture(self.image, classes if objects is None else None)
        return PageResult(shown, objects, self.notes)

    def _classes(self, files: ExitStack, p: Writer | None) -> Overview:
        """Write the mask tile by tile, and the probabilities if p is given."""
        tiles, classes = make_tiles(self.model, self.image, self.options), class_map(self.model)
        if tiles.note:
            self.notes.append(f"tiles are blended, and differ a little from the whole image: {tiles.note}")
        numbers = self.options.masks_as == "numbers"
        samples = 3 if classes.num_classes > 2 and not numbers else 1
        mask = files.enter_context(self.outputs.new(self.image, "mask", np.uint8, samples=samples))
        picture = self._overview(np.uint8)
        for rows, columns, block in tiles.blocks(self.progress.counter("tile", len(tiles))):
            labels = classify(semantic(self.model, block), self.options.mask_threshold)
            picture.put(rows, columns, labels)
            mask[rows, columns] = labels if numbers else classes.decode(labels)
            if p is not None:
                p[rows, columns] = block
        return picture

    def _objects(
        self, p: Writer, rois: zipfile.ZipFile | None, number: int | None
    ) -> tuple[Measurements, Overview]:  # fmt: skip
        """Separate objects block by block: write labels and outlines, and measure."""
        if self.windowed:
            from ..kernels.cpu.memory import release_memory

            release_memory()  # that of the network's maps
        options, how = self.options, separation_of(self.model, self.options)
        side = BLOCK if self.windowed else max(self.size)
        halo = max(HALO, reach_of(self.model, how, options)) if options.split and self.windowed else 0
        blocks = lay_blocks(self.size, side, min(halo, side))
        with self.outputs.new(self.image, "numbers", np.uint32, keep=False) as numbers:
            tables, count = self._label(blocks, p, numbers, how)
            dtype = np.uint16 if count < 1 << 16 else np.uint32
            with self.outputs.new(self.image, "labels", dtype) as labels:
                found = Measurements(count, self.image.shape[2])
                picture = self._overview(dtype)
                for block in blocks.values():
                    core = tables[block.place][numbers[block.core][..., 0]]
                    labels[block.core] = core
                    picture.put(*block.core, core)
                    found.add(core, self.image[block.core], block.core[0].start, block.core[1].start)
                if rois is not None:
                    self._outline(rois, labels, found, number)
        return found, picture

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
