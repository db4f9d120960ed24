"""The layout "folder": images and masks that belong together by name.

    PATH/imgs/X.png + PATH/masks/X.png       also images/ for imgs/
    PATH/imgs/X.png + PATH/masks/X_mask.gif  also X_masks
    PATH/X.tif      + PATH/X_mask.tif        in one folder, also X_masks

Files whose ending is none of an image's are not looked at, nor are dot files.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from .source import Entry, Source, list_images, natural_key, some

NAME = "folder"
EXPECTS = "imgs/ or images/ beside masks/, or X.png beside X_mask.png"
MASK_SUFFIXES = ("_masks", "_mask")


def recognise(path: Path) -> bool:
    """Whether a folder looks like this layout."""
    return _folders(path) is not None or any(_without_suffix(p.stem) for p in list_images(path))


def open_source(path: Path) -> Source:
    """Pair images with masks by name.

    Raises
    ------
    UserError
        If an image has no mask or two, a mask has no image, two images share a name, or there are none.
    """
    folders = _folders(path)
    if folders:
        images, masks = (list_images(f) for f in folders)
        where = f"{folders[0]} and {folders[1]}"
    else:
        files = list_images(path)
        images = [p for p in files if not _without_suffix(p.stem)]
        masks = [p for p in files if _without_suffix(p.stem)]
        where = str(path)
    if not images:
        raise UserError(f"{folders[0] if folders else path}: holds no images (PNG, TIFF, JPEG, BMP)")
    pairs = _pair(images, masks, where)
    return Source(NAME, [Entry(name, *pairs[name]) for name in sorted(pairs, key=natural_key)])


def _folders(path: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks, if they are apart."""
    found = [path / name for name in ("imgs", "images") if (path / name).is_dir()]
    if len(found) == 2:
        raise UserError(f"{path}: holds both imgs/ and images/; keep the one that masks/ belongs to")
    return (found[0], path / "masks") if found and (path / "masks").is_dir() else None


def _without_suffix(stem: str) -> str | None:
    """X for X_mask and X_masks, else None."""
    return next((stem[: -len(s)] for s in MASK_SUFFIXES if stem.endswith(s) and len(stem) > len(s)), None)


def _pair(images: list[Path], masks: list[Path], where: str) -> dict[str, tuple[Path, Path]]:
    """Name of every image, with the image and its mask."""
    by_name: dict[str, Path] = {}
    for image in images:
        if image.stem in by_name:
            raise UserError(f"{by_name[image.stem]} and {image} share a name; rename one")
        by_name[image.stem] = image
    found: dict[str, Path] = {}
    strangers = []
    for mask in masks:
        name = mask.stem if mask.stem in by_name else _without_suffix(mask.stem)
        if name not in by_name or name is None:
            strangers.append(mask.name)
        elif name in found:
            raise UserError(f"{by_name[name]} has two masks, {found[name]} and {mask}; remove one")
        else:
            found[name] = mask
    lonely = [image.name for name, image in by_name.items() if name not in found]
    if lonely or strangers:
        parts = [f"{len(lonely)} images without a mask ({some(lonely)})"] if lonely else []
        parts += [f"{len(strangers)} masks without an image ({some(strangers)})"] if strangers else []
        raise UserError(f"{where}: {' and '.join(parts)}; masks are called X, X_mask or X_masks for an image X")
    return {name: (by_name[name], found[name]) for name in by_name}
