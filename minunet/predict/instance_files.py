"""What ``predict --instances`` writes of an image's objects, for ImageJ, napari and spreadsheets.

X_labels.tif         the number of every pixel's object, 0 for background; 16-bit, or 32-bit beyond 65,535 objects
X_objects.csv        one row for each object, see `Measurements`
X_rois.zip           the outline of each object, for ImageJ's ROI Manager
X_probabilities.tif  float32, one channel for each class

For the pages of a stack, results are the pages of one file, with its axes T and Z, and objects are numbered page by page. Where
the image's file tells the size of a pixel, these files do, too, and the table has columns in its unit beside those in pixels.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import beside, write_atomically
from ..cli import csv_text
from ..data.files.info import Pages
from ..data.files.pixel_size import PixelSize
from ..errors import UserError
from .measure import Measurements, columns

OUTLINED = 1 << 24  # objects whose bounding box has more pixels get no outline


def save_labels(path: Path, pages: list[np.ndarray], held: Pages | None = None) -> int:
    """Write a label image (H, W), or those of the pages of a stack, as a TIFF; returns the largest number in them.

    `held` tells of the image's file: the axes of its pages, and the size of a pixel.
    """
    stack, axes = arranged(pages, path, held)
    most = int(stack.max(initial=0))
    if most <= 65535:
        save_imagej(path, stack.astype(np.uint16), axes, {"min": 0, "max": max(most, 1)}, held)
        return most
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, stack.astype(np.uint32), photometric="minisblack", **resolution(held.pixel if held else None)
    )
    write_atomically(path, buffer.getvalue())
    return most


def save_probabilities(path: Path, pages: list[np.ndarray], names: list[str], held: Pages | None = None) -> None:
    """Write probabilities (H, W, K), of one image or of the pages of a stack, as a TIFF with one channel for each class."""
    stack, axes = arranged(pages, path, held)
    shown = {"min": 0.0, "max": 1.0, "Labels": names * (len(pages))}
    save_imagej(path, np.moveaxis(stack.astype(np.float32), -1, -3), axes.replace("YX", "CYX"), shown, held)


def save_masks(path: Path, pages: list[np.ndarray], held: Pages | None = None) -> None:
    """Write masks (H, W) or (H, W, 3) uint8 of the pages of a stack as a TIFF."""
    stack, axes = arranged(pages, path, held)
    save_imagej(path, stack, axes + "S" * (pages[0].ndim == 3), {}, held)


def save_imagej(
    path: Path, pixels: np.ndarray, axes: str, metadata: dict[str, Any], held: Pages | None = None
) -> None:  # fmt: skip
    """Write uint8, uint16 or float32 pixels as a TIFF that ImageJ opens with its axes, display range and pixel size."""
    import tifffile

    size: dict[str, Any] = {}
    if held and held.pixel:
        size = {"resolution": (1 / held.pixel.x, 1 / held.pixel.y)}
        metadata = {**metadata, "unit": held.pixel.unit, **({"spacing": held.pixel.z} if held.pixel.z else {})}
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, imagej=True, metadata={"axes": axes, **metadata}, **size)
    write_atomically(path, buffer.getvalue())


def resolution(pixel: PixelSize | None) -> dict[str, Any]:
    """The size of a pixel as arguments of `tifffile.imwrite`, for files that ImageJ did not describe."""
    if pixel is None:
        return {}
    x, y = pixel.in_microns()
    return {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": "CENTIMETER"}


def save_table(path: Path, pages: list[Measurements], pixel: PixelSize | None = None) -> None:
    """Write the table of the objects of one image, or of the pages of a stack, as CSV; with sizes in `pixel`'s unit, too."""
    paged = len(pages) > 1
    names = columns(pages[0].intensity.shape[1], paged)
    rows = [row for page, found in enumerate(pages, start=1) for row in found.rows(page if paged else None)]
    if pixel:
        factors = {"area": pixel.x * pixel.y}
        factors |= {
            f"{what}_{axis}": n for axis, n in (("x", pixel.x), ("y", pixel.y)) for what in ("centroid", "bbox")
        }
        factors |= {"bbox_width": pixel.x, "bbox_height": pixel.y}
        units = {f"{what}_px": f"{what}_{pixel.unit}{'2' * (what == 'area')}" for what in factors}
        for row in rows:
            row |= {unit: row[px] * factors[px.removesuffix("_px")] for px, unit in units.items()}
        names = names + [units[name] for name in names if name in units]
    write_atomically(path, csv_text([names, *([row[name] for name in names] for row in rows)]).encode())


