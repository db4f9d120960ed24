"""Objects of a whole image that were found one by one: in files, of which a worker reads those near its block.

What a task finds goes through the record of the task; what the whole image has is one file for each array.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ...atomic import write_atomically
from ..detections import Detections
from ..stars import Objects, Polygons
from .store import Arrays, Place

Window = tuple[int, int]  # row and column of a window among the windows


def pack_detections(found: dict[Window, Detections]) -> Arrays:
    """The detections of several windows as arrays."""
    arrays = join(list(found.values()))
    windows = np.array(list(found), np.int64).reshape(-1, 2)
    counts, dropped = [len(d.scores) for d in found.values()], [d.dropped for d in found.values()]
    return arrays | {"windows": windows, "counts": np.array(counts, np.int64), "dropped": np.array(dropped, np.int64)}


def join(found: list[Detections]) -> Arrays:
    """The arrays of detections, one behind the other; masks as bits, and where each begins."""
    masks = [np.packbits(mask) for d in found for mask in d.masks]
    return {
        "scores": np.concatenate([d.scores for d in found]),
        "edges": np.concatenate([d.edges for d in found]),
        "boxes": np.concatenate([d.boxes for d in found]),
        "bits": np.concatenate([np.zeros(0, np.uint8), *masks]),
        "starts": np.cumsum([0, *map(len, masks)]),
    }


def masks_of(arrays: Arrays, chosen: np.ndarray) -> list[np.ndarray]:
    """The masks (h, w) bool of some of the detections in `join`'s arrays."""
    masks = []
    for n in chosen:
        h, w = (arrays["boxes"][n, 2:] - arrays["boxes"][n, :2]).tolist()
        bits = np.asarray(arrays["bits"][arrays["starts"][n] : arrays["starts"][n + 1]])
        masks.append(np.unpackbits(bits, count=h * w).reshape(h, w).astype(bool))
    return masks


def unpack_detections(arrays: Arrays) -> dict[Window, Detections]:
    """What `pack_detections` was given."""
    found, stops = {}, np.cumsum(arrays["counts"]).tolist()
    for window, start, stop, dropped in zip(arrays["windows"].tolist(), [0, *stops], stops, arrays["dropped"].tolist()):
        scores, edges, boxes = (arrays[name][start:stop] for name in ("scores", "edges", "boxes"))
        masks = masks_of(arrays, np.arange(start, stop))
        found[window[0], window[1]] = Detections(scores, edges, boxes, masks, dropped)
    return found


def in_window_order(records: dict[Place, Arrays]) -> list[Detections]:
    """The detections of all windows, from what tasks have returned, row by row."""
    found = {window: d for arrays in records.values() for window, d in unpack_detections(arrays).items()}
    return [found[window] for window in sorted(found)]


def save_objects(folder: Path, objects: Objects | Detections) -> None:
    """Write the objects of an image, for `objects_near`."""
    arrays = join([objects]) if isinstance(objects, Detections) else {
        **objects.polygons._asdict(), "starts": objects.starts, "members": objects.members, "boxes": objects.boxes,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        write_atomically(folder / f"{name}.npy", buffer.getvalue())


def objects_near(folder: Path, rows: slice, columns: slice) -> tuple[Objects | Detections, np.ndarray]:
    """Those objects that may have pixels in a part of the image, in their order, and their numbers in the image, from 1."""
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    top, left, bottom, right = np.asarray(arrays["boxes"]).T
    near = np.flatnonzero((top < rows.stop) & (bottom > rows.start) & (left < columns.stop) & (right > columns.start))
    boxes = np.array(arrays["boxes"][near])
    if "bits" in arrays:
        scores, edges = np.array(arrays["scores"][near]), np.array(arrays["edges"][near])
        return Detections(scores, edges, boxes, masks_of(arrays, near)), near + 1
    members = [arrays["members"][arrays["starts"][n] : arrays["starts"][n + 1]] for n in near]
    joined = np.concatenate([np.zeros(0, np.int64), *members])
    polygons = Polygons(*(np.array(arrays[name][joined]) for name in Polygons._fields))
    starts = np.cumsum([0, *map(len, members)])
    return Objects(polygons, starts, np.arange(len(joined)), boxes), near + 1
