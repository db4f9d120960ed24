"""Masks that are no images: LabelMe's JSON, ImageJ's ROIs, and Cellpose's _seg.npy.

X.json               LabelMe: polygons, rectangles, circles and masks with labels; each label is a class, each shape an object;
                     shapes of the same label and group_id are one object; "__ignore__" does not count
X.zip, X.roi         ImageJ's ROI Manager (also X_rois.zip, RoiSet_X.zip): each area is an object
X_seg.npy            Cellpose: its "masks" number objects

Outlines without an area (points, lines) are left out and counted.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import zipfile
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..classes import ClassMap
from .seg_npy import read_seg
from .shapes import Canvas, ellipse, polygon, rectangle
from .source import Entry, Mask, some

DRAWN = "X.json of LabelMe, X.zip of ImageJ, X_seg.npy of Cellpose"
AREAS = ("polygon", "rectangle", "circle", "mask")  # LabelMe's shapes that have one
IGNORED, BACKGROUND = ("__ignore__",), ("_background_", "background")
MOST = 1 << 28  # bytes of a file, and of what a zip holds


def is_drawn(path: Path) -> bool:
    """Whether a file may be a mask of one of these kinds, by its name."""
    return path.suffix.lower() in (".json", ".zip", ".roi") or path.name.lower().endswith("_seg.npy")


def drawn_masks(entries: list[Entry]) -> tuple[list[Entry], ClassMap | None, list[str]]:
    """The entries, with readers for masks of these kinds; their classes, if they tell; and notes.

    Raises
    ------
    UserError
        If some masks are drawn and others are images, or an annotation cannot be read.
    """
    kinds = Counter(_kind(entry.mask) for entry in entries)
    if set(kinds) <= {"image"}:
        return entries, None, []
    if len(kinds) > 1:
        told = ", ".join(f"{n} of kind {kind}" for kind, n in kinds.items())
        raise UserError(f"{entries[0].mask.parent}: masks of several kinds ({told}); keep one kind")
    kind = next(iter(kinds))
    objects = ClassMap.binary("background", "object", rule="instances")
    if kind == "Cellpose":
        return (
            [replace(e, read=_read_seg) for e in entries],
            objects,
            ["masks       Cellpose's _seg.npy, which number objects"],
        )
    if kind == "ROIs":
        skipped = Counter[str]()
        for entry in entries:
            skipped.update(_rois(entry.mask)[1])
        notes = ["masks       ImageJ's ROIs, each an object", *_told(skipped)]
        return [replace(e, read=_read_rois) for e in entries], objects, notes
    return _labelme(entries)


def _kind(path: Path) -> str:
    return {".json": "LabelMe", ".zip": "ROIs", ".roi": "ROIs"}.get(
        path.suffix.lower(), "Cellpose" if is_drawn(path) else "image"
    )


def _told(skipped: Counter[str]) -> list[str]:
    """A note on shapes without an area."""
    n = skipped.total()
    return [f"left out    {n} outlines without an area ({some(f'{m} {k}' for k, m in skipped.items())})"] * bool(n)


# ---- Cellpose --------------------------------------------------------------------------------------------------------


def _read_seg(entry: Entry) -> Mask:
    numbers = read_seg(entry.mask)
    if numbers.ndim == 3:
        if entry.page is None or entry.page >= len(numbers):
            raise UserError(
                f"{entry.mask}: holds masks of {len(numbers)} slices, its image {entry.image} another number"
            )
        numbers = numbers[entry.page]
    numbers = numbers.astype(np.int32)
    return Mask(numbers, numbers)


# ---- ImageJ ----------------------------------------------------------------------------------------------------------


def _rois(path: Path) -> tuple[list[Any], Counter[str]]:
    """The areas of a file, and how many ROIs of what kind have none."""
    from roifile import ImagejRoi, roiread

    logging.getLogger("roifile").setLevel(logging.CRITICAL)
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
                if size > MOST:
                    raise UserError(f"{path}: would unpack to {size:,} bytes, too many for outlines")
        found = roiread(path)
    except UserError:
        raise
    except Exception as e:  # on mangled bytes nearly anything
        raise UserError(f"{path}: no ROIs of ImageJ, or damaged ({' '.join(str(e).split())[:80]})") from None
    rois: list[ImagejRoi] = found if isinstance(found, list) else [found]
    areas = [roi for roi in rois if roi.roitype.name in ("POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED")]
    return areas, Counter(roi.roitype.name.lower() for roi in rois if roi not in areas)


def _read_rois(entry: Entry) -> Mask:
    """A mask of the areas on an image, or on a page of a stack."""
    size = (entry.info.height, entry.info.width)
    canvas = Canvas(size)
    for roi in _rois(entry.mask)[0]:
        at = max(int(roi.position or 0), int(roi.z_position or 0), int(roi.t_position or 0))
        if entry.page is None or at in (0, entry.page + 1):
            canvas.add(_area(roi, size), 1)
    values, numbers, _ = canvas.finish()
    return Mask(numbers, numbers)


def _area(roi: Any, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a ROI; the parts of a composite one are combined by exclusive or, so that holes stay holes."""
    if roi.roitype.name == "OVAL":
        return ellipse(roi.left, roi.top, roi.right - roi.left, roi.bottom - roi.top, size)
    if roi.roitype.name == "RECT" and not roi.composite:
        return rectangle([(roi.left, roi.top), (roi.right, roi.bottom)], size)
    parts = roi.coordinates(multi=True)
    area = np.zeros(size, bool)
    for part in parts if isinstance(parts, list) else [parts]:
        area ^= polygon(part, size)
    return area


