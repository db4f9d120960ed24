"""The layout "folder": images and masks that belong together by name.

    PATH/imgs/X.png + PATH/masks/X.png       also images/, image/ or img/; also labels/, label/, mask/, annotations/ ...
    PATH/imgs/X.png + PATH/masks/X_mask.gif  also X_masks, X_segmentation, X_label and the like
    PATH/imgs/A/X.png + PATH/masks/A/X.png   folders below
    PATH/X.tif      + PATH/X_mask.tif        in one folder, also the other endings; also X_img.tif for X.tif

A mask is an image, or X_seg.npy of Cellpose, X.json of LabelMe, or X.zip of ImageJ's ROI Manager (also X_rois.zip,
RoiSet_X.zip, X.roi). Data sets of StarDist (images/ and masks/ with instance numbers) and of Cellpose have this layout. What is
not used is counted and named: Cellpose's other results (X_flows ...), files that are no images, formats that are not read.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from .annotated import DRAWN, drawn_masks, is_drawn
from .listing import is_image, key, stem, told_left_out, walk
from .source import Entry, Source, list_images, natural_key, some

NAME = "folder"
EXPECTS = "imgs/ or images/ beside masks/ or labels/, or X.png beside X_mask.png"
IMAGES = ("imgs", "images", "image", "img", "jpegimages", "inputs", "raw")
MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentations", "segmentation", "groundtruth"),
    *("ground_truth", "gt", "targets", "segmentationclass", "rois", "json"),
)
ENDINGS = (
    *("_cp_masks", "_masks", "_mask", "_segmentation", "_segmentations", "_seg", "_labels", "_label", "_labelids"),
    *(
        "_groundtruth",
        "_ground_truth",
        "_gt",
        "_annotation",
        "_annotations",
        "_rois",
        "-masks",
        "-mask",
        "-labels",
        "-label",
    ),
)  # a longer one before one that it ends with
BEGINNINGS = ("roiset_", "mask_", "label_", "seg_")
IMAGE_ENDING = "_img"
BESIDE = ("_flows", "_cp_flows", "_cp_output", "_cp_outlines", "_outlines")  # results of Cellpose


def recognise(path: Path) -> bool:
    """Whether a folder looks like this layout."""
    return image_and_mask_folders(path) is not None or bool(_pairs_in_one(path))


def open_source(path: Path) -> Source:
    """Pair images with masks by name.

    Raises
    ------
    UserError
        If an image has no mask or two, a mask has no image, two images share a name, or there are none.
    """
    folders = image_and_mask_folders(path)
    if folders:
        images, masks, left_out = _in_two_folders(*folders)
        keys = {p: key(p, folders[0]) for p in images} | {p: key(p, folders[1]) for p in masks}
        left_out += _others_beside(path, folders)
        where = f"{folders[0]} and {folders[1]}"
    else:
        images, masks, left_out = _in_one_folder(path)
        keys = {p: stem(p) for p in (*images, *masks)}
        where = str(path)
    if not images:
        more = f"; left out: {'; '.join(left_out)}" if left_out else ""
        raise UserError(f"{folders[0] if folders else path}: holds no images (PNG, TIFF, JPEG, BMP){more}")
    pairs = match_masks(images, masks, keys, where)
    entries = [Entry(name, *pairs[name], stacked=True) for name in sorted(pairs, key=natural_key)]
    entries, classes, notes = drawn_masks(entries)
    return Source(NAME, entries, classes, notes=notes, left_out=left_out)


def image_and_mask_folders(path: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks, if they are apart."""
    images = [p for p in _folders(path, IMAGES) if any(map(is_image, walk(p)))] or _folders(path, IMAGES)
    masks = [p for p in _folders(path, MASKS) if any(map(_is_mask, walk(p)))] or _folders(path, MASKS)
    for found, what in ((images, "masks belong"), (masks, "images belong")):
        if len(found) > 1 and images and masks:
            raise UserError(
                f"{path}: holds both {found[0].name}/ and {found[1].name}/; keep the one to which the {what}"
            )
    return (images[0], masks[0]) if images and masks else None


def _folders(path: Path, names: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and p.name.lower() in names)


def _is_mask(path: Path) -> bool:
    return is_image(path) or is_drawn(path)


def _in_two_folders(image_folder: Path, mask_folder: Path) -> tuple[list[Path], list[Path], list[str]]:
    """Images, masks, and phrases on what is left out."""
    files, others = walk(image_folder), walk(mask_folder)
    images = [p for p in files if is_image(p) and not is_drawn(p)]
    masks = [p for p in others if _is_mask(p) and not stem(p).endswith(BESIDE)]
    drawn = [p for p in files if is_drawn(p)]  # X_seg.npy lies beside X
    left_out = told_left_out(p for p in files if p not in images and p not in drawn)
    left_out += [f"among the masks {text}" for text in told_left_out(p for p in others if p not in masks)]
    if drawn:
        left_out.append(
            f"{len(drawn)} annotations among the images ({some(p.name for p in drawn)}): the masks in {mask_folder.name}/ count"
        )
    return images, masks, left_out


