"""The layout "coco": images with one JSON file of annotations for all, as COCO, CVAT, Label Studio and Roboflow write it.

    PATH/annotations/instances_train.json, instances_val.json + PATH/train/X.jpg ...    names that hold train and val divide
    PATH/annotations.json + PATH/images/X.png
    PATH/_annotations.coco.json + PATH/X.png

Every category is a class, every annotation an object; what is marked as a crowd does not count. An image without annotations
shows nothing. Source: cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .annotated import classes_named, read_json
from .listing import is_image, key, stem, walk
from .parts import part_of
from .shapes import Canvas, polygon, run_lengths
from .source import Entry, Mask, Source, natural_key, some

NAME = "coco"
EXPECTS = "images beside one JSON file of COCO annotations"
HEAD = 4096  # bytes that are looked at to tell such a file


def recognise(path: Path) -> bool:
    """Whether a JSON file of annotations is there."""
    return bool(annotation_files(path))


def annotation_files(path: Path) -> list[Path]:
    """The JSON files with "images" and "annotations" in a folder, or in its annotations/."""
    places = [
        path,
        *(p for p in path.iterdir() if p.is_dir() and p.name.lower() in ("annotations", "annotation", "labels")),
    ]
    files = sorted(f for place in places for f in place.glob("*.json") if f.is_file() and f.name[0] != ".")
    return [file for file in files if _is_coco(file)]


def _is_coco(path: Path) -> bool:
    try:
        content = (
            read_json(path) if path.stat().st_size < 64 << 20 or b'"images"' in path.open("rb").read(HEAD) else None
        )
    except UserError:
        return False
    return (
        isinstance(content, dict)
        and isinstance(content.get("images"), list)
        and isinstance(content.get("annotations"), list)
    )


def open_source(path: Path) -> Source:
    """List the images of all annotation files; UserError if one is missing, or names of categories differ between the files."""
    files = annotation_files(path)
    if not files:
        raise UserError(f"{path}: no JSON file of COCO annotations here; expected {EXPECTS}")
    parts: dict[str | None, Path] = {}
    for file in files:
        part = _part(file)
        if part in parts:
            raise UserError(
                f"{path}: {parts[part].name} and {file.name} both hold annotations; keep the one to be used"
            )
        parts[part] = file
    left_out = [f"{parts['test'].name}, which is for testing"] if "test" in parts and len(parts) > 1 else []
    if left_out:
        del parts["test"]
    contents = {part: read_json(file) for part, file in parts.items()}
    names = sorted({_text(c, "name") for content in contents.values() for c in _used_categories(content)})
    if not names:
        raise UserError(f"{path}: the annotations name no category that is used")
    on_disk = [p for p in walk(path) if is_image(p)]
    entries: list[Entry] = []
    skipped, held = Counter[str](), []
    for part, content in contents.items():
        made = _entries(content, parts[part], path, on_disk, {n: i for i, n in enumerate(names, 1)}, skipped)
        held += [e.name for e in made] if part == "val" and len(parts) > 1 else []
        entries += made
    twice = [name for name, n in Counter(e.name for e in entries).items() if n > 1]
    if twice:
        raise UserError(
            f"{path}: {len(twice)} images are in several annotation files ({some(twice)}); keep them in one"
        )
    bare = set(on_disk) - {e.image for e in entries}
    if bare:
        left_out.append(f"{len(bare)} images that no annotation file lists ({some(sorted(p.name for p in bare))})")
    notes = [f"annotations {', '.join(f.name for f in parts.values())}: {some(names, 6)}"]
    if skipped:
        notes.append(f"            {some(f'{n} {what}' for what, n in skipped.items())}")
    classes = classes_named(names, path)
    return Source(
        NAME, sorted(entries, key=lambda e: natural_key(e.name)), classes, False, notes, left_out, held or None
    )


def _part(file: Path) -> str | None:
    """Which part the name of an annotation file stands for: "val" for instances_val2017.json."""
    words = file.stem.lower().replace("-", "_").rstrip("0123456789").split("_")
    return next((part for part in map(part_of, words) if part), None)


def _text(item: Any, name: str) -> str:
    found = item.get(name) if isinstance(item, dict) else None
    return found if isinstance(found, str) else ""


def _used_categories(content: dict[str, Any]) -> list[Any]:
    """The categories that annotations have; Roboflow lists others, which group them."""
    used = {a.get("category_id") for a in content["annotations"] if isinstance(a, dict)}
    return [
        c for c in content.get("categories") or [] if isinstance(c, dict) and c.get("id") in used and _text(c, "name")
    ]


def _entries(
    content: dict[str, Any], file: Path, path: Path, on_disk: list[Path], numbers: dict[str, int], skipped: Counter[str]
) -> list[Entry]:  # fmt: skip
    """The images of one annotation file."""
    category = {c.get("id"): numbers[_text(c, "name")] for c in _used_categories(content)}
    of_image: dict[Any, list[tuple[int, Any, bool]]] = {}
    for a in content["annotations"]:
        value = category.get(a.get("category_id")) if isinstance(a, dict) else None
        shape = a.get("segmentation") if isinstance(a, dict) else None
        if value is None or not shape:
            skipped["annotations without an outline are left out"] += 1
            continue
        of_image.setdefault(a.get("image_id"), []).append((value, shape, bool(a.get("iscrowd"))))
    by_place: dict[str, list[Path]] = {}
    for p in on_disk:
        by_place.setdefault(key(p, path).rpartition("/")[2], []).append(p)
    entries, missing = [], []
    for image in content["images"]:
        named = Path(_text(image, "file_name").replace("\\", "/"))
        found = by_place.get(stem(named), [])
        near = [p for p in found if p.parts[-len(named.parts) :] == named.parts] or [
            p for p in found if p.name == named.name
        ]
        near = [p for p in near if file.parent in p.parents] or near
        if len(near) > 1:
            near = [p for p in near if part_of(p.parent.name.rstrip("0123456789")) == _part(file)] or near
        if not near:
            missing.append(named.name or "an image without a name")
            continue
        if len(near) > 1:
            raise UserError(f"{file}: {named} may be {near[0]} or {near[1]}; keep one")
        drawn = of_image.get(image.get("id"), [])
        skipped.update(["images have no annotation, and show nothing"] * (not drawn))
        entries.append(Entry(key(near[0], path), near[0], file, read=partial(_read, drawn=drawn)))
    if missing:
        raise UserError(f"{file}: {len(missing)} of its images are not below {path} ({some(missing)}); put them there")
    return entries


def _read(entry: Entry, drawn: list[tuple[int, Any, bool]]) -> Mask:
    """The annotations of an image as a mask."""
    size, where = (entry.info.height, entry.info.width), f"{entry.mask}: {entry.name}"
    canvas = Canvas(size)
    for value, shape, crowd in drawn:
        if isinstance(shape, list):
            area = np.zeros(size, bool)
            for outline in shape:
                if (
                    not isinstance(outline, list)
                    or len(outline) % 2
                    or not all(isinstance(v, int | float) for v in outline)
                ):
                    raise UserError(f"{where}: an outline that is no list of x and y; export it again")
                area |= polygon(outline, size)
        else:
            area = run_lengths(shape, size, where)
        canvas.ignore(area) if crowd else canvas.add(area, value)
    return Mask(*canvas.finish())
