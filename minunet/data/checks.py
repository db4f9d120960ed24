"""The checks of images and masks for `minunet.doctor`: every file is read once, and common problems are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import UserError
from .classes import ClassMap
from .findings import Findings
from .layouts.source import AS_STORED, Entry, Mask, Source, counting, some, upright_by_hand
from .mask_kinds import find_classes
from .mask_scan import MaskScan, Value
from .nodata import without_data
from .preprocess import is_grey, normalise

DARK = 8  # the brightest value of a mask, of 255, that looks black
NARROW = 0.05  # standard deviation of the normalised intensity below which an image has hardly any contrast
LONG = 16  # letters of a name that are shown
BRIGHT = 20.0  # normalised intensity above which a network does not work well
INVERTED = 0.75  # share of foreground above which it may be the background
LEVEL, TIGHT = 0.01, 0.03  # share of the pixels of each of two levels at least; standard deviation within one, at most
BURNT = 0.2  # share of pixels at the largest value of their type


@dataclass
class Survey:
    """What the images and masks of a data set are like.

    Attributes
    ----------
    entries : list of Entry
    classes : ClassMap or None
        None if they cannot be found in the masks.
    sizes : dict
        (H, W) of the images that can be read, by name.
    plain : set of int
        Indices of masks with a single value.
    coloured, grey : lists of names
        Images with and without colour.
    unreadable : dict
        What is wrong with files that cannot be read, by the image's name.
    flat, faint, large, burnt, two_valued : lists of names
        Images of one value, of hardly any contrast, of very large normalised intensity, overexposed, and of two values.
    dark, blank : lists of names
        Masks that look black in a viewer, and masks that are 0 everywhere.
    bordered : list of names
        Images with NaN or a constant border, which hold no data there.
    reading : str
        Why the masks are read as they are, if they could be read otherwise.
    """

    entries: list[Entry]
    classes: ClassMap | None
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    plain: set[int] = field(default_factory=set)
    coloured: list[str] = field(default_factory=list)
    grey: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    flat: list[str] = field(default_factory=list)
    faint: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)
    burnt: list[str] = field(default_factory=list)
    two_valued: list[str] = field(default_factory=list)
    dark: list[str] = field(default_factory=list)
    blank: list[str] = field(default_factory=list)
    bordered: list[str] = field(default_factory=list)
    reading: str = ""

    @property
    def names(self) -> list[str]:
        """The names of all images."""
        return [entry.name for entry in self.entries]

    def images(self, channels: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Every image that can be read, by its name, for a network of so many channels."""
        for entry in self.entries:
            if entry.name in self.sizes:
                yield entry.name, entry.read_image(channels)

    def patch(self, index: int, side: int, channels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The middle of an image, at most side x side pixels as stored, and its labels, int64, -1 where they do not count."""
        assert self.classes is not None
        entry = self.entries[index]
        image, mask = entry.read_image(channels), entry.read_mask()
        labels = self.classes.encode(mask.values, entry.mask, mask.palette).astype(np.int64)
        valid = counting(mask, self.classes)
        if valid is not None:
            labels[~valid] = -1
        top, left = (max(0, (n - side) // 2) for n in labels.shape)
        window = np.s_[top : top + side, left : left + side]
        return image[window], labels[window]


def survey(
    source: Source, classes: ClassMap | None, method: str, findings: Findings, quiet: bool = True, masks: str = "auto",
    ignore: Sequence[Value] = (),
) -> Survey:  # fmt: skip
    """Read every image and mask of a source, and add what its checks say to `findings`.

    Parameters
    ----------
    source : Source
    classes : ClassMap or None
        Those that the masks must have, if known; else they are found in the masks.
    method : str
        The normalisation, see `minunet.data.normalise`.
    findings : Findings
    quiet : bool
        Show no progress.
    masks, ignore
        As in `open_dataset`.
    """
    from tqdm import tqdm

    seen, scan = Survey(list(source.entries), classes), MaskScan(ignore)
    wrong: dict[str, str] = {}  # what is wrong with values, by the name of the image or "" for all
    foreground, counted = 0, 0
    for i, entry in enumerate(tqdm(seen.entries, desc="looking", delay=2, leave=False, disable=quiet or None)):
        try:
            image, mask = entry.read_image(), entry.read_mask()
        except UserError as e:
            seen.unreadable[entry.name] = str(e)
            continue
        look_at_image(seen, entry.name, image, method)
        look_at_mask(seen, i, mask)
        try:
            if classes is None:
                scan.add(mask.values, entry.mask, entry.mask.suffix.lower() in (".jpg", ".jpeg"), mask.palette)
            else:
                labels, valid = classes.encode(mask.values, entry.mask, mask.palette), counting(mask, classes)
                foreground += int(np.count_nonzero(labels if valid is None else labels[valid]))
                counted += labels.size if valid is None else int(np.count_nonzero(valid))
        except UserError as e:
            wrong[entry.name] = str(e)
    if classes is None and seen.sizes:
        try:
            seen.classes, seen.reading, notices = find_classes(scan, masks)
            foreground, counted = scan.foreground(seen.classes), scan.counted()
            for notice in notices:
                findings.note("mask values", notice, "if that was not meant, give the flag, or save the masks again")
        except UserError as e:
            wrong[""] = str(e)
    say_of_files(seen, findings)
    say_of_masks(seen, wrong, foreground / max(counted, 1), findings)
    say_of_images(seen, method, findings)
    return seen


def look_at_image(seen: Survey, name: str, image: np.ndarray, method: str) -> None:
    """Note what an image (H, W, C) is like."""
    seen.sizes[name] = image.shape[:2]
    (seen.grey if is_grey(image) else seen.coloured).append(name)
    lacking = without_data(image)
    if lacking is not None:
        seen.bordered.append(name)
    known = np.s_[:] if lacking is None else ~lacking
    data, light = image[..., :3][known], normalise(image[..., :3], method)[known]
    top = np.iinfo(image.dtype).max if image.dtype.kind in "iu" else None
    if not data.size or data.min() == data.max():
        seen.flat.append(name)
    elif has_two_levels(data):
        seen.two_valued.append(name)
    elif np.abs(light).max() > BRIGHT:
        seen.large.append(name)
    elif is_faint(light):
        seen.faint.append(name)
    elif top is not None and (data == top).all(-1).mean() > BURNT:
        seen.burnt.append(name)


def has_two_levels(pixels: np.ndarray) -> bool:
    """Whether grey values (..., C) are two, or lie so close around two as the noise of JPEG does."""
    grey = pixels.reshape(-1, pixels.shape[-1])[::3].astype(np.float64).mean(-1)
    if len(np.unique(grey)) <= 2:
        return True
    low, high = np.percentile(grey, (0.5, 99.5))
    upper = grey > (low + high) / 2
    if low == high or not LEVEL < upper.mean() < 1 - LEVEL:
        return False
    return max(grey[upper].std(), grey[~upper].std()) < TIGHT * (high - low)


def is_faint(light: np.ndarray) -> bool:
    """Whether normalised intensity hardly varies, and neither do the pixels that differ from the median (cells on black)."""
    if light.std() >= NARROW:
        return False
    apart = np.abs(light - np.median(light))
    return float(np.median(apart[apart > 0])) < NARROW


def look_at_mask(seen: Survey, index: int, mask: Mask) -> None:
    """Note what a mask is like."""
    values, name = mask.values, seen.entries[index].name
    labels = values if mask.valid is None else values[mask.valid]
    shown = values if mask.palette is None else mask.palette[values]
    if labels.size == 0 or (labels == labels.reshape(-1, *values.shape[2:])[0]).all():
        seen.plain.add(index)
    if not shown.any():
        seen.blank.append(name)
    elif (
        mask.palette is None
        and values.ndim == 2
        and values.dtype != bool
        and values.max() <= (DARK if values.dtype == np.uint8 else 256 * DARK)
    ):
        seen.dark.append(name)


# ---- what is said ----------------------------------------------------------------------------------------------------


def shortened(names: list[str]) -> str:
    """Some of the names, long ones cut short."""
    return some(name if len(name) <= LONG else name[: LONG - 1] + "…" for name in names)


def say_of_files(seen: Survey, findings: Findings) -> None:
    """Findings on files that cannot be used."""
    if seen.unreadable:
        what = f"{len(seen.unreadable)} cannot be used: " + some(seen.unreadable.values())
        findings.trouble("files", what, files=seen.unreadable)
    else:
        findings.ok("files", "every image and mask can be read, and masks have their images' sizes")


def say_of_masks(seen: Survey, wrong: dict[str, str], foreground: float, findings: Findings) -> None:
    """Findings on the masks: their values, and whether they hold foreground and background."""
    if wrong:
        flag = any("--masks" in text or "--ignore" in text for text in wrong.values())
        advice = (
            "give the flag that is right" if flag else "save all masks with the same values, without loss (PNG, TIFF)"
        )
        findings.trouble("mask values", some(wrong.values()), advice, filter(None, wrong))
    elif seen.classes:
        findings.ok("mask values", seen.classes.describe() + (f"; read as {seen.reading}" if seen.reading else ""))
    if seen.dark:
        findings.note(
            "masks look black", f"{len(seen.dark)} masks hold only small values ({shortened(seen.dark)}): a viewer shows them "
            "black, but they are not empty", "nothing: their values are read as they are", seen.dark,
        )  # fmt: skip
    if seen.sizes and len(seen.blank) == len(seen.sizes):
        findings.trouble(
            "no foreground", "every mask is 0 everywhere, so that the best answer is black",
            "look at how the masks were saved: a threshold, or an 8-bit copy of a 16-bit file, may have emptied them",
        )  # fmt: skip
    elif seen.blank:
        what = f"{len(seen.blank)} masks are 0 everywhere: {shortened(seen.blank)}"
        findings.note("blank masks", what, "right if these images show nothing", seen.blank)
    elif foreground == 1 and not wrong:
        findings.trouble("no background", "no mask holds class 0", "look at which value stands for background")
    elif foreground > INVERTED and seen.classes and seen.classes.names[0] == "background" and not wrong:
        findings.note(
            "much foreground", f"{100 * foreground:.0f} % of the pixels are of class 1 and above",
            "if objects are black on white in your masks, invert them",
        )  # fmt: skip


def say_of_images(seen: Survey, method: str, findings: Findings) -> None:
    """Findings on intensity."""
    usual = "train with --normalise percentile"
    outshone = "clip what outshines the rest before saving" if method == "percentile" else usual
    troubles = [
        (seen.flat, "flat images", "hold one grey value everywhere", "remove them, or export them again"),
        (seen.two_valued, "two-valued images", "hold no more than two values, as masks do", "are images and masks swapped?"),
        (seen.large, "large grey values", f"keep values above {BRIGHT:g} with {method} normalisation", usual),
        (seen.faint, "flattened contrast", f"have hardly any contrast left after {method} normalisation: they fill little of "
         "their type's range, or a few pixels outshine all", outshone),
    ]  # fmt: skip
    for names, name, what, advice in troubles:
        if names:
            findings.trouble(name, f"{len(names)} images {what} ({shortened(names)})", advice, names)
    upright = [entry.name for entry in seen.entries if entry.name in seen.sizes and upright_by_hand(entry)]
    if upright:
        what = f"{len(upright)} images are turned by their EXIF or TIFF orientation, masks have none ({shortened(upright)})"
        findings.note("orientation", what, f"right if masks are drawn on what a viewer shows; {AS_STORED}", upright)
    if seen.bordered:
        what = f"{len(seen.bordered)} images have pixels without data: NaN or a constant border ({shortened(seen.bordered)})"
        findings.note("no data", what, "with --normalise percentile they do not count when intensity is measured; better cut "
                      "them off, or give the masks a value there that --ignore names", seen.bordered)  # fmt: skip
    if seen.burnt:
        what = f"{len(seen.burnt)} images have a fifth of their pixels or more at the largest value ({shortened(seen.burnt)})"
        findings.note("overexposed images", what, "nothing can be told apart there; expose less next time", seen.burnt)
    if not any(names for names, *_ in troubles) and seen.sizes:
        findings.ok("grey values", f"{method} normalisation leaves every image its contrast")
