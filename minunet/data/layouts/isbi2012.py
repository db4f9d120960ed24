"""The layout "isbi2012" of the ISBI 2012 challenge: sections of one electron-microscopy volume.

    PATH/train-volume.tif + PATH/train-labels.tif   the challenge's two stacks of 30 pages
    PATH/image/0.png ...  + PATH/label/0.png ...    sections as files; also imgs/ for image/

PATH may also hold them in train/, membrane/train/ or data/membrane/train/. Names are the section numbers. Cells are
white: class 0 is "membrane" (0, black), class 1 is "cell" (255). Instances are the 4-connected regions of cell: that is how
the challenge scored them, and what the paper's weight map is made from. Neighbouring sections are alike, so the data set counts
as ordered and its validation set is a block.

Source: Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142, doi:10.3389/fnana.2015.00142.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import UserError
from ..classes import ClassMap
from ..files.images import read_mask
from ..files.info import count_pages
from .source import Entry, Mask, Source, list_images, natural_key, some

NAME = "isbi2012"
EXPECTS = "train-volume.tif beside train-labels.tif, or image/ beside label/"
PLACES = ("", "train", "membrane/train", "data/membrane/train")


def recognise(path: Path) -> bool:
    """Whether stacks or folders of sections lie in one of the usual places."""
    folders = _section_folders(path)
    return _stacks(path) is not None or (folders is not None and _are_membranes(folders[1]))


def _are_membranes(labels: Path) -> bool:
    """Whether labels look like the challenge's: numbered, 0 and 255, much white; others may share the folders' names."""
    files = list_images(labels)
    if not files or not all(p.stem.isdigit() for p in files):
        return False
    for path in files[:3]:
        try:
            values = read_mask(path)
        except UserError:
            return True  # the reader will say what is wrong
        if values.ndim == 3 or not set(np.unique(values).tolist()) <= {0, 255} or (values > 0).mean() < 0.4:
            return False
    return True


def open_source(path: Path) -> Source:
    """List the sections; a UserError if images and labels do not pair."""
    stacks, folders = _stacks(path), _section_folders(path)
    if stacks:
        entries = _pages(*stacks)
    elif folders:
        entries = _sections(*folders)
    else:
        raise UserError(f"{path}: no ISBI 2012 data here; expected {EXPECTS}")
    note = "masks       taken for membranes (0) and cells (255) of sections in a row; --layout folder takes them as any masks"
    classes = ClassMap.binary("membrane", "cell")
    return Source(NAME, entries, classes, ordered=True, notes=[note] * bool(folders and not stacks))


def _stacks(path: Path) -> tuple[Path, Path] | None:
    """The two stacks, if they are there."""
    for place in PLACES:
        volume, labels = path / place / "train-volume.tif", path / place / "train-labels.tif"
        if volume.is_file() and labels.is_file():
            return volume, labels
    return None


def _section_folders(path: Path) -> tuple[Path, Path] | None:
    """The folders of images and of labels, if they are there."""
    for place in PLACES:
        for images in ("image", "imgs"):
            if (path / place / images).is_dir() and (path / place / "label").is_dir():
                return path / place / images, path / place / "label"
    return None


def _pages(volume: Path, labels: Path) -> list[Entry]:
    pages, label_pages = count_pages(volume), count_pages(labels)
    if pages != label_pages:
        raise UserError(f"{volume} has {pages} pages but {labels} has {label_pages}; they must be of equal length")
    return [Entry(str(page), volume, labels, page, _read_section) for page in range(pages)]


def _sections(images: Path, labels: Path) -> list[Entry]:
    image_of = {p.stem: p for p in list_images(images)}
    label_of = {p.stem: p for p in list_images(labels)}
    if not image_of:
        raise UserError(f"{images}: holds no images (PNG, TIFF)")
    alone = sorted(image_of.keys() ^ label_of.keys(), key=natural_key)
    if alone:
        files = [(image_of.get(name) or label_of[name]) for name in alone]
        raise UserError(f"{images} and {labels} must hold the same names, but these stand alone: {some(files)}")
    return [
        Entry(name, image_of[name], label_of[name], read=_read_section) for name in sorted(image_of, key=natural_key)
    ]


def _read_section(entry: Entry) -> Mask:
    """The mask, and its cells numbered."""
    import scipy

    values = read_mask(entry.mask, entry.page)
    return Mask(values, scipy.ndimage.label(values > values.max() // 2)[0].astype(np.int32))
