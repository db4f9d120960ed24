"""Label images on disk, predicted or true, by the names of their images: numbers, masks, stacks, run-length encoding.

The name of X_labels.tif, X_mask.png, X_masks.png, X_cp_masks.png and X.png is X; if several files have the same name, the first
in this order is read. X_overlay.png and X_probabilities.tif are ignored. The pages of a stack are called X_000, X_001, ... and
files in a subfolder F are called F/X. The files man_seg012.tif and mask012.tif of the Cell Tracking Challenge are called t012,
like their frame.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError
from .classes import ClassMap, as_numbers
from .files.images import SUFFIXES, read_indexed_mask
from .files.info import read_pages
from .image_set import ImageSet
from .layouts import coco, folder
from .layouts.source import list_images, natural_key, some
from .mask_kinds import find_classes
from .mask_noise import refuse_photograph
from .mask_scan import MaskScan, Value
from .rle import decode, read_submission

ENDINGS = ("_labels", "_mask", "_masks", "_cp_masks", "")  # in the order in which they are preferred
NUMBERED = ("_labels", "_cp_masks")  # hold instance numbers, even if there is only one
IGNORED = re.compile(r".*_(overlay|probabilities)(_\d{3})?")
CHALLENGE = re.compile(r"(?:man_seg|mask)(\d{3,})")


def as_instances(values: np.ndarray, numbered: bool = False) -> np.ndarray:
    """Instance numbers of a mask: the mask itself if it holds several values above 0, else its 4-connected regions.

    Parameters
    ----------
    values : (H, W) integer array
    numbered : bool
        Whether the values are instance numbers even if there is only one.

    Returns
    -------
    (H, W) integer array

    Examples
    --------
    >>> as_instances(np.array([[255, 0, 255]])).tolist(), as_instances(np.array([[1, 0, 2]])).tolist()
    ([[1, 0, 2]], [[1, 0, 2]])
    """
    import scipy

    if numbered or np.any((values > 0) & (values != values.max(initial=0))):
        return values
    return scipy.ndimage.label(values > 0)[0]


Reader = Callable[[tuple[int, int] | None], np.ndarray]  # the instance numbers (H, W), which must be of the size given
Stored = tuple[np.ndarray, np.ndarray | None]  # values or colours of a mask, and the palette of the values


def are_label_images(path: Path) -> bool:
    """Whether a folder or file holds label images, and no data set whose masks are annotations."""
    if not path.is_dir():
        return True
    return bool(list_images(path)) and not folder.holds_annotations(path) and not coco.recognise(path)


class Conventions:
    """What the values of the masks in a folder stand for, found out when the first of them is read.

    Parameters
    ----------
    masks : "auto", "classes", "objects" or "binary"
    ignore : values that do not count; read as -1
    axes : those of a data set's images, see `open_dataset`
    """

    def __init__(self, masks: str = "auto", ignore: Sequence[Value] = (), axes: str | None = None) -> None:
        self.masks, self.ignore, self.axes = masks, ignore, axes
        self.files: list[tuple[Path, int | None]] = []
        self.notes: list[str] = []
        self.dataset: ImageSet | None = None  # if it is a data set, not files
        self._classes: ClassMap | None = None

    @property
    def classes(self) -> ClassMap:
        """The class map of all files together."""
        if self._classes is None:
            scan = MaskScan(self.ignore)
            for path, page in self.files:
                pixels, palette = read_indexed_mask(path, page)
                scan.add(pixels, path, path.suffix.lower() in (".jpg", ".jpeg"), palette)
            try:
                self._classes, _, self.notes = find_classes(scan, self.masks, wanted="objects")
            except UserError as e:
                raise UserError(f"{self.files[0][0].parent}: {e}") from None
            if self._classes.num_classes > 2 and self.masks == "classes":
                raise UserError(f"--masks classes: {self._classes.num_classes} classes are scored with --classes")
        return self._classes


def read_instances(
    shape: tuple[int, int] | None, path: Path, page: int | None = None, known: Conventions | None = None
) -> np.ndarray:
    """Instance numbers of a file, -1 where it does not count; without `known` all its values are numbers.

    Raises
    ------
    UserError
        If the file cannot be read, or has colours, numbers below 0, or another size than `shape`.
    """
    import scipy

    values, palette = read_indexed_mask(path, page)
    if values.ndim == 3 and not (known and known.masks != "auto"):
        raise UserError(
            f"{path}: is in colour; give label images, or masks in which everything above 0 is foreground, or say what colours "
            "stand for with --masks objects or --masks binary"
        )
    if shape is not None and values.shape[:2] != shape:
        raise UserError(
            f"{path} is {values.shape[1]}x{values.shape[0]} pixels, but the truth of that name is {shape[1]}x{shape[0]}"
        )
    counts = known.classes.counting(values, palette) if known else None
    if known and known.classes.rule == "threshold":
        numbers = scipy.ndimage.label(known.classes.encode(values, path, palette))[0]
    else:
        numbers = as_numbers(values, palette)
        numbers = numbers if counts is None else np.where(counts, numbers, 0)
        if numbers.min(initial=0) < 0:
            raise UserError(f"{path}: holds {numbers.min()}; object numbers are 0 and above")
        if not known:
            refuse_photograph(numbers, path)
        numbers = as_instances(numbers, numbered=not known or known.masks == "objects")
    return numbers if counts is None else np.where(counts, numbers, -1)


def read_stored(shape: tuple[int, int] | None, path: Path, page: int | None = None) -> Stored:
    """The values or colours that a mask holds, and the palette of the values or None."""
    return read_indexed_mask(path, page)


def list_label_images(path: Path, known: Conventions | None = None) -> dict[str, Reader]:
    """The label images in a folder and its subfolders, a single file, or a submission.

    Parameters
    ----------
    path : path
    known : Conventions, optional
        What the user has said of the masks' values.

    Returns
    -------
    dict
        By name a function that reads the label image.

    Raises
    ------
    UserError
        If there are none, or two of one name and kind.
    """
    if path.suffix.lower() == ".csv":
        return {n: partial(read_rle, path=path, name=n, objects=o) for n, o in read_submission(path).items()}
    known = known or Conventions()
    found: dict[str, Reader] = {}
    for name, (ending, file, page) in list_masks(path).items():
        numbered = ending in NUMBERED and known.masks == "auto"
        if not numbered:
            known.files.append((file, page))
        found[name] = partial(read_instances, path=file, page=page, known=None if numbered else known)
    return found


def list_stored(path: Path) -> dict[str, Callable[[tuple[int, int] | None], Stored]]:
    """As `list_label_images`, but the functions read what the masks hold: values or colours."""
    if path.suffix.lower() == ".csv":
        raise UserError(f"{path}: run lengths are of objects; give a folder of masks to score classes")
    return {name: partial(read_stored, path=file, page=page) for name, (_, file, page) in list_masks(path).items()}


def list_masks(path: Path) -> dict[str, tuple[str, Path, int | None]]:
    """The masks in a folder and its subfolders, or of a single file: by name their ending, their file, and their page."""
    if path.is_file():
        groups = {"": [path]}
    elif path.is_dir():
        folders = sorted((f for f in path.iterdir() if f.is_dir() and f.name[0] not in "._"), key=lambda f: f.name)
        groups = {"": list_images(path), **{f"{f.name}/": list_images(f) for f in folders}}
    else:
        raise UserError(f"{path}: no such file or folder")
    found: dict[str, tuple[str, Path, int | None]] = {}
    for prefix, files in groups.items():
        for name, (ending, file) in _preferred(files).items():
            pages = read_pages(file, mask=True).count
            if pages == 1:
                found[prefix + name] = ending, file, None
            else:
                found |= {f"{prefix}{name}_{page:03}": (ending, file, page) for page in range(pages)}
    if not found:
        raise UserError(f"{path}: holds no label images or masks ({', '.join(SUFFIXES)})")
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))


def read_rle(shape: tuple[int, int] | None, path: Path, name: str, objects: list[str]) -> np.ndarray:
    """Instance numbers of an image in a submission; UserError if its run lengths do not fit the image."""
    if shape is None:
        raise UserError(f"{path}: run lengths can be read only where the truth says how large the images are")
    try:
        return decode(objects, shape)
    except ValueError as e:
        raise UserError(f"{path}: {name}: {e}") from e


def _preferred(files: list[Path]) -> dict[str, tuple[str, Path]]:
    """The file to read for every name, with the ending of its stem."""
    best: dict[str, tuple[str, Path]] = {}
    for file in files:
        if IGNORED.fullmatch(file.stem):
            continue
        ending = next(e for e in sorted(ENDINGS, key=len, reverse=True) if file.stem.endswith(e))
        name = unicodedata.normalize("NFC", file.stem.removesuffix(ending))
        frame = CHALLENGE.fullmatch(name)
        if frame:
            name, ending = f"t{frame[1]}", "_labels"
        before = best.get(name)
        if before and before[0] == ending:
            raise UserError(f"{before[1]} and {file} are both called {name}: remove one")
        if not before or ENDINGS.index(ending) < ENDINGS.index(before[0]):
            best[name] = ending, file
    return best


def read_truth(source: ImageSet, index: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The true instances of an image of a data set, and where they count, (H, W) bool or None.

    Where the data set has no instances, they are the 4-connected regions of the foreground.
    """
    sample = source[index]
    return as_instances(sample.labels > 0) if sample.instances is None else sample.instances, sample.valid


