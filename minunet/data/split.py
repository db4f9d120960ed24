"""Which images are held out for validation."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import UserError
from .layouts.source import some

LONGEST = 1 << 26  # bytes of a list


def read_names(path: str | Path) -> list[str]:
    """The names in a text file: one name or path a line; blank lines and lines that begin with # are skipped.

    The file is UTF-8, or UTF-16 as PowerShell writes it (with a byte order mark).

    Raises
    ------
    UserError
        If the file cannot be read, or lists no names.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LONGEST + 1)
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        lines = content.decode("utf-16" if wide else "utf-8-sig").splitlines()
    except (OSError, ValueError) as e:  # also of what is no UTF-8
        raise UserError(f"{path}: cannot be read as a list of names ({type(e).__name__})") from None
    if len(content) > LONGEST:
        raise UserError(f"{path}: has more than {LONGEST:,} bytes, which is no list of names")
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not names:
        raise UserError(f"{path}: lists no names; write one image name a line")
    return [unicodedata.normalize("NFC", name) for name in names]  # as data sets call their images


def split_indices(
    names: Sequence[str],
    percent: float = 10.0,
    seed: int = 0,
    held_out: Sequence[str] | None = None,
    ordered: bool = False,
) -> tuple[list[int], list[int]]:
    """Divide images into those to train on and those to validate on.

    Parameters
    ----------
    names : names of all images
    percent : float
        Share of the images for validation; at least one image is held out and at least one is left. 0 trains on all.
    seed : int
        Of the draw.
    held_out : names or None
        The images for validation, instead of a share. Each is a name, a path that ends in a name with any suffix, or a folder:
        "02" stands for "02/t000", "02/t001" and so on.
    ordered : bool
        Whether to validate on the last images instead of random ones. If neighbours are alike, a random image has near copies
        among the images that are trained on, and its score would be too good.

    Returns
    -------
    train, validation : lists of int, ascending

    Raises
    ------
    UserError
        If either would be empty, or a name is unknown.

    Examples
    --------
    >>> split_indices(["a", "b", "c", "d"], percent=25, ordered=True)
    ([0, 1, 2], [3])
    >>> split_indices(["a", "b", "c", "d"], held_out=["images/b.png"])
    ([0, 2, 3], [1])
    """
    n = len(names)
    if n and percent == 0 and held_out is None:
        return list(range(n)), []
    if n < 2:
        raise UserError(f"{n} image cannot be both trained on and validated on: two are needed; add images")
    if held_out is not None:
        validation = find_named(names, held_out)
    else:
        if not 0 < percent < 100:
            raise UserError(f"validation percent is {percent:g}: give a number from 0 to below 100, or list files")
        count = min(n - 1, max(1, round(n * percent / 100)))
        drawn = np.arange(n - count, n) if ordered else np.random.default_rng(seed).permutation(n)[:count]
        validation = sorted(drawn.tolist())
    train = sorted(set(range(n)) - set(validation))
    if not train or not validation:
        empty = "validate" if not validation else "train"
        raise UserError(f"no image is left to {empty} on: list some, but not all, of the {n} images for validation")
    return train, validation


def find_named(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Indices of the images that `wanted` gives as names, as paths, or as folders; ascending.

    Raises
    ------
    UserError
        If an entry is no image's, or its last part may be that of several images.
    """
    index = {name: i for i, name in enumerate(names)}
    found: set[int] = set()
    unknown = []
    for entry in wanted:
        parts = PurePosixPath(entry.replace("\\", "/")).parts
        tails = [PurePosixPath(*parts[i:]) for i in range(len(parts))]
        keys = [entry, *map(str, tails), *(str(tail.with_suffix("")) for tail in tails if tail.name)]
        known = next((key for key in keys if key in index), None)
        if known is None:
            last = {key for tail in tails[-1:] for key in (str(tail), str(tail.with_suffix("")))}
            alike = [name for name in names if name.rsplit("/", 1)[-1] in last]
            if len(alike) > 1:
                raise UserError(f"validation list: {entry!r} may be {some(alike)}: give its folder, too")
            known = alike[0] if alike else None
        inside = [i for name, i in index.items() if known is None and any(name.startswith(f"{t}/") for t in tails)]
        found |= {index[known]} if known is not None else set(inside)
        if known is None and not inside:
            unknown.append(repr(entry))
    if unknown:
        raise UserError(f"validation list: no image is called {some(unknown)}; the images are called {some(names)}")
    return sorted(found)
