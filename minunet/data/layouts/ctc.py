"""The layout "ctc" of the Cell Tracking Challenge: sequences of frames, some of them with annotated cells.

    PATH/01/t000.tif                  frames, three digits or more
    PATH/01_GT/SEG/man_seg000.tif     gold truth: outlined by people; some frames, and often only some cells of a frame
    PATH/01_ST/SEG/man_seg000.tif     silver truth: computed from the results of several programs; nearly all cells
    PATH/01_GT/TRA/man_track000.tif   markers made for tracking: where all cells are, but not their outlines
    PATH/02/...                       more sequences, of the same form

Truth files hold instance numbers from 1, with gaps. A frame is called "01/t000". Frames without truth are left out.
Neighbouring frames are alike, so the data set counts as ordered and its validation set is a block of frames at the end;
naming a sequence, "02", among the images for validation holds out all of it.

Which truth (`truth`, --truth-kind):

    auto      gold where it is complete; else silver; else gold
    gold      gold frames only, whole or partial
    silver    silver frames only
    complete  gold frames only, and every cell in them is taken to be outlined

Which pixels count. A truth *lacks* a cell if another source shows it and at most half of it is labelled in this truth. A truth
is complete if it lacks no cell; if there is no other source to compare gold with, gold does not count as complete. Of the
unlabelled pixels, the following count neither in the loss nor in scores:

1. those where silver (or gold, if silver was chosen) outlines a lacking cell;
2. if only a marker shows a lacking cell, whose outline is then unknown: those nearer to this marker than to any other;
3. in gold frames with neither silver nor markers: all of them, so that only the labelled cells count. If that leaves no
   background in any frame, the data set is refused, since a network would learn to see cells everywhere.

Sources: the challenge's page on annotations, celltrackingchallenge.net/annotations: tracking truth has "complete cell
instance coverage", gold segmentation truth "very limited cell instance coverage", silver "good" coverage; that a match takes
more than half of a cell is the rule of its SEG score. Maska et al. 2023, Nature Methods 20:1010-1020,
doi:10.1038/s41592-023-01879-y.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..classes import ClassMap
from ..files.images import read_mask
from .source import Entry, Mask, Source, check_same_size, list_images, some

NAME = "ctc"
EXPECTS = "01/t000.tif beside 01_GT/SEG/man_seg000.tif or 01_ST/SEG/man_seg000.tif"
TRUTHS = ("auto", "gold", "silver", "complete")


@dataclass(frozen=True)
class Frame:
    """The files of one frame: its image, and those that show its cells; None for what it has not."""

    name: str
    image: Path
    gold: Path | None
    silver: Path | None
    markers: Path | None


def recognise(path: Path) -> bool:
    """Whether a folder holds a sequence beside its gold or silver truth."""
    return any(_truth_folders(s) for s in _sequences(path))


def open_source(path: Path, truth: str = "auto") -> Source:
    """List the frames that have the truth asked for.

    Raises
    ------
    UserError
        If there are none, if a truth has no frame, or if nothing says where background is.
    """
    frames = [frame for sequence in _sequences(path) for frame in _frames(sequence)]
    chosen = [(frame, source) for frame in frames if (source := _choose(frame, truth))]
    if not chosen:
        wanted = "truth" if truth == "auto" else f"{'gold' if truth == 'complete' else truth} truth"
        raise UserError(f"{path}: no frame has {wanted}; expected {EXPECTS}")
    if truth != "complete" and not any(f.silver or f.markers for f, _ in chosen):
        raise UserError(
            f"{path}: gold truth may outline only some of a frame's cells, and neither silver truth (01_ST/SEG) nor tracking "
            f"markers (01_GT/TRA) say in which frames it does; add one of them, or give --truth-kind complete if all cells "
            f"are outlined (evaluate --partial scores those that are)"
        )
    entries = [
        Entry(
            frame.name,
            frame.image,
            getattr(frame, source),
            read=partial(_read_frame, frame=frame, complete=truth == "complete"),
        )
        for frame, source in chosen
    ]
    counts = Counter(source for _, source in chosen)
    said = [f"{counts[source]} frames by {source} truth" for source in ("gold", "silver") if counts[source]]
    left = len(frames) - len(chosen)
    note = " and ".join(said) + (f", {left} without are left out" if left else "")
    classes = ClassMap.binary("background", "cell", rule="instances")
    return Source(NAME, entries, classes, ordered=True, notes=[f"truth       {note}"])


def list_frames(path: Path) -> dict[str, Path]:
    """All frames of a data set, with truth or without, by name."""
    return {frame.name: frame.image for sequence in _sequences(path) for frame in _frames(sequence)}


def notes_on(path: Path) -> list[str]:
    """What is known of truth that is given as files, not as a data set: whether frames of 01_GT/SEG lack cells."""
    folder = (path.parent if path.is_file() else path).absolute()
    sequence = folder.parent.with_name(folder.parent.name.removesuffix("_GT"))
    if not re.fullmatch(r"\d\d_GT", folder.parent.name) or folder.name != "SEG" or not sequence.is_dir():
        return []
    files = {path} if path.is_file() else set(list_images(folder))
    frames = [frame for frame in _frames(sequence) if frame.gold in files]
    lacking = [f.name for f in frames if (f.silver or f.markers) and _counting(f, _read_cells(f.gold, f)) is not None]
    if not lacking:
        return []
    return [
        f"gold truth given as files: in {len(lacking)} of {len(frames)} frames ({some(lacking)}) it outlines only some of the "
        f"cells, and the others count as background; give the data set {sequence.parent} as --truth, or --partial"
    ]


# ---- files -----------------------------------------------------------------------------------------------------------


def _sequences(path: Path) -> list[Path]:
    """The folders 01, 02, ... of a data set."""
    return sorted(f for f in path.iterdir() if re.fullmatch(r"\d\d", f.name) and f.is_dir())


def _truth_folders(sequence: Path) -> dict[str, Path]:
    """The folders of a sequence's gold and silver truth, of those that exist."""
    folders = {"gold": sequence.with_name(f"{sequence.name}_GT"), "silver": sequence.with_name(f"{sequence.name}_ST")}
    return {name: f / "SEG" for name, f in folders.items() if (f / "SEG").is_dir()}


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    """The image files of a folder that are called prefix and a number, by that number."""
    found: dict[int, Path] = {}
    for path in list_images(folder) if folder.is_dir() else []:
        match = re.fullmatch(prefix + r"(\d{3,})", path.stem)
        if match and int(match[1]) in found:
            raise UserError(f"{found[int(match[1])]} and {path} are the same frame; remove one")
        if match:
            found[int(match[1])] = path
    return found