def match_names(true: list[str], predicted: list[str], in_order: bool = False) -> tuple[dict[str, str], list[str]]:
    """Find the prediction of every true image.

    Parameters
    ----------
    true, predicted : lists of str
        Names. They match if they are equal, or if the prediction's is the last part of a single true one ("t000" of "01/t000").
    in_order : bool
        Match the first with the first and so on, if there are as many.

    Returns
    -------
    pairs : dict
        The predicted name by the true one.
    surplus : list of str
        Predictions that belong to no true image.

    Raises
    ------
    UserError
        If an image has no prediction, or a prediction matches several.

    Examples
    --------
    >>> match_names(["01/t000", "01/t001"], ["t000", "t001", "t007"])
    ({'01/t000': 't000', '01/t001': 't001'}, ['t007'])
    """
    if in_order and len(true) == len(predicted):
        return dict(zip(true, predicted)), []
    by_last: dict[str, list[str]] = {}
    for name in true:
        by_last.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    pairs = {}
    for name in predicted:
        alike = [name] if name in true else by_last.get(name, [])
        if len(alike) > 1:
            raise UserError(
                f"the prediction {name} may be that of {' or '.join(alike)}: put it into a folder like theirs"
            )
        if alike:
            pairs[alike[0]] = name
    missing = [name for name in true if name not in pairs]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(true)} images have no prediction: {some(missing)}; the predictions are called "
            f"{some(predicted)}. Predict these images too, or list those to be scored with --val-files"
        )
    return {name: pairs[name] for name in true}, sorted(set(predicted) - set(pairs.values()), key=natural_key)