# ---- LabelMe ---------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The content of a JSON file; UserError if it is none."""
    try:
        if path.stat().st_size > MOST:
            raise UserError(f"{path}: has {path.stat().st_size:,} bytes, too many for annotations")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({' '.join(str(e).split())[:80]})") from None


def _shapes(path: Path) -> list[dict[str, Any]]:
    content = read_json(path)
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(s, dict) and isinstance(s.get("label"), str) for s in shapes):
        raise UserError(
            f"{path}: is no annotation of LabelMe (no shapes with labels); for COCO's, one file is for all images"
        )
    return shapes


def _labelme(entries: list[Entry]) -> tuple[list[Entry], ClassMap, list[str]]:
    labels, skipped = Counter[str](), Counter[str]()
    for entry in entries:
        for shape in _shapes(entry.mask):
            kind = str(shape.get("shape_type") or "polygon")
            (labels if kind in AREAS else skipped)[shape["label"] if kind in AREAS else kind] += 1
    names = sorted(label for label in labels if label not in (*IGNORED, *BACKGROUND))
    if not names:
        raise UserError(f"{entries[0].mask.parent}: the annotations of LabelMe hold no area with a label")
    classes = classes_named(names, entries[0].mask.parent)
    numbers = {name: i for i, name in enumerate(names, start=1)} | dict.fromkeys(BACKGROUND, 0)
    notes = [
        f"masks       LabelMe's shapes, each an object: {some(f'{labels[n]} of {n}' for n in names)}",
        *_told(skipped),
    ]
    return [replace(e, read=partial(_read_labelme, numbers=numbers)) for e in entries], classes, notes


def classes_named(names: list[str], where: object) -> ClassMap:
    """The classes of drawn objects, numbered from 1 in this order; objects are told apart if there is only one."""
    if len(names) == 1:
        return ClassMap.binary("background", names[0], rule="instances")
    try:
        return ClassMap(list(range(len(names) + 1)), ["background", *names])
    except ValueError as e:
        raise UserError(f"{where}: {len(names)} labels ({some(names)}) are too many classes ({e})") from None


def _read_labelme(entry: Entry, numbers: dict[str, int]) -> Mask:
    canvas, groups = Canvas((entry.info.height, entry.info.width)), dict[tuple[str, Any], np.ndarray]()
    for i, shape in enumerate(_shapes(entry.mask)):
        if str(shape.get("shape_type") or "polygon") not in AREAS:
            continue
        group = shape.get("group_id")
        name = shape["label"], f"shape {i}" if group is None else f"group {group}"
        area = _drawn(shape, canvas.size, entry.mask)
        groups[name] = groups[name] | area if name in groups else area
    for (label, _), area in groups.items():
        if label in IGNORED:
            canvas.ignore(area)
        elif numbers.get(label):
            canvas.add(area, numbers[label])
    values, objects, valid = canvas.finish()
    return Mask(values, objects, valid)


def _drawn(shape: dict[str, Any], size: tuple[int, int], path: Path) -> np.ndarray:
    """The pixels of one of LabelMe's shapes."""
    kind = str(shape.get("shape_type") or "polygon")
    try:
        points = np.asarray(shape["points"], float).reshape(-1, 2)
        if kind == "rectangle":
            return rectangle(points.tolist(), size)
        if kind == "circle":
            (x, y), edge = points[0], points[1]
            r = float(np.hypot(*(edge - points[0])))
            return ellipse(x - r, y - r, 2 * r, 2 * r, size)
        if kind == "mask":
            return _pasted(shape["mask"], points, size)
        return polygon(points, size)
    except (KeyError, TypeError, ValueError, IndexError, binascii.Error, OSError) as e:
        raise UserError(f"{path}: a shape of kind {kind} is damaged ({' '.join(str(e).split())[:60]})") from None


def _pasted(text: str, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels of a mask that is stored as a PNG in text, with its upper left corner at the first point."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        if picture.width * picture.height > 4 * size[0] * size[1]:
            raise ValueError("larger than the image")
        own = np.asarray(picture) > 0
    area = np.zeros(size, bool)
    left, top = (round(v) for v in points[0].tolist())
    own = own[max(0, -top) :, max(0, -left) :]
    top, left = max(0, top), max(0, left)
    own = own[: max(0, size[0] - top), : max(0, size[1] - left)]
    area[top : top + own.shape[0], left : left + own.shape[1]] = own
    return area
