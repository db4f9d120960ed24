"""The layout "nnunet" of nnU-Net's raw data sets.

    PATH/imagesTr/CASE_0000.png + PATH/labelsTr/CASE.png     CASE_0001 and so on are further channels
    PATH/dataset.json                                        names of the classes, and which label does not count

imagesTs/ is for testing and left out. Of nnU-Net's formats PNG and TIFF are read, NIfTI and others are not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..classes import ClassMap
from ..files.images import read_mask
from .annotated import read_json
from .listing import is_image, stem, told_left_out, walk
from .source import Entry, Mask, Source, natural_key, some

NAME = "nnunet"
EXPECTS = "imagesTr/CASE_0000.png beside labelsTr/CASE.png"
CHANNEL = re.compile(r"(.+)_(\d{4})")


def recognise(path: Path) -> bool:
    """Whether imagesTr/ and labelsTr/ are there."""
    return (path / "imagesTr").is_dir() and (path / "labelsTr").is_dir()


def open_source(path: Path) -> Source:
    """Pair cases with labels, and join their channels; UserError if a case lacks a channel or its label."""
    if not recognise(path):
        raise UserError(f"{path}: no data set of nnU-Net here; expected {EXPECTS}")
    files, labels = walk(path / "imagesTr"), walk(path / "labelsTr")
    channels: dict[str, dict[int, Path]] = {}
    odd = [p for p in files if not is_image(p)]
    for file in filter(is_image, files):
        match = CHANNEL.fullmatch(stem(file))
        if not match:
            raise UserError(f"{file}: nnU-Net's images end in the number of their channel, such as {stem(file)}_0000")
        channels.setdefault(match[1], {})[int(match[2])] = file
    label_of = {stem(p): p for p in filter(is_image, labels)}
    left_out = told_left_out(odd) + [
        f"among the labels {text}" for text in told_left_out(p for p in labels if not is_image(p))
    ]
    if not channels:
        raise UserError(
            f"{path / 'imagesTr'}: holds no images that can be read; left out: {'; '.join(left_out) or 'nothing'}"
        )
    count = max(map(len, channels.values()))
    short = [case for case, found in channels.items() if sorted(found) != list(range(count))]
    if short:
        raise UserError(f"{path / 'imagesTr'}: {len(short)} cases lack channels that others have ({some(short)})")
    alone = sorted(channels.keys() ^ label_of.keys(), key=natural_key)
    if alone:
        raise UserError(
            f"{path}: imagesTr/ and labelsTr/ must hold the same cases, but these stand alone: {some(alone)}"
        )
    if (path / "imagesTs").is_dir():
        left_out.append("imagesTs/, which is for testing")
    classes, ignored, names = described(path / "dataset.json")
    read = None if ignored is None else _Reader(ignored)
    entries = [
        Entry(
            case,
            channels[case][0],
            label_of[case],
            read=read,
            more=tuple(channels[case][c] for c in range(1, count)),
            stacked=True,
        )
        for case in sorted(channels, key=natural_key)
    ]
    notes = [f"classes     by dataset.json: {some(names, 8)}"] * bool(names)
    return Source(NAME, entries, classes, notes=notes, left_out=left_out)


class _Reader:
    """Reads a label image, of which one value does not count."""

    def __init__(self, ignored: int) -> None:
        self.ignored = ignored

    def __call__(self, entry: Entry) -> Mask:
        values = read_mask(entry.mask, entry.page, entry.axes)
        valid = values != self.ignored
        return Mask(np.where(valid, values, 0).astype(values.dtype), None, None if valid.all() else valid)


def described(path: Path) -> tuple[ClassMap | None, int | None, list[str]]:
    """Classes, the label that does not count, and the classes' names, of a dataset.json; None if it is not there."""
    if not path.is_file():
        return None, None, []
    content = read_json(path)
    labels: Any = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(labels, dict) or not labels:
        return None, None, []
    pairs: dict[int, str] = {}
    for a, b in labels.items():  # {"cell": 1}; in the first version {"1": "cell"}
        name, value = (b, a) if isinstance(b, str) else (a, b)
        if not str(value).isdigit():
            return None, None, []  # regions of several labels: the values in the files decide
        pairs[int(value)] = str(name)
    ignored = next((v for v, name in pairs.items() if name == "ignore"), None)
    known = {v: name for v, name in sorted(pairs.items()) if v != ignored}
    try:
        return ClassMap(list(known), list(known.values())), ignored, [f"{v} {name}" for v, name in known.items()]
    except ValueError:
        return None, ignored, []
