"""Segment images into files: `predict_files`, of which ``python -m minunet.predict`` is the command line.

A small image is read whole, and its results stay in memory until all are ready. A TIFF of more than LARGE pixels, or an
OME-Zarr, is read, segmented and written by parts. Both go through `Page`. For an image X the files are

    small            X_mask.png (for a stack X_mask.tif), X_overlay.png (X_overlay_000.png), X_labels.tif, X_probabilities.tif
    by parts         X_mask.tif or X_mask.zarr, likewise labels and probabilities; X_overlay.png, reduced in size; for a stack
                     X_000_mask.tif and so on, page by page
    both             X_objects.csv, X_rois.zip
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..atomic import check_writable
from ..data.files.axes import check_axes
from ..data.files.images import read_image
from ..data.files.info import ImageInfo, Pages, read_info, read_pages
from ..data.files.large import can_open, is_zarr, open_large
from ..data.files.pixel_size import PixelSize
from ..errors import UserError
from ..nn import Module
from . import instance_files
from .diameter import known_diameter
from .images import find_images, keep_truth, mask_file
from .inference import preprocessing_of
from .instances import output_names
from .options import DEFAULTS, PredictionOptions
from .overlay import save_png
from .pipeline import OneProcess, PageResult
from .progress import Progress
from .results import ImageResult, Prediction
from .writers import ArrayOutputs, FileOutputs

LARGE = 1 << 25  # a TIFF of more pixels is read and segmented by parts


def predict_files(
    model: Module, inputs: Sequence[str | Path] | str | Path, out: str | Path | None, options: PredictionOptions = DEFAULTS,
    progress: Progress | None = None, by: OneProcess | None = None,
) -> Prediction:  # fmt: skip
    """Segment images and write the results; prints nothing.

    Parameters
    ----------
    model : Module
        A network from `minunet.load`.
    inputs : paths, or one path
        Images, folders of images, and patterns.
    out : path, optional
        Folder for the results, made if it does not exist; or, for one image, the mask's own file, .png or .tif; None writes
        nothing.
    options : PredictionOptions
    progress : Progress, optional
        Its methods are called as the work goes on.
    by : OneProcess, optional
        Who segments; by default this process.

    Returns
    -------
    Prediction
        Its `failures` name the images that could not be read, or whose results could not be written.

    Raises
    ------
    UserError
        If an input does not exist, or the folder cannot be made.
    """
    progress = progress or Progress()
    if options.axes:
        check_axes(options.axes)
    if options.diameter is not None:
        known_diameter(model)  # or an error, before images are read
    notes: list[str] = []
    images = find_images([str(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)], notes)
    single = None if out is None else mask_file(Path(out), images)
    if single is not None:  # nothing but the mask, and what else is asked for
        out, images, options = (
            single.parent,
            {single.stem: next(iter(images.values()))},
            replace(options, overlays=False),
        )
    if out is not None:
        try:
            Path(out).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(f"cannot make the folder {out}: {e.strerror or e}; choose another --output") from e
        check_writable(Path(out) / "mask.png")
    results, failures = [], {}
    for done, (name, path) in enumerate(images.items()):
        progress.step("image", done, len(images))
        try:
            results.append(predict_file(model, name, path, out, options, progress, single, by))
        except UserError as e:  # this one cannot be read; the others can
            failures[str(path)] = str(e)
            continue
        progress.image(results[-1])
    progress.step("image", len(images), len(images))
    return Prediction(results, failures, notes)


def predict_file(
    model: Module, name: str, path: Path, out: str | Path | None, options: PredictionOptions = DEFAULTS,
    progress: Progress | None = None, single: Path | None = None, by: OneProcess | None = None,
) -> ImageResult:  # fmt: skip
    """Segment one file, every page of it; parameters as in `predict_files`, `name` as in `ImageResult`.

    The mask goes into the file `single`, if that is given.
    """
    progress, by = progress or Progress(), by or OneProcess()
    by.check(path)
    channels = preprocessing_of(model).channels
    held = read_pages(path, options.axes)
    if options.pixel_size:
        held = replace(held, pixel=PixelSize(options.pixel_size, options.pixel_size, "um"))
    notes = [*held.notes, *note_axes(held, path, channels)]
    numbers = list(range(held.count)) if held.count > 1 else [None]
    infos = [read_info(path, number, options.axes) for number in numbers]
    notes += [note for info in infos for note in note_channels(info, path, channels)]
    by_parts = is_read_by_parts(path, options.tile, options.axes)
    if by_parts:
        options = replace(options, tile=options.tile or by.tile(model))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if out is None else out)
        job = _Job(model, path, folder, out is not None, options, progress, by, held, single)
        by_page = [(name if page is None else f"{name}_{page:03}", page) for page in numbers]
        if by_parts:
            groups = [job.by_parts(*named) for named in by_page]
        elif len({(info.height, info.width) for info in infos}) > 1:  # no stack can hold them
            groups = [job.whole(own, [page]) for own, page in by_page]
        else:
            groups = [job.whole(name, numbers)]
    found = [page for group in groups for page in group.pages]
    for page in found:
        if page.overlay is not None:  # last of all: a window may stay open, and all files are written by now
            progress.overlay(path, page.overlay)
    counts = [len(page.objects) for page in found if page.objects is not None]
    notes += [note for page in found for note in page.notes] + [note for group in groups for note in group.notes]
    files = [file for group in groups for file in group.files]
    widths = [page.diameter for page in found if page.diameter is not None]
    objects, middle = sum(counts) if counts else None, statistics.median(widths) if widths else None
    return ImageResult(name, path, held.count, files, objects, list(dict.fromkeys(notes)), middle)


def note_axes(held: Pages, path: Path, channels: int) -> list[str]:
    """What is to be said of pages whose axes no file names; UserError if they may be the network's channels."""
    if held.named or held.count == 1:
        return []
    if held.count == channels > 1:
        raise UserError(
            f"{path}: {held.count} images, or one of {held.count} channels, as the network takes? The file does not say: give "
            f"--axes CYX or --axes ZYX"
        )
    return [
        f"{held.count} pages are taken for images, as the file does not name its axes; --axes CYX takes them for channels"
    ]


