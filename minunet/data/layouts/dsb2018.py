"""The layout "dsb2018" of the 2018 Data Science Bowl: one folder an image, one mask file a nucleus.

    PATH/stage1_train/<id>/images/<id>.png   8-bit RGBA
    PATH/stage1_train/<id>/masks/<any>.png   0/255, one nucleus each

PATH may also be stage1_train itself. Class 1 is the union of the masks; nuclei are numbered from 1 in the order of the
sorted mask files, and where two overlap (one pixel in the whole set) the later one wins.

Source: Caicedo et al. 2019, Nature Methods 16:1247-1253, doi:10.1038/s41592-019-0612-7.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import UserError
from ..classes import ClassMap
from ..files.images import read_mask
from .source import Entry, Mask, Source, check_same_size, list_images, natural_key, some

NAME = "dsb2018"
EXPECTS = "stage1_train/<id>/images/<id>.png beside stage1_train/<id>/masks/*.png"


def recognise(path: Path) -> bool:
    """Whether a folder is, or holds, a stage1_train."""
    if (path / "stage1_train").is_dir():
        return True
    folders = (f for f in _subfolders(path) if (f / "images").is_dir())
    return any(image.stem == f.name for f in folders for image in list_images(f / "images"))


def open_source(path: Path) -> Source:
    """List the images; a UserError if one has no folder of masks or several images."""
    root = path / "stage1_train" if (path / "stage1_train").is_dir() else path
    entries, bare = [], []
    for folder in _subfolders(root):
        images = list_images(folder / "images") if (folder / "images").is_dir() else []
        if len(images) != 1:
            raise UserError(f"{folder}: holds {len(images)} images in images/, exactly one was expected")
        if not (folder / "masks").is_dir():
            bare.append(folder.name)
        entries.append(Entry(folder.name, images[0], folder / "masks", read=_read_nuclei))
    if bare:
        raise UserError(f"{root}: {len(bare)} images without a folder masks/ ({some(bare)}); stage1_test has none")
    if not entries:
        raise UserError(f"{root}: holds no image folders; expected {EXPECTS}")
    return Source(NAME, entries, ClassMap.binary("background", "nucleus"))


def _subfolders(path: Path) -> list[Path]:
    """Folders in natural order, without hidden ones and the __MACOSX of some archives."""
    return sorted(
        (f for f in path.iterdir() if f.is_dir() and f.name[0] not in "._"), key=lambda f: natural_key(f.name)
    )


def _read_nuclei(entry: Entry) -> Mask:
    """All nuclei of an image in one mask, 0/255, with their numbers."""
    instances = np.zeros((entry.info.height, entry.info.width), np.int32)
    for number, path in enumerate(sorted(list_images(entry.mask)), start=1):
        nucleus = read_mask(path)
        check_same_size(nucleus, path, entry)
        instances[(nucleus if nucleus.ndim == 2 else nucleus.any(-1)) > 0] = number
    return Mask(np.where(instances > 0, np.uint8(255), np.uint8(0)), instances)