def _in_one_folder(path: Path) -> tuple[list[Path], list[Path], list[str]]:
    """The same, where all lie in one folder."""
    files = [p for p in sorted(path.iterdir(), key=lambda p: natural_key(p.name)) if p.is_file() and p.name[0] != "."]
    used = [p for p in files if _is_mask(p) and not stem(p).endswith(BESIDE)]
    beside = _pairs_in_one(path)
    masks = [p for p in used if p in beside]
    used = [p for p in used if p in masks or not is_drawn(p)]
    images = [p for p in used if p not in masks]
    stored = [p for p in masks if not is_drawn(p)]
    results = [p for p in files if is_image(p) and p not in used and not is_drawn(p)]
    left_out = told_left_out(p for p in files if p not in used and p not in results)
    if results:
        left_out.append(f"{len(results)} other results of Cellpose ({some(p.name for p in results)})")
    extra = [p for p in masks if is_drawn(p)]
    if stored and extra:  # Cellpose leaves both
        masks = stored
        left_out.append(f"{len(extra)} annotations ({some(p.name for p in extra)}): there are mask images")
    below = [p for folder in path.iterdir() if folder.is_dir() and folder.name[0] not in "._" for p in walk(folder)]
    if any(map(is_image, below)):
        left_out.append(
            f"{sum(map(is_image, below))} images in folders below ({some(p.parent.name + '/' + p.name for p in below)})"
        )
    return images, masks, left_out


def _pairs_in_one(path: Path) -> list[Path]:
    """The masks that lie beside images."""
    files = [p for p in path.iterdir() if p.is_file() and p.name[0] != "."]
    images = {stem(p).lower() for p in files if is_image(p)}
    drawn = [p for p in files if is_drawn(p) and ((_without_ending(stem(p)) or stem(p)).lower() in images)]
    return drawn + [p for p in list_images(path) if not is_drawn(p) and _without_ending(stem(p))]


def holds_annotations(path: Path) -> bool:
    """Whether a folder's images have annotations beside them in place of mask images."""
    masks = _pairs_in_one(path)
    return bool(masks) and all(map(is_drawn, masks))


def _others_beside(path: Path, folders: tuple[Path, Path]) -> list[str]:
    """A phrase on images that lie beside the two folders."""
    outside = list_images(path)
    outside += [
        q
        for p in path.iterdir()
        if p.is_dir() and p not in folders and p.name[0] not in "._"
        for q in walk(p)
        if is_image(q)
    ]
    return [f"{len(outside)} images outside of {folders[0].name}/ ({some(p.name for p in outside)})"] * bool(outside)


def _without_ending(name: str) -> str | None:
    """X for X_mask, X_masks and so on, else None."""
    low = name.lower()
    if ending := next((e for e in ENDINGS if low.endswith(e) and len(name) > len(e)), None):
        return name[: -len(ending)]
    beginning = next((b for b in BEGINNINGS if low.startswith(b) and len(name) > len(b)), None)
    return name[len(beginning) :] if beginning else None


def _wanted(mask: str) -> str | None:
    """What a mask of this key calls its image if not the same: "A/X" for "A/X_mask"."""
    folder, slash, name = mask.rpartition("/")
    known = _without_ending(name)
    return f"{folder}{slash}{known}" if known else None


def match_masks(
    images: list[Path], masks: list[Path], keys: dict[Path, str], where: str
) -> dict[str, tuple[Path, Path]]:
    """Name of every image, with the image and its mask; by its place below the folder, or else by its name alone."""
    by_name: dict[str, Path] = {}
    called = {_wanted(keys[mask]) or keys[mask] for mask in masks}  # what masks call their images
    for image in images:
        name = keys[image] if keys[image] in called else keys[image].removesuffix(IMAGE_ENDING)
        if name in by_name:
            raise UserError(f"{by_name[name]} and {image} share a name; rename one")
        by_name[name] = image
    last: dict[str, list[str]] = {}
    for name in by_name:
        last.setdefault(name.rpartition("/")[2], []).append(name)
    flat = not any("/" in keys[m] for m in masks) or not any("/" in name for name in by_name)
    found: dict[str, Path] = {}
    strangers = []
    for mask in masks:
        own, short = keys[mask], _wanted(keys[mask])
        candidates = [own, short]
        if flat:
            candidates += [last[n.rpartition("/")[2]][0] for n in (own, short) if n and _alone(n, last)]
        known = next((name for name in candidates if name in by_name), None)
        if known is None:
            strangers.append(mask.name)
        elif known in found:
            raise UserError(f"{by_name[known]} has two masks, {found[known]} and {mask}; remove one")
        else:
            found[known] = mask
    lonely = [image.name for name, image in by_name.items() if name not in found]
    if lonely or strangers:
        parts = [f"{len(lonely)} images without a mask ({some(lonely)})"] if lonely else []
        parts += [f"{len(strangers)} masks without an image ({some(strangers)})"] if strangers else []
        raise UserError(
            f"{where}: {' and '.join(parts)}; masks are called X, X_mask, X_masks or X_cp_masks for an image X (also {DRAWN})"
        )
    return {name: (by_name[name], found[name]) for name in by_name}


def _alone(name: str, last: dict[str, list[str]]) -> bool:
    """Whether a single image has this name, in whatever folder."""
    return len(last.get(name.rpartition("/")[2], [])) == 1
