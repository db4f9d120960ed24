"""What ``predict --instances`` writes of an image's objects, for ImageJ, napari and spreadsheets.

X_labels.tif         the number of every pixel's object, 0 for background; 16-bit, or 32-bit beyond 65,535 objects
X_objects.csv        one row for each object, see `Measurements`
X_rois.zip           the outline of each object, for ImageJ's ROI Manager
X_probabilities.tif  float32, one channel for each class

For the pages of a stack, results are the pages of one file, and objects are numbered page by page.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import beside, write_atomically
from ..cli import csv_text
from ..errors import UserError
from .measure import Measurements, columns

OUTLINED = 1 << 24  # objects whose bounding box has more pixels get no outline


def save_labels(path: Path, pages: list[np.ndarray]) -> int:
    """Write a label image (H, W), or those of the pages of a stack, as a TIFF; returns the largest number in them."""
    stack = stacked(pages, path)
    most = int(stack.max(initial=0))
    if most <= 65535:
        save_imagej(path, stack.astype(np.uint16), "ZYX"[-stack.ndim :], {"min": 0, "max": max(most, 1)})
        return most
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack.astype(np.uint32), photometric="minisblack")
    write_atomically(path, buffer.getvalue())
    return most


def save_probabilities(path: Path, pages: list[np.ndarray], names: list[str]) -> None:
    """Write probabilities (H, W, K), of one image or of the pages of a stack, as a TIFF with one channel for each class."""
    stack = np.moveaxis(stacked(pages, path).astype(np.float32), -1, -3)
    shown = {"min": 0.0, "max": 1.0, "Labels": names * (len(pages))}
    save_imagej(path, stack, "ZCYX"[-stack.ndim :], shown)


def save_imagej(path: Path, pixels: np.ndarray, axes: str, metadata: dict[str, Any]) -> None:
    """Write uint16 or float32 pixels as a TIFF that ImageJ opens with its axes and its display range."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, imagej=True, metadata={"axes": axes, **metadata})
    write_atomically(path, buffer.getvalue())


def save_table(path: Path, pages: list[Measurements]) -> None:
    """Write the table of the objects of one image, or of the pages of a stack, as CSV."""
    paged = len(pages) > 1
    names = columns(pages[0].intensity.shape[1], paged)
    rows = [row for page, found in enumerate(pages, start=1) for row in found.rows(page if paged else None)]
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
        archive.writestr(f"{name}.roi", roi.tobytes())


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


def stacked(pages: list[np.ndarray], path: Path) -> np.ndarray:
    """One page as it is; several pages, which must have one size, as a stack."""
    if len({page.shape for page in pages}) > 1:
        raise UserError(f"{path.name}: pages of different sizes do not make a stack; save them as single files")
    return pages[0] if len(pages) == 1 else np.stack(pages)
