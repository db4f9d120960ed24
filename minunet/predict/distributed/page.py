"""One image, segmented by many workers: `SharedPage` says which tasks there are, and puts together what they return."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ... import __version__
from ...errors import UserError
from ...nn import Module
from ..detections import join_parts as join_detections
from ..inference import make_tiles
from ..instances import output_names
from ..measure import Measurements, PartMeasurements
from ..options import PredictionOptions
from ..overlay import Overview
from ..pipeline import Page, PageResult, mask_samples
from ..progress import Progress
from ..separation import separation_of
from ..stars import Polygons, cell_of, check_split
from ..stars import join_parts as join_polygons
from ..stitching import BlockInstances, lay_blocks, merge, numbering
from ..tiles import default_overlap
from ..writers import FileOutputs, Writer
from .found import in_window_order, save_objects
from .job import Job
from .plan import DRAWN, OBJECTS, block_grid, predicted_memory, shard_part, shards, tile_grid, tiles_in_shard
from .store import Arrays, Place, Records, SharedOutputs, save_arrays, work_folder
from .tasks import STEPS

Tables = dict[Place, np.ndarray]  # by block, the numbers that its background and its objects have in the image


class Crew(Protocol):
    """Who runs tasks: `minunet.predict.distributed.cluster.Cluster`."""

    def run(self, job: Job, name: str, places: list[Place], done: Any) -> dict[Place, Arrays]:
        """Run the tasks of a name at some places; calls `done` after each; returns what they return."""

    def explain(self, page: SharedPage) -> str:
        """How the work will be done, in a sentence; UserError if it cannot."""


class SharedPage(Page):
    """One OME-Zarr, as `Page`; the work is that of a crew."""

    def __init__(
        self, crew: Crew, model: Module, image: Any, outputs: FileOutputs, options: PredictionOptions, progress: Progress
    ) -> None:  # fmt: skip
        super().__init__(model, image, outputs, options, progress)
        self.crew = crew
        tiles: Any = make_tiles(model, image, self.options)
        self.tiles = tiles
        self._note_blending(self.tiles.note)
        one_by_one, asked = model.preprocessing.one_by_one, self.options
        wanted = asked.probabilities or (asked.needs_instances and not one_by_one)
        tile = self.tiles.tile if one_by_one and not model.preprocessing.rays else max(self.tiles.tile)
        side, halo = self._side_and_halo()
        base = outputs.base
        self.job = Job(
            str(Path(image.path).absolute()), str(base.with_name(f".{base.name}.parts").absolute()), image.page,
            self.options, self.tiles.windows.stretch, tiles_in_shard(tile), side, 0 if one_by_one else halo,
            self._overview(np.uint8).every, len(output_names(model)) if wanted else 0,
        )  # fmt: skip
        self.shards = shards((len(self.tiles.parts(0)), len(self.tiles.parts(1))), self.job.group)
        self.blocks = lay_blocks(self.size, side, self.job.halo)
        detector = one_by_one and not model.preprocessing.rays
        self.shared = SharedOutputs(
            outputs, Path(self.job.folder), block_grid(side) if detector else tile_grid(self.tiles)
        )
        self.outputs = self.shared

    def segment(self, rois: zipfile.ZipFile | None = None, number: int | None = None) -> PageResult:
        """As in `Page`; UserError, too, if a result is there already."""
        results = ["mask"] + ["labels"] * self.options.needs_instances + ["probabilities"] * self.options.probabilities
        for path in map(self.shared.place, results):
            if path.exists():
                raise UserError(f"{path} is there already: delete it, or choose another --output")
        self.progress.plan(self.crew.explain(self))
        with work_folder(Path(self.job.folder), self._identity()):
            result = super().segment(rois, number)
            self.shared.finish()
        return result

    def memory(self) -> int:
        """Bytes that a worker needs beside those that it has: predicted for the tasks that need most."""
        model, one_by_one = self.model, self.model.preprocessing.one_by_one
        rows, columns = (max(s.stop - s.start for s in self.tiles.parts(axis)) for axis in (0, 1))
        overlap = self.options.overlap
        around = 2 * (self.tiles.half + default_overlap(model) if overlap is None else overlap)
        shard = min(self.size[0], self.shared.grid.shard[0]), min(self.size[1], self.shared.grid.shard[1])
        seen = max((r.stop - r.start) * (c.stop - c.start) for _, _, (r, c), *_ in self.blocks.values())
        seen *= self.options.needs_instances or one_by_one
        separating = DRAWN if one_by_one else OBJECTS
        return predicted_memory(model, (rows + around, columns + around), shard, self.job.planes, seen, separating)

    def _identity(self) -> str:
        """What an earlier run must have in common with this one for its parts to be used."""
        array = Path(self.job.image) / self.image.array.path
        files = [array / name for name in ("zarr.json", ".zarray") if (array / name).exists()]
        changed = [(str(path), path.stat().st_mtime_ns) for path in files]
        return json.dumps([__version__, repr(self.job), digest(self.model), changed], indent=1)

    def _run(self, name: str, places: Iterable[Place]) -> dict[Place, Arrays]:
        """Run those tasks that no earlier run has done; what all return, by place, in their order."""
        places, records = list(places), Records(self.job.folder)
        count = self.progress.counter(STEPS[name], len(places))
        found = {place: held for place in places if (held := records.get(name, place)) is not None}
        for _ in found:
            count()
        found |= self.crew.run(self.job, name, [place for place in places if place not in found], count)
        return {place: found[place] for place in places}

    def _classes(self, files: ExitStack, p: Writer | None) -> Overview:
        files.enter_context(
            self.shared.new(self.image, "mask", np.uint8, samples=mask_samples(self.model, self.options))
        )
        picture = self._overview(np.uint8)
        for place, found in self._run("segment", self.shards).items():
            picture.enter(*shard_part(self.tiles, *self.shards[place]), found["overview"])
        return picture

    def _found(
        self, files: ExitStack, p: Writer | None, rois: zipfile.ZipFile | None, number: int | None
    ) -> tuple[Measurements | None, Overview]:
        check_split(self.options.split)
        how, known = separation_of(self.model, self.options), self.model.preprocessing
        proposed = self._run("propose", self.shards)
        objects: Any
        if known.rays:
            cell = cell_of(known.rays, self.options.scale or known.scale)
            objects = join_polygons([Polygons(**arrays) for arrays in proposed.values()], how, cell)
        else:
            objects = join_detections(in_window_order(proposed), how)
        del proposed
        self._note_dropped(objects)
        save_objects(Path(self.job.folder) / "objects", objects)
        with self.shared.new(self.image, "numbers", np.uint32, keep=False, grid=block_grid(self.job.block)):
            drawn = self._run("draw", self.blocks)
        counted = ((found["numbers"], found["first"], found["area"]) for found in drawn.values())
        table, count = numbering(len(objects.boxes), counted, how.min_size)
        tables = {place: np.append(np.zeros(1, np.uint32), table[found["numbers"]]) for place, found in drawn.items()}
        samples, grid = mask_samples(self.model, self.options), block_grid(self.job.block)
        files.enter_context(self.shared.new(self.image, "mask", np.uint8, samples=samples, grid=grid))
        return self._numbered(tables, count, rois, number)

    def _objects(
        self, p: Writer, rois: zipfile.ZipFile | None, number: int | None
    ) -> tuple[Measurements, Overview]:  # fmt: skip
        how = separation_of(self.model, self.options)
        with self.shared.new(self.image, "numbers", np.uint32, keep=False, grid=block_grid(self.job.block)):
            labelled = self._run("label", self.blocks)
        found = {place: BlockInstances(held["first"], held["area"], {}) for place, held in labelled.items()}
        pairs = {}
        for place, held in self._run("pair", self.blocks).items():
            for other, same in held.items():
                row, column = map(int, other.split("-"))
                pairs[place, (row, column)] = same
        objects, picture = self._numbered(*merge(found, pairs, how.min_size), rois, number)
        assert objects is not None
        return objects, picture

    def _numbered(
        self, tables: Tables, count: int, rois: zipfile.ZipFile | None, number: int | None
    ) -> tuple[Measurements | None, Overview]:
        """Have the blocks' numbers become those of the image, by the tables; measure, if objects are asked for."""
        save_arrays(Path(self.job.folder) / "tables.npz", {f"{i}-{j}": table for (i, j), table in tables.items()})
        if not self.options.needs_instances:
            return None, self._overview_of(self._run("number", self.blocks), np.uint8)
        dtype = np.uint16 if count < 1 << 16 else np.uint32
        measured = Measurements(count, self.image.shape[2])
        with self.shared.new(self.image, "labels", dtype, grid=block_grid(self.job.block)) as labels:
            found = self._run("number", self.blocks)
            for part in found.values():
                measured.enter(PartMeasurements(*(part[name] for name in PartMeasurements._fields)))
            if rois is not None:
                self._outline(rois, labels, measured, number)
        return measured, self._overview_of(found, dtype)

    def _overview_of(self, found: dict[Place, Arrays], dtype: Any) -> Overview:
        picture = self._overview(dtype)
        for place, part in found.items():
            picture.enter(*self.blocks[place].core, part["overview"])
        return picture


def digest(model: Module) -> str:
    """A number that tells one network's weights from another's."""
    held = hashlib.sha256()
    for name, array in sorted(model.state().items()):
        held.update(name.encode())
        held.update(np.ascontiguousarray(array).tobytes())
    return held.hexdigest()[:16]