def note_channels(info: ImageInfo, path: Path, channels: int) -> list[str]:
    """What is to be said of an image's channels; UserError if they cannot become those of the network."""
    if channels in (info.bands, info.bands - info.alpha):
        return []
    usual = info.rgb and info.bands - info.alpha in (1, 3, 4)
    if not usual or channels not in (1, 3):
        advice = "" if info.rgb else "; if its axis C counts images, give --axes, such as ZYX"
        raise UserError(f"{path}: is {info.kind}, the network takes {channels} channels{advice}")
    if info.bands == 4 and not info.alpha:
        return [f"its fourth channel is not seen by the network, which takes {channels}"]
    return []


def is_read_by_parts(path: Path, tile: int | None, axes: str | None = None) -> bool:
    """Whether a file is read by parts, which depends on its kind and size; with ``tile=0`` TIFFs are read whole."""
    if is_zarr(path):
        return True
    if tile == 0 or not path.is_file() or path.stat().st_size < 8 or not can_open(path):
        return False
    try:
        shape = open_large(path, 0, axes).shape
    except UserError:  # reading it whole may work, or else says what is wrong
        return False
    return shape[0] * shape[1] > LARGE


class _Group(NamedTuple):
    """The results for the pages of a file, or for one page: the files written, and notes."""

    pages: list[PageResult]
    files: list[Path]
    notes: list[str]


