"""Masks with noise: a foreground that JPEG or smoothed edges have blurred, photographs, and classes with noise."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from ..errors import UserError
from .mask_scan import MaskScan, find_regions

SOFT = 0.1  # share of pixels in 2x2 squares below which values are noise
BRIGHT = 64  # the least value of a white that is noisy; below, values are numbers
FEW = 8  # values above 0 that may be classes even if they fill no area


def is_nearly_binary(pixels: Counter, flat: Counter) -> bool:
    """Whether grey values are a background and a foreground with noise or smoothed edges, by rule 2 of `mask_kinds.py`.

    Parameters
    ----------
    pixels : Counter
        Pixels by value.
    flat : Counter
        Pixels that are the first of a 2x2 square of their value.
    """
    top = max(pixels, default=0)
    if len(pixels) <= 2 or top < BRIGHT or min(pixels) < 0:
        return False
    near = top // 16
    low, high = [v for v in pixels if v <= near], [v for v in pixels if v >= top - near]
    between = [v for v in pixels if near < v < top - near]
    dark, bright, middle = (sum(pixels[v] for v in values) for values in (low, high, between))
    if bright < 0.25 * middle or dark + bright < middle:
        return False
    if not between:
        return len(high) > 1
    thin = sum(flat[v] for v in between) < SOFT * middle
    centre = [v for v in between if top // 4 <= v < top - top // 4]
    grey = sum(pixels[v] for v in centre)
    densest = max((sum(pixels[v] for v in centre if low <= v <= low + top // 8) for low in centre), default=0)
    if grey > 0.05 * pixels.total() and densest > 0.6 * grey:  # a third level, with noise around it
        return False
    return thin and (len(between) > 2 or len(high) > 1 or len(low) > 1)


def softness(scan: MaskScan, pixels: Counter) -> float:
    """Share of the pixels above 0 that begin a 2x2 square of their value."""
    return sum(scan.flat[v] for v in pixels if v > 0) / max(sum(n for v, n in pixels.items() if v > 0), 1)


def refuse_noise(scan: MaskScan, pixels: Counter) -> None:
    """UserError if values are not those of areas, by rule 3 of `mask_kinds.py`."""
    above = [v for v in pixels if v > 0]
    if len(above) < 4 or (max(above) < BRIGHT and len(above) <= FEW):
        return
    found = f"the masks hold {len(pixels)} different " + (
        f"values up to {max(above)}" if not scan.colour else "colours"
    )
    if softness(scan, pixels) < SOFT:
        raise UserError(
            f"{found}, hardly two neighbouring pixels alike: this looks like a photograph or a soft mask; --masks binary "
            f"thresholds it at half, --masks objects takes its values for the numbers of very small objects"
        )
    ragged = sum(scan.flat[v] < SOFT / 2 * pixels[v] for v in above)
    if len(above) > FEW and ragged > len(above) / 2:
        raise UserError(
            f"{found}, and {ragged} of them fill no area: this looks like classes with the noise of JPEG or of smoothed edges; "
            "save masks without loss (PNG, TIFF), or give --masks classes, objects or binary if they are right"
        )


def refuse_photograph(numbers: np.ndarray, path: Path) -> None:
    """UserError if what a file's name calls objects' numbers (H, W) are the grey values of a photograph.

    Hardly two neighbours are alike there, and a value lies in several places, or there is hardly any background. Objects of a
    single pixel are none of this.
    """
    square, above = numbers[:-1, :-1], np.count_nonzero(numbers)
    if numbers.max(initial=0) < BRIGHT or above == 0:
        return
    same = (square == numbers[:-1, 1:]) & (square == numbers[1:, :-1]) & (square == numbers[1:, 1:]) & (square > 0)
    if np.count_nonzero(same) >= SOFT * above:
        return
    regions = find_regions(numbers)
    if len(regions.values) >= BRIGHT and (above > 0.9 * numbers.size or regions.pieces.mean() >= 2):
        raise UserError(
            f"{path}: is called a label image, but hardly two neighbouring pixels are alike, as in a photograph: give object "
            "numbers, or masks"
        )
