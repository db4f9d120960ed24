"""Data sets on disk: `open_dataset` finds the layout of a folder, and reads every image and mask once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .classes import ClassMap, as_numbers
from .files.info import ImageInfo
from .image_set import ImageSet
from .layouts.find import find_source
from .layouts.source import AS_STORED, Entry, Mask, Source, counting, some, upright_by_hand
from .mask_kinds import find_classes
from .mask_scan import MaskScan, ignored_values
from .nodata import without_data
from .preprocess import NORMALISATIONS, is_grey, prepare, resize_labels, scaled_size
from .sample import Sample


def open_dataset(
    path: str | Path,
    layout: str = "auto",
    channels: int | None = None,
    normalise: str = "percentile",
    scale: float = 1.0,
    classes: ClassMap | None = None,
    truth: str = "auto",
    masks: str = "auto",
    ignore: Sequence[object] = (),
    axes: str | None = None,
) -> Dataset:
    """Open a folder of images and masks.

    Every image and mask is read once, so whatever is wrong with one is found now and not an hour into training.

    Parameters
    ----------
    path : path
    layout : "auto" or a name from `minunet.data.LAYOUTS`
    channels : int or None
        What the network takes; None gives 1 if no image holds colour, 3 if one does, and 2 or 4 if all images have so many.
    normalise : "percentile", "range", "none" or "255", as in `minunet.data.normalise`
    scale : float
        Factor for the size of images and masks.
    classes : ClassMap or None
        The class map of a checkpoint; None takes it from the layout or from the masks.
    truth : "auto", "gold", "silver" or "complete"
        Which truth to use, for the layout of the Cell Tracking Challenge, see `minunet/data/layouts/ctc.py`.
    masks : "auto", "classes", "objects" or "binary"
        What the masks' values stand for; "auto" goes by the layout, or by the rules in `minunet/data/mask_kinds.py`.
    ignore : sequence of int or of "red,green,blue"
        Values of the masks that do not count.
    axes : str or None
        The axes of the images' arrays, such as "CYX", instead of those that TIFFs tell; see `minunet/data/files/axes.py`.

    Raises
    ------
    UserError
        If no layout fits, an image has no mask or a mask no image, or a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("imgs", "masks"):
    ...         Path(folder, name).mkdir()
    ...         for number in range(3):
    ...             values = np.random.default_rng(number).integers(0, 2, (40, 60)) * 255
    ...             Image.fromarray(values.astype(np.uint8)).save(Path(folder, name, f"{number}.png"))
    ...     data = open_dataset(folder)
    ...     data.layout, len(data), data.channels, data.classes.values, data[0].image.shape
    ('folder', 3, 1, [0, 255], (40, 60, 1))
    """
    if normalise not in NORMALISATIONS:
        raise UserError(f"normalise: {normalise!r} is unknown, choose one of {', '.join(NORMALISATIONS)}")
    if not 0 < scale <= 16:
        raise UserError(f"scale: {scale:g} is out of range, give a number above 0 and up to 16")
    return Dataset(
        Path(path), find_source(path, layout, truth, axes), channels, normalise, scale, classes, masks, ignore
    )


class Dataset(ImageSet):
    """Images and masks on disk, see `open_dataset`; a sample is read when it is first used."""

    def __init__(
        self,
        path: Path,
        source: Source,
        channels: int | None = None,
        normalise: str = "percentile",
        scale: float = 1.0,
        classes: ClassMap | None = None,
        masks: str = "auto",
        ignore: Sequence[object] = (),
    ) -> None:
        super().__init__()
        self.path, self.layout, self.ordered = path, source.layout, source.ordered
        self.entries, self.notes, self.normalise, self.scale = source.entries, source.notes, normalise, scale
        self.held_out, self.left_out = source.validation, list(source.left_out)
        self.names = [entry.name for entry in self.entries]
        self.infos: list[ImageInfo] = [entry.info for entry in self.entries]
        self._check_channels(channels)
        self.sizes = [scaled_size((info.height, info.width), scale) for info in self.infos]
        self._masks: dict[int, Mask] = {}  # read while opening, and kept until their samples are made
        self.reading = ""  # why the masks are read as they are, if they could be read otherwise
        known = classes or (source.classes if masks == "auto" else None)
        self.classes, self.foreground, self.counting = self._read_masks(known, masks, ignore)
        grey = self._read_images(channels)
        self.channels = channels or self._find_channels(grey)

    def _read(self, index: int) -> Sample:
        entry = self.entries[index]
        kept = self._masks.pop(index, None)
        self._free += _nbytes(kept)
        mask = kept or entry.read_mask()
        instances, valid = mask.instances, counting(mask, self.classes)
        if instances is None and self.classes.rule == "instances":
            instances = as_numbers(mask.values, mask.palette)
            instances = instances if valid is None else np.where(valid, instances, 0).astype(np.int32)
        image = prepare(entry.read_image(self.channels), self.channels, self.normalise, self.scale)
        labels = self.classes.encode(mask.values, entry.mask, mask.palette)
        maps = (None if m is None else resize_labels(m, self.scale) for m in (instances, valid))
        return Sample(entry.name, image, resize_labels(labels, self.scale), *maps)

    def _read_masks(
        self, classes: ClassMap | None, kind: str, ignore: Sequence[object]
    ) -> tuple[ClassMap, float, float]:
        """Read all masks, and keep as many in memory as fit; `classes` are known, or are found.

        Returns
        -------
        classes : ClassMap
        foreground : float
            Share of the foreground among the pixels that count.
        counting : float
            Share of the pixels that count.

        Raises
        ------
        UserError
            If a mask cannot be read or does not fit the class map.
        """
        scan, foreground, area, ignored = MaskScan(ignored_values(ignore)), 0, 0, 0
        classes = classes and classes.ignoring(scan.ignore)
        blank = []
        for i, entry in enumerate(_progress(self.entries, "reading masks")):
            mask = entry.read_mask()
            area += mask.values.shape[0] * mask.values.shape[1]
            if not (mask.values if mask.palette is None else mask.palette[mask.values]).any():
                blank.append(entry.name)
            if classes is None:
                scan.add(mask.values, entry.mask, entry.mask.suffix.lower() in (".jpg", ".jpeg"), mask.palette)
            else:
                labels, valid = classes.encode(mask.values, entry.mask, mask.palette), counting(mask, classes)
                ignored += 0 if valid is None else int(np.count_nonzero(~valid))
                foreground += int(np.count_nonzero(labels if valid is None else labels[valid]))
            if _nbytes(mask) <= self._free:
                self._masks[i] = mask
                self._free -= _nbytes(mask)
        counted = area - ignored
        if classes is None:
            classes, self.reading, notices = find_classes(scan, kind)
            self.warnings += notices
            foreground, counted = scan.foreground(classes), scan.counted()
        if foreground in (0, counted):
            every = "no foreground at all" if foreground == 0 else f"nothing of class 0 ({classes.names[0]})"
            self.warnings.append(f"there is {every} in any mask; look at the masks before training on them")
        elif blank:
            self.warnings.append(f"{len(blank)} masks are all 0: {some(blank)}; right if these images show nothing")
        return classes, foreground / max(counted, 1), counted / area

    def _check_channels(self, channels: int | None) -> None:
        """Raise a UserError if an image could not be given to the network."""
        for entry in self.entries:
            info = entry.info
            usual = info.rgb and (info.bands in (1, 3, 4) or info.alpha)  # what can be grey or red, green and blue
            if info.bands > 4 and info.bands != channels:
                advice = f"--channels {info.bands} trains on all of them; else save it as grey or RGB"
                raise UserError(f"{entry.image}: has {info.bands} channels; {advice}")
            if channels is not None and channels != info.bands and not (usual and channels in (1, 3)):
                advice = "--axes says which axes are others" if not info.rgb else f"--channels {info.bands} takes all"
                raise UserError(f"{entry.image}: {info.kind} cannot become {channels} channels; {advice}")

    def _find_channels(self, grey: bool) -> int:
        """The channels of the network if nobody says; UserError if images have different ones."""
        usual = [info.rgb and (info.bands in (1, 3) or info.alpha) for info in self.infos]
        if all(usual):
            return 1 if grey else 3
        first = self.infos[usual.index(False)]
        odd = next((i for i, info in enumerate(self.infos) if info.bands != first.bands or info.alpha), None)
        if odd is not None:
            beside = self.entries[usual.index(False)].image
            raise UserError(
                f"{self.entries[odd].image}: is {self.infos[odd].kind}, {beside} is {first.kind}; "
                f"--channels says how many the network takes"
            )
        if first.rgb and first.bands == 4 and self._opaque:
            self.warnings.append(
                "the fourth channel is the same everywhere, and taken for alpha; --channels 4 keeps it"
            )
            return 1 if grey else 3
        if first.rgb and first.bands in (2, 4):
            other = ": no file marks the last one as alpha" + "; --channels 3 leaves it out" * (first.bands == 4)
            self.notes = [*self.notes, f"            all {first.bands} channels are used{other}"]
        return first.bands

    def _read_images(self, channels: int | None) -> bool:
        """Whether no image holds colour; a UserError if one cannot be read, now and not an hour into training."""
        grey, bordered, self._opaque = True, [], True
        for entry in _progress(self.entries, "reading images"):
            image = entry.read_image(channels)
            grey &= is_grey(image)
            if without_data(image) is not None:
                bordered.append(entry.name)
            self._opaque &= image.shape[-1] == 4 and bool(np.ptp(image[..., 3]) == 0)
        upright = [entry.name for entry in self.entries if upright_by_hand(entry)]
        if upright:
            what = (
                "images are turned by their EXIF or TIFF orientation, their masks have none and are taken to be upright"
            )
            self.warnings.append(f"{len(upright)} {what}: {some(upright)}; {AS_STORED}")
        if bordered and self.normalise == "percentile":
            what = "have pixels without data (NaN, or a constant border), which do not count when intensity is measured"
            self.warnings.append(f"{len(bordered)} images {what}: {some(bordered)}; see minunet.doctor")
        return grey

    def describe(self) -> str:
        """A report of some lines: layout, images, channels, masks and warnings."""
        kinds = Counter(info.kind for info in self.infos)
        held = "; neighbours are alike, so the last ones are held out" if self.ordered else ""
        turned = sum(info.turned for info in self.infos)
        lines = [
            f"{self.layout} layout in {self.path}",
            f"images      {len(self)}: {_tally(f'{w}x{h}' for h, w in self.sizes)}{held}",
            f"channels    {self.channels} to the network, from {_tally(kinds.elements())}",
            *[f"orientation {turned} images are turned upright, as their EXIF or TIFF orientation says"] * bool(turned),
            f"grey values {self.normalise} normalisation" + (f", scaled by {self.scale:g}" if self.scale != 1 else ""),
            f"masks       {self.classes.describe()}",
            *([f"read as     {self.reading}"] if self.reading else []),
            f"foreground  {100 * self.foreground:.1f} % of the pixels",
            *self.notes,
            *(f"left out    {text}" for text in self.left_out),
        ]
        if self.counting < 1:
            share = 100 * (1 - self.counting)
            what = "which --ignore names" if self.classes.ignore else "where cells are not annotated"
            lines.append(f"ignored     {share:.2g} % of the pixels, {what}; they do not count")
        return "\n".join(lines + [f"warning     {w}" for w in self.warnings])


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _progress(entries: Sequence[Entry], what: str) -> Iterable[Entry]:
    """The entries, with a progress bar once two seconds have passed."""
    from tqdm import tqdm

    return tqdm(entries, desc=what, delay=2, leave=False, disable=None)


def _tally(things: Iterable[str], most: int = 4) -> str:
    """ "44 of 256x256, 30 of 320x256 and 6 other kinds"; only the thing itself if all are alike."""
    counts = Counter(things).most_common()
    if len(counts) == 1:
        return f"all {counts[0][0]}"
    rest = f" and {len(counts) - most} other kinds" if len(counts) > most else ""
    return ", ".join(f"{n} of {thing}" for thing, n in counts[:most]) + rest


def _nbytes(mask: Mask | None) -> int:
    return sum({id(a): a.nbytes for a in mask or () if a is not None}.values())