class _Job(NamedTuple):
    """One file to be segmented into a folder; if `saved` is False, nothing stays there."""

    model: Module
    path: Path
    folder: Path
    saved: bool
    options: PredictionOptions
    progress: Progress
    by: OneProcess
    held: Pages = Pages(1)
    single: Path | None = None

    def by_parts(self, name: str, page: int | None) -> _Group:
        """Segment a page that is read by windows, into files of its own."""
        mask = self._mask(f"{name}_mask.tif", (".tif", ".tiff"), page)
        self._keep_truth(mask.name, *(f"{name}_{what}" for what in ("mask.zarr", "labels.tif", "labels.zarr")))
        outputs = FileOutputs(self.folder / name, self.held.pixel, self.single)
        pages, files = self._segment(name, [page], outputs, self._open)
        return _Group(pages, outputs.files + files if self.saved else [], [])

    def whole(self, name: str, numbers: Sequence[int | None]) -> _Group:
        """Segment all pages, each read whole, into files that hold all of them."""
        allowed = (".png", ".tif", ".tiff") if len(numbers) == 1 else (".tif", ".tiff")
        mask = self._mask(f"{name}_mask{allowed[0]}", allowed, numbers[0] if len(numbers) == 1 else None)
        self._keep_truth(mask.name, *[f"{name}_labels.tif"] * self.options.needs_instances)
        outputs = ArrayOutputs()
        pages, files = self._segment(name, numbers, outputs, self._read)
        if not self.saved:
            return _Group(pages, [], [])
        made, notes = save_arrays(self.folder / name, outputs, output_names(self.model), mask, self.held)
        return _Group(pages, made + files, notes)

    def _keeps_alpha(self, number: int | None) -> bool:
        """Whether alpha has to be a channel, as there would be too few without it."""
        known = self.model.preprocessing.channels
        return not is_zarr(self.path) and read_info(self.path, number, self.options.axes).bands == known

    def _open(self, number: int | None) -> Any:
        return open_large(self.path, number, self.options.axes, self._keeps_alpha(number))

    def _read(self, number: int | None) -> Any:
        return read_image(self.path, number, self.options.axes, self._keeps_alpha(number), nan=True)

    def _segment(
        self, name: str, numbers: Sequence[int | None], outputs: ArrayOutputs | FileOutputs,
        read: Callable[[int | None], Any],
    ) -> tuple[list[PageResult], list[Path]]:  # fmt: skip
        """Segment pages; write their outlines, table and overlays."""
        pages, files, paged = [], [], len(numbers) > 1
        with ExitStack() as stack:
            rois = None
            if self.options.rois and self.saved:
                files.append(self.folder / f"{name}_rois.zip")
                rois = stack.enter_context(instance_files.new_rois(files[-1]))
            for i, number in enumerate(numbers, start=1):
                page = self.by.page(self.model, read(number), outputs, self.options, self.progress)
                pages.append(page.segment(rois, i if paged else None))
        tables = [page.objects for page in pages if page.objects is not None]
        if self.saved and tables:
            files.append(self.folder / f"{name}_objects.csv")
            instance_files.save_table(files[-1], tables, self.held.pixel)
        for i, picture in enumerate(page.overlay for page in pages):
            if picture is not None and self.saved and self.options.overlays:
                files.append(self.folder / f"{name}_overlay{f'_{i:03}' * paged}.png")
                save_png(files[-1], picture)
        return pages, files

    def _mask(self, usual: str, endings: tuple[str, ...], page: int | None) -> Path:
        """The mask's file; UserError if the one that is wanted cannot hold it."""
        if self.single is None:
            return self.folder / usual
        if page is not None or is_zarr(self.path) or self.single.suffix.lower() not in endings:
            what = "an OME-Zarr" if is_zarr(self.path) else "several pages" if self.held.count > 1 else "a large image"
            raise UserError(
                f"--output {self.single}: the mask of {what} does not go into such a file; give a folder or a .tif"
            )
        return self.single

    def _keep_truth(self, *names: str) -> None:
        for name in names if self.saved else ():
            keep_truth(self.folder / name, self.path)


def save_arrays(
    base: Path, outputs: ArrayOutputs, names: list[str], mask: Path, held: Pages
) -> tuple[list[Path], list[str]]:  # fmt: skip
    """Write results that are in memory: the mask as PNG or as a stack, labels, and probabilities of classes of these names.

    Returns the files' paths, and notes.
    """
    masks, notes = [m[..., 0] if m.shape[2] == 1 else m for m in outputs.pages["mask"]], []
    files = [mask]
    if mask.suffix.lower() == ".png":
        save_png(mask, masks[0], held.pixel)
    else:
        instance_files.save_masks(mask, masks, held)
    if "probabilities" in outputs.pages:
        files.append(base.with_name(f"{base.name}_probabilities.tif"))
        instance_files.save_probabilities(files[-1], outputs.pages["probabilities"], names, held)
    if "labels" in outputs.pages:
        files.append(base.with_name(f"{base.name}_labels.tif"))
        most = instance_files.save_labels(files[-1], [labels[..., 0] for labels in outputs.pages["labels"]], held)
        if most > 65535:
            notes.append(f"{files[-1]} is 32-bit: {most:,} objects do not fit into 16 bits")
    return files, notes
