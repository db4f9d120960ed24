"""What ``predict --instances`` writes of an image's objects, for ImageJ, napari and spreadsheets.

X_labels.tif         the number of every pixel's object, 0 for background; 16-bit, or 32-bit beyond 65,535 objects
X_objects.csv        a row an object, see `measure`
X_rois.zip           an outline an object, for ImageJ's ROI Manager
X_probabilities.tif  float32, a channel a class

Several images that were the pages of a stack become the pages of one file, and its objects are numbered page by page.
"""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_atomically
from ..data.preprocess import drop_alpha
from ..errors import UserError

COLOURS = ("red", "green", "blue")


def save_labels(path: Path, pages: list[np.ndarray]) -> None:
    """Write label images (H, W), one or the pages of a stack, as a TIFF."""
    stack = _stack(pages, path)
    most = int(stack.max(initial=0))
    if most <= 65535:
        save_imagej(path, stack.astype(np.uint16), "ZYX"[-stack.ndim :], {"min": 0, "max": max(most, 1)})
        return
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack.astype(np.uint32), photometric="minisblack")
    write_atomically(path, buffer.getvalue())
    print(f"note: {path} is 32-bit: {most:,} objects do not fit into 16 bits")


def save_probabilities(path: Path, pages: list[np.ndarray], names: list[str]) -> None:
    """Write probabilities (H, W, K), one image or the pages of a stack, as a TIFF with a channel a class."""
    stack = np.moveaxis(_stack(pages, path).astype(np.float32), -1, -3)
    shown = {"min": 0.0, "max": 1.0, "Labels": names * (len(pages))}
    save_imagej(path, stack, "ZCYX"[-stack.ndim :], shown)


def save_imagej(path: Path, pixels: np.ndarray, axes: str, metadata: dict[str, Any]) -> None:
    """Write uint16 or float32 pixels as a TIFF that ImageJ opens with its axes and its display range."""
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, imagej=True, metadata={"axes": axes, **metadata})
    write_atomically(path, buffer.getvalue())


def measure(labels: np.ndarray, image: np.ndarray, page: int | None = None) -> list[dict[str, Any]]:
    """Size, place and brightness of every object, in pixels and in the image's own grey values.

    x counts columns from the left and y rows from the top, both from 0 in the middle of the first pixel, as in scikit-image
    and napari (ImageJ counts from that pixel's corner: 0.5 more). The bounding box is its first column and row, width and
    height.

    Parameters
    ----------
    labels : (H, W) integer array
    image : (H, W, C) array as it comes from the file; alpha is not measured
    page : int, optional
        Of a stack, from 1; the first column if given.

    Returns
    -------
    list of dicts, a row an object, with the keys of `columns`
    """
    from skimage.measure import regionprops_table

    image = drop_alpha(image)
    wanted = ("label", "area", "centroid", "bbox", "intensity_mean")
    found = regionprops_table(labels, image, properties=wanted)
    rows = []
    for i in range(len(found["label"])):
        top, left, bottom, right = (int(found[f"bbox-{k}"][i]) for k in range(4))
        means = [float(found[f"intensity_mean-{c}"][i]) for c in range(image.shape[-1])]
        numbers = [int(found["label"][i]), int(found["area"][i]), found["centroid-1"][i], found["centroid-0"][i]]
        row = [*numbers, left, top, right - left, bottom - top, *means]
        rows.append(dict(zip(columns(image.shape[-1], page is not None), row if page is None else [page, *row])))
    return rows


def columns(channels: int, paged: bool) -> list[str]:
    """The columns of X_objects.csv for images of so many channels (without alpha)."""
    colours = COLOURS if channels == 3 else [f"channel_{c + 1}" for c in range(channels)]
    means = ["mean_intensity"] if channels == 1 else [f"mean_intensity_{c}" for c in colours]
    box = [f"bbox_{side}_px" for side in ("x", "y", "width", "height")]
    return ["page"] * paged + ["object", "area_px", "centroid_x_px", "centroid_y_px", *box, *means]


def save_table(path: Path, pages: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write the table of objects of (image, labels), one or the pages of a stack, as CSV."""
    paged = len(pages) > 1
    buffer = io.StringIO()
    names = columns(drop_alpha(pages[0][0]).shape[-1], paged)
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for page, (image, labels) in enumerate(pages, start=1):
        for row in measure(labels, image, page if paged else None):
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    write_atomically(path, buffer.getvalue().encode())


def outline(mask: np.ndarray, top: int, left: int) -> np.ndarray:
    """The outer outline of an object as a polygon (n, 2) of x and y, in ImageJ's coordinates.

    Those count from the corner of the first pixel; the polygon holds the middle of every pixel of the object and of no
    other, but for holes, which it encloses.

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


def outlines(labels: np.ndarray) -> dict[int, np.ndarray]:
    """The `outline` of every object in a label image (H, W), by its number."""
    from scipy.ndimage import find_objects

    boxes = enumerate(find_objects(labels), start=1)
    return {n: outline(labels[box] == n, box[0].start, box[1].start) for n, box in boxes if box is not None}


def add_roi(archive: zipfile.ZipFile, name: str, polygon: np.ndarray, page: int | None = None) -> None:
    """Add an outline to what ImageJ's ROI Manager opens; of a page, from 1, of a stack."""
    from roifile import ImagejRoi

    roi = ImagejRoi.frompoints(polygon, name=name, position=None if page is None else page - 1)
    archive.writestr(f"{name}.roi", roi.tobytes())


def save_rois(path: Path, pages: list[np.ndarray]) -> None:
    """Write the outlines of label images, one or the pages of a stack, for ImageJ's ROI Manager."""
    buffer = io.BytesIO()
    paged = len(pages) > 1
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for page, labels in enumerate(pages, start=1):
            for number, polygon in outlines(labels).items():
                name = f"{page:04}-{number:05}" if paged else f"{number:05}"
                add_roi(archive, name, polygon, page if paged else None)
    write_atomically(path, buffer.getvalue())


def _stack(pages: list[np.ndarray], path: Path) -> np.ndarray:
    """One page as it is, several of one size as a stack."""
    if len({page.shape for page in pages}) > 1:
        raise UserError(f"{path.name}: pages of different sizes do not make a stack; save them as single files")
    return pages[0] if len(pages) == 1 else np.stack(pages)
