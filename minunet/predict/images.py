"""Which images the inputs name, and which files must not be overwritten."""

from __future__ import annotations

import glob
import re
from collections import Counter
from pathlib import Path

import numpy as np

from ..data.files.images import SUFFIXES
from ..data.files.large import is_zarr
from ..data.layouts import ctc
from ..data.layouts.find import find_source
from ..data.layouts.listing import told_left_out, walk
from ..data.layouts.source import natural_key, some
from ..errors import UserError

OURS = re.compile(r".*_(mask|overlay|labels|probabilities)(_\d{3})?")  # what predict writes; ignored in folders


def keep_truth(target: Path, image: Path) -> None:
    """UserError if the file to be written exists already, in the image's folder, and so may be the image's true mask."""
    if target.exists() and target.parent.resolve() == image.parent.resolve():
        raise UserError(f"{target} exists beside {image} and may be its truth: choose another --output")


def check_display() -> None:
    """UserError if windows cannot be shown here."""
    try:
        import matplotlib.pyplot as plt
    except (ValueError, ImportError) as e:
        raise UserError(f"-v/--viz: MPLBACKEND names a backend that cannot be used here ({e}); leave --viz out") from e
    if plt.get_backend().lower() == "agg":
        raise UserError(
            "-v/--viz: there is no display to show a window on; leave it out, and look at what --output holds"
        )


def show(pictures: list[np.ndarray], title: str) -> None:
    """Show overlays, each in a window, and wait until it is closed."""
    import matplotlib.pyplot as plt

    for picture in pictures:
        plt.imshow(picture)
        plt.title(title)
        plt.axis("off")
        plt.show()


def left_out_of(folder: Path, inside: list[Path]) -> list[str]:
    """What a folder holds beside the images that are segmented: earlier results, other files, images in folders below."""
    others = [p for p in sorted(folder.iterdir()) if p not in inside and not p.name.startswith(".")]
    ours = [p for p in others if OURS.fullmatch(p.stem) and p.suffix.lower() in SUFFIXES]
    below = [p for f in others if f.is_dir() and not is_zarr(f) for p in walk(f) if p.suffix.lower() in SUFFIXES]
    below = [p for p in below if not OURS.fullmatch(p.stem)]
    told = told_left_out(p for p in others if p not in ours and not p.is_dir())
    if ours:
        told.append(
            f"{len(ours)} named like results ({some(p.name for p in ours)}); name them by themselves to segment them"
        )
    if below:
        told.append(f"{len(below)} images in folders below ({some(p.parent.name + '/' + p.name for p in below)})")
    return [f"{folder}: left out {text}" for text in told]


def mask_file(out: Path, images: dict[str, Path]) -> Path | None:
    """The file in which the mask of a single image is to be written; None if `out` is a folder.

    UserError if `out` is named like an image, but there are several images, or its ending is that of no lossless format.
    """
    if out.is_dir() or out.suffix.lower() not in SUFFIXES:
        return None
    if out.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise UserError(f"--output {out}: masks are saved without loss, as .png or .tif")
    if len(images) != 1:
        raise UserError(f"--output {out} is the name of a file, but there are {len(images)} images: give a folder")
    return out


def images_of_data_set(path: Path) -> dict[str, Path]:
    """The images of a data set, as minunet.train takes it, by names of files; UserError if the folder is none."""
    try:
        if ctc.recognise(path):
            return {name.replace("/", "_"): frame for name, frame in ctc.list_frames(path).items()}
        entries = find_source(path).entries
    except UserError as e:
        more = f"; left out: {'; '.join(left_out_of(path, []))}" if any(path.iterdir()) else ""
        raise UserError(
            f"{path} holds no images ({', '.join(sorted(SUFFIXES))}){more}; and as a data set: {e}"
        ) from None
    parted = next((entry for entry in entries if entry.more), None)
    if parted:
        raise UserError(
            f"{path}: the channels of {parted.name} lie in several files, which predict does not join: save each image as one"
        )
    return {
        entry.image.stem if entry.page is not None else entry.name.replace("/", "_"): entry.image for entry in entries
    }


def find_images(inputs: list[str], notes: list[str] | None = None) -> dict[str, Path]:
    """The images that inputs (files, folders, patterns) name, by the name with which the files written for them begin.

    That is the image's name without its ending, or with it if two names would be equal. UserError if an input does not exist.
    What is left out of folders is added to `notes`.
    """
    found: list[Path] = []
    notes = [] if notes is None else notes
    named: dict[str, Path] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir() and not is_zarr(path):
            inside = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES or is_zarr(p)]
            inside = [p for p in inside if not p.name.startswith(".")]
            inside = [p for p in inside if not OURS.fullmatch(p.stem)]
            if not inside:
                named |= images_of_data_set(path)
                continue
            notes += left_out_of(path, inside)
            found += sorted(inside, key=lambda p: natural_key(p.name))
        elif path.exists():
            found.append(path)
        else:
            matches = sorted(Path(m) for m in glob.glob(text, recursive=True))
            if not matches:
                raise UserError(f"{text}: no such image, folder, or pattern with a match")
            found += matches
    stems = Counter(path.stem for path in dict.fromkeys(found))
    for path in dict.fromkeys(found):
        name = path.stem if stems[path.stem] == 1 else path.name
        if name in named:
            raise UserError(f"{named[name]} and {path} would both become {name}_mask: predict them one by one")
        named[name] = path
    return named
