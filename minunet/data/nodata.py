"""Pixels of an image that hold no data: NaN, and constant borders, as registration, rotation and map programs leave them.

They do not count when intensity is measured: a border of -3.4e38 around values of 0 to 255 would take all contrast, and zeros
around values near 1,000 most of it. What is measured without them, `normalise` applies to all pixels; NaN becomes 0.
"""

from __future__ import annotations

import numpy as np

LEAST, MOST = 0.002, 0.6  # share of an image that a border may take
APART = 0.25  # how far its value is from the others, in their range, at least


def border_value(image: np.ndarray) -> float | None:
    """The value of a border without data.

    That is a value in a corner of the image that all channels share, that is smaller or larger than all others by a quarter of
    their range, and whose pixels are connected with the image's edge.

    Parameters
    ----------
    image : (H, W, C) array of any real type

    Returns
    -------
    float or None
        None if there is no such border.

    Examples
    --------
    >>> image = np.full((40, 40, 1), 1000) + np.arange(40)[:, None]
    >>> image[:3] = 0
    >>> border_value(image)
    0.0
    """
    if image.dtype.kind == "f" and np.isnan(image).all():
        return None
    least, most = np.nanmin(image), np.nanmax(image)
    corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
    for value in np.unique(corners[~np.isnan(corners)]) if image.dtype.kind == "f" else np.unique(corners):
        if least < value < most:
            continue
        same = (image == value).all(-1)
        if not LEAST <= same.mean() <= MOST:
            continue
        others = known_pixels(image)
        others = others[others != value].astype(np.float64)
        if not others.size:
            continue
        low, high = np.percentile(others, (0.5, 99.5))
        gap = others.min() - float(value) if value < low else float(value) - others.max()
        if low < high and gap >= APART * (high - low) and _at_edge(same) >= 0.9:
            return float(value)
    return None


def known_pixels(image: np.ndarray) -> np.ndarray:
    """The pixels (n, C) of an image (H, W, C) without NaN."""
    if image.dtype.kind != "f":
        return image.reshape(-1, image.shape[-1])
    return image[~np.isnan(image).any(-1)]


def measured_pixels(image: np.ndarray) -> np.ndarray:
    """The pixels (n, C) by which intensity is measured: those that hold data, or all that are known if none does."""
    value, known = border_value(image), known_pixels(image)
    return known if value is None else known[(known != value).any(-1)]


def without_data(image: np.ndarray) -> np.ndarray | None:
    """Which pixels of an image (H, W, C) hold no data: (H, W) bool; None if all hold some."""
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / 250_000)))  # as `normalise` samples it
    value = border_value(image[::step, ::step])
    lacking = np.zeros(image.shape[:2], bool) if value is None else (image == value).all(-1)
    if image.dtype.kind == "f":
        lacking |= np.isnan(image).any(-1)
    return lacking if lacking.any() else None


def _at_edge(same: np.ndarray) -> float:
    """Share of the pixels of a mask (H, W) bool that are connected with the edge."""
    import scipy

    number = scipy.ndimage.label(same)[0]
    edge = np.concatenate([number[0], number[-1], number[:, 0], number[:, -1]])
    return float(np.isin(number[same], edge[edge > 0]).mean())