def _frames(sequence: Path) -> list[Frame]:
    """The frames of a sequence in order; UserError if a truth has no frame."""
    images = _numbered(sequence, "t")
    truths = {name: _numbered(folder, "man_seg") for name, folder in _truth_folders(sequence).items()}
    strangers = [path for files in truths.values() for number, path in files.items() if number not in images]
    if strangers:
        raise UserError(f"{some(strangers)}: no frame t{'NNN'}.tif of that number in {sequence}; put it there")
    gold, silver = truths.get("gold", {}), truths.get("silver", {})
    markers = _numbered(sequence.with_name(f"{sequence.name}_GT") / "TRA", "man_track")
    return [
        Frame(f"{sequence.name}/{path.stem}", path, gold.get(n), silver.get(n), markers.get(n))
        for n, path in sorted(images.items())
    ]


def _choose(frame: Frame, truth: str) -> str | None:
    """Which truth of a frame to use, "gold" or "silver"; None if it lacks the wanted one."""
    if truth == "silver" or (truth == "auto" and not frame.gold):
        return "silver" if frame.silver else None
    if truth == "auto" and frame.silver:
        return "gold" if _counting(frame, _read_cells(frame.gold, frame)) is None else "silver"
    return "gold" if frame.gold else None


# ---- pixels ----------------------------------------------------------------------------------------------------------


def _read_cells(path: Path | None, frame: Frame) -> np.ndarray:
    """Object numbers (H, W) of a truth or marker file."""
    assert path is not None
    cells = read_mask(path)
    if cells.ndim == 3:
        raise UserError(f"{path}: a colour image where numbers of cells were expected")
    check_same_size(cells, path, Entry(frame.name, frame.image, path))
    return cells.astype(np.int32)


def _read_frame(entry: Entry, frame: Frame, complete: bool) -> Mask:
    """A frame's cells and where they count."""
    cells = _read_cells(entry.mask, frame)
    return Mask(cells, cells, None if complete else _counting(frame, cells, entry.mask))


def _counting(frame: Frame, cells: np.ndarray, path: Path | None = None) -> np.ndarray | None:
    """Where labels count, (H, W) bool, by the rules at the head of this file; None if everywhere.

    `cells` (H, W) are those of the file `path`, or else of gold truth.
    """
    import scipy

    path = path or frame.gold
    other = frame.silver if path == frame.gold else frame.gold
    labelled = cells > 0
    shown, unknown = labelled.copy(), np.zeros_like(labelled)
    if other:
        shown |= _lacking(_read_cells(other, frame), labelled)
    if frame.markers:
        markers = _read_cells(frame.markers, frame)
        bare = _lacking(markers, shown)
        if bare.any():
            rows, columns = scipy.ndimage.distance_transform_edt(
                markers == 0, return_distances=False, return_indices=True
            )
            unknown = bare[rows, columns]
    elif path == frame.gold and not other:
        unknown[:] = True
    counting = labelled | ~(shown | unknown)
    return None if counting.all() else counting


def _lacking(objects: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """The pixels (H, W) of those objects of which at most half is labelled."""
    _, number = np.unique(objects, return_inverse=True)  # numbers may be large and have gaps
    number = number.reshape(objects.shape)
    inside, area = np.bincount(number[labelled], minlength=number.max() + 1), np.bincount(number.ravel())
    return (objects > 0) & (2 * inside <= area)[number]
