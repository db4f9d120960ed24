"""What a task needs to know of an image (`Job`), and what a worker has at hand for it (`Site`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...data.files.large_zarr import LargeZarr
from ...data.preprocess import Stretch
from ...nn import Module
from ..inference import make_tiles
from ..options import PredictionOptions
from ..separation import separation_of
from ..stitching import lay_blocks
from ..writers import ZarrWriter
from .plan import shards
from .store import Records, open_result


@dataclass(frozen=True)
class Job:
    """One image, as all tasks know it: paths and numbers.

    Attributes
    ----------
    image, folder : str
        Absolute paths of the zarr and of the work folder.
    page : int
    options : PredictionOptions
        With the side of a tile.
    stretch : Stretch
        Of the intensity, from the whole image.
    group : int
        Tiles along a side of a shard.
    block, halo : int
        Side of the blocks in which objects are separated, and what a block sees around itself, in pixels.
    every : int
        The overlay shows every k-th row and column.
    planes : int
        Maps that are written as probabilities; 0 for none.
    """

    image: str
    folder: str
    page: int
    options: PredictionOptions
    stretch: Stretch
    group: int
    block: int
    halo: int
    every: int
    planes: int


class Site:
    """A job's files and the network, open in one process."""

    def __init__(self, job: Job, model: Module) -> None:
        self.job, self.model, self.options = job, model, job.options
        self.image = LargeZarr(job.image, job.page, job.options.axes)
        tiles: Any = make_tiles(model, self.image, job.options, job.stretch)
        self.tiles = tiles
        self.shards = shards((len(self.tiles.parts(0)), len(self.tiles.parts(1))), job.group)
        self.blocks = lay_blocks(self.tiles.size, job.block, job.halo)
        self.how = separation_of(model, job.options)
        self.records = Records(job.folder)
        self._results: dict[str, ZarrWriter] = {}

    def result(self, what: str) -> ZarrWriter:
        """A result in the work folder."""
        if what not in self._results:
            self._results[what] = open_result(self.job.folder, what)
        return self._results[what]
