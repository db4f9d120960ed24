"""The tasks of an image: what a worker does for one shard, or for one block.

    segment   the tiles of a shard, into the mask and the probabilities
    propose   the same for networks that find objects one by one: what the tiles of a shard propose. The tile in which an
              object's centre lies proposes it, so no two do
    label     the objects of a block, numbered by themselves; from the probabilities, with a halo
    pair      which objects of a block are those of the blocks to the right and below
    draw      the objects of a block, of those that were found in the whole image
    number    a block's objects with their numbers in the whole image, into the labels; and their measurements

A task returns small arrays by their names. `do` runs one, or finds that it was done before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...nn import Module
from ..detections import in_part
from ..inference import classify, semantic
from ..instances import separate, target_of
from ..measure import measure_part
from ..overlay import sampled
from ..pipeline import mask_pixels
from ..stars import Polygons, best_of_cells, cell_of
from ..stars import propose as propose_polygons
from ..stitching import Face, census, face_pairs, label_block, within
from .found import objects_near, pack_detections
from .job import Job, Site
from .plan import shard_part
from .store import Arrays, Place, load_arrays, save_arrays

STEPS = {"segment": "shard", "propose": "shard", "label": "block", "pair": "seam", "draw": "block", "number": "result"}
"""What progress calls the tasks of each name."""

one_at_a_time = threading.Lock()  # a worker of several threads has the memory, and the cores, for one task
_model: list[Module] = []
_sites: dict[Job, Site] = {}


def use_model(model: Module) -> None:
    """The network that this process's tasks use from now on."""
    _model[:] = [model]
    _sites.clear()


def do(job: Job, name: str, place: Place) -> Arrays:
    """Run a task, unless its record is there already; returns what it has found."""
    with one_at_a_time:
        site = site_of(job)
        found = site.records.get(name, place)
        if found is None:
            found = TASKS[name](site, place)
            site.records.put(name, place, found)
        return found


def site_of(job: Job) -> Site:
    """What this process has at hand for a job; only that of the last one is kept."""
    if job not in _sites:
        if not _model:
            raise UserError("this worker has no network: it joined before the prediction began, and was not told of it")
        _sites.clear()
        _sites[job] = Site(job, _model[0])
    return _sites[job]


# ---- by shards -------------------------------------------------------------------------------------------------------


def segment(site: Site, place: Place) -> Arrays:
    """Write a shard of the mask and, if the job has them, of the probabilities."""
    i, j = site.shards[place]
    rows, columns = shard_part(site.tiles, i, j)
    size = rows.stop - rows.start, columns.stop - columns.start
    labels = np.empty(size, np.uint8)
    p = np.empty((*size, site.job.planes), np.float32) if site.job.planes else None
    for r, c, block in site.tiles.group(i, j):
        at = within((r, c), (rows, columns))
        labels[at] = classify(semantic(site.model, block), site.options.mask_threshold)
        if p is not None:
            p[at] = block
    site.result("mask")[rows, columns] = mask_pixels(site.model, site.options, labels)
    if p is not None:
        site.result("probabilities")[rows, columns] = p
    return {"overview": sampled(rows, columns, labels, site.job.every)}


def propose(site: Site, place: Place) -> Arrays:
    """What the tiles of a shard propose: polygons, or detections; writes the probabilities if the job has them."""
    i, j = site.shards[place]
    rays = site.model.preprocessing.rays
    if not rays:
        windows = [(row, column) for row in range(i.start, i.stop) for column in range(j.start, j.stop)]
        return pack_detections({w: in_part(part, site.how) for w, part in zip(windows, site.tiles.group(i, j))})
    cell, found = cell_of(rays, site.options.scale or site.model.preprocessing.scale), []
    rows, columns = shard_part(site.tiles, i, j)
    p = np.empty((rows.stop - rows.start, columns.stop - columns.start, 1), np.float32) if site.job.planes else None
    for r, c, maps in site.tiles.group(i, j):
        if p is not None:
            p[within((r, c), (rows, columns))] = maps[..., :1]
        found.append(propose_polygons(maps, site.how.threshold, cell, r.start, c.start))
    if p is not None:
        site.result("probabilities")[rows, columns] = p
    return best_of_cells(Polygons(*(np.concatenate(arrays) for arrays in zip(*found))), cell)._asdict()


# ---- by blocks -------------------------------------------------------------------------------------------------------


def label(site: Site, place: Place) -> Arrays:
    """Separate the objects of a block into "numbers"; what it sees at its faces goes into a file for `pair`."""
    from ...kernels.cpu.memory import release_memory

    release_memory()  # that of the network's maps
    block, target = site.blocks[place], target_of(site.model)
    core, found = label_block(
        block, site.result("probabilities")[block.seen], lambda p: separate(p, target, site.how, site.options.split)
    )
    site.result("numbers")[block.core] = core
    faces = {f"{o[0]}-{o[1]}-{name}": a for o, face in found.faces.items() for name, a in face._asdict().items()}
    save_arrays(faces_path(site, place), faces)
    return {"first": found.first, "area": found.area}


def pair(site: Site, place: Place) -> Arrays:
    """Which of a block's objects are those of the blocks below and to the right: see `face_pairs`."""
    others = [other for other in site.blocks[place].edges if other > place]
    own = load_arrays(faces_path(site, place))
    pairs = {}
    for other in others:
        theirs = load_arrays(faces_path(site, other))
        pairs[f"{other[0]}-{other[1]}"] = face_pairs(face_to(own, other), face_to(theirs, place))
    return pairs


def faces_path(site: Site, place: Place) -> Path:
    """The file of a block's faces."""
    return site.records.path("faces", place)


def face_to(faces: Arrays, other: Place) -> Face:
    """A block's face to a neighbour."""
    return Face(*(faces[f"{other[0]}-{other[1]}-{name}"] for name in Face._fields))


def draw(site: Site, place: Place) -> Arrays:
    """Draw a block's objects into "numbers", where they count from 1; returns their numbers in the image, and their census."""
    core = site.blocks[place].core
    objects, numbers = objects_near(Path(site.job.folder) / "objects", *core)
    labels = objects.draw(*core)
    own, first, area = census(labels, core)
    table = np.zeros(len(numbers) + 1, np.uint32)
    table[own] = np.arange(1, len(own) + 1)
    site.result("numbers")[core] = table[labels]
    return {"numbers": numbers[own - 1], "first": first, "area": area}


def number(site: Site, place: Place) -> Arrays:
    """Write a block's labels by its table, and measure; where objects are found one by one, the mask, too."""
    rows, columns = core = site.blocks[place].core
    with np.load(Path(site.job.folder) / "tables.npz") as tables:
        table = tables[f"{place[0]}-{place[1]}"]
    labels = table[site.result("numbers")[core][..., 0]]
    found: Arrays = {}
    if site.model.preprocessing.one_by_one:
        mask = (labels > 0).astype(np.uint8)
        site.result("mask")[core] = mask_pixels(site.model, site.options, mask)
        found = {"overview": sampled(rows, columns, mask, site.job.every)}
    if site.options.needs_instances:
        site.result("labels")[core] = labels
        found = measure_part(labels, site.image[core], rows.start, columns.start)._asdict()
        found["overview"] = sampled(rows, columns, labels, site.job.every)
    return found


TASKS: dict[str, Callable[[Site, Place], Arrays]] = {
    "segment": segment, "propose": propose, "label": label, "pair": pair, "draw": draw, "number": number,
}  # fmt: skip
