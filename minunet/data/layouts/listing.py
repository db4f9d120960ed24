"""Which files of a folder are images, by what names they go, and what is left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from ..files.images import SUFFIXES
from ..files.large import is_zarr
from .source import natural_key, some

UNREAD = (
    ".czi", ".nd2", ".lif", ".oib", ".oif", ".vsi", ".ims", ".dm3", ".dm4", ".mrc", ".nii", ".gz", ".dcm", ".h5",
    ".hdf5", ".npz", ".svs", ".ndpi", ".scn", ".mrxs", ".heic", ".heif", ".avif", ".jxl", ".psd", ".raw", ".dng",
    ".cr2", ".nef", ".mp4", ".avi", ".mov", ".exr", ".webm", ".svg", ".pdf",
)  # fmt: skip  # formats of pictures that nothing here reads


def walk(folder: Path) -> list[Path]:
    """All files below a folder in natural order, without hidden ones and the __MACOSX of some archives; a zarr is one."""
    found: list[Path] = []
    for path in sorted(folder.iterdir(), key=lambda p: natural_key(p.name)):
        if path.name.startswith((".", "__MACOSX")):
            continue
        if path.is_dir() and not is_zarr(path):
            found += walk(path)
        else:
            found.append(path)
    return found


def is_image(path: Path) -> bool:
    """Whether a file ends like an image that can be read."""
    return path.suffix.lower() in SUFFIXES


def stem(path: Path) -> str:
    """A file's name without its ending, composed (NFC): "a" of a.png and a.ome.tif, however an "é" in it is stored."""
    return unicodedata.normalize("NFC", path.stem.removesuffix(".ome"))


def key(path: Path, root: Path) -> str:
    """A file's place below a folder, without its ending: "patient2/4"."""
    parts = [unicodedata.normalize("NFC", p) for p in path.relative_to(root).parts[:-1]]
    return "/".join([*parts, stem(path)])


def told_left_out(files: Iterable[Path]) -> list[str]:
    """Phrases on files that are not used: pictures of formats that are not read, and all others."""
    files = list(files)
    zarrs = [p for p in files if p.is_dir()]
    pictures = [p for p in files if p.suffix.lower() in UNREAD]
    others = [p for p in files if p not in pictures and p not in zarrs]
    phrases = []
    if zarrs:
        phrases.append(
            f"{len(zarrs)} zarr images ({some(p.name for p in zarrs)}), which predict reads; export them as TIFF"
        )
    if pictures:
        phrases.append(
            f"{len(pictures)} of formats that are not read ({some(p.name for p in pictures)}); export them as TIFF"
        )
    if others:
        phrases.append(f"{len(others)} files that are no images ({some(p.name for p in others)})")
    return phrases
