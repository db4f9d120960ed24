"""The layout "folder": images and masks that belong together by name.

    PATH/imgs/X.png + PATH/masks/X.png       also images/ for imgs/
    PATH/imgs/X.png + PATH/masks/X_mask.gif  also X_masks and X_cp_masks
    PATH/X.tif      + PATH/X_mask.tif        in one folder, also X_masks and X_cp_masks; also X_img.tif for X.tif

Data sets of StarDist (images/ and masks/ with instance numbers) and of Cellpose have this layout. Ignored are Cellpose's other
results (X_flows, X_cp_output ...), files that do not end like images, and dot files.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import UserError
from .source import Entry, Source, list_images, natural_key, some

NAME = "folder"
EXPECTS = "imgs/ or images/ beside masks/, or X.png beside X_mask.png"
MASK_SUFFIXES = ("_cp_masks", "_masks", "_mask")  # a longer one before one that it ends with
IMAGE_SUFFIX = "_img"
BESIDE = ("_seg", "_flows", "_cp_flows", "_cp_output", "_cp_outlines", "_outlines")  # results of Cellpose


def recognise(path: Path) -> bool:
    """Whether a folder looks like this layout."""
    return _image_and_mask_folders(path) is not None or any(_without_suffix(p.stem) for p in list_images(path))


def open_source(path: Path) -> Source:
    """Pair images with masks by name.

    Raises
    ------
    UserError
        If an image has no mask or two, a mask has no image, two images share a name, or there are none.
    """
    folders = _image_and_mask_folders(path)
    if folders:
        images, masks = (list_images(f) for f in folders)
        where = f"{folders[0]} and {folders[1]}"
    else:
        files = [p for p in list_images(path) if not p.stem.endswith(BESIDE)]
        images = [p for p in files if not _without_suffix(p.stem)]
        masks = [p for p in files if _without_suffix(p.stem)]
        where = str(path)
    if not images:
        raise UserError(f"{folders[0] if folders else path}: holds no images (PNG, TIFF, JPEG, BMP)")
    pairs = _match_masks(images, masks, where)
    return Source(NAME, [Entry(name, *pairs[name], stacked=True) for name in sorted(pairs, key=natural_key)])


def _image_and_mask_folders(path: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks, if they are apart."""
    found = [path / name for name in ("imgs", "images") if (path / name).is_dir()]
    if len(found) == 2:
        raise UserError(f"{path}: holds both imgs/ and images/; keep the one that masks/ belongs to")
    return (found[0], path / "masks") if found and (path / "masks").is_dir() else None


def _without_suffix(stem: str) -> str | None:
    """X for X_mask and X_masks, else None."""
    return next((stem[: -len(s)] for s in MASK_SUFFIXES if stem.endswith(s) and len(stem) > len(s)), None)


def _match_masks(images: list[Path], masks: list[Path], where: str) -> dict[str, tuple[Path, Path]]:
    """Name of every image, with the image and its mask."""
    by_name: dict[str, Path] = {}
    stems = {_without_suffix(mask.stem) or mask.stem for mask in masks}  # what masks call their images
    for image in images:
        name = image.stem if image.stem in stems else image.stem.removesuffix(IMAGE_SUFFIX)
        if name in by_name:
            raise UserError(f"{by_name[name]} and {image} share a name; rename one")
        by_name[name] = image
    found: dict[str, Path] = {}
    strangers = []
    for mask in masks:
        known = mask.stem if mask.stem in by_name else _without_suffix(mask.stem)
        if known not in by_name or known is None:
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
            f"{where}: {' and '.join(parts)}; masks are called X, X_mask, X_masks or X_cp_masks for an image X"
        )
    return {name: (by_name[name], found[name]) for name in by_name}