@contextmanager
def new_rois(path: Path) -> Iterator[zipfile.ZipFile]:
    """A new file for ImageJ's ROI Manager, for `add_rois`."""
    with beside(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        yield archive


def add_rois(archive: zipfile.ZipFile, polygons: Iterable[tuple[int, np.ndarray]], page: int | None = None) -> None:
    """Add the numbers and outlines of objects; `page`, from 1, is that of a stack."""
    from roifile import ImagejRoi

    for number, polygon in polygons:
        name = f"{number:05}" if page is None else f"{page:04}-{number:05}"
        roi = ImagejRoi.frompoints(polygon, name=name, position=None if page is None else page - 1)
        entry = zipfile.ZipInfo(f"{name}.roi")  # without the time, which a zip file cannot hold before 1980
        entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
        archive.writestr(entry, roi.tobytes())


def object_polygons(labels: Any, boxes: np.ndarray, height: int) -> Iterator[tuple[int, np.ndarray]]:
    """The number and the outline of every object that is not `too_large`.

    Parameters
    ----------
    labels : array (H, W), or what reads like one
    boxes : (n, 4) integer array
        Of the objects 1 to n: left, top, right, bottom.
    height : int
        Rows of the image that are read at once; as many below are read, too, since objects may end there.
    """
    wanted = ~too_large(boxes)
    tops = boxes[:, 1]
    for start in range(0, int(tops[wanted].max(initial=-1)) + 1, height):
        here = np.flatnonzero(wanted & (start <= tops) & (tops < start + height))
        if not len(here):
            continue
        ends = boxes[here, 3]
        end = ends[ends <= start + 2 * height].max(initial=start)
        seen = labels[slice(start, int(end)), slice(0, int(boxes[here, 2].max(initial=0)))]
        for i in here.tolist():
            left, top, right, bottom = boxes[i].tolist()
            if bottom <= end:
                own = seen[top - start : bottom - start, left:right]
            else:
                own = labels[slice(top, bottom), slice(left, right)]
            yield i + 1, outline_polygon(own.reshape(own.shape[:2]) == i + 1, top, left)


def too_large(boxes: np.ndarray) -> np.ndarray:
    """Which objects have bounding boxes too large to be read at once: (n,) bool."""
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > OUTLINED


def outline_polygon(mask: np.ndarray, top: int, left: int) -> np.ndarray:
    """The outer outline of an object as a polygon (n, 2) of x and y, in ImageJ's coordinates.

    These count from the corner of the first pixel. The polygon contains the middle of every pixel of the object and of its
    holes, and of no other pixel.

    Parameters
    ----------
    mask : (h, w) bool array
        The object in its bounding box.
    top, left : int
        Row and column of the image where the bounding box begins.
    """
    from skimage.measure import find_contours

    contours = find_contours(np.pad(mask, 1).astype(np.uint8), 0.5)
    outer = max(contours, key=lambda c: np.ptp(c, axis=0).prod())
    # the pad takes one pixel away, ImageJ's corner adds half of one
    return (outer + np.array([top, left]) - 0.5)[:-1, ::-1]


def arranged(pages: list[np.ndarray], path: Path, held: Pages | None = None) -> tuple[np.ndarray, str]:
    """The pages as an array, and its axes: T and Z as in the image's file where they are known, else Z; without channels."""
    stack = stacked(pages, path)
    if len(pages) == 1:
        return stack, "YX"
    if held and held.page_axes in ("T", "Z", "TZ") and math.prod(held.page_shape) == len(pages):
        return stack.reshape(*held.page_shape, *pages[0].shape), f"{held.page_axes}YX"
    return stack, "ZYX"


def stacked(pages: list[np.ndarray], path: Path) -> np.ndarray:
    """One page as it is; several pages, which must have one size, as a stack."""
    if len({page.shape for page in pages}) > 1:
        raise UserError(f"{path.name}: pages of different sizes do not make a stack; save them as single files")
    return pages[0] if len(pages) == 1 else np.stack(pages)
