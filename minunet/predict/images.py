"""Which images the inputs name, and which files must not be overwritten."""

from __future__ import annotations

import glob
import re
from collections import Counter
from pathlib import Path

import numpy as np

from ..data.files.images import SUFFIXES
from ..data.files.large import is_zarr
from ..data.layouts.source import natural_key
from ..errors import UserError

OURS = re.compile(r".*_(mask|overlay|labels|probabilities)(_\d{3})?")  # what predict writes; ignored in folders


def keep_truth(target: Path, image: Path) -> None:
    """UserError if the file to be written exists already, in the image's folder, and so may be the image's true mask."""
    if target.exists() and target.parent.resolve() == image.parent.resolve():
        raise UserError(f"{target} exists beside {image} and may be its truth: choose another --output")


def check_display() -> None:
    """UserError if windows cannot be shown here."""
    import matplotlib.pyplot as plt

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


def find_images(inputs: list[str]) -> dict[str, Path]:
    """The images that inputs (files, folders, patterns) name, by the name with which the files written for them begin.

    That is the image's name without its ending, or with it if two names would be equal. UserError if an input does not exist.
    """
    found: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir() and not is_zarr(path):
            inside = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES or is_zarr(p)]
            inside = [p for p in inside if not p.name.startswith(".")]
            inside = [p for p in inside if not OURS.fullmatch(p.stem)]
            if not inside:
                raise UserError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))})")
            found += sorted(inside, key=lambda p: natural_key(p.name))
        elif path.exists():
            found.append(path)
        else:
            matches = sorted(Path(m) for m in glob.glob(text, recursive=True))
            if not matches:
                raise UserError(f"{text}: no such image, folder, or pattern with a match")
            found += matches
    named: dict[str, Path] = {}
    stems = Counter(path.stem for path in dict.fromkeys(found))
    for path in dict.fromkeys(found):
        name = path.stem if stems[path.stem] == 1 else path.name
        if name in named:
            raise UserError(f"{named[name]} and {path} would both become {name}_mask: predict them one by one")
        named[name] = path
    return named
